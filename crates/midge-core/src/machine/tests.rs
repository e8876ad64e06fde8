use midge_protocol::exit;

use super::*;

pub(crate) fn machine(name: &str, state: MachineState, now: Timestamp) -> Machine {
    let (name, queue) = (MachineName::new(name).unwrap(), QueueName::default_queue());
    let new = Machine::new(name, queue, "g1".to_owned(), &QueuePolicy::default(), state, now);
    Machine { id: Some(MachineId::new("e1").unwrap()), ..new }
}

fn after(machine: &Machine, event: MachineEvent, now: Timestamp) -> Machine {
    machine.apply(event, now).unwrap().machine
}

fn failed(call: Call, failure: CallFailure) -> MachineEvent {
    MachineEvent::CallFailed { call, failure, note: "no".into() }
}

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const LATER: Timestamp = Timestamp::from_millis(1_005_000);

fn stopped(code: i32) -> MachineEvent {
    let exit = Exit { code: Some(code), oom_killed: false, requested: false };
    MachineEvent::Seen { id: None, region: None, sight: Sight::Stopped(Some(exit)), looked_at: LATER }
}

#[test]
fn a_machine_whose_times_are_ahead_of_the_clock_is_as_if_they_were_now() {
    let ahead = NOW.after(Duration::from_secs(86_400));
    let left = Machine { heard_at: Some(ahead), ..machine("m", MachineState::Left, ahead) };
    let gone = |machine: &Machine, now| {
        let seen = MachineEvent::Seen { id: None, region: None, sight: Sight::Gone, looked_at: now };
        machine.apply(seen, now).unwrap().machine.state
    };
    let later = NOW.after(Duration::from_millis(1));
    assert_eq!(gone(&left, later), MachineState::Left, "what is seen is old until a day has passed");
    let taken = left.apply(MachineEvent::TakenOver, NOW).unwrap().machine;
    assert_eq!((taken.since, taken.heard_at, taken.act_at), (NOW, Some(NOW), NOW));
    assert_eq!(gone(&taken, later), MachineState::Gone);
    assert_eq!(taken.without_times_ahead(NOW), None);
    let called = left.apply(MachineEvent::CallBegun(Call::Destroy), ahead).unwrap().machine;
    let mended = called.without_times_ahead(NOW).unwrap();
    assert!(mended.act_at <= NOW.after(Duration::from_secs(600)) && mended.since == NOW);
    assert_eq!(called.without_times_ahead(ahead), None, "a call that is under way is");
}

#[test]
fn a_host_that_phones_home_before_its_create_is_answered_is_up() {
    let creating = machine("m", MachineState::Creating, NOW);
    let up = after(&creating, MachineEvent::Heard { boot: BootId(1), seq: 1, generation: "g1".into() }, NOW);
    assert_eq!(up.state, MachineState::Up);
    let id = MachineId::new("e2").unwrap();
    assert_eq!(after(&up, MachineEvent::Created { id }, NOW).state, MachineState::Up);
}

#[test]
fn a_host_that_phoned_home_is_not_given_up_because_its_create_was_not_answered() {
    let lost = || failed(Call::Create, CallFailure::Ambiguous);
    let creating = Machine { id: None, ..machine("m", MachineState::Creating, NOW) };
    assert_eq!(after(&creating, lost(), NOW).state, MachineState::Destroying);
    let up = after(&creating, MachineEvent::Heard { boot: BootId(1), seq: 1, generation: "g1".into() }, NOW);
    assert_eq!(after(&up, lost(), NOW).state, MachineState::Up);
}

#[test]
fn a_machine_that_drains_while_it_is_started_again_is_not_heard_of_by_what_was_heard_before() {
    let ready = Machine { heard_at: Some(NOW), ..machine("m", MachineState::Ready, NOW) };
    let starting = after(&ready, MachineEvent::CallBegun(Call::Start), LATER);
    let draining = after(&starting, MachineEvent::Outdated, LATER);
    assert_eq!((draining.state, draining.heard_at), (MachineState::Draining, None));
    let up = Machine { heard_at: Some(NOW), ..machine("m", MachineState::Up, NOW) };
    assert_eq!(after(&up, MachineEvent::Outdated, LATER).heard_at, Some(NOW));
}

#[test]
fn what_was_seen_before_it_changed_is_old() {
    let up = machine("m", MachineState::Up, LATER);
    let event = MachineEvent::Seen { id: None, region: None, sight: Sight::Gone, looked_at: NOW };
    assert_eq!(after(&up, event, LATER).state, MachineState::Up);
}

