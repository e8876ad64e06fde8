use std::time::Duration;

use super::*;
use crate::JobEvent;
use crate::job::tests::new_job;
use crate::machine::tests::machine;

const NOW: Timestamp = Timestamp::from_millis(10_000_000);

/// Of no queue anything is kept.
static NO_ROWS: BTreeMap<QueueName, (QueueRow, u64)> = BTreeMap::new();

fn later(seconds: u64) -> Timestamp {
    NOW.after(Duration::from_secs(seconds))
}

fn earlier(seconds: i64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() - seconds * 1_000)
}

fn job() -> Job {
    Job::new(new_job(1, NOW), NOW)
}

/// Says why a due job waits among such Machines, in a server that may have `max` of them.
fn why(machines: &[(Machine, u32)], max: u32) -> WhyWaiting {
    let policy = || QueuePolicy { max_machines: 1, ..QueuePolicy::default() };
    Outlook::new(machines, &NO_ROWS, "g1", max, NOW).why(&job(), None, None, policy).unwrap()
}

#[test]
fn a_job_that_waits_for_its_time_says_which() {
    let mut outlook = Outlook::new(&[], &NO_ROWS, "g1", 1, NOW);
    let scheduled = Job::new(new_job(1, later(60)), NOW);
    let at = later(60);
    assert_eq!(outlook.why(&scheduled, None, None, QueuePolicy::default), Some(WhyWaiting::Scheduled { at }));
    let failure = midge_protocol::job::Failure::new(midge_protocol::job::Cause::Exit, "no");
    let failed = Job { failure: Some(failure), ..scheduled };
    assert_eq!(
        outlook.why(&failed, Some(Hold::NotServed), None, QueuePolicy::default),
        Some(WhyWaiting::TriedAgain { at })
    );
}

#[test]
fn a_job_that_does_not_wait_has_no_reason() {
    let cancelled = job().apply(crate::JobEvent::CancelAsked, NOW).unwrap().job;
    assert_eq!(
        Outlook::new(&[], &NO_ROWS, "g1", 1, NOW).why(&cancelled, None, None, QueuePolicy::default),
        None
    );
}

#[test]
fn a_module_that_is_not_served_is_the_reason_whatever_the_machines_do() {
    let mut outlook = Outlook::new(&[], &NO_ROWS, "g1", 1, NOW);
    assert_eq!(
        outlook.why(&job(), Some(Hold::NotServed), None, QueuePolicy::default),
        Some(WhyWaiting::ModuleNotServed)
    );
    let pause = Pause { since: NOW, until: None, reason: "repair".to_owned(), by: String::new() };
    let of_queue = |outlook: &mut Outlook<'_>, jobs: &[Job]| {
        let mut counts = JobCounts::default();
        jobs.iter().for_each(|job| counts.add(job, NOW));
        outlook.queue(&job().queue, &counts, false, QueuePolicy::default)
    };
    let held = job().apply(JobEvent::Held, NOW).unwrap().job;
    assert_eq!(of_queue(&mut outlook, &[]), None);
    let all_held = Some(WhyWaiting::JobsAreHeld { jobs: 2 });
    assert_eq!(of_queue(&mut outlook, &[held.clone(), held.clone()]), all_held);
    assert_eq!(of_queue(&mut outlook, &[held, job()]), Some(WhyWaiting::MachineIsNext));
    for job in [job(), job().apply(JobEvent::Held, NOW).unwrap().job] {
        let why = outlook.why(&job, Some(Hold::Paused(&pause)), None, QueuePolicy::default);
        assert_eq!(why, Some(WhyWaiting::ModuleIsPaused(pause.clone())));
        let released_soon = outlook.why(&job, None, None, QueuePolicy::default);
        assert_eq!(released_soon, Some(WhyWaiting::MachineIsNext));
    }
}

#[test]
fn machines_tell_why_a_due_job_waits() {
    let up = machine("m", MachineState::Up, NOW);
    assert_eq!(why(&[], 1), WhyWaiting::MachineIsNext);
    assert_eq!(why(&[(up.clone(), 1)], 1), WhyWaiting::PlaceIsFree);
    assert_eq!(why(&[(up, 2)], 1), WhyWaiting::QueueIsBusy { machines: 1, max: 1 });
    for state in [MachineState::Creating, MachineState::Starting] {
        assert_eq!(why(&[(machine("m", state, NOW), 0)], 1), WhyWaiting::MachineStarts);
    }
    let draining = machine("m", MachineState::Draining, NOW);
    assert_eq!(why(&[(draining, 1)], 1), WhyWaiting::QueueIsBusy { machines: 1, max: 1 });
}

