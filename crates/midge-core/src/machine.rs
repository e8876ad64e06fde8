//! A Machine as midge knows it, and what may happen to it.
//!
//! Invariant: a Machine holds leases only in the states that may exchange; whoever moves it out of those gives
//! its jobs back in the same transaction.

use std::time::Duration;

use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{BootId, MachineId, MachineName, QueueName, Timestamp, limits};
use serde::{Deserialize, Serialize};

/// A Machine that was heard of is not written down as heard of again before this is over: a small part of a lease.
const HEARD_EVERY: Duration = limits::LEASE.checked_div(30).expect("30 is not 0");

/// One Machine: from the row that is written before it is made, to the row that says it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Our name for it.
    pub name: MachineName,
    /// The queue that it serves.
    pub queue: QueueName,
    /// The image digest that it is made from.
    pub generation: String,
    /// Jobs that it runs at once.
    pub places: u32,
    /// Whether it runs one job only.
    pub single_use: bool,
    /// SHA-256 of its secret, in hex.
    pub secret_hash: String,
    /// The id that the Machines API gave it.
    pub id: Option<MachineId>,
    /// Its state.
    pub state: MachineState,
    /// Since when.
    pub since: Timestamp,
    /// No call about it to the Machines API before this: one is under way, or the last one failed.
    pub act_at: Timestamp,
    /// How many calls in a row failed.
    pub act_failures: u32,
    /// The host's start that was heard of last.
    pub boot: Option<BootId>,
    /// The newest request of that start.
    pub seq: u64,
    /// When its host was last heard of.
    pub heard_at: Option<Timestamp>,
    /// Attempts that it was given in all.
    pub attempts: u64,
    /// Whether it was given up because its host never phoned home.
    #[serde(default)]
    pub boot_failed: bool,
    /// Why it went away or failed, where that is known.
    pub note: Option<String>,
}

/// What a Machine's state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// Being made, and run at once.
    Creating,
    /// Being made ahead, to rest stopped.
    Preparing,
    /// Made and stopped: can be started.
    Ready,
    /// Started; its host has not phoned home yet.
    Starting,
    /// Its host phones home and may claim.
    Up,
    /// Finishes what it runs; may not claim.
    Draining,
    /// Its host said goodbye; not seen stopped yet.
    Left,
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
            MachineState::Destroying => "destroying",
            MachineState::Gone => "gone",
        }
    }

    /// Returns whether it runs, or will without anybody deciding it again. These count against `max_machines`.
    pub const fn is_live(self) -> bool {
        use MachineState::{Creating, Draining, Left, Starting, Up};
        matches!(self, Creating | Starting | Up | Draining | Left)
    }

    /// Returns whether its host may exchange, and so whether it may hold leases.
    pub const fn may_exchange(self) -> bool {
        use MachineState::{Creating, Draining, Starting, Up};
        matches!(self, Creating | Starting | Up | Draining)
    }
}

/// Something that happens to a Machine.
#[derive(Debug, Clone)]
pub enum MachineEvent {
    /// The Machines API made it, or had it already.
    Created {
        /// Its id there.
        id: MachineId,
    },
    /// The Machines API started it.
    Started,
    /// The dispatcher is about to call the Machines API about it.
    ActBegun {
        /// What it will be while that call is under way.
        state: MachineState,
        /// When the call counts as lost.
        until: Timestamp,
    },
    /// A call to the Machines API failed.
    ActFailed {
        /// How.
        note: String,
        /// The shortest wait before the next.
        wait: Duration,
    },
    /// The Machines API destroyed it, or never had it.
    Destroyed,
    /// Its host phoned home.
    Heard {
        /// Which start of it.
        boot: BootId,
        /// Which request of that start.
        seq: u64,
    },
    /// It was given attempts.
    Granted {
        /// How many.
        attempts: u64,
    },
    /// Its host asked to leave, and may.
    Left,
    /// It is to take no more jobs.
    DrainAsked {
        /// Why.
        note: String,
    },
    /// The Machines API was asked how it is.
    Seen {
        /// How it is.
        sight: Sight,
        /// When the question was asked: what happened since then is newer.
        looked_at: Timestamp,
    },
    /// It is not known whether the call that should have made it did.
    CreateLost {
        /// What is known.
        note: String,
    },
    /// It took too long: to boot, to be heard of again, to go.
    Overdue {
        /// What it did not do.
        note: String,
    },
}

/// What the Machines API says of a Machine, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// On its way: being made, started, stopped.
    Pending,
    /// It runs.
    Running,
    /// It does not run.
    Stopped(Option<Exit>),
    /// There is no such Machine, or no longer.
    Gone,
}

/// How a Machine's program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code, where it has one.
    pub code: Option<i32>,
    /// Whether it ran out of the Machine's memory.
    pub oom_killed: bool,
    /// Whether the Machine was told to stop.
    pub requested: bool,
}

