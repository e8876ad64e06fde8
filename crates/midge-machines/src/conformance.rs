//! The rules of [`Machines`], each a plain function that panics where it is broken, for every implementation.
//!
//! [`conformance!`](crate::conformance!) lists them once: a new rule is a test of all implementations.

use std::collections::BTreeMap;
use std::time::Duration;

use midge_protocol::manifest::MachineSize;
use midge_protocol::{MachineId, MachineName};

use crate::{Label, Launch, MachineError, MachineSpec, Machines, Seen, SeenState};

/// How long anything may take that must happen. It is generous, since it is only waited out where a rule is broken.
pub const DEADLINE: Duration = Duration::from_secs(60);

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
    fn spec(&self, name: &str, exec: &[&str]) -> MachineSpec {
        MachineSpec {
            name: MachineName::new(format!("{}-{name}", self.tag)).expect("a rule's names are valid"),
            region: None,
            image: self.image.clone(),
            exec: exec.iter().map(|&part| part.to_owned()).collect(),
            env: BTreeMap::new(),
            size: MachineSize { memory_mib: 256, ..MachineSize::default() },
            metadata: BTreeMap::from([("midge_conformance".to_owned(), self.tag.clone())]),
        }
    }

    fn endless(&self, name: &str) -> MachineSpec {
        self.spec(name, &["/bin/sleep", "86400"])
    }
}

/// Makes a `#[tokio::test]` of every rule. The argument is an async function without arguments that returns
/// `(machines, keep)`: an implementation without Machines, and whatever must live as long as it.
#[macro_export]
macro_rules! conformance {
    ($start:path) => {
        $crate::conformance! { $start:
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
        }
    };
    ($start:path: $($rule:ident)*) => {
        $(
            #[tokio::test]
            async fn $rule() {
                let (machines, _keep) = $start().await;
                let ground = $crate::conformance::Ground {
                    image: "registry.example/conformance:1".to_owned(),
                    tag: "rule".to_owned(),
                };
                $crate::conformance::$rule(&machines, &ground).await;
            }
        )*
    };
}

async fn made(machines: &dyn Machines, spec: &MachineSpec, launch: Launch) -> MachineId {
    machines.create(spec, launch).await.expect("a Machine can be made")
}

async fn reaches(machines: &dyn Machines, id: &MachineId, state: SeenState) {
    let shown = state.to_string();
    machines.wait(id, state, DEADLINE).await.unwrap_or_else(|e| panic!("{id} is never {shown}: {e}"));
}

async fn seen(machines: &dyn Machines, id: &MachineId) -> Seen {
    machines.get(id).await.expect("a Machine that is there can be looked at")
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
    machines.destroy(&id).await.expect("a Machine that runs can be destroyed");
    reaches(machines, &id, SeenState::Destroyed).await;
}

/// A Machine launched later runs nothing until it is started.
pub async fn a_machine_launched_later_rests_until_it_is_started(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("later"), Launch::Later).await;
    reaches(machines, &id, SeenState::Stopped).await;
    assert_eq!(seen(machines, &id).await.exit, None);
    machines.start(&id).await.expect("a Machine that rests can be started");
    reaches(machines, &id, SeenState::Started).await;
    machines.destroy(&id).await.expect("it can be destroyed");
}

/// A repeated create finds the Machine of the first, whatever state that is in by then.
pub async fn the_same_name_is_the_same_machine(machines: &dyn Machines, ground: &Ground) {
    let spec = ground.endless("same");
    let first = made(machines, &spec, Launch::Later).await;
    assert_eq!(made(machines, &spec, Launch::Later).await, first);
    reaches(machines, &first, SeenState::Stopped).await;
    assert_eq!(made(machines, &spec, Launch::Now).await, first);
    machines.destroy(&first).await.expect("it can be destroyed");
}

/// A name is free for another Machine once its own is destroyed.
pub async fn a_name_is_free_again_once_its_machine_is_destroyed(machines: &dyn Machines, ground: &Ground) {
    let spec = ground.endless("again");
    let first = made(machines, &spec, Launch::Now).await;
    machines.destroy(&first).await.expect("it can be destroyed");
    reaches(machines, &first, SeenState::Destroyed).await;
    let second = made(machines, &spec, Launch::Now).await;
    assert_ne!(second, first);
    machines.destroy(&second).await.expect("it can be destroyed");
}

/// A start of a Machine that is started, or about to be, is no error.
pub async fn starting_a_started_machine_is_no_error(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("start"), Launch::Later).await;
    reaches(machines, &id, SeenState::Stopped).await;
    machines.start(&id).await.expect("it can be started");
    machines.start(&id).await.expect("it may be starting");
    reaches(machines, &id, SeenState::Started).await;
    machines.start(&id).await.expect("it may be started");
    assert_eq!(seen(machines, &id).await.state, SeenState::Started);
    machines.destroy(&id).await.expect("it can be destroyed");
}

/// A stop ends the program by a signal that it can handle, and its exit says that it was asked for.
pub async fn stopping_ends_the_program_and_is_seen_as_asked_for(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("stop"), Launch::Now).await;
    reaches(machines, &id, SeenState::Started).await;
    machines.stop(&id).await.expect("a started Machine can be stopped");
    reaches(machines, &id, SeenState::Stopped).await;
    let exit = seen(machines, &id).await.exit.expect("the last run is over");
    assert!(exit.requested_stop, "{exit:?}");
    assert!(!exit.oom_killed, "{exit:?}");
    machines.destroy(&id).await.expect("it can be destroyed");
}

