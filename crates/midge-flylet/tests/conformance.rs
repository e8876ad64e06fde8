//! The rules of the trait, through the client for Fly, against a flylet that is quick, one that takes its time, one with
//! Fly's limits and latencies, and one for each fault: with what the dispatcher does about it, all comes right in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use midge_flylet::{Fault, Faults, Flylet, FlyletSettings, Latency};
use midge_machines::FlyMachines;
use midge_machines::conformance::Ground;

async fn start(settings: FlyletSettings) -> (FlyMachines, Ground, Flylet) {
    let flylet = Flylet::start(settings).await.unwrap();
    (FlyMachines::new(flylet.client_settings()).unwrap(), Ground::of_one_process(), flylet)
}

mod quick {
    use super::*;

    async fn flylet() -> (FlyMachines, Ground, Flylet) {
        start(FlyletSettings::new("jobs")).await
    }

    midge_machines::conformance!(flylet);
}

mod slow {
    use super::*;

    async fn flylet() -> (FlyMachines, Ground, Flylet) {
        let delay = Duration::from_millis(30);
        let latency = Latency::Fixed { create: delay, start: delay, resume: delay };
        start(FlyletSettings { latency, ..FlyletSettings::new("jobs") }).await
    }

    midge_machines::conformance!(flylet);
}

mod like_fly {
    use super::*;

    async fn flylet() -> (FlyMachines, Ground, Flylet) {
        let settings = FlyletSettings::new("jobs");
        start(FlyletSettings { latency: Latency::Fly, limits_calls: true, speed: 100.0, ..settings }).await
    }

    midge_machines::conformance!(flylet);
}

/// Starts a flylet on which half of the calls that can meet a fault do, in time that flies.
async fn with_fault(fault: Fault) -> (FlyMachines, Ground, Flylet) {
    let faults = Faults {
        rates: BTreeMap::from([(fault, 0.5)]),
        stuck_for: Duration::from_secs(2),
        dark_for: Duration::from_secs(2),
        list_lag: Duration::from_secs(2),
        // Beyond the client's patience.
        late_answer: Duration::from_secs(20),
        ..Faults::default()
    };
    let (machines, ground, flylet) =
        start(FlyletSettings { faults, seed: 11, speed: 100.0, ..FlyletSettings::new("jobs") }).await;
    let patience = if fault == Fault::LateAnswer { Duration::from_millis(60) } else { Duration::MAX };
    (machines.with_patience(patience), ground, flylet)
}

macro_rules! with_each_fault {
    ($($name:ident: $fault:ident;)*) => {
        $(
            mod $name {
                use super::*;

                async fn flylet() -> (FlyMachines, Ground, Flylet) {
                    with_fault(Fault::$fault).await
                }

                midge_machines::conformance!(flylet);
            }
        )*

        #[test]
        fn every_fault_after_which_all_comes_right_is_tried() {
            // A token without the right stays without, and a Machine that dies breaks the rules of one that lives.
            let left_out = [Fault::Denied, Fault::LaunchFails, Fault::Dies, Fault::OutOfMemory];
            let tried = [$(Fault::$fault),*];
            let lacking: Vec<_> =
                Fault::ALL.into_iter().filter(|fault| !tried.contains(fault) && !left_out.contains(fault)).collect();
            assert_eq!(lacking, []);
        }
    };
}

with_each_fault! {
    rate_limited: RateLimited;
    deadline: Deadline;
    bad_gateway: BadGateway;
    unavailable: Unavailable;
    lease_held: LeaseHeld;
    concurrent_update: ConcurrentUpdate;
    host_full: HostFull;
    start_blocked: StartBlocked;
    still_starting: StillStarting;
    deploys_disabled: DeploysDisabled;
    no_capacity: NoCapacity;
    gone_name: GoneName;
    being_replaced: BeingReplaced;
    no_host: NoHost;
    machine_limit: MachineLimit;
    region_quota: RegionQuota;
    lost_answer: LostAnswer;
    late_answer: LateAnswer;
    stuck_created: StuckCreated;
    stuck_starting: StuckStarting;
    stuck_stopping: StuckStopping;
    stuck_destroying: StuckDestroying;
    dark_host: DarkHost;
    lagging_list: LaggingList;
}