impl Exit {
    /// Returns whether the Machine's own work may have brought it down.
    pub fn is_suspect(&self) -> bool {
        self.oom_killed || (!self.requested && self.code != Some(0))
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.oom_killed, self.code) {
            (true, _) => f.write_str("its Machine ran out of memory"),
            (false, Some(code)) => write!(f, "its Machine's host exited with {code}"),
            (false, None) => f.write_str("its Machine stopped"),
        }
    }
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
            boot_failed: false,
            note: None,
        }
    }

    /// Applies an event, or says that it does not apply.
    pub fn apply(&self, event: MachineEvent, now: Timestamp) -> Result<Machine, MachineRefused> {
        use MachineState::{Creating, Destroying, Draining, Gone, Left, Preparing, Ready, Starting, Up};
        let mut machine = self.clone();
        let call_under_way = matches!(event, MachineEvent::ActBegun { .. });
        let state = match (self.state, event) {
            (_, MachineEvent::ActBegun { state, until }) => {
                machine.act_at = until;
                state
            }
            (state, MachineEvent::ActFailed { note, wait }) => {
                machine.act_failures += 1;
                machine.act_at = now.after(wait.max(retry_wait(machine.act_failures)));
                machine.note = Some(note);
                state
            }
            (state, MachineEvent::Created { id }) => {
                machine.id = Some(id);
                machine.acted(now);
                // Its host may have been faster than the answer to the call that made it.
                if state == Creating { Starting } else { state }
            }
            (state, MachineEvent::Started) => {
                machine.acted(now);
                state
            }
            (_, MachineEvent::Destroyed) => Gone,

            (state @ (Creating | Starting | Up | Draining), MachineEvent::Heard { boot, seq }) => {
                let newest = if self.boot == Some(boot) { self.seq.max(seq) } else { seq };
                (machine.boot, machine.seq, machine.heard_at) = (Some(boot), newest, Some(now));
                if state == Draining { Draining } else { Up }
            }
            (Up, MachineEvent::Granted { attempts }) => {
                machine.attempts += attempts;
                Up
            }
            (Up | Draining, MachineEvent::Left) => Left,
            (Creating | Starting | Up | Draining, MachineEvent::DrainAsked { note }) => {
                machine.note = Some(note);
                Draining
            }
            (Preparing | Ready, MachineEvent::DrainAsked { note }) => {
                machine.note = Some(note);
                Destroying
            }

            (state, MachineEvent::Seen { looked_at, .. }) if looked_at <= self.since => state,
            (state, MachineEvent::Seen { sight: Sight::Pending | Sight::Running, .. }) => state,
            (Gone, MachineEvent::Seen { .. }) => Gone,
            (_, MachineEvent::Seen { sight: Sight::Gone, .. }) => {
                machine.note.get_or_insert_with(|| "the Machines API has no such Machine".to_owned());
                Gone
            }
            // The call that starts it is under way: what was seen is from before.
            (state @ (Creating | Starting), MachineEvent::Seen { .. }) if now < self.act_at => state,
            (Preparing, MachineEvent::Seen { sight: Sight::Stopped(_), .. }) => Ready,
            (state @ (Ready | Destroying), MachineEvent::Seen { .. }) => state,
            (Creating | Starting, MachineEvent::Seen { sight: Sight::Stopped(exit), .. }) => {
                let how = exit.map_or("it stopped".to_owned(), |exit| exit.to_string());
                machine.note = Some(format!("{how} before its host phoned home"));
                machine.boot_failed = true;
                Destroying
            }
            (Up | Draining | Left, MachineEvent::Seen { sight: Sight::Stopped(exit), .. }) => {
                let clean = exit.as_ref().is_none_or(|exit| !exit.is_suspect());
                if !clean {
                    machine.note = exit.map(|exit| exit.to_string());
                }
                let again = clean && !self.single_use && self.state != Draining;
                if again { Ready } else { Destroying }
            }

            (Creating | Preparing, MachineEvent::CreateLost { note }) => {
                machine.note = Some(note);
                machine.boot_failed = true;
                Destroying
            }
            // It was made: its host phoned home, or it was seen.
            (state, MachineEvent::CreateLost { .. }) => {
                machine.acted(now);
                state
            }
            (Gone, MachineEvent::Overdue { .. }) => Gone,
            (state, MachineEvent::Overdue { note }) => {
                machine.note = Some(note);
                machine.boot_failed = matches!(state, Creating | Preparing | Starting);
                Destroying
            }
            (state, _) => return Err(MachineRefused(state)),
        };
        if state != self.state {
            machine.state = state;
            machine.since = now;
            if matches!(state, Ready | Destroying) && !call_under_way {
                machine.act_at = now;
            }
        }
        Ok(machine)
    }

    /// Returns whether this is to be written over what the row says: not where it is the same, or was only heard of
    /// again so soon that no lease hangs on it.
    pub fn is_news_to(&self, row: &Machine) -> bool {
        let heard_again = |at: Timestamp| row.heard_at.is_none_or(|before| at.since(before) >= HEARD_EVERY);
        self.heard_at.is_some_and(heard_again) || Machine { heard_at: row.heard_at, ..self.clone() } != *row
    }

    /// A call succeeded: what was seen before now is old.
    fn acted(&mut self, now: Timestamp) {
        self.act_failures = 0;
        self.act_at = now;
        self.since = now;
    }
}

