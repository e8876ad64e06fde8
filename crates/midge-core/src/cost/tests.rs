use std::time::Duration;

use midge_protocol::exchange::Outcome;
use midge_protocol::job::Usage;
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{BootId, Lease, MachineId, MachineName};

use super::*;
use crate::{Call, CallFailure, JobEvent, MachineEvent, MachineState, Meter, Sight};

const MINUTE: Duration = Duration::from_secs(60);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A Machine and what its changes have added.
struct Metering {
    machine: Machine,
    book: CostBook,
    now: Timestamp,
}

impl Metering {
    fn of(state: MachineState) -> Metering {
        let now = at("2030-01-31T23:44:00Z");
        let (name, queue) = (MachineName::new("m").unwrap(), QueueName::default_queue());
        let machine = Machine::new(name, queue, "g1".to_owned(), &QueuePolicy::default(), state, now);
        Metering { machine, book: CostBook::default(), now }
    }

    fn after(mut self, passed: Duration, event: MachineEvent) -> Metering {
        self.now = self.now.after(passed);
        let after = self.machine.apply(event, self.now).unwrap().machine;
        self.book.add_change(&self.machine, &after, self.now);
        self.machine = after;
        self
    }

    fn seen(self, passed: Duration, sight: Sight) -> Metering {
        let looked_at = self.now.after(passed);
        self.after(passed, MachineEvent::Seen { id: None, region: None, sight, looked_at })
    }

    /// Days, minutes that it ran and rested, and how often it was made.
    fn sums(&self) -> Vec<(String, u64, u64, u64)> {
        let minutes = |micros: u64| micros / MINUTE.as_micros() as u64;
        let all = self.book.iter();
        all.map(|(key, sums)| {
            (key.day.to_string(), minutes(sums.running_us), minutes(sums.resting_us), sums.made)
        })
        .collect()
    }
}

fn created() -> MachineEvent {
    MachineEvent::Created { id: MachineId::new("e1").unwrap() }
}

fn heard() -> MachineEvent {
    MachineEvent::Heard { boot: BootId(1), seq: 1, generation: "g1".to_owned() }
}

#[test]
fn a_machine_costs_from_when_it_is_made_until_it_is_gone_by_the_day() {
    let metering = Metering::of(MachineState::Creating)
        .after(MINUTE, MachineEvent::CallBegun(Call::Create))
        .after(MINUTE, created())
        .after(MINUTE, heard())
        .after(20 * MINUTE, MachineEvent::Left)
        .seen(MINUTE, Sight::Stopped(None));
    assert_eq!(metering.machine.state, MachineState::Ready);
    let (first, second) = ("2030-01-31".to_owned(), "2030-02-01".to_owned());
    assert_eq!(metering.sums(), [(first.clone(), 14, 0, 1), (second.clone(), 8, 0, 0)]);
    let metering = metering
        .after(2 * MINUTE, MachineEvent::CallBegun(Call::Start))
        .after(MINUTE, MachineEvent::Destroyed);
    assert_eq!(metering.sums(), [(first, 14, 0, 1), (second, 9, 2, 0)]);
    assert_eq!(metering.machine.meter, None);
}

#[test]
fn one_that_is_given_up_costs_what_it_did_until_it_is_destroyed() {
    let up = || Metering::of(MachineState::Creating).after(MINUTE, created()).after(MINUTE, heard());
    let note = String::new;
    let gone = up()
        .after(MINUTE, MachineEvent::GivenUp { note: note() })
        .after(MINUTE, MachineEvent::CallBegun(Call::Destroy))
        .after(MINUTE, MachineEvent::Destroyed);
    assert_eq!(gone.sums(), [("2030-01-31".to_owned(), 4, 0, 1)]);
    let exit = crate::Exit { code: Some(1), oom_killed: false, requested: false };
    let crashed = up().seen(MINUTE, Sight::Stopped(Some(exit))).after(MINUTE, MachineEvent::Destroyed);
    assert_eq!(crashed.sums(), [("2030-01-31".to_owned(), 2, 1, 1)], "it was seen stopped");
}

#[test]
fn one_that_was_never_made_costs_nothing() {
    let failure = CallFailure::NeedsPerson;
    let refused = MachineEvent::CallFailed { call: Call::Create, failure, note: String::new() };
    let metering = Metering::of(MachineState::Creating)
        .after(MINUTE, refused)
        .after(MINUTE, MachineEvent::Outdated)
        .after(MINUTE, MachineEvent::GivenUp { note: String::new() })
        .after(MINUTE, MachineEvent::Destroyed);
    assert_eq!(metering.sums(), []);
    let prepared = Metering::of(MachineState::Preparing).after(MINUTE, created());
    let rests = prepared.seen(MINUTE, Sight::Stopped(None)).after(MINUTE, MachineEvent::Destroyed);
    assert_eq!(rests.sums(), [("2030-01-31".to_owned(), 0, 2, 1)]);
}

