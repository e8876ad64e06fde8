//! The smallest job with args and a result.

use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Args {
    name: String,
}

#[derive(Serialize)]
struct Greeting {
    greeting: String,
}

#[midge_job::main]
fn hello(args: Args) -> Greeting {
    Greeting { greeting: format!("Hello, {}!", args.name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_has_the_name_in_it() {
        assert_eq!(hello(Args { name: "midge".to_owned() }).greeting, "Hello, midge!");
    }
}
