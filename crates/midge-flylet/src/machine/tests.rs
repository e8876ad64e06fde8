//! Which of what a Machine is asked may happen in its state.

use std::time::Duration;

use rustix::process::Signal;

use midge_machines::wire::ExitEvent;
use serde_json::json;

use super::*;
use crate::fleet::Room;
use crate::order::{Order, StopOrder};

fn machine() -> Machine {
    Machine::new(birth())
}

fn birth() -> Birth {
    Birth {
        id: MachineId::new("00000000000001").unwrap(),
        name: "m".to_owned(),
        region: "local".to_owned(),
        private_ip: "127.0.0.1".to_owned(),
        skips_secrets: false,
        config: MachineConfig::default(),
    }
}

fn start(machine: &Machine) -> Result<SeenState, Refusal> {
    machine.start(None, &Room::default(), |_| Fate::default())
}

/// A change of a Machine by whoever shows a nonce.
type Change = fn(&Machine, Option<&str>) -> Result<(), Refusal>;

const STOP: StopOrder = StopOrder { signal: Signal::TERM, timeout: Duration::from_secs(1) };

#[test]
fn a_machine_that_is_still_created_cannot_be_started() {
    let machine = machine();
    assert!(start(&machine).is_err());
    machine.prepared();
    assert_eq!(start(&machine).unwrap(), SeenState::Stopped);
    assert_eq!(machine.record().orders.take(), Some(Order::Start(Fate::default())));
}

#[test]
fn a_stop_calls_a_start_off_that_nobody_has_taken_up() {
    let machine = machine();
    machine.prepared();
    start(&machine).unwrap();
    machine.stop(None, STOP, Duration::ZERO).unwrap();
    assert_eq!(machine.record().orders.take(), Some(Order::Stop(STOP)));
    assert_eq!(machine.record().orders.take(), None);
}

#[test]
fn a_running_machine_is_destroyed_by_force_only() {
    let machine = machine();
    machine.launching(Fate::default());
    machine.started();
    assert!(machine.destroy(None, false, Duration::ZERO).is_err());
    machine.destroy(None, true, Duration::ZERO).unwrap();
    assert_eq!(machine.state(), SeenState::Destroying);
    assert!(start(&machine).is_err());
}

#[test]
fn a_program_that_ends_while_it_is_stopped_has_obeyed() {
    let machine = machine();
    machine.launching(Fate::default());
    machine.started();
    machine.stop(None, STOP, Duration::ZERO).unwrap();
    assert!(machine.exited(ExitEvent::default()));
    assert_eq!(machine.state(), SeenState::Stopped);
    start(&machine).unwrap();
    assert_eq!(
        machine.record().orders.take(),
        Some(Order::Start(Fate::default())),
        "the stop is not left over"
    );
}

#[tokio::test]
async fn a_state_that_lasted_no_time_was_reached_all_the_same() {
    let machine = machine();
    let since = Since::default();
    let wait = machine.reached(&[SeenState::Started], &since);
    let moves = async {
        machine.launching(Fate::default());
        machine.started();
        machine.exited(ExitEvent::default());
        machine.destroyed();
    };
    let (reached, ()) = tokio::join!(wait, moves);
    assert_eq!(reached.unwrap().0, SeenState::Started);
}

#[test]
fn events_are_bounded_and_newest_first() {
    let machine = machine();
    machine.prepared();
    for _ in 0..EVENTS_MAX {
        start(&machine).unwrap();
        machine.started();
        machine.exited(ExitEvent::default());
    }
    let shown = machine.shown();
    assert_eq!((shown.events.len(), shown.events[0].kind.as_str()), (EVENTS_MAX, "exit"));
}

fn running(config: MachineConfig) -> Machine {
    let machine = Machine::new(Birth { config, ..birth() });
    machine.launching(Fate::default());
    assert_eq!(machine.record().orders.take(), Some(Order::Start(Fate::default())));
    machine.started();
    machine
}

#[test]
fn only_what_runs_is_suspended_and_what_is_suspended_starts_or_stops() {
    let machine = running(MachineConfig::default());
    machine.suspend(None).unwrap();
    assert_eq!(machine.record().orders.take(), Some(Order::Suspend));
    machine.suspended();
    machine.suspend(None).unwrap();
    assert_eq!(start(&machine).unwrap(), SeenState::Suspended);
    assert_eq!(machine.record().orders.take(), Some(Order::Start(Fate::default())));
    assert!(machine.suspend(None).is_err(), "it is starting");
    machine.started();
    machine.suspend(None).unwrap();
    machine.suspended();
    machine.stop(None, STOP, Duration::ZERO).unwrap();
    assert_eq!(machine.record().orders.take(), Some(Order::Stop(STOP)));
    assert_eq!(machine.record().orders.take(), None);
}

