//! The rules of [`Machines`], each a plain function that panics where it is broken, for every implementation.
//!
//! [`conformance!`](crate::conformance!) lists them once: a new rule is a test of all implementations.

use std::collections::BTreeMap;
use std::time::Duration;

use midge_protocol::manifest::MachineSize;
use midge_protocol::{MachineId, MachineName};
use tokio::time::Instant;

use crate::{Label, Launch, MachineError, MachineSpec, Machines, Seen, SeenState};

/// How long anything may take that must happen. It is generous, since it is only waited out where a rule is broken.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Between two calls for the same.
const PAUSE: Duration = Duration::from_millis(10);

/// What the rules need to know to make Machines, and to tell their own from others.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The reference of an image with `/bin/sh` and `/bin/sleep`.
    pub image: String,
    /// A word that begins the name of every Machine and labels it. It must be unique where Machines of others are
    /// about.
    pub tag: String,
}

impl Ground {
    /// Returns the ground for an implementation of this process, in which there is nobody else.
    pub fn of_one_process() -> Ground {
        Ground { image: "registry.example/conformance:1".to_owned(), tag: "rule".to_owned() }
    }

    fn spec(&self, name: &str, exec: &[&str]) -> MachineSpec {
        MachineSpec {
            name: MachineName::new(format!("{}-{name}", self.tag)).expect("a rule's names are valid"),
            region: None,
            image: self.image.clone(),
            exec: exec.iter().map(|&part| part.to_owned()).collect(),
            env: BTreeMap::new(),
            size: MachineSize { memory_mib: 256, ..MachineSize::default() },
            has_secrets: false,
            metadata: BTreeMap::from([("midge_conformance".to_owned(), self.tag.clone())]),
        }
    }

    fn endless(&self, name: &str) -> MachineSpec {
        self.spec(name, &["/bin/sleep", "86400"])
    }
}

