//! What can be made to go wrong, by chance under a seed or for one call by name.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::call::Action;
use crate::draws::Draw;

/// The header of a request that names the fault that its call is to meet.
pub const FAULT_HEADER: &str = "flylet-fault";

/// Something that goes wrong as it does on Fly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// 429, `rate limit exceeded`, with `Retry-After` of a second; nothing is done.
    RateLimited,
    /// 408, `deadline_exceeded`; nothing is done, which nobody can tell.
    Deadline,
    /// 502 without JSON, as from a proxy in front; nothing is done.
    BadGateway,
    /// 503; nothing is done.
    Unavailable,
    /// 403, a right that the token lacks; nothing is done.
    Denied,
    /// 409, the lease of the Machine is somebody else's; nothing is done.
    LeaseHeld,
    /// 409, somebody else changes the Machine at this moment; nothing is done.
    ConcurrentUpdate,
    /// 409, the Machine's server host has no room to start it; nothing is done.
    HostFull,
    /// 409, `governor policy blocked start`; nothing is done.
    StartBlocked,
    /// 409, the Machine is still attempting to start: what was asked for is done all the same.
    StillStarting,
    /// 409, `deploys to this host are temporarily disabled`; nothing is done.
    DeploysDisabled,
    /// 409, no capacity to create a Machine; nothing is done.
    NoCapacity,
    /// 409, the name is that of a Machine that is gone or never was; nothing is done.
    GoneName,
    /// 412, the Machine is being replaced; nothing is done.
    BeingReplaced,
    /// 422, no candidate host for a new Machine; nothing is done.
    NoHost,
    /// 422, the organization's limit of Machines; nothing is done.
    MachineLimit,
    /// 403, the organization's quota of memory in a region; nothing is done.
    RegionQuota,
    /// It is done, and the connection breaks before the answer.
    LostAnswer,
    /// It is done, and the answer comes [`Faults::late_answer`] later.
    LateAnswer,
    /// The Machine stays `created` for [`Faults::stuck_for`].
    StuckCreated,
    /// The Machine stays `starting` for [`Faults::stuck_for`].
    StuckStarting,
    /// The Machine stays `stopping` for [`Faults::stuck_for`], and its program hears nothing of it.
    StuckStopping,
    /// The Machine stays `destroying` for [`Faults::stuck_for`], and its program goes on.
    StuckDestroying,
    /// The Machine's first start fails: `launch_failed`, and it is destroyed.
    LaunchFails,
    /// The Machine's server host does not answer for [`Faults::dark_for`]: its `host_status` is `unreachable`, calls for
    /// it are answered 408, and a destroy is kept for later. Its program goes on.
    DarkHost,
    /// The Machine is killed within [`Faults::dies_within`] of its start, and at once where the call is a signal.
    Dies,
    /// As [`Fault::Dies`], and its exit says that it was out of memory.
    OutOfMemory,
    /// The list shows everything as it was [`Faults::list_lag`] ago.
    LaggingList,
}

/// What a fault does to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It is answered instead of the call.
    Instead,
    /// It changes what the call does.
    Within,
    /// It changes the answer, once the call is done.
    After,
}

impl Fault {
    /// All faults, in the order in which chance is asked for each.
    pub const ALL: [Fault; 28] = [
        Fault::RateLimited,
        Fault::Deadline,
        Fault::BadGateway,
        Fault::Unavailable,
        Fault::Denied,
        Fault::LeaseHeld,
        Fault::ConcurrentUpdate,
        Fault::HostFull,
        Fault::StartBlocked,
        Fault::StillStarting,
        Fault::DeploysDisabled,
        Fault::NoCapacity,
        Fault::GoneName,
        Fault::BeingReplaced,
        Fault::NoHost,
        Fault::MachineLimit,
        Fault::RegionQuota,
        Fault::LostAnswer,
        Fault::LateAnswer,
        Fault::StuckCreated,
        Fault::StuckStarting,
        Fault::StuckStopping,
        Fault::StuckDestroying,
        Fault::LaunchFails,
        Fault::DarkHost,
        Fault::Dies,
        Fault::OutOfMemory,
        Fault::LaggingList,
    ];