#[test]
fn a_suspension_that_nobody_took_up_is_called_off_by_a_start() {
    let machine = running(MachineConfig::default());
    machine.suspend(None).unwrap();
    assert_eq!(start(&machine).unwrap(), SeenState::Suspending);
    assert_eq!(machine.record().orders.take(), Some(Order::Start(Fate::default())));
    assert_eq!(machine.record().orders.take(), None);
}

#[test]
fn what_fly_cannot_suspend_is_refused() {
    let guest = |memory_mb| Some(wire::FlyGuest { cpu_kind: "shared".to_owned(), cpus: 2, memory_mb });
    let swap = wire::Init { swap_size_mb: Some(512), ..wire::Init::default() };
    let schedule = serde_json::Map::from_iter([("schedule".to_owned(), json!("daily"))]);
    for (config, refused) in [
        (MachineConfig { guest: guest(2048), ..MachineConfig::default() }, false),
        (MachineConfig { guest: guest(2304), ..MachineConfig::default() }, true),
        (MachineConfig { init: swap, ..MachineConfig::default() }, true),
        (MachineConfig { other: schedule, ..MachineConfig::default() }, true),
    ] {
        assert_eq!(running(config.clone()).suspend(None).is_err(), refused, "{config:?}");
    }
}

#[test]
fn a_restart_s_exit_is_neither_a_stop_nor_a_death() {
    let machine = running(MachineConfig::default());
    machine.restart(None, &Room::default(), STOP, Fate::default()).unwrap();
    assert!(machine.exited(ExitEvent::default()));
    assert_eq!(machine.state(), SeenState::Restarting);
    assert_eq!(
        machine.record().orders.take(),
        Some(Order::Restart(STOP, Fate::default())),
        "it is to do yet"
    );
    machine.starting_again();
    machine.started();
    assert_eq!(machine.state(), SeenState::Started);
}

#[test]
fn an_update_makes_a_version_and_only_of_the_one_that_the_caller_knows() {
    let machine = running(MachineConfig::default());
    let first = machine.version();
    let update = |current: &str| super::moves::Update {
        config: MachineConfig { image: "new".to_owned(), ..MachineConfig::default() },
        current_version: Some(current.to_owned()),
        launch: true,
        stop: STOP,
        fate: Fate::default(),
    };
    assert!(machine.update(None, &Room::default(), update("other")).is_err());
    machine.update(None, &Room::default(), update(&first)).unwrap();
    assert_eq!((machine.config().image.as_str(), machine.state()), ("new", SeenState::Updating));
    assert!(machine.update(None, &Room::default(), update(&first)).is_err(), "it is another's now");
    assert_eq!(machine.versions().len(), 2);
}

#[tokio::test]
async fn a_stuck_machine_takes_up_no_order_until_it_is_over() {
    let machine = running(MachineConfig::default());
    let stuck = Duration::from_millis(30);
    let began = Instant::now();
    machine.stop(None, STOP, stuck).unwrap();
    assert_eq!(machine.next_order().await, Order::Stop(STOP));
    assert!(began.elapsed() >= stuck);
}

#[tokio::test]
async fn what_is_destroyed_in_the_dark_goes_when_the_light_is_back() {
    let machine = running(MachineConfig::default());
    let dark = Duration::from_millis(200);
    let began = Instant::now();
    machine.goes_dark(dark);
    machine.destroy(None, true, Duration::ZERO).unwrap();
    let shown = machine.shown();
    assert_eq!((shown.state.as_str(), shown.host_status.as_deref()), ("started", Some("unreachable")));
    assert_eq!(shown.config, None);
    assert_eq!(machine.next_order().await, Order::Destroy);
    assert!(began.elapsed() >= dark);
    assert_eq!(machine.shown().state, "destroying");
}

#[tokio::test]
async fn what_is_destroyed_in_the_dark_goes_whatever_is_asked_when_the_light_is_back() {
    let asked: [Change; 4] = [
        |machine, nonce| machine.stop(nonce, STOP, Duration::ZERO),
        |machine, nonce| machine.restart(nonce, &Room::default(), STOP, Fate::default()),
        |machine, nonce| machine.suspend(nonce),
        |machine, nonce| machine.start(nonce, &Room::default(), |_| Fate::default()).map(drop),
    ];
    for ask in asked {
        let machine = running(MachineConfig::default());
        machine.goes_dark(Duration::from_secs(3600));
        machine.destroy(None, true, Duration::ZERO).unwrap();
        machine.record().dark = None;
        ask(&machine, None).unwrap();
        assert_eq!(machine.next_order().await, Order::Destroy);
        assert_eq!(machine.state(), SeenState::Destroying);
    }
}