#[test]
fn a_server_that_has_all_its_machines_is_the_reason_where_the_queue_has_not() {
    let mut other = machine("m", MachineState::Up, NOW);
    other.queue = QueueName::new("other").unwrap();
    assert_eq!(why(&[(other.clone(), 2)], 1), WhyWaiting::ServerIsFull { machines: 1, max: 1 });
    assert_eq!(why(&[(other, 2)], 2), WhyWaiting::MachineIsNext);
}

#[test]
fn machines_that_are_not_destroyed_are_the_reason_where_they_take_the_last_room() {
    let stuck = Machine {
        act_failures: 2,
        act_at: later(30),
        note: Some("app not found".into()),
        ..machine("m", MachineState::Destroying, NOW)
    };
    let expected =
        WhyWaiting::MachinesDoNotGo { machines: 1, words: "app not found".into(), next: later(30) };
    assert_eq!(why(&[(stuck.clone(), 0)], 1), expected);
    assert_eq!(why(&[(stuck, 0)], 2), WhyWaiting::MachineIsNext);
}

#[test]
fn a_machine_that_is_refused_is_the_reason_with_the_words_and_how_often() {
    let new = machine("m", MachineState::Creating, earlier(90));
    let refused = Machine {
        id: None,
        refused: true,
        act_failures: 3,
        act_at: later(30),
        note: Some("no".into()),
        ..new
    };
    let expected =
        WhyWaiting::MachineRefused { words: "no".into(), times: 3, since: earlier(90), next: later(30) };
    assert_eq!(why(&[(refused, 0)], 1), expected);
}

#[test]
fn machines_that_do_not_come_up_are_the_reason_until_one_is_up() {
    let gone = machine("m", MachineState::Gone, NOW);
    let failed = |name: &str| {
        let name = midge_protocol::MachineName::new(name).unwrap();
        (Machine { name, boot_failed: true, note: Some("it stopped".into()), ..gone.clone() }, 0)
    };
    let failed = [failed("m1"), failed("m2")];
    let (words, next) = ("it stopped".to_owned(), later(2));
    let expected = WhyWaiting::MachineDoesNotComeUp { words, times: 2, since: NOW, next };
    assert_eq!(why(&failed, 1), expected);

    // The first death says it, while the next Machine is about to be made, and while it starts.
    let long_ago = |(machine, running): (Machine, u32)| (Machine { since: earlier(60), ..machine }, running);
    let first = [long_ago(failed[0].clone())];
    let told = |machines: &[(Machine, u32)]| {
        matches!(why(machines, 9), WhyWaiting::MachineDoesNotComeUp { times: 1, .. })
    };
    assert!(told(&first));
    let with = |state, heard_at| {
        let next = Machine { heard_at, ..machine("m2", state, NOW) };
        [first[0].clone(), (Machine { places: 1, ..next }, u32::from(heard_at.is_some()))]
    };
    assert!(told(&with(MachineState::Starting, None)));
    assert!(
        matches!(why(&with(MachineState::Up, Some(NOW)), 9), WhyWaiting::QueueIsBusy { .. }),
        "one came up"
    );
    let mended: Vec<_> = with(MachineState::Starting, None).to_vec();
    let old = |mut machines: Vec<(Machine, u32)>| {
        machines[0].0.generation = "g0".to_owned();
        machines
    };
    assert_eq!(why(&old(mended), 9), WhyWaiting::MachineStarts, "another generation may be mended");
}

#[test]
fn a_queue_is_looked_at_once_however_many_jobs_wait() {
    let mut outlook = Outlook::new(&[], &NO_ROWS, "g1", 1, NOW);
    let mut looks = 0;
    for _ in 0..100 {
        outlook.why(&job(), None, None, || {
            looks += 1;
            QueuePolicy::default()
        });
    }
    assert_eq!(looks, 1);
}

#[test]
fn a_suspect_finds_no_place_beside_others() {
    let suspect = Job { suspect: true, ..job() };
    let why = |machines: &[(Machine, u32)]| {
        let policy = || QueuePolicy { max_machines: 1, ..QueuePolicy::default() };
        Outlook::new(machines, &NO_ROWS, "g1", 9, NOW).why(&suspect, None, None, policy).unwrap()
    };
    let up = machine("m", MachineState::Up, NOW);
    assert_eq!(why(&[(up.clone(), 0)]), WhyWaiting::PlaceIsFree);
    assert_eq!(why(&[(up, 1)]), WhyWaiting::QueueIsBusy { machines: 1, max: 1 });
}

