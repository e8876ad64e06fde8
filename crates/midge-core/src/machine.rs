//! A Machine as midge knows it, and what may happen to it.
//!
//! Invariant: a Machine holds leases only in the states that may exchange; an event that moves it out of those says so
//! ([`MachineChange::loss`]), and its jobs are given back in the same transaction.

mod apply;
mod create;
mod end;
mod meter;
mod rest;
mod stray;

use std::time::Duration;

use midge_protocol::manifest::{MachineSize, QueuePolicy};
use midge_protocol::{BootId, MachineId, MachineName, QueueName, RegionName, Timestamp, limits};
use serde::{Deserialize, Serialize};

pub use self::end::{Exit, Loss, MachineEnd};
pub use self::meter::{Meter, Metered};
use crate::JobEvent;

pub use create::{CreateTries, first_region};
pub use rest::{Sleep, may_rest};
pub use stray::{Stray, machine_name, named_at};

/// A Machine that was heard of is not written down as heard of again before this is over: a small part of a lease.
const HEARD_EVERY: Duration = limits::LEASE.checked_div(30).expect("30 is not 0");

/// One Machine: from the row that is written before it is made, to the row that says it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// midge's name for the Machine, known before the Machines API gives an id.
    pub name: MachineName,
    /// The queue that it serves; or the pool, where it serves the queues of one.
    pub queue: QueueName,
    /// The generation that it is made from: the image's digest on Fly, a hash of the manifest elsewhere.
    pub generation: String,
    /// The number of jobs that it runs at once.
    pub places: u32,
    /// Whether it runs one job only, and is then destroyed.
    pub single_use: bool,
    /// Its CPUs and memory; the default where an earlier release made it.
    #[serde(default)]
    pub size: MachineSize,
    /// The region in which it was seen, or else the one that was asked for; nothing where neither is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionName>,
    /// What it costs; nothing while it is not made, and once it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meter: Option<Meter>,
    /// SHA-256 of its secret, in hex.
    pub secret_hash: String,
    /// The id that the Machines API gave it.
    pub id: Option<MachineId>,
    /// What it is doing, as far as is known.
    pub state: MachineState,
    /// The time at which it came into that state, or the last call about it was answered. What was seen before is old.
    pub since: Timestamp,
    /// No call about it to the Machines API before this: one is under way, or the last one failed.
    pub act_at: Timestamp,
    /// The number of calls about it to the Machines API that failed in a row.
    pub act_failures: u32,
    /// The host's start that was heard of last.
    pub boot: Option<BootId>,
    /// The newest request of that start.
    pub seq: u64,
    /// The time at which its host was last heard of, to about a second; nothing before the first time.
    pub heard_at: Option<Timestamp>,
    /// The number of attempts that it was given in all.
    pub attempts: u64,
    /// Whether it was given last an attempt at a suspect: it gets nothing else while that runs.
    #[serde(default)]
    pub apart: bool,
    /// Whether its host said that it lacks something: it takes nothing more, and is destroyed once it has stopped.
    #[serde(default)]
    pub lacks: bool,
    /// Whether its server host did not answer the Machines API the last time: then it is not heard of for that.
    #[serde(default)]
    pub unreachable: bool,
    /// Whether it went or was given up before its host phoned home.
    #[serde(default)]
    pub boot_failed: bool,
    /// Whether a call about it to the Machines API is under way.
    #[serde(default)]
    pub calling: bool,
    /// Whether the call that makes it was refused, so that it would be refused for another Machine too.
    #[serde(default)]
    pub refused: bool,
    /// How often there was no room for it in the region that came first. Each time the next one has its turn.
    #[serde(default)]
    pub no_room: u32,
    /// The last time of these.
    #[serde(default)]
    pub no_room_at: Option<Timestamp>,
    /// Whether it makes room for a Machine of another queue, and is destroyed when its host has left.
    #[serde(default)]
    pub gives_way: bool,
    /// Whether somebody drained it by hand: it takes nothing more, and is destroyed when its host has left.
    #[serde(default)]
    pub drained: bool,
    /// The time at which its row was written, before it was made; nothing in rows of before.
    #[serde(default)]
    pub made_at: Option<Timestamp>,
    /// Whether another is to take its place: it takes nothing more, and is destroyed when its host has left.
    #[serde(default)]
    pub retired: bool,
    /// Whether it is suspended, or is about to be.
    #[serde(default)]
    pub sleep: Sleep,
    /// Why it went away or failed, where that is known.
    pub note: Option<String>,
}