    /// Returns its name in options and headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::RateLimited => "rate-limited",
            Fault::Deadline => "deadline",
            Fault::BadGateway => "bad-gateway",
            Fault::Unavailable => "unavailable",
            Fault::Denied => "denied",
            Fault::LeaseHeld => "lease-held",
            Fault::ConcurrentUpdate => "concurrent-update",
            Fault::HostFull => "host-full",
            Fault::StartBlocked => "start-blocked",
            Fault::StillStarting => "still-starting",
            Fault::DeploysDisabled => "deploys-disabled",
            Fault::NoCapacity => "no-capacity",
            Fault::GoneName => "gone-name",
            Fault::BeingReplaced => "being-replaced",
            Fault::NoHost => "no-host",
            Fault::MachineLimit => "machine-limit",
            Fault::RegionQuota => "region-quota",
            Fault::LostAnswer => "lost-answer",
            Fault::LateAnswer => "late-answer",
            Fault::StuckCreated => "stuck-created",
            Fault::StuckStarting => "stuck-starting",
            Fault::StuckStopping => "stuck-stopping",
            Fault::StuckDestroying => "stuck-destroying",
            Fault::LaunchFails => "launch-fails",
            Fault::DarkHost => "dark-host",
            Fault::Dies => "dies",
            Fault::OutOfMemory => "out-of-memory",
            Fault::LaggingList => "lagging-list",
        }
    }

    /// Returns whether a call of an action can meet it.
    pub(crate) fn fits(self, action: Action) -> bool {
        use Action as A;
        let changes =
            [A::Update, A::Destroy, A::Start, A::Stop, A::Suspend, A::Restart, A::Signal].contains(&action);
        match self {
            Fault::RateLimited | Fault::Deadline | Fault::BadGateway | Fault::Unavailable | Fault::Denied => {
                true
            }
            Fault::LostAnswer | Fault::LateAnswer => true,
            Fault::LeaseHeld | Fault::ConcurrentUpdate => changes,
            Fault::HostFull | Fault::StartBlocked | Fault::StillStarting | Fault::BeingReplaced => {
                action == A::Start
            }
            Fault::DeploysDisabled | Fault::NoCapacity | Fault::GoneName | Fault::NoHost => {
                action == A::Create
            }
            Fault::MachineLimit | Fault::RegionQuota | Fault::StuckCreated => action == A::Create,
            Fault::LaunchFails => action == A::Create,
            Fault::StuckStarting | Fault::Dies => {
                matches!(action, A::Create | A::Start) || self == Fault::Dies && action == A::Signal
            }
            Fault::OutOfMemory => matches!(action, A::Create | A::Start | A::Signal),
            Fault::StuckStopping => action == A::Stop,
            Fault::StuckDestroying => action == A::Destroy,
            Fault::DarkHost => changes || action == A::Get,
            Fault::LaggingList => action == A::List,
        }
    }

    pub(crate) fn effect(self) -> Effect {
        match self {
            Fault::LostAnswer | Fault::LateAnswer | Fault::StillStarting => Effect::After,
            Fault::GoneName
            | Fault::StuckCreated
            | Fault::StuckStarting
            | Fault::StuckStopping
            | Fault::StuckDestroying
            | Fault::LaunchFails
            | Fault::Dies
            | Fault::OutOfMemory
            | Fault::LaggingList => Effect::Within,
            _ => Effect::Instead,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Fault, String> {
        let found = Fault::ALL.into_iter().find(|fault| fault.as_str() == name);
        found.ok_or_else(|| {
            let names = Fault::ALL.map(Fault::as_str).join(", ");
            format!("there is no fault `{name}`, only {names}")
        })
    }
}

/// How often which faults come, and how long they last. Times are Fly's: [`FlyletSettings::speed`] divides them.
///
/// [`FlyletSettings::speed`]: crate::FlyletSettings::speed
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// The share of the calls that can meet a fault which do, from 0 to 1. A fault that is not here comes by name only.
    pub rates: BTreeMap<Fault, f64>,
    /// How late an answer is: longer than clients wait.
    pub late_answer: Duration,
    /// How long a Machine is stuck. A create on Fly was, for so long, and then went on.
    pub stuck_for: Duration,
    /// How long a server host does not answer.
    pub dark_for: Duration,
    /// How long after its start a Machine dies at most.
    pub dies_within: Duration,
    /// How far a list lags behind.
    pub list_lag: Duration,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            rates: BTreeMap::new(),
            late_answer: Duration::from_secs(65),
            stuck_for: Duration::from_secs(2 * 3600 + 20 * 60),
            dark_for: Duration::from_secs(120),
            dies_within: Duration::from_secs(30),
            list_lag: Duration::from_secs(3),
        }
    }
}

impl Faults {
    /// Returns the fault that a call meets by chance.
    pub(crate) fn met(&self, action: Action, draw: &Draw) -> Option<Fault> {
        let mut may = self.rates.iter().filter(|(fault, _)| fault.fits(action));
        may.find(|(fault, rate)| draw.unit(fault.as_str()) < **rate).map(|(fault, _)| *fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::Draws;

    #[test]
    fn every_fault_is_read_by_its_name_and_fits_some_call() {
        for fault in Fault::ALL {
            assert_eq!(fault.to_string().parse(), Ok(fault));
            assert!(Action::ALL.into_iter().any(|action| fault.fits(action)), "{fault}");
        }
        assert!("no-such".parse::<Fault>().unwrap_err().contains("rate-limited, "));
    }

    #[test]
    fn faults_come_as_often_as_they_are_asked_for_and_only_where_they_fit() {
        let faults = Faults {
            rates: BTreeMap::from([(Fault::HostFull, 0.3), (Fault::LaggingList, 1.0)]),
            ..Faults::default()
        };
        let draws = Draws::new(5);
        let met = |action| (0..1000).filter(|_| faults.met(action, &draws.next("x")).is_some()).count();
        assert!((250..350).contains(&met(Action::Start)));
        assert_eq!((met(Action::Stop), met(Action::List)), (0, 1000));
    }
}
