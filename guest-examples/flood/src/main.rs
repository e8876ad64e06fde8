//! Never stops writing, whatever the host answers.

use std::io::{self, Write};

use serde::Deserialize;

const CHUNK_BYTES: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Args {
    #[serde(default)]
    to: Target,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Target {
    /// The result, which has a bound.
    #[default]
    Stdout,
    /// The log, which is cut.
    Stderr,
}

#[midge_job::main]
fn flood(args: Args) {
    let chunk = [b'~'; CHUNK_BYTES];
    let mut target: Box<dyn Write> = match args.to {
        Target::Stdout => Box::new(io::stdout()),
        Target::Stderr => Box::new(io::stderr()),
    };
    loop {
        // A guest that does not look at errors is just the kind that must be stopped.
        let _ = target.write_all(&chunk);
    }
}