/// What a Machine is doing, as far as the server knows: from being made to being gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// Being made, and run at once.
    Creating,
    /// Being made ahead, to rest stopped.
    Preparing,
    /// Made, and stopped or suspended: can be started.
    Ready,
    /// Started; its host has not phoned home yet.
    Starting,
    /// Its host phones home and may claim.
    Up,
    /// Finishes what it runs; may not claim.
    Draining,
    /// Its host said goodbye; not seen stopped yet.
    Left,
    /// Its host has nothing to do, and stands by; not seen suspended yet.
    Resting,
    /// To be destroyed.
    Destroying,
    /// Destroyed. Kept for a while for people to see.
    Gone,
}

impl MachineState {
    /// Returns the word used in API, CLI and dashboard.
    pub const fn as_str(self) -> &'static str {
        match self {
            MachineState::Creating => "creating",
            MachineState::Preparing => "preparing",
            MachineState::Ready => "ready",
            MachineState::Starting => "starting",
            MachineState::Up => "up",
            MachineState::Draining => "draining",
            MachineState::Left => "left",
            MachineState::Resting => "resting",
            MachineState::Destroying => "destroying",
            MachineState::Gone => "gone",
        }
    }

    /// Returns whether it is there, or may be: these count against the server's `max_machines`.
    pub const fn is_present(self) -> bool {
        !matches!(self, MachineState::Gone)
    }

    /// Returns whether it is on its way out, and takes no more jobs.
    pub const fn is_leaving(self) -> bool {
        use MachineState::{Destroying, Draining, Left, Resting};
        matches!(self, Draining | Left | Resting | Destroying)
    }

    /// Returns whether it runs, or will without anybody deciding it again. These count against a queue's
    /// `max_machines`.
    pub const fn is_live(self) -> bool {
        use MachineState::{Creating, Draining, Left, Resting, Starting, Up};
        matches!(self, Creating | Starting | Up | Draining | Left | Resting)
    }

    /// Returns whether its host may exchange, and so whether it may hold leases. (One that rests is given none.)
    pub const fn may_exchange(self) -> bool {
        use MachineState::{Creating, Draining, Resting, Starting, Up};
        matches!(self, Creating | Starting | Up | Draining | Resting)
    }
}

/// Something that happens to a Machine.
#[derive(Debug, Clone)]
pub enum MachineEvent {
    /// The dispatcher is about to call the Machines API about it.
    CallBegun(Call),
    /// The Machines API made it, or had it already.
    Created {
        /// The Machine's id at the Machines API.
        id: MachineId,
    },
    /// The Machines API started it.
    Started,
    /// The Machines API is about to suspend it.
    SuspendAccepted,
    /// The Machines API destroyed it, or never had it.
    Destroyed,
    /// A call to the Machines API failed.
    CallFailed {
        /// The call that failed.
        call: Call,
        /// In which way, as far as it decides what to do next.
        failure: CallFailure,
        /// The same in words, for people.
        note: String,
    },
    /// Another server has taken the store over: the calls of the one before are nobody's any more.
    TakenOver,

    /// The Machine's host phoned home: it sent an exchange.
    Heard {
        /// The start of the host that phoned.
        boot: BootId,
        /// The number of the request, which rises within one start.
        seq: u64,
        /// The generation that is served now. A Machine of another one takes no more jobs from here on.
        generation: String,
    },
    /// The Machine was given attempts, which are leased to it now.
    Granted {
        /// The number of attempts that it was given.
        attempts: u64,
        /// Whether it is an attempt at a suspect, which is then the only one.
        apart: bool,
    },
    /// The Machine's host gave an attempt back because it lacks something. It takes nothing more, and leaves.
    Lacks {
        /// What, in words.
        what: String,
    },
    /// The Machine's host asked to leave, and may: it runs nothing, and its secret is revoked.
    Left,
    /// The Machine's host asked to leave, and is told to stand by instead: it runs nothing, is given nothing, and is suspended.
    Rests,
    /// The Machine was to be suspended, and is not: its host leaves, and it stops.
    StaysAwake {
        /// Why not, for people.
        note: String,
    },