#[test]
fn a_lease_keeps_every_change_from_all_but_its_holder_and_the_dark_from_him_too() {
    let changes: [Change; 10] = [
        |machine, nonce| machine.start(nonce, &Room::default(), |_| Fate::default()).map(drop),
        |machine, nonce| machine.stop(nonce, STOP, Duration::ZERO),
        |machine, nonce| machine.suspend(nonce),
        |machine, nonce| machine.restart(nonce, &Room::default(), STOP, Fate::default()),
        |machine, nonce| machine.signal(nonce, Signal::USR1),
        |machine, nonce| machine.die(nonce, crate::order::Death::Killed),
        |machine, nonce| machine.cordon(nonce, true),
        |machine, nonce| machine.lease(nonce, "o", String::new(), 1).map(drop),
        |machine, nonce| machine.release(nonce),
        |machine, nonce| {
            let config = MachineConfig::default();
            let (stop, fate) = (STOP, Fate::default());
            let update = Update { config, current_version: None, launch: true, stop, fate };
            machine.update(nonce, &Room::default(), update)
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let machine = running(MachineConfig::default());
        let lease = machine.lease(None, "o", String::new(), 60).unwrap();
        for other in [None, Some("other")] {
            assert!(change(&machine, other).is_err(), "{number}");
            assert!(machine.destroy(other, true, Duration::ZERO).is_err());
        }
        assert_eq!(machine.record().orders.take(), None, "{number}");
        assert_eq!(machine.state(), SeenState::Started, "{number}");
        machine.goes_dark(Duration::from_secs(3600));
        assert!(change(&machine, Some(&lease.nonce)).is_err(), "{number}");
        machine.record().dark = None;
        change(&machine, Some(&lease.nonce)).unwrap();
    }
}

#[test]
fn of_many_who_take_the_lease_at_once_one_has_it() {
    let machine = machine();
    let together = std::sync::Barrier::new(8);
    let taken = std::thread::scope(|scope| {
        let take = || {
            together.wait();
            machine.lease(None, "o", String::new(), 60).is_ok()
        };
        let takers: Vec<_> = (0..8).map(|_| scope.spawn(take)).collect();
        takers.into_iter().map(|taker| taker.join().unwrap()).filter(|taken| *taken).count()
    });
    assert_eq!(taken, 1);
}

#[test]
fn what_is_left_of_a_machine_that_is_gone_is_small_and_does_not_grow() {
    let small = MachineConfig { image: "i".to_owned(), ..MachineConfig::default() };
    let exec = Some(vec!["x".repeat(600 * 1024)]);
    let large = MachineConfig { init: wire::Init { exec, ..wire::Init::default() }, ..small.clone() };
    for (config, kept) in [(small.clone(), small.clone()), (large, small)] {
        let machine = running(MachineConfig::default());
        for _ in 0..VERSIONS_MAX {
            machine.record().configured(config.clone());
        }
        for _ in 0..100 {
            machine.log.push("x".repeat(1024));
        }
        let version = machine.version();
        machine.destroyed();
        assert_eq!(machine.versions(), [(version, Arc::new(kept))]);
        assert_eq!(machine.log.lines().len(), 16);
        assert!(machine.lease(None, "o", "x".repeat(600 * 1024), 60).is_err());
        assert!(machine.label(None, false, [("a".to_owned(), Some("b".to_owned()))]).is_err());
    }
}

#[test]
fn a_lagging_view_shows_what_was_and_not_what_was_not_yet() {
    let machine = running(MachineConfig::default());
    let view = View { lag: Duration::from_secs(60), ..View::default() };
    assert_eq!(machine.shown_as(view), None);
}

#[tokio::test]
async fn a_wait_for_an_older_version_or_an_unknown_event_ends_at_once() {
    let machine = running(MachineConfig::default());
    let first = machine.version();
    let started = machine.events(1)[0].id.clone();
    let since = |version: Option<&str>, event: Option<&str>| Since {
        version: version.map(str::to_owned),
        event: event.map(str::to_owned),
    };
    let wanted = [SeenState::Started];
    machine.reached(&wanted, &since(Some(&first), None)).await.unwrap();
    machine.record().configured(MachineConfig::default());
    assert!(machine.reached(&wanted, &since(Some(&first), None)).await.is_err());
    assert!(machine.reached(&wanted, &since(None, Some("other"))).await.is_err());

    // What came before the event does not count.
    let after = since(None, Some(&started));
    let wait = machine.reached(&wanted, &after);
    let moves = async {
        machine.restart(None, &Room::default(), STOP, Fate::default()).unwrap();
        machine.starting_again();
        machine.started();
    };
    let (reached, ()) = tokio::join!(wait, moves);
    assert_eq!(reached.unwrap().1, machine.events(1)[0].id);
}
