//! The rules of the trait, on Fly itself. Every run makes Machines there, of the smallest size, and destroys them: it costs
//! cents. `MIDGE_TEST_FLY_APP` names an app with no other Machines, and `MIDGE_TEST_FLY_TOKEN` is a deploy token of it:
//!
//! ```text
//! cargo test -p midge-machines --features conformance --test fly -- --ignored --test-threads 4
//! ```

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

use midge_machines::conformance::Ground;
use midge_machines::{FlyMachines, FlySettings};
use midge_protocol::Secret;

async fn fly() -> (FlyMachines, Ground, ()) {
    let var = |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let settings = FlySettings {
        base_url: FlySettings::BASE_URL_DEFAULT.to_owned(),
        app: var("MIDGE_TEST_FLY_APP"),
        token: Secret::new(var("MIDGE_TEST_FLY_TOKEN")),
    };
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let ground =
        Ground { image: "docker.io/library/busybox:stable".to_owned(), tag: format!("rule-{nanos:x}") };
    (FlyMachines::new(settings).unwrap(), ground, ())
}

midge_machines::conformance!(
    #[ignore = "needs a Fly app and its token: MIDGE_TEST_FLY_APP, MIDGE_TEST_FLY_TOKEN"]
    fly
);
