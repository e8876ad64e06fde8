//! Machines that have no row: whose they are, and when they are destroyed.

use std::collections::BTreeMap;

use midge_core::{Machine, MachineState, machine_name, named_at};
use midge_machines::SeenState;
use midge_protocol::manifest::ServerPolicy;
use midge_server::dispatcher::{self, Act};
use midge_store::conformance::fixtures::{self, at, put};
use midge_store::{MemoryStore, read, write};

use crate::stage::{self, Api, Hands, Shows, made};

/// Returns a clock, a minute after the Machines of these tests were named.
fn a_minute_later() -> Hands {
    let hands = Hands::default();
    hands.advance(60_000);
    hands
}

/// The row of a Machine that is gone: where there is any, the Machines API is asked.
fn gone() -> Machine {
    Machine { state: MachineState::Gone, ..fixtures::machine("m") }
}

/// A server that dies before the call finds what it was about to do.
#[tokio::test]
async fn a_machine_has_its_row_before_it_is_asked_for() {
    let store = MemoryStore::new();
    put(&store, &[fixtures::job(1, "default", 0)]).await.unwrap();
    let (api, _hosts) = Api::new(made);
    let context = stage::context(stage::catalog(BTreeMap::new(), ServerPolicy::default()));
    let decided = dispatcher::decide(&store, &api, &context, &a_minute_later()).await.unwrap();
    let [Act::Create { spec, .. }] = &decided.acts[..] else { panic!("{decided:?}") };
    let name = spec.name.clone();
    let row = read(&store, move |rows| rows.machine(&name)).await.unwrap().unwrap();
    assert!(row.state == MachineState::Creating && row.calling && row.id.is_none(), "{row:?}");
    assert_eq!(api.creates(), 0);
    assert!(named_at("store", spec.name.as_str()).is_some(), "{}", spec.name);
}

/// The call that made it was taken for lost, and the last row of a Machine is gone before it is heard.
#[tokio::test]
async fn a_machine_that_is_made_after_it_was_given_up_is_found_and_destroyed() {
    let store = MemoryStore::new();
    write(&store, |rows| rows.put_machine(&gone())).await.unwrap();
    let (mut api, _hosts) = Api::new(made);
    api.shows = |_, _| Some((machine_name("store", at(0), 7).to_string(), SeenState::Started));
    let context = stage::context(stage::catalog(BTreeMap::new(), ServerPolicy::default()));
    let decided = dispatcher::decide(&store, &api, &context, &a_minute_later()).await.unwrap();
    assert!(matches!(&decided.acts[..], [Act::DestroyStray { id }] if id.as_str() == "shown"), "{decided:?}");
}

/// Whoever is root in a Machine of the app can give it any label.
#[tokio::test]
async fn a_machine_that_has_our_label_and_another_s_name_is_left_alone() {
    let store = MemoryStore::new();
    write(&store, |rows| rows.put_machine(&gone())).await.unwrap();
    let context = stage::context(stage::catalog(BTreeMap::new(), ServerPolicy::default()));
    let others: [Shows; 2] = [
        |_, _| Some(("web-1".to_owned(), SeenState::Started)),
        |_, _| Some((machine_name("other", at(0), 7).to_string(), SeenState::Started)),
    ];
    for shows in others {
        let (mut api, _hosts) = Api::new(made);
        api.shows = shows;
        let decided = dispatcher::decide(&store, &api, &context, &a_minute_later()).await.unwrap();
        assert!(decided.acts.is_empty(), "{decided:?}");
    }
}

#[tokio::test]
async fn what_can_be_told_of_a_machine_on_a_server_host_that_does_not_answer_is_too_little_to_destroy_it() {
    let store = MemoryStore::new();
    write(&store, |rows| rows.put_machine(&gone())).await.unwrap();
    let (mut api, _hosts) = Api::new(made);
    api.shows = |_, _| Some((machine_name("store", at(0), 7).to_string(), SeenState::Started));
    api.reachable = false;
    let context = stage::context(stage::catalog(BTreeMap::new(), ServerPolicy::default()));
    let decided = dispatcher::decide(&store, &api, &context, &a_minute_later()).await.unwrap();
    assert!(decided.acts.is_empty(), "{decided:?}");
}

/// One that was stuck may come hours later, when no row is left of any Machine.
#[tokio::test]
async fn a_machine_without_a_row_is_found_where_no_machine_has_one() {
    let store = MemoryStore::new();
    let (mut api, _hosts) = Api::new(made);
    api.shows = |_, _| Some((machine_name("store", at(0), 7).to_string(), SeenState::Started));
    let idle = stage::context(stage::catalog(BTreeMap::new(), ServerPolicy::default()));
    let decided = dispatcher::decide(&store, &api, &idle, &a_minute_later()).await.unwrap();
    assert!(decided.acts.is_empty() && api.lists() == 0, "a server without work asks for nothing");
    let seeks = dispatcher::Context { seeks_strays: true, ..idle };
    let decided = dispatcher::decide(&store, &api, &seeks, &a_minute_later()).await.unwrap();
    assert!(matches!(&decided.acts[..], [Act::DestroyStray { .. }]), "{decided:?}");
}