#[test]
fn a_start_under_way_is_not_a_failed_boot() {
    let mut starting = machine("m", MachineState::Starting, NOW);
    starting.act_at = LATER.after(Duration::from_secs(60));
    assert_eq!(after(&starting, stopped(0), LATER).state, MachineState::Starting);
    starting.act_at = NOW;
    let failed = after(&starting, stopped(1), LATER);
    assert!(failed.boot_failed);
    assert!(failed.note.unwrap().contains("exited with 1 before its host phoned home"));
}

#[test]
fn a_machine_whose_host_left_can_be_started_again_and_a_crashed_one_cannot() {
    let left = machine("m", MachineState::Left, NOW);
    assert_eq!(after(&left, stopped(0), LATER).state, MachineState::Ready);
    let up = machine("m", MachineState::Up, NOW);
    assert_eq!(after(&up, stopped(101), LATER).state, MachineState::Destroying);
    let used = Machine { single_use: true, ..machine("m", MachineState::Left, NOW) };
    assert_eq!(after(&used, stopped(0), LATER).state, MachineState::Destroying);
}

#[test]
fn a_machine_that_is_heard_of_again_at_once_is_no_news() {
    let heard = |machine: &Machine, seq, millis| {
        let now = Timestamp::from_millis(NOW.as_millis() + millis);
        after(machine, MachineEvent::Heard { boot: BootId(1), seq, generation: "g1".into() }, now)
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
            machine
                .apply(MachineEvent::Heard { boot: BootId(1), seq: 1, generation: "g1".into() }, NOW)
                .is_err(),
            "{state:?}"
        );
    }
}