    /// Another generation is served now: the Machine takes no more jobs.
    Outdated,
    /// A job of another queue needs its room: the Machine takes no more jobs.
    GaveWay,
    /// Its queue starts nothing, or may have fewer Machines: it takes no more jobs.
    NotNeeded {
        /// Why, for people.
        note: String,
    },
    /// Another is to take its place: it takes no more jobs, finishes what it runs, and is destroyed.
    Retired {
        /// Why, for people.
        note: String,
    },
    /// Somebody drains it by hand: it takes no more jobs, finishes what it runs, and is destroyed.
    DrainAsked,
    /// The Machine took too long: to boot, to be heard of again, to go. Its jobs go back and it is destroyed.
    GivenUp {
        /// What the Machine did not do in time, for people.
        note: String,
    },

    /// The Machines API was asked how it is.
    Seen {
        /// The Machine's id at the Machines API, where the answer told it.
        id: Option<MachineId>,
        /// The region that it is in, where the answer told it.
        region: Option<RegionName>,
        /// Whether the Machine runs, has stopped or is gone, by that answer.
        sight: Sight,
        /// The time at which the question was asked: what happened since then is newer.
        looked_at: Timestamp,
    },
}

/// A call to the Machines API about one Machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Makes the Machine.
    Create,
    /// Starts the Machine.
    Start,
    /// Suspends the Machine.
    Suspend,
    /// Destroys the Machine.
    Destroy,
}

impl Call {
    /// Returns the verb, for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Call::Create => "create",
            Call::Start => "start",
            Call::Suspend => "suspend",
            Call::Destroy => "destroy",
        }
    }
}

/// How a call to the Machines API failed, as far as it decides what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallFailure {
    /// There is no such Machine, or no longer.
    Gone,
    /// Whether the Machine was made is not known: the call was heard, or it was not.
    Ambiguous,
    /// There is no room for it now; another Machine may find some.
    NoCapacity,
    /// Too many calls: not again before this is over, or a second where the API does not say.
    RateLimited(Option<Duration>),
    /// It will fail again until a person has done something.
    NeedsPerson,
    /// There is no such app, or the token is not good for it: a person has to do something, and none of its Machines can be
    /// reached.
    NoApp,
    /// It may work the next time.
    Unavailable,
}

/// What an event made of a Machine: all of it is written in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineChange {
    /// The Machine as it is after the event.
    pub machine: Machine,
    /// Where it may hold no lease any more: what that means for the jobs that are leased to it.
    pub loss: Option<Loss>,
}

impl MachineChange {
    /// Returns what happens to each job that is leased to the Machine, if it may hold no lease any more.
    pub fn job_event(&self) -> Option<JobEvent> {
        let Loss { end, note } = self.loss.clone()?;
        Some(JobEvent::MachineLost { machine: self.machine.name.clone(), end, note })
    }
}

/// What the Machines API says of a Machine, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// On its way: being made, started, stopped.
    Pending,
    /// Its server host does not answer. What is said of it may be old.
    Unreachable,
    /// It runs.
    Running,
    /// Its memory is written away, and its program stands still.
    Suspended,
    /// It does not run.
    Stopped(Option<Exit>),
    /// There is no such Machine, or no longer.
    Gone,
}

/// An event that does not apply to a Machine as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the Machine is {0:?}")]
pub struct MachineRefused(pub MachineState);

impl Machine {
    /// Returns the row of a Machine that is about to be made. It has no secret yet.
    pub fn new(
        name: MachineName,
        queue: QueueName,
        generation: String,
        policy: &QueuePolicy,
        state: MachineState,
        now: Timestamp,
    ) -> Machine {
        Machine {
            name,
            queue,
            generation,
            places: policy.places(),
            single_use: policy.single_use,
            size: policy.size.clone().unwrap_or_default(),
            region: None,
            meter: None,
            secret_hash: String::new(),
            id: None,
            state,
            since: now,
            act_at: now,
            act_failures: 0,
            boot: None,
            seq: 0,
            heard_at: None,
            attempts: 0,
            apart: false,
            lacks: false,
            unreachable: false,
            boot_failed: false,
            calling: false,
            refused: false,
            no_room: 0,
            no_room_at: None,
            gives_way: false,
            drained: false,
            made_at: Some(now),
            retired: false,
            sleep: Sleep::Awake,
            note: None,
        }
    }

