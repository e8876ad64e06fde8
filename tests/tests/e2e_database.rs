//! What a server does when its database is taken away from it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use midge_protocol::job::State;
use midge_tests::support::{Modules, Server, block_on, eventually, request, serve};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::json;

/// Returns the file that is beside a server's database under a name that begins with the database's.
fn beside(server: &Server, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", server.database().display()))
}

#[test]
fn a_server_whose_database_is_deleted_takes_nothing_and_saves_what_it_has() {
    let mut server = Server::start(&Modules::examples());
    server.run("hello", json!({"name": "x"}));
    let later = server.send(&request("hello", json!({"name": "x"})).delay(Duration::from_secs(3600)));
    fs::remove_file(server.database()).unwrap();

    let client = midge_client::Client::new(&server.url()).unwrap().tries(1);
    let refused = block_on(client.enqueue(&request("hello", json!({})))).unwrap_err().to_string();
    assert!(refused.contains("deleted, moved or replaced"), "{refused}");
    server.process().says("what happened, and where its jobs are", |output| {
        (output.contains("midge.db was deleted or moved") && output.contains("is saved in")).then_some(())
    });
    server.process().signal(Signal::TERM);
    server.process().ended();

    assert!(!server.database().exists());
    // Whoever starts it again does not begin anew: what was saved would be forgotten.
    let database = server.database().display().to_string();
    serve(&Modules::examples(), &["--db", &database]).fails(1, &["`mv ", "midge.db-saved-1", "begin anew"]);
    assert!(!server.database().exists());
    let log = fs::metadata(beside(&server, "-wal")).map_or(0, |log| log.len());
    assert_eq!(log, 0, "a log that is left would be taken for that of the copy");
    fs::rename(beside(&server, "-saved-1"), server.database()).unwrap();
    server.start_again();
    assert_eq!(server.job(later).state, State::Scheduled);
    assert_eq!(block_on(server.client().jobs(&Default::default())).unwrap().jobs.len(), 2);
}

#[test]
fn a_server_that_reaches_a_limit_of_files_goes_on_as_on_a_full_disk() {
    let mut server = Server::start(&Modules::examples());
    let limit = |bytes| {
        let limit = Rlimit { current: bytes, maximum: getrlimit(Resource::Fsize).maximum };
        prlimit(Some(Pid::from_raw(server.pid() as i32).unwrap()), Resource::Fsize, limit).unwrap();
    };
    let later =
        || request("hello", json!({"name": "x"})).input(vec![7; 50_000]).delay(Duration::from_secs(3600));
    limit(Some(fs::metadata(beside(&server, "-wal")).unwrap().len() + 300_000));
    let client = midge_client::Client::new(&server.url()).unwrap().tries(1);
    let mut kept = Vec::new();
    let error = loop {
        match block_on(client.enqueue(&later())) {
            Ok(enqueued) => kept.push(enqueued.id),
            Err(error) => break error,
        }
        assert!(kept.len() < 100, "the limit was never reached");
    };
    assert_eq!(error.code(), Some("store_full"), "{error:?}");
    limit(getrlimit(Resource::Fsize).current);
    kept.push(block_on(client.enqueue(&later())).unwrap().id);
    assert!(kept.len() > 1);
    server.kill();
    server.start_again();
    assert!(kept.into_iter().all(|id| server.job(id).state == State::Scheduled));
}

#[test]
fn a_server_says_that_its_database_was_replaced_though_nobody_asks_for_anything() {
    let mut server = Server::start(&Modules::examples());
    let copy = beside(&server, "-copy");
    fs::copy(server.database(), &copy).unwrap();
    fs::rename(&copy, server.database()).unwrap();
    server
        .process()
        .says("what happened", |output| output.contains("was replaced by another file").then_some(()));
}

#[test]
fn a_server_goes_on_when_its_database_is_back() {
    let mut server = Server::start(&Modules::examples());
    let away = beside(&server, "-away");
    fs::rename(server.database(), &away).unwrap();
    server.process().says("that it is gone", |output| output.contains("was deleted or moved").then_some(()));
    fs::rename(&away, server.database()).unwrap();
    server.process().says("that it is back", |output| output.contains("where it was again").then_some(()));
    let id = eventually("the queue is served again", || {
        block_on(server.client().enqueue(&request("hello", json!({"name": "x"})))).ok()
    });
    assert_eq!(server.ended(id.id).job.state, State::Completed);
}