#[test]
fn calls_that_fail_are_repeated_ever_more_slowly() {
    let mut m = machine("m", MachineState::Creating, NOW);
    let mut waits = Vec::new();
    for _ in 0..8 {
        let event = failed(Call::Create, CallFailure::Unavailable);
        m = after(&m, event, NOW);
        waits.push(m.act_at.since(NOW).as_secs());
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn what_a_person_has_to_mend_is_tried_ever_more_slowly_and_never_less_than_every_five_minutes() {
    let mut m = Machine { id: None, ..machine("m", MachineState::Creating, NOW) };
    let mut waits = Vec::new();
    for _ in 0..9 {
        m = after(&m, MachineEvent::CallBegun(Call::Create), NOW);
        assert!(!m.is_refused(), "it may be made at this moment");
        m = after(&m, failed(Call::Create, CallFailure::NeedsPerson), NOW);
        assert!(m.is_refused());
        waits.push(m.act_at.since(NOW).as_secs());
    }
    assert_eq!(waits, [30, 30, 30, 60, 120, 240, 300, 300, 300]);
    assert_eq!((m.since, m.act_failures), (NOW, 9), "how often, and since when, is in its row");
}

#[test]
fn each_time_that_there_is_no_room_the_next_region_has_its_turn() {
    let mut m = Machine { id: None, ..machine("m", MachineState::Creating, NOW) };
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(m.regions("ams, fra,any"));
        m = after(&m, failed(Call::Create, CallFailure::NoCapacity), NOW);
    }
    assert_eq!(asked, ["ams,fra,any", "fra,any,ams", "any,ams,fra", "ams,fra,any"]);
    assert_eq!(m.regions("ams"), "ams");
    for other in [CallFailure::NeedsPerson, CallFailure::RateLimited(None), CallFailure::Unavailable] {
        m = after(&m, failed(Call::Create, other), NOW);
    }
    assert_eq!(m.regions("ams,fra"), "ams,fra", "what has nothing to do with room moves nothing");
}

#[test]
fn a_new_machine_of_a_queue_passes_by_the_regions_that_had_no_room_a_while_ago() {
    let creating = |name: &str| Machine { id: None, ..machine(name, MachineState::Creating, NOW) };
    let refused = after(&creating("a"), failed(Call::Create, CallFailure::NoCapacity), NOW);
    let made = after(&refused, MachineEvent::Created { id: MachineId::new("e1").unwrap() }, LATER);
    let first = |now| first_region([&made, &creating("b")].into_iter(), now);
    assert_eq!((made.no_room, first(LATER)), (1, 1));
    let minutes = |minutes: u64| NOW.after(Duration::from_secs(minutes * 60));
    assert_eq!((first(minutes(4)), first(minutes(5))), (1, 0), "then the first is asked again");
    assert_eq!(first_region([].into_iter(), NOW), 0);
}

#[test]
fn a_limit_of_the_api_is_kept_and_is_no_refusal() {
    let creating = Machine { id: None, ..machine("m", MachineState::Creating, NOW) };
    let failed = |failure| after(&creating, failed(Call::Create, failure), NOW);
    let wait = |failure| failed(failure).act_at.since(NOW).as_secs();
    assert_eq!(wait(CallFailure::RateLimited(Some(Duration::from_secs(7)))), 7);
    assert_eq!(wait(CallFailure::RateLimited(None)), 1);
    assert_eq!(wait(CallFailure::RateLimited(Some(Duration::MAX))), 600, "not for ever");
    assert!(
        !failed(CallFailure::RateLimited(None)).is_refused(),
        "the others like it are made a second later"
    );
    assert!(failed(CallFailure::NoCapacity).is_refused());
}

#[test]
fn a_machine_that_went_before_its_host_phoned_home_did_not_come_up() {
    let gone = || MachineEvent::Seen { id: None, region: None, sight: Sight::Gone, looked_at: LATER };
    for state in [MachineState::Creating, MachineState::Preparing, MachineState::Starting] {
        assert!(after(&machine("m", state, NOW), gone(), LATER).boot_failed, "{state:?}");
    }
    assert!(!after(&machine("m", MachineState::Up, NOW), gone(), LATER).boot_failed);
    let refused = Machine { id: None, refused: true, ..machine("m", MachineState::Creating, NOW) };
    let given_up = after(&refused, MachineEvent::GivenUp { note: "enough".into() }, NOW);
    assert!(!given_up.boot_failed, "it was never made");
}

#[test]
fn a_machine_that_gives_way_finishes_what_it_runs_and_never_rests() {
    let up = machine("m", MachineState::Up, NOW);
    let change = up.apply(MachineEvent::GaveWay, NOW).unwrap();
    assert_eq!((change.machine.state, change.loss.clone()), (MachineState::Draining, None));
    let left = after(&change.machine, MachineEvent::Left, NOW);
    assert_eq!(after(&left, stopped(0), LATER).state, MachineState::Destroying);
    for state in [MachineState::Starting, MachineState::Ready, MachineState::Gone] {
        assert!(machine("m", state, NOW).apply(MachineEvent::GaveWay, NOW).is_err(), "{state:?}");
    }
}

#[test]
fn a_machine_that_somebody_drains_finishes_what_it_runs_and_never_rests() {
    use MachineState::{Creating, Destroying, Draining, Gone, Left, Preparing, Ready, Starting, Up};
    for (state, then) in [
        (Creating, Draining),
        (Starting, Draining),
        (Up, Draining),
        (Draining, Draining),
        (Left, Left),
        (Preparing, Destroying),
        (Ready, Destroying),
    ] {
        let change = machine("m", state, NOW).apply(MachineEvent::DrainAsked, NOW).unwrap();
        assert_eq!((change.machine.state, change.loss.clone()), (then, None), "{state:?}");
        if let Draining = then {
            let left = after(&change.machine, MachineEvent::Left, NOW);
            assert_eq!(after(&left, stopped(0), LATER).state, Destroying, "{state:?}");
            let heard = MachineEvent::Heard { boot: BootId(1), seq: 1, generation: "g1".into() };
            assert_eq!(after(&change.machine, heard, LATER).state, Draining, "it is not up again");
        }
    }
    let left = after(&machine("m", Left, NOW), MachineEvent::DrainAsked, NOW);
    assert_eq!(after(&left, stopped(0), LATER).state, Destroying, "nor is one that had left already");
    for state in [Destroying, Gone] {
        assert!(machine("m", state, NOW).apply(MachineEvent::DrainAsked, NOW).is_err(), "{state:?}");
    }
}

#[test]
fn a_machine_whose_host_lacks_something_takes_nothing_more_and_never_rests() {
    let lacks = || MachineEvent::Lacks { what: "the secret `PAY`".to_owned() };
    let change = machine("m", MachineState::Up, NOW).apply(lacks(), NOW).unwrap();
    assert_eq!(change.machine.note.as_deref(), Some("its host lacks the secret `PAY`"));
    assert_eq!((change.machine.state, change.loss.clone()), (MachineState::Draining, None));
    assert!(change.machine.apply(lacks(), NOW).is_err(), "it drains already");
    let endless = MachineEvent::Lacks { what: "\u{e9}".repeat(1 << 20) };
    let bounded = machine("m", MachineState::Up, NOW).apply(endless, NOW).unwrap().machine;
    assert!(bounded.note.unwrap().len() <= limits::MESSAGE_BYTES_MAX, "a host says as much as it likes");
    let left = after(&change.machine, MachineEvent::Left, NOW);
    assert_eq!(after(&left, stopped(0), LATER).state, MachineState::Destroying);
}

#[test]
fn a_machine_that_cannot_be_started_for_want_of_room_gives_way_to_another() {
    let starting = machine("m", MachineState::Starting, NOW);
    let given_up = after(&starting, failed(Call::Start, CallFailure::NoCapacity), NOW);
    assert_eq!(given_up.state, MachineState::Destroying);
    assert_eq!(after(&starting, failed(Call::Start, CallFailure::Gone), NOW).state, MachineState::Gone);
}

#[test]
fn a_machine_gives_its_jobs_back_when_it_may_hold_no_lease_any_more() {
    let up = machine("m", MachineState::Up, NOW);
    let change = up.apply(stopped(0), LATER).unwrap();
    assert!(matches!(change.job_event(), Some(JobEvent::MachineLost { end: MachineEnd::Own, .. })));
    assert_eq!(up.apply(MachineEvent::Outdated, NOW).unwrap().job_event().map(|_| ()), None, "it finishes");
    let ready = machine("m", MachineState::Ready, NOW);
    assert_eq!(ready.apply(MachineEvent::Outdated, NOW).unwrap().loss, None, "it held none before");
}

#[test]
fn only_an_end_that_a_job_may_have_brought_about_is_held_against_jobs() {
    let exit = |code, oom_killed, requested| Exit { code, oom_killed, requested }.end();
    for (own, why) in [
        (exit(Some(0), false, false), "it left"),
        (exit(Some(exit::GONE), false, false), "it was given up"),
        (exit(Some(exit::OTHER_PROTOCOL), false, false), "its server speaks another protocol"),
        (exit(Some(exit::LOST), false, false), "its server was away"),
        (exit(Some(exit::LEASH), false, false), "its flylet ended"),
        (exit(Some(exit::KILLED), false, true), "it was told to stop, twice"),
        (exit(Some(137), false, true), "it was told to stop, and killed"),
        (exit(None, false, true), "it was told to stop"),
    ] {
        assert_eq!(own, MachineEnd::Own, "{why}");
    }
    for code in [1, 101, 134, 139] {
        assert_eq!(exit(Some(code), false, false), MachineEnd::Crashed, "{code}");
    }
    assert_eq!(exit(Some(137), true, false), MachineEnd::Crashed, "a guest can take all memory");
    assert_eq!(exit(Some(137), true, true), MachineEnd::Crashed, "whatever it was told");
    assert_eq!(exit(Some(137), false, false), MachineEnd::Unexplained, "no guest can kill");
    assert_eq!(exit(Some(exit::KILLED), false, false), MachineEnd::Unexplained, "who told it?");
    assert_eq!(exit(None, false, false), MachineEnd::Unexplained);
}

#[test]
fn a_machine_that_was_destroyed_is_gone_or_whose_server_host_failed_ended_by_itself() {
    let up = machine("m", MachineState::Up, NOW);
    let end = |machine: &Machine, event| machine.apply(event, LATER).unwrap().loss.unwrap().end;
    let seen = |sight| MachineEvent::Seen { id: None, region: None, sight, looked_at: LATER };
    let unheard = || MachineEvent::GivenUp { note: "not heard of".into() };
    assert_eq!(end(&up, MachineEvent::Destroyed), MachineEnd::Own);
    assert_eq!(end(&up, seen(Sight::Gone)), MachineEnd::Own);
    assert_eq!(end(&up, seen(Sight::Stopped(None))), MachineEnd::Own, "the platform stopped it");
    assert_eq!(end(&up, stopped(101)), MachineEnd::Crashed);
    assert_eq!(end(&up, unheard()), MachineEnd::Unexplained);
    let cut_off = after(&up, seen(Sight::Unreachable), LATER);
    assert_eq!((cut_off.state, end(&cut_off, unheard())), (MachineState::Up, MachineEnd::Own));
    let seen_again = after(&cut_off, seen(Sight::Running), LATER);
    assert_eq!(end(&seen_again, unheard()), MachineEnd::Unexplained);
    let heard = MachineEvent::Heard { boot: BootId(1), seq: 1, generation: "g1".into() };
    assert_eq!(end(&after(&cut_off, heard, LATER), unheard()), MachineEnd::Unexplained);
}

#[test]
fn a_machine_runs_apart_while_the_suspect_that_it_was_given_last_runs() {
    let granted = |apart| MachineEvent::Granted { attempts: 1, apart };
    let up = machine("m", MachineState::Up, NOW);
    let apart = after(&up, granted(true), NOW);
    assert!(apart.runs_apart(1) && !apart.runs_apart(0));
    assert!(!after(&apart, granted(false), NOW).runs_apart(1));
}

#[test]
fn a_machine_of_another_generation_takes_no_more_jobs_from_when_it_is_heard_of_and_never_again() {
    let heard = |machine: &Machine, seq, generation: &str| {
        let event = MachineEvent::Heard { boot: BootId(1), seq, generation: generation.into() };
        after(machine, event, NOW)
    };
    let draining = heard(&machine("m", MachineState::Up, NOW), 1, "g2");
    assert_eq!(draining.state, MachineState::Draining);
    assert_eq!(heard(&draining, 2, "g1").state, MachineState::Draining, "its host does not forget it");
    assert_eq!(heard(&machine("m", MachineState::Starting, NOW), 1, "g1").state, MachineState::Up);
}

#[test]
fn a_machine_whose_create_was_not_answered_is_found_by_its_name() {
    let creating = Machine { id: None, ..machine("m", MachineState::Creating, NOW) };
    let id = MachineId::new("e9").unwrap();
    let seen =
        || MachineEvent::Seen { id: Some(id.clone()), region: None, sight: Sight::Running, looked_at: LATER };
    let found = after(&creating, seen(), LATER);
    assert_eq!((found.id, found.state), (Some(id.clone()), MachineState::Starting));
    let called = after(&creating, MachineEvent::CallBegun(Call::Create), NOW);
    assert_eq!(after(&called, seen(), LATER).id, None, "the call is still under way");
}

#[test]
fn a_server_that_takes_over_waits_for_none_of_the_calls_of_the_one_before() {
    let called =
        after(&machine("m", MachineState::Creating, NOW), MachineEvent::CallBegun(Call::Create), NOW);
    assert!(called.act_at > LATER);
    assert_eq!(after(&called, MachineEvent::TakenOver, LATER).act_at, LATER);
}

#[test]
fn only_the_newest_request_of_a_host_counts_and_one_that_it_left_behind_is_known() {
    let mut up = machine("m", MachineState::Up, NOW);
    (up.boot, up.seq) = (Some(BootId(1)), 5);
    assert!(up.is_newest(BootId(1), 5) && !up.is_newest(BootId(1), 4));
    assert!(up.is_newest(BootId(2), 1), "another start begins anew");
    assert!(!up.has_left_behind(BootId(1), 4));
    let left = after(&up, MachineEvent::Left, NOW);
    assert!(left.has_left_behind(BootId(1), 4) && !left.has_left_behind(BootId(1), 5));
}

#[test]
fn a_machine_of_an_app_that_is_not_there_is_gone_once_that_was_said_three_times_of_one_that_is_to_be_destroyed()
 {
    let no_app = |call| failed(call, CallFailure::NoApp);
    let up = machine("m", MachineState::Up, NOW);
    let mut doomed = after(&up, MachineEvent::GivenUp { note: "its host was not heard of".into() }, NOW);
    for _ in 0..2 {
        doomed = after(&doomed, no_app(Call::Destroy), LATER);
        assert_eq!(doomed.state, MachineState::Destroying, "it may be the token");
    }
    let gone = after(&doomed, no_app(Call::Destroy), LATER);
    assert_eq!((gone.state, gone.note.as_deref()), (MachineState::Gone, Some("no")));
    assert_eq!(after(&up, no_app(Call::Start), LATER).state, MachineState::Up, "its host is heard of");
    let creating = Machine { id: None, ..machine("m", MachineState::Creating, NOW) };
    assert!(after(&creating, no_app(Call::Create), LATER).refused);
}

#[test]
fn a_retired_machine_finishes_what_it_runs_and_does_not_rest() {
    let retired = MachineEvent::Retired { note: "it is old".into() };
    let draining = after(&machine("m", MachineState::Up, NOW), retired.clone(), NOW);
    assert_eq!((draining.state, draining.retired), (MachineState::Draining, true));
    let left = after(&draining, MachineEvent::Left, NOW);
    assert_eq!(after(&left, stopped(0), LATER).state, MachineState::Destroying);
    assert!(machine("m", MachineState::Starting, NOW).apply(retired, NOW).is_err());
}