    /// Returns the Machine with no time in it that is to come, where it has one: the clock was ahead when they were written.
    /// Else nothing would be over, and what is seen now would be old, until the clock is there again.
    pub fn without_times_ahead(&self, now: Timestamp) -> Option<Machine> {
        let machine = Machine {
            since: self.since.min(now),
            act_at: self.act_at.min(apply::latest_act(now)),
            heard_at: self.heard_at.map(|at| at.min(now)),
            meter: self.meter.map(|meter| Meter { since: meter.since.min(now), ..meter }),
            made_at: self.made_at.map(|at| at.min(now)),
            no_room_at: self.no_room_at.map(|at| at.min(now)),
            ..self.clone()
        };
        (machine != *self).then_some(machine)
    }

    /// Returns whether it runs a suspect, where so many attempts are leased to it: then it gets nothing else.
    pub const fn runs_apart(&self, running: u32) -> bool {
        self.apart && running > 0
    }

    /// Returns whether none of its places is for another job, where so many attempts are leased to it: it has had its one
    /// job, or runs a suspect.
    pub const fn is_taken(&self, running: u32) -> bool {
        self.is_used() || self.runs_apart(running)
    }

    /// Returns whether it is for one job, and has been given that.
    pub const fn is_used(&self) -> bool {
        self.single_use && self.attempts > 0
    }

    /// Returns whether its host is told to take nothing more, to finish and to leave: it drains, or is for one job and has
    /// that. Such a one does not wait for another job, which would hold up those that wait for a Machine.
    pub fn is_to_drain(&self) -> bool {
        self.state == MachineState::Draining || self.is_used()
    }

    /// Returns whether a Machine was made from another generation than the one that is served now.
    pub fn is_outdated(&self, generation: &str) -> bool {
        self.generation != generation
    }

    /// Returns the regions to make it in, in the order of preference: each time that there was no room, the next one comes
    /// first. `regions` is as Fly takes it, such as `ams` or `ams,fra,any`.
    pub fn regions(&self, regions: &str) -> String {
        let mut regions: Vec<&str> = regions.split(',').map(str::trim).collect();
        let first = self.no_room as usize % regions.len();
        regions.rotate_left(first);
        regions.join(",")
    }

    /// Returns whether it was not made yet, as far as is known: it has no id.
    pub(crate) fn is_unmade(&self) -> bool {
        self.id.is_none() && matches!(self.state, MachineState::Creating | MachineState::Preparing)
    }

    /// Returns whether the Machines API refused to make it, and is not being asked again at this moment: there is no
    /// such Machine.
    pub(crate) fn is_refused(&self) -> bool {
        self.is_unmade() && self.refused && !self.calling
    }

    /// Returns whether a request of a host's start is the one that was heard last: it is said again.
    pub fn is_heard_last(&self, boot: BootId, seq: u64) -> bool {
        self.boot == Some(boot) && self.seq == seq
    }

    /// Returns whether a request of its host is the newest one: an older one, still parked, gets nothing any more.
    pub fn is_newest(&self, boot: BootId, seq: u64) -> bool {
        self.boot != Some(boot) || seq >= self.seq
    }

    /// Returns whether its host sent a request before the one with which it left. It was still parked, and to be told
    /// that the secret is revoked would look to the host as if it had been given up.
    pub fn has_left_behind(&self, boot: BootId, seq: u64) -> bool {
        self.state == MachineState::Left && self.boot == Some(boot) && seq < self.seq
    }

    /// Returns whether this is to be written over what the row says: not where it is the same, or was only heard of
    /// again so soon that no lease hangs on it.
    pub fn is_news_to(&self, row: &Machine) -> bool {
        let heard_again = |at: Timestamp| row.heard_at.is_none_or(|before| at.since(before) >= HEARD_EVERY);
        self.heard_at.is_some_and(heard_again) || Machine { heard_at: row.heard_at, ..self.clone() } != *row
    }
}

#[cfg(test)]
pub(crate) mod tests;