#[test]
fn a_machine_is_where_it_was_seen() {
    let region = |name| RegionName::new(name).ok();
    let mut asked = Metering::of(MachineState::Creating).after(MINUTE, created());
    asked.machine.region = region("iad");
    let looked_at = asked.now;
    let seen = MachineEvent::Seen { id: None, region: region("ams"), sight: Sight::Running, looked_at };
    let seen = asked.after(MINUTE, seen);
    assert_eq!(seen.machine.region, region("ams"), "however old the answer");
    let gone = seen.seen(MINUTE, Sight::Gone);
    assert_eq!(gone.machine.region, region("ams"));
    let runs = gone.book.iter().find(|(_, sums)| sums.running_us > 0).unwrap();
    assert_eq!(runs.0.region, region("ams"));
}

#[test]
fn a_clock_that_is_set_far_counts_days_that_are_kept_and_no_more() {
    let mut up = Metering::of(MachineState::Creating).after(MINUTE, created());
    let rests = Meter { metered: Metered::Resting, since: up.now };
    up.machine.meter = Some(rests);
    up.book.add_time(&up.machine, Timestamp::LATEST);
    let days = up.book.iter().filter(|(_, sums)| sums.resting_us > 0).count();
    assert_eq!(days, COST_DAYS_KEPT as usize + 1, "so many, and today");
    let before = up.book.clone();
    up.book.add_time(&up.machine, Timestamp::EARLIEST);
    assert_eq!(up.book, before, "nothing runs backwards");
}

#[test]
fn a_machine_of_which_nobody_has_heard_is_not_taken_to_run_for_ever() {
    let up = || Metering::of(MachineState::Creating).after(MINUTE, created()).after(MINUTE, heard());
    let gone = up().after(30 * 24 * 60 * MINUTE, MachineEvent::Destroyed);
    let days: Vec<u64> = gone.sums().iter().map(|(_, running, ..)| *running).collect();
    assert_eq!(days, [15, 46], "it was heard of at 23:46, and has left an hour later");
    // Of one that never phoned home it is known since when it was to run.
    let lost = Metering::of(MachineState::Creating).after(MINUTE, created());
    let lost = lost.after(30 * 24 * 60 * MINUTE, MachineEvent::Destroyed);
    assert_eq!(lost.sums().iter().map(|(_, running, ..)| running).sum::<u64>(), 60);
}

#[test]
fn what_was_seen_before_it_was_started_does_not_stop_its_meter() {
    let up = Metering::of(MachineState::Creating).after(MINUTE, created()).after(MINUTE, heard());
    let looked_at = up.now.before(MINUTE);
    let given_up = up.after(MINUTE, MachineEvent::GivenUp { note: String::new() });
    let stopped = MachineEvent::Seen { id: None, region: None, sight: Sight::Stopped(None), looked_at };
    let gone = given_up.after(MINUTE, stopped).after(MINUTE, MachineEvent::Destroyed);
    assert_eq!(gone.sums(), [("2030-01-31".to_owned(), 4, 0, 1)]);
}

#[test]
fn attempts_of_one_module_are_one_entry_and_a_lost_one_has_no_share() {
    let now = at("2030-01-31T08:00:00Z");
    let claimed = JobEvent::Claimed { machine: MachineName::new("m").unwrap() };
    let runs = Job::new(crate::job::tests::new_job(1, now), now).apply(claimed, now).unwrap().job;
    let mut book = CostBook::default();
    let machine = Metering::of(MachineState::Creating).machine;
    let lease: Lease = runs.lease().unwrap().clone();
    let usage = Usage { ran_us: 9_000, share_us: 4_000, ..Usage::default() };
    let finished =
        |outcome| JobEvent::Finished { lease: lease.clone(), outcome, usage: Some(usage), jitter: 0.0 };
    let lost = JobEvent::MachineLost {
        machine: lease.machine.clone(),
        end: crate::MachineEnd::Own,
        note: String::new(),
    };
    let done = Outcome::Completed { result: Default::default() };
    for event in [finished(done), finished(Outcome::Snoozed { after_ms: 1 }), lost] {
        let change = runs.apply(event, now.after(Duration::from_millis(9))).unwrap();
        book.add_attempt(&machine, &change.job, &change.attempt.unwrap());
    }
    let all: Vec<_> = book.iter().collect();
    let [(key, sums)] = all[..] else { panic!("{all:?}") };
    assert_eq!((sums.attempts, sums.share_us), (3, 8_000));
    assert_eq!((key.module.as_ref(), key.day.to_string()), (Some(&runs.module), "2030-01-31".to_owned()));
}

#[test]
fn sums_end_at_what_a_row_can_hold() {
    let most = CostSums { attempts: u64::MAX, share_us: u64::MAX, running_us: 1, ..CostSums::default() };
    let sums = most.plus(most);
    assert_eq!((sums.attempts, sums.share_us, sums.running_us), (CostSums::MAX, CostSums::MAX, 2));
}