/// Makes a `#[tokio::test]` of every rule, with the attributes that come first. The argument is an async function without
/// arguments that returns `(machines, ground, keep)`: an implementation without Machines, what to make them of, and whatever
/// must live as long as it.
#[macro_export]
macro_rules! conformance {
    ($(#[$attribute:meta])* $start:path) => {
        $crate::conformance! { @each { $(#[$attribute])* } $start:
            a_machine_launched_now_runs_until_it_is_destroyed
            a_machine_launched_later_rests_until_it_is_started
            the_same_name_is_the_same_machine
            a_name_is_free_again_once_its_machine_is_destroyed
            starting_a_started_machine_is_no_error
            stopping_ends_the_program_and_is_seen_as_asked_for
            stopping_a_stopped_machine_is_no_error
            a_machine_whose_program_ends_is_seen_stopped_with_its_exit_code
            a_machine_whose_program_ended_can_be_started_again
            an_exit_of_an_earlier_run_is_not_shown_while_the_next_one_runs
            destroying_twice_is_no_error
            a_destroyed_machine_is_gone_for_good
            a_machine_that_never_was_is_gone
            a_list_holds_every_machine_of_its_label_and_no_other
            a_wait_for_what_does_not_happen_ends
            a_wait_cannot_outlive_its_machine
            a_suspended_machine_goes_on_where_it_was
            a_suspended_machine_can_be_stopped_and_begins_anew
            a_suspended_machine_can_be_destroyed
            a_machine_that_does_not_run_is_not_suspended
            a_program_that_was_killed_is_seen_with_its_signal
        }
    };
    (@each $attributes:tt $start:path: $($rule:ident)*) => {
        $( $crate::conformance! { @one $attributes $start: $rule } )*
    };
    (@one { $($attribute:tt)* } $start:path: $rule:ident) => {
        #[tokio::test]
        $($attribute)*
        async fn $rule() {
            let (machines, ground, _keep) = $start().await;
            $crate::conformance::$rule(&machines, &ground).await;
        }
    };
}

/// Makes a call as the dispatcher does: again after what passes, until it is done or is refused for good.
async fn done<T>(call: impl AsyncFn() -> Result<T, MachineError>) -> Result<T, MachineError> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let error = match call().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let pause = match error {
            MachineError::RateLimited { retry_after } => retry_after.unwrap_or(PAUSE),
            MachineError::NoCapacity(_)
            | MachineError::LimitReached(_)
            | MachineError::NotReady(_)
            | MachineError::Conflict(_)
            | MachineError::Ambiguous { .. }
            | MachineError::Unavailable(_) => PAUSE,
            MachineError::Denied(_)
            | MachineError::NoApp(_)
            | MachineError::Gone(_)
            | MachineError::Invalid(_) => return Err(error),
        };
        if Instant::now() + pause > deadline {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
    }
}

async fn made(machines: &dyn Machines, spec: &MachineSpec, launch: Launch) -> MachineId {
    done(async || machines.create(spec, launch).await).await.expect("a Machine can be made")
}

async fn reaches(machines: &dyn Machines, id: &MachineId, state: SeenState) {
    let shown = state.to_string();
    let wait = async || machines.wait(id, state.clone(), DEADLINE).await;
    done(wait).await.unwrap_or_else(|e| panic!("{id} is never {shown}: {e}"));
}

/// Looks at a Machine until its server host answers.
async fn seen(machines: &dyn Machines, id: &MachineId) -> Seen {
    let look = async || match machines.get(id).await {
        Ok(seen) if !seen.reachable => Err(MachineError::NotReady("its host does not answer".to_owned())),
        other => other,
    };
    done(look).await.expect("a Machine that is there can be looked at")
}

/// A Machine launched now is started without another call, carries what its spec says, and goes when destroyed.
pub async fn a_machine_launched_now_runs_until_it_is_destroyed(machines: &dyn Machines, ground: &Ground) {
    let spec = ground.endless("now");
    let id = made(machines, &spec, Launch::Now).await;
    reaches(machines, &id, SeenState::Started).await;
    let started = seen(machines, &id).await;
    assert_eq!((started.name.as_str(), &started.id), (spec.name.as_str(), &id));
    assert_eq!((started.state, started.exit, started.reachable), (SeenState::Started, None, true));
    assert_eq!(started.metadata, spec.metadata);
    done(async || machines.destroy(&id).await).await.expect("a Machine that runs can be destroyed");
    reaches(machines, &id, SeenState::Destroyed).await;
}

/// A Machine launched later runs nothing until it is started.
pub async fn a_machine_launched_later_rests_until_it_is_started(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("later"), Launch::Later).await;
    reaches(machines, &id, SeenState::Stopped).await;
    assert_eq!(seen(machines, &id).await.exit, None);
    done(async || machines.start(&id).await).await.expect("a Machine that rests can be started");
    reaches(machines, &id, SeenState::Started).await;
    done(async || machines.destroy(&id).await).await.expect("it can be destroyed");
}

/// A repeated create finds the Machine of the first, whatever state that is in by then.
pub async fn the_same_name_is_the_same_machine(machines: &dyn Machines, ground: &Ground) {
    let spec = ground.endless("same");
    let first = made(machines, &spec, Launch::Later).await;
    assert_eq!(made(machines, &spec, Launch::Later).await, first);
    reaches(machines, &first, SeenState::Stopped).await;
    assert_eq!(made(machines, &spec, Launch::Now).await, first);
    done(async || machines.destroy(&first).await).await.expect("it can be destroyed");
}

/// A name is free for another Machine once its own is destroyed.
pub async fn a_name_is_free_again_once_its_machine_is_destroyed(machines: &dyn Machines, ground: &Ground) {
    let spec = ground.endless("again");
    let first = made(machines, &spec, Launch::Now).await;
    done(async || machines.destroy(&first).await).await.expect("it can be destroyed");
    reaches(machines, &first, SeenState::Destroyed).await;
    let second = made(machines, &spec, Launch::Now).await;
    assert_ne!(second, first);
    done(async || machines.destroy(&second).await).await.expect("it can be destroyed");
}

/// A start of a Machine that is started, or about to be, is no error.
pub async fn starting_a_started_machine_is_no_error(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("start"), Launch::Later).await;
    reaches(machines, &id, SeenState::Stopped).await;
    done(async || machines.start(&id).await).await.expect("it can be started");
    done(async || machines.start(&id).await).await.expect("it may be starting");
    reaches(machines, &id, SeenState::Started).await;
    done(async || machines.start(&id).await).await.expect("it may be started");
    assert_eq!(seen(machines, &id).await.state, SeenState::Started);
    done(async || machines.destroy(&id).await).await.expect("it can be destroyed");
}