/// Waits between calls that fail: 1, 2, 4 seconds and so on, up to a minute.
fn retry_wait(failures: u32) -> Duration {
    Duration::from_secs(1u64.checked_shl(failures.saturating_sub(1)).unwrap_or(60).min(60))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn machine(name: &str, state: MachineState, now: Timestamp) -> Machine {
        let (name, queue) = (MachineName::new(name).unwrap(), QueueName::default_queue());
        let new = Machine::new(name, queue, "g1".to_owned(), &QueuePolicy::default(), state, now);
        Machine { id: Some(MachineId::new("e1").unwrap()), ..new }
    }

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const LATER: Timestamp = Timestamp::from_millis(1_005_000);

    fn stopped(code: i32) -> MachineEvent {
        let exit = Exit { code: Some(code), oom_killed: false, requested: false };
        MachineEvent::Seen { sight: Sight::Stopped(Some(exit)), looked_at: LATER }
    }

    #[test]
    fn a_host_that_phones_home_before_its_create_is_answered_is_up() {
        let creating = machine("m", MachineState::Creating, NOW);
        let up = creating.apply(MachineEvent::Heard { boot: BootId(1), seq: 1 }, NOW).unwrap();
        assert_eq!(up.state, MachineState::Up);
        let id = MachineId::new("e2").unwrap();
        assert_eq!(up.apply(MachineEvent::Created { id }, NOW).unwrap().state, MachineState::Up);
    }

    #[test]
    fn a_host_that_phoned_home_is_not_given_up_because_its_create_was_not_answered() {
        let lost = || MachineEvent::CreateLost { note: "timed out".into() };
        let creating = Machine { id: None, ..machine("m", MachineState::Creating, NOW) };
        assert_eq!(creating.apply(lost(), NOW).unwrap().state, MachineState::Destroying);
        let up = creating.apply(MachineEvent::Heard { boot: BootId(1), seq: 1 }, NOW).unwrap();
        assert_eq!(up.apply(lost(), NOW).unwrap().state, MachineState::Up);
    }

    #[test]
    fn what_was_seen_before_it_changed_is_old() {
        let up = machine("m", MachineState::Up, LATER);
        let event = MachineEvent::Seen { sight: Sight::Gone, looked_at: NOW };
        assert_eq!(up.apply(event, LATER).unwrap().state, MachineState::Up);
    }

    #[test]
    fn a_start_under_way_is_not_a_failed_boot() {
        let mut starting = machine("m", MachineState::Starting, NOW);
        starting.act_at = LATER.after(Duration::from_secs(60));
        assert_eq!(starting.apply(stopped(0), LATER).unwrap().state, MachineState::Starting);
        starting.act_at = NOW;
        let failed = starting.apply(stopped(1), LATER).unwrap();
        assert!(failed.boot_failed);
        assert!(failed.note.unwrap().contains("exited with 1 before its host phoned home"));
    }

    #[test]
    fn a_machine_whose_host_left_can_be_started_again_and_a_crashed_one_cannot() {
        let left = machine("m", MachineState::Left, NOW);
        assert_eq!(left.apply(stopped(0), LATER).unwrap().state, MachineState::Ready);
        let up = machine("m", MachineState::Up, NOW);
        assert_eq!(up.apply(stopped(101), LATER).unwrap().state, MachineState::Destroying);
        let used = Machine { single_use: true, ..machine("m", MachineState::Left, NOW) };
        assert_eq!(used.apply(stopped(0), LATER).unwrap().state, MachineState::Destroying);
    }

    #[test]
    fn a_machine_that_is_heard_of_again_at_once_is_no_news() {
        let heard = |machine: &Machine, seq, millis| {
            let now = Timestamp::from_millis(NOW.as_millis() + millis);
            machine.apply(MachineEvent::Heard { boot: BootId(1), seq }, now).unwrap()
        };
        let starting = machine("m", MachineState::Starting, NOW);
        let row = heard(&starting, 7, 0);
        assert!(row.is_news_to(&starting));
        assert!(!row.is_news_to(&row));
        assert!(!heard(&row, 7, 999).is_news_to(&row));
        assert!(heard(&row, 7, 1_000).is_news_to(&row), "its leases last while it is heard of");
        assert!(heard(&row, 8, 1).is_news_to(&row), "an older request must not claim any more");
    }

    #[test]
    fn a_host_without_the_right_is_refused() {
        for state in [MachineState::Ready, MachineState::Left, MachineState::Destroying, MachineState::Gone] {
            let machine = machine("m", state, NOW);
            assert!(
                machine.apply(MachineEvent::Heard { boot: BootId(1), seq: 1 }, NOW).is_err(),
                "{state:?}"
            );
        }
    }

    #[test]
    fn calls_that_fail_are_repeated_ever_more_slowly() {
        let mut m = machine("m", MachineState::Creating, NOW);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let event = MachineEvent::ActFailed { note: "no".into(), wait: Duration::ZERO };
            m = m.apply(event, NOW).unwrap();
            waits.push(m.act_at.since(NOW).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
