//! The rules of the trait, through the client for Fly, against a flylet that is quick and one that takes its time.

use std::time::Duration;

use midge_flylet::{Flylet, FlyletSettings, Latency};
use midge_machines::FlyMachines;

async fn start(settings: FlyletSettings) -> (FlyMachines, Flylet) {
    let flylet = Flylet::start(settings).await.unwrap();
    (FlyMachines::new(flylet.client_settings()).unwrap(), flylet)
}

mod quick {
    use super::*;

    async fn flylet() -> (FlyMachines, Flylet) {
        start(FlyletSettings::new("jobs")).await
    }

    midge_machines::conformance!(flylet);
}

mod slow {
    use super::*;

    async fn flylet() -> (FlyMachines, Flylet) {
        let delay = Duration::from_millis(30);
        let latency = Latency::Fixed { create: delay, start: delay, resume: delay };
        start(FlyletSettings { latency, ..FlyletSettings::new("jobs") }).await
    }

    midge_machines::conformance!(flylet);
}