/// A stop ends the program by a signal that it can handle, and its exit says that it was asked for.
pub async fn stopping_ends_the_program_and_is_seen_as_asked_for(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("stop"), Launch::Now).await;
    reaches(machines, &id, SeenState::Started).await;
    done(async || machines.stop(&id).await).await.expect("a started Machine can be stopped");
    reaches(machines, &id, SeenState::Stopped).await;
    let exit = seen(machines, &id).await.exit.expect("the last run is over");
    assert!(exit.requested_stop, "{exit:?}");
    assert!(!exit.oom_killed, "{exit:?}");
    done(async || machines.destroy(&id).await).await.expect("it can be destroyed");
}

/// A stop of a Machine that is stopped is no error, as a start of one that is started is none.
pub async fn stopping_a_stopped_machine_is_no_error(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("stopped"), Launch::Later).await;
    reaches(machines, &id, SeenState::Stopped).await;
    done(async || machines.stop(&id).await).await.expect("it may be stopped");
    assert_eq!(seen(machines, &id).await.state, SeenState::Stopped);
    done(async || machines.destroy(&id).await).await.expect("it can be destroyed");
}

/// A program's exit code is seen: it is what the dispatcher learns most from about a host.
pub async fn a_machine_whose_program_ends_is_seen_stopped_with_its_exit_code(
    machines: &dyn Machines,
    ground: &Ground,
) {
    let id = made(machines, &ground.spec("exit", &["/bin/sh", "-c", "exit 7"]), Launch::Now).await;
    reaches(machines, &id, SeenState::Stopped).await;
    let stopped = seen(machines, &id).await;
    let exit = stopped.exit.expect("the last run is over");
    assert_eq!((exit.code, exit.requested_stop, exit.oom_killed), (Some(7), false, false));
    done(async || machines.destroy(&id).await).await.expect("it can be destroyed");
}

/// A Machine whose program ended can be started again: pools are made of such Machines.
pub async fn a_machine_whose_program_ended_can_be_started_again(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.spec("rerun", &["/bin/sh", "-c", "exit 0"]), Launch::Later).await;
    for _ in 0..3 {
        reaches(machines, &id, SeenState::Stopped).await;
        done(async || machines.start(&id).await).await.expect("a stopped Machine can be started again");
    }
    done(async || machines.destroy(&id).await).await.expect("it can be destroyed");
}

/// The exit of an earlier run is not shown while the next one runs: the Machine would look as if it had died.
pub async fn an_exit_of_an_earlier_run_is_not_shown_while_the_next_one_runs(
    machines: &dyn Machines,
    ground: &Ground,
) {
    let id = made(machines, &ground.endless("twice"), Launch::Now).await;
    reaches(machines, &id, SeenState::Started).await;
    done(async || machines.stop(&id).await).await.expect("it can be stopped");
    reaches(machines, &id, SeenState::Stopped).await;
    done(async || machines.start(&id).await).await.expect("it can be started");
    reaches(machines, &id, SeenState::Started).await;
    assert_eq!(seen(machines, &id).await.exit, None);
    done(async || machines.destroy(&id).await).await.expect("it can be destroyed");
}

/// A second destroy is no error, whoever calls first.
pub async fn destroying_twice_is_no_error(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("destroy"), Launch::Now).await;
    done(async || machines.destroy(&id).await).await.expect("it can be destroyed");
    done(async || machines.destroy(&id).await).await.expect("it may be on its way");
    reaches(machines, &id, SeenState::Destroyed).await;
    done(async || machines.destroy(&id).await).await.expect("it may be gone");
}