/// A stop of a Machine that is stopped is no error, as a start of one that is started is none.
pub async fn stopping_a_stopped_machine_is_no_error(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("stopped"), Launch::Later).await;
    reaches(machines, &id, SeenState::Stopped).await;
    machines.stop(&id).await.expect("it may be stopped");
    assert_eq!(seen(machines, &id).await.state, SeenState::Stopped);
    machines.destroy(&id).await.expect("it can be destroyed");
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
    machines.destroy(&id).await.expect("it can be destroyed");
}

/// A Machine whose program ended can be started again: pools are made of such Machines.
pub async fn a_machine_whose_program_ended_can_be_started_again(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.spec("rerun", &["/bin/sh", "-c", "exit 0"]), Launch::Later).await;
    for _ in 0..3 {
        reaches(machines, &id, SeenState::Stopped).await;
        machines.start(&id).await.expect("a stopped Machine can be started again");
    }
    machines.destroy(&id).await.expect("it can be destroyed");
}

/// The exit of an earlier run is not shown while the next one runs: the Machine would look as if it had died.
pub async fn an_exit_of_an_earlier_run_is_not_shown_while_the_next_one_runs(
    machines: &dyn Machines,
    ground: &Ground,
) {
    let id = made(machines, &ground.endless("twice"), Launch::Now).await;
    reaches(machines, &id, SeenState::Started).await;
    machines.stop(&id).await.expect("it can be stopped");
    reaches(machines, &id, SeenState::Stopped).await;
    machines.start(&id).await.expect("it can be started");
    reaches(machines, &id, SeenState::Started).await;
    assert_eq!(seen(machines, &id).await.exit, None);
    machines.destroy(&id).await.expect("it can be destroyed");
}

/// A second destroy is no error, whoever calls first.
pub async fn destroying_twice_is_no_error(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("destroy"), Launch::Now).await;
    machines.destroy(&id).await.expect("it can be destroyed");
    machines.destroy(&id).await.expect("it may be on its way");
    reaches(machines, &id, SeenState::Destroyed).await;
    machines.destroy(&id).await.expect("it may be gone");
}

/// A destroyed Machine is seen destroyed or not at all, and cannot be started.
pub async fn a_destroyed_machine_is_gone_for_good(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("gone"), Launch::Now).await;
    machines.destroy(&id).await.expect("it can be destroyed");
    reaches(machines, &id, SeenState::Destroyed).await;
    match machines.get(&id).await {
        Ok(seen) => assert_eq!(seen.state, SeenState::Destroyed),
        Err(error) => assert!(matches!(error, MachineError::Gone(_)), "{error}"),
    }
    let started = machines.start(&id).await;
    assert!(matches!(started, Err(MachineError::Gone(_))), "{started:?}");
    let stopped = machines.stop(&id).await;
    assert!(matches!(stopped, Err(MachineError::Gone(_))), "{stopped:?}");
}

/// A Machine that never was is gone. After a flylet is started again, so are all that were there before.
pub async fn a_machine_that_never_was_is_gone(machines: &dyn Machines, _ground: &Ground) {
    let id = MachineId::new("00000000000000").expect("the id is valid");
    let answers = [
        machines.get(&id).await.map(drop),
        machines.start(&id).await,
        machines.stop(&id).await,
        machines.wait(&id, SeenState::Started, DEADLINE).await,
    ];
    for answer in answers {
        assert!(matches!(&answer, Err(MachineError::Gone(gone)) if *gone == id), "{answer:?}");
    }
    machines.destroy(&id).await.expect("what is not there needs no destroying");
    machines.wait(&id, SeenState::Destroyed, DEADLINE).await.expect("it is as gone as can be");
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
    machines.destroy(&destroyed).await.expect("it can be destroyed");
    reaches(machines, &destroyed, SeenState::Destroyed).await;

    let list = machines.list(&label).await.expect("Machines can be listed");
    let mut ids: Vec<MachineId> = list.into_iter().map(|seen| seen.id).collect();
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected);
    for id in expected.iter().chain([&other, &unlabelled]) {
        machines.destroy(id).await.expect("it can be destroyed");
    }
}

/// A wait for what does not happen ends with an answer that says that asking again may help; one for a state that
/// cannot be waited for is refused.
pub async fn a_wait_for_what_does_not_happen_ends(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("wait"), Launch::Later).await;
    reaches(machines, &id, SeenState::Stopped).await;
    let waited = machines.wait(&id, SeenState::Started, Duration::from_millis(10)).await;
    assert!(matches!(waited, Err(MachineError::NotReady(_))), "{waited:?}");
    let never = machines.wait(&id, SeenState::Starting, DEADLINE).await;
    assert!(matches!(never, Err(MachineError::Invalid(_))), "{never:?}");
    machines.destroy(&id).await.expect("it can be destroyed");
}

/// A wait for a Machine that is destroyed meanwhile ends at once.
pub async fn a_wait_cannot_outlive_its_machine(machines: &dyn Machines, ground: &Ground) {
    let id = made(machines, &ground.endless("outlive"), Launch::Now).await;
    reaches(machines, &id, SeenState::Started).await;
    machines.destroy(&id).await.expect("it can be destroyed");
    let waited = machines.wait(&id, SeenState::Stopped, DEADLINE).await;
    // Stopped on the way is an answer too: the program did end.
    assert!(matches!(waited, Ok(()) | Err(MachineError::Gone(_))), "{waited:?}");
    reaches(machines, &id, SeenState::Destroyed).await;
}