#[test]
fn a_job_of_a_paused_queue_or_one_at_its_limit_says_so_before_anything_of_machines() {
    let rate = midge_protocol::manifest::Rate { jobs: 1, per_ms: 60_000, burst: 1 };
    let policy = QueuePolicy { max_running: Some(2), rate: Some(rate), ..QueuePolicy::default() };
    let pause = Pause { since: NOW, until: Some(later(9)), reason: "a deploy".into(), by: "ops".into() };
    let taken = QueueRow { bucket: crate::Bucket::default().take(rate, 1, NOW), ..QueueRow::default() };
    let table = [
        (
            QueueRow { pause: Some(pause.clone()), ..taken.clone() },
            2,
            WhyWaiting::QueueIsPaused(pause.clone()),
        ),
        (
            QueueRow { pause: Some(Pause { until: Some(NOW), ..pause }), ..taken.clone() },
            2,
            WhyWaiting::QueueIsAtLimit { running: 2, max: 2 },
        ),
        (taken, 1, WhyWaiting::QueueIsAtRate { next: later(60) }),
        (QueueRow::default(), 1, WhyWaiting::MachineIsNext),
    ];
    for (row, running, expected) in table {
        let rows = [(QueueName::default_queue(), (row, running))].into();
        let mut outlook = Outlook::new(&[], &rows, "g1", 9, NOW);
        assert_eq!(outlook.why(&job(), None, None, || policy.clone()), Some(expected));
    }
}

#[test]
fn a_queue_whose_keys_have_no_room_says_so_whatever_its_machines_do() {
    let fresh = job();
    let held = job().apply(JobEvent::Held, NOW).unwrap().job;
    let counts = |job| {
        let mut counts = JobCounts::default();
        (0..2).for_each(|_| counts.add(job, NOW));
        counts
    };
    let pause = Pause { since: NOW, until: None, reason: String::new(), by: String::new() };
    let paused = QueueRow { pause: Some(pause.clone()), ..QueueRow::default() };
    let policy = QueuePolicy { max_running: Some(3), ..QueuePolicy::default() };
    let free = [(machine("m", MachineState::Up, NOW), 0)];
    for (row, running, job, full, expected) in [
        (QueueRow::default(), 0, &fresh, true, WhyWaiting::KeysAreAtLimit),
        (QueueRow::default(), 0, &fresh, false, WhyWaiting::PlaceIsFree),
        (QueueRow::default(), 3, &fresh, true, WhyWaiting::QueueIsAtLimit { running: 3, max: 3 }),
        (QueueRow::default(), 0, &held, true, WhyWaiting::JobsAreHeld { jobs: 2 }),
        (paused, 0, &fresh, true, WhyWaiting::QueueIsPaused(pause)),
    ] {
        let rows = [(QueueName::default_queue(), (row, running))].into();
        let mut outlook = Outlook::new(&free, &rows, "g1", 9, NOW);
        let why = outlook.queue(&QueueName::default_queue(), &counts(job), full, || policy.clone());
        assert_eq!(why, Some(expected));
    }
}

#[test]
fn a_job_whose_key_has_no_room_says_so() {
    let rate = midge_protocol::manifest::Rate { jobs: 1, per_ms: 60_000, burst: 1 };
    let policy =
        QueuePolicy { max_running_per_key: Some(1), rate_per_key: Some(rate), ..QueuePolicy::default() };
    let key = midge_protocol::JobKey::new("tenant").unwrap();
    let idle = Lane::new(QueueName::default_queue(), key);
    let busy = Lane { running: 1, ..idle.clone() };
    let taken = Lane { bucket: crate::Bucket::default().take(rate, 1, NOW), ..idle.clone() };
    let why =
        |lane| Outlook::new(&[], &NO_ROWS, "g1", 9, NOW).why(&job(), None, Some(lane), || policy.clone());
    assert_eq!(why(&busy), Some(WhyWaiting::KeyIsAtLimit { running: 1, max: 1 }));
    assert_eq!(why(&taken), Some(WhyWaiting::KeyIsAtRate { next: later(60) }));
    assert_eq!(why(&idle), Some(WhyWaiting::MachineIsNext));
}