/// A destroyed Machine is seen destroyed or not at all, and cannot be started.
pub async fn a_destroyed_machine_is_gone_for_good(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("gone"), Launch::Now).await;
    done(async || machines.destroy(&id).await).await.expect("it can be destroyed");
    reaches(machines, &id, SeenState::Destroyed).await;
    match done(async || machines.get(&id).await).await {
        Ok(seen) => assert_eq!(seen.state, SeenState::Destroyed),
        Err(error) => assert!(matches!(error, MachineError::Gone(_)), "{error}"),
    }
    let started = done(async || machines.start(&id).await).await;
    assert!(matches!(started, Err(MachineError::Gone(_))), "{started:?}");
    let stopped = done(async || machines.stop(&id).await).await;
    assert!(matches!(stopped, Err(MachineError::Gone(_))), "{stopped:?}");
}

/// A Machine that never was is gone. After a flylet is started again, so are all that were there before.
pub async fn a_machine_that_never_was_is_gone(machines: &dyn Machines, _ground: &Ground) {
    let id = MachineId::new("00000000000000").expect("the id is valid");
    let answers = [
        done(async || machines.get(&id).await.map(drop)).await,
        done(async || machines.start(&id).await).await,
        done(async || machines.stop(&id).await).await,
        done(async || machines.suspend(&id).await).await,
        done(async || machines.wait(&id, SeenState::Started, DEADLINE).await).await,
    ];
    for answer in answers {
        assert!(matches!(&answer, Err(MachineError::Gone(gone)) if *gone == id), "{answer:?}");
    }
    done(async || machines.destroy(&id).await).await.expect("what is not there needs no destroying");
    reaches(machines, &id, SeenState::Destroyed).await;
}

/// A list holds every Machine of its label, however many pages that takes, and no other and no destroyed one.
pub async fn a_list_holds_every_machine_of_its_label_and_no_other(machines: &dyn Machines, ground: &Ground) {
    let label = Label::new("midge_queue", "a b&c=d/é");
    let labelled = |name: String, value: &str| {
        let mut spec = ground.endless(&name);
        spec.metadata.insert(label.key.clone(), value.to_owned());
        spec
    };
    let mut expected = Vec::new();
    for number in 0..5 {
        expected.push(made(machines, &labelled(format!("in-{number}"), &label.value), Launch::Later).await);
    }
    let other = made(machines, &labelled("other".to_owned(), "b"), Launch::Later).await;
    let unlabelled = made(machines, &ground.endless("none"), Launch::Later).await;
    let destroyed = expected.pop().expect("there are five");
    done(async || machines.destroy(&destroyed).await).await.expect("it can be destroyed");
    reaches(machines, &destroyed, SeenState::Destroyed).await;

    expected.sort();
    // It may lag behind what was just done.
    let deadline = Instant::now() + DEADLINE;
    loop {
        let list = done(async || machines.list(&label).await).await.expect("Machines can be listed");
        let mut ids: Vec<MachineId> = list.into_iter().map(|seen| seen.id).collect();
        ids.sort();
        if ids == expected {
            break;
        }
        assert!(Instant::now() < deadline, "{ids:?} are listed, and not {expected:?}");
        tokio::time::sleep(PAUSE).await;
    }
    for id in expected.iter().chain([&other, &unlabelled]) {
        done(async || machines.destroy(id).await).await.expect("it can be destroyed");
    }
}

/// A wait for what does not happen ends with an answer that says that asking again may help; one for a state that
/// cannot be waited for is refused.
pub async fn a_wait_for_what_does_not_happen_ends(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("wait"), Launch::Later).await;
    reaches(machines, &id, SeenState::Stopped).await;
    let wait = async || match machines.wait(&id, SeenState::Started, Duration::from_millis(10)).await {
        // Which is what is expected, and no reason to ask again.
        Err(MachineError::NotReady(_)) => Ok(false),
        other => other.map(|()| true),
    };
    let waited = done(wait).await;
    assert!(matches!(waited, Ok(false)), "{waited:?}");
    let never = machines.wait(&id, SeenState::Starting, DEADLINE).await;
    assert!(matches!(never, Err(MachineError::Invalid(_))), "{never:?}");
    done(async || machines.destroy(&id).await).await.expect("it can be destroyed");
}

/// A wait for a Machine that is destroyed meanwhile ends at once.
pub async fn a_wait_cannot_outlive_its_machine(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("outlive"), Launch::Now).await;
    reaches(machines, &id, SeenState::Started).await;
    done(async || machines.destroy(&id).await).await.expect("it can be destroyed");
    let waited = done(async || machines.wait(&id, SeenState::Stopped, DEADLINE).await).await;
    // Stopped on the way is an answer too: the program did end.
    assert!(matches!(waited, Ok(()) | Err(MachineError::Gone(_))), "{waited:?}");
    reaches(machines, &id, SeenState::Destroyed).await;
}

/// A suspended Machine runs on after a start, as if nothing had been: no run of it has ended.
pub async fn a_suspended_machine_goes_on_where_it_was(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("suspend"), Launch::Now).await;
    reaches(machines, &id, SeenState::Started).await;
    done(async || machines.suspend(&id).await).await.expect("a Machine that runs can be suspended");
    reaches(machines, &id, SeenState::Suspended).await;
    done(async || machines.suspend(&id).await).await.expect("it may be suspended");
    assert_eq!(seen(machines, &id).await.exit, None);
    done(async || machines.start(&id).await).await.expect("it can be started");
    reaches(machines, &id, SeenState::Started).await;
    assert_eq!(seen(machines, &id).await.exit, None);
    done(async || machines.destroy(&id).await).await.expect("it can be destroyed");
}

/// A suspended Machine can be stopped, which throws its memory away, and then started as any other.
pub async fn a_suspended_machine_can_be_stopped_and_begins_anew(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("discard"), Launch::Now).await;
    reaches(machines, &id, SeenState::Started).await;
    done(async || machines.suspend(&id).await).await.expect("it can be suspended");
    reaches(machines, &id, SeenState::Suspended).await;
    done(async || machines.stop(&id).await).await.expect("it can be stopped");
    reaches(machines, &id, SeenState::Stopped).await;
    done(async || machines.start(&id).await).await.expect("it can be started");
    reaches(machines, &id, SeenState::Started).await;
    done(async || machines.destroy(&id).await).await.expect("it can be destroyed");
}

/// A suspended Machine can be destroyed.
pub async fn a_suspended_machine_can_be_destroyed(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("sleeper"), Launch::Now).await;
    reaches(machines, &id, SeenState::Started).await;
    done(async || machines.suspend(&id).await).await.expect("it can be suspended");
    reaches(machines, &id, SeenState::Suspended).await;
    done(async || machines.destroy(&id).await).await.expect("it can be destroyed");
    reaches(machines, &id, SeenState::Destroyed).await;
}

/// A Machine that does not run cannot be suspended, and asking again later may help.
pub async fn a_machine_that_does_not_run_is_not_suspended(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("resting"), Launch::Later).await;
    reaches(machines, &id, SeenState::Stopped).await;
    let suspend = async || match machines.suspend(&id).await {
        Err(MachineError::NotReady(_)) => Ok(false),
        other => other.map(|()| true),
    };
    let suspended = done(suspend).await;
    assert!(matches!(suspended, Ok(false)), "{suspended:?}");
    assert_eq!(seen(machines, &id).await.state, SeenState::Stopped);
    done(async || machines.destroy(&id).await).await.expect("it can be destroyed");
}

/// A program that was killed is seen with the signal, and nobody had asked for its end.
pub async fn a_program_that_was_killed_is_seen_with_its_signal(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.spec("killed", &["/bin/sh", "-c", "kill -9 $$"]), Launch::Now).await;
    reaches(machines, &id, SeenState::Stopped).await;
    let exit = seen(machines, &id).await.exit.expect("the last run is over");
    assert_eq!((exit.code, exit.requested_stop, exit.oom_killed), (Some(137), false, false));
    assert!(matches!(exit.signal, Some(9) | None), "{exit:?}");
    done(async || machines.destroy(&id).await).await.expect("it can be destroyed");
}
