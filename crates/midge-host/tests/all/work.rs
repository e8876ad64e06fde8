//! `midge-host work`.

use std::process::{Command, Stdio};

use midge_protocol::exchange::Outcome;
use midge_protocol::job::Cause;
use rustix::process::Signal;

use crate::server::Server;

fn cause(outcome: &Outcome) -> Cause {
    match outcome {
        Outcome::Failed(failure) => failure.cause.clone(),
        other => panic!("it should have failed: {other:?}"),
    }
}

#[test]
fn a_host_claims_runs_reports_and_leaves() {
    let server = Server::start();
    let jobs: Vec<_> = (0..20).map(|n| (server.enqueue("cat", &format!("[{n}]")), n)).collect();
    let failing = server.enqueue("fail", "null");
    let mut host = server.host(&["--wait", "0", "--places", "3"]);
    assert_eq!(server.until_exit(&mut host), (Some(0), String::new()));
    server.set(|seen| {
        assert!(seen.left);
        for (job, n) in jobs {
            let result = format!("[{n}]").into_bytes().into();
            assert_eq!(seen.end(job), Some(Outcome::Completed { result }));
        }
        let Some(Outcome::Failed(failure)) = seen.end(failing) else { panic!("it should have failed") };
        assert_eq!(
            (failure.cause, failure.message.as_str(), failure.exit_code),
            (Cause::Exit, "width", Some(7))
        );
        assert_eq!(seen.log[&failing], b"width\n");
        assert_eq!(seen.finished.len(), 21, "every attempt ended once");
        assert!(seen.requests.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    });
}

#[test]
fn lost_answers_lose_no_job_and_run_none_twice() {
    let server = Server::start();
    server.set(|seen| seen.loses = 5);
    let jobs: Vec<_> = (0..5).map(|_| server.enqueue("cat", "1")).collect();
    let mut host = server.host(&["--wait", "0", "--places", "2"]);
    let (code, log) = server.until_exit(&mut host);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("502") && log.contains("the server is back"), "{log}");
    server.set(|seen| {
        assert!(jobs.iter().all(|job| seen.end(*job).is_some()));
        assert_eq!(seen.finished.len(), 5);
    });
}

#[test]
fn a_waiting_host_takes_a_job_that_comes_later() {
    let server = Server::start();
    let mut host = server.host(&["--wait", "forever"]);
    server.until("it waits", |seen| seen.requests.last().map(drop));
    let job = server.enqueue("cat", "2");
    server.until("the job ended", |seen| seen.end(job));
    server.set(|seen| seen.drains = true);
    assert_eq!(server.until_exit(&mut host).0, Some(0));
}

#[test]
fn a_guest_sees_declared_env_but_not_the_secret() {
    let server = Server::start();
    let job = server.enqueue("env", "null");
    let mut host = server.host(&["--wait", "0"]);
    let Outcome::Completed { result } = server.until("the job ended", |seen| seen.end(job)) else { panic!() };
    let text = String::from_utf8_lossy(&result).into_owned();
    assert!(text.contains("COLOUR=red") && !text.contains("hunter2"), "{text}");
    server.until_exit(&mut host);
}

#[test]
fn a_module_that_cannot_be_loaded_fails_its_job_and_not_the_host() {
    let server = Server::start();
    let (unknown, good) = (server.enqueue("cta", "null"), server.enqueue("cat", "null"));
    let mut host = server.host(&["--wait", "0"]);
    let Outcome::Failed(failure) = server.until("the job ended", |seen| seen.end(unknown)) else { panic!() };
    assert_eq!(failure.cause, Cause::NotLoadable);
    assert!(failure.message.contains("did you mean `cat`"), "{}", failure.message);
    server.until("the other ended", |seen| seen.end(good));
    assert_eq!(server.until_exit(&mut host).0, Some(0));
}

#[test]
fn a_missing_folder_of_modules_is_the_jobs_failure() {
    let server = Server::start();
    let job = server.enqueue("cat", "null");
    let mut host = server.host(&["--wait", "0", "--modules", "/no/such/folder"]);
    let outcome = server.until("the job ended", |seen| seen.end(job));
    assert_eq!(cause(&outcome), Cause::NotLoadable);
    assert_eq!(server.until_exit(&mut host).0, Some(0));
}

#[test]
fn a_running_attempt_is_cancelled_while_its_neighbour_completes() {
    let server = Server::start();
    let spinning = server.enqueue("spin", "null");
    let mut host = server.host(&["--wait", "0", "--places", "2"]);
    server.until("it runs", |seen| seen.runs(spinning));
    server.set(|seen| seen.cancelled.push(spinning));
    let good = server.enqueue("cat", "3");
    assert_eq!(server.until("it is cancelled", |seen| seen.end(spinning)), Outcome::Cancelled);
    server.until("the neighbour ended", |seen| seen.end(good));
    assert_eq!(server.until_exit(&mut host).0, Some(0));
}

#[test]
fn what_a_guest_saves_is_told_before_it_goes_on_and_again_where_an_answer_is_lost() {
    let server = Server::start();
    server.set(|seen| seen.loses_saves = 1);
    let saving = server.enqueue("save", "null");
    server.set(|seen| seen.waiting_for(saving).saved = Some("before".into()));
    let _host = server.host(&[]);
    let outcome = server.until("it ends", |seen| seen.end(saving));
    assert_eq!(outcome, Outcome::Completed { result: "before".into() });
    server.set(|seen| {
        let saves = seen.requests.iter().filter(|request| !request.saved.is_empty());
        let saves: Vec<_> =
            saves.map(|request| (&request.saved[0].state[..], request.finished.len())).collect();
        assert_eq!(saves, [(&b"so_saved"[..], 0); 2]);
    });
}

#[test]
fn what_a_guest_enqueues_is_told_with_its_end() {
    let server = Server::start();
    let fan = server.enqueue("fan", "null");
    let _host = server.host(&[]);
    let outcome = server.until("it ends", |seen| seen.end(fan));
    server.set(|seen| {
        let finished = seen.finished.iter().find(|finished| finished.attempt == fan).unwrap();
        let job = finished.jobs.last().unwrap();
        assert_eq!((finished.jobs.len(), job.input.as_deref()), (25, Some(&b"\"}"[..])));
        assert_eq!(job.read().unwrap().module.as_str(), "hello");
        assert_eq!(outcome, Outcome::Completed { result: job.id.to_string().into() });
    });
}

#[test]
fn progress_is_told_while_the_guest_runs() {
    let server = Server::start();
    let spinning = server.enqueue("spin", "null");
    let _host = server.host(&[]);
    let progress = server.until("it is told", |seen| {
        let running = seen.requests.iter().flat_map(|request| &request.running);
        running.filter(|running| running.attempt == spinning).find_map(|running| running.progress.clone())
    });
    assert_eq!((progress.done, progress.total), (1, 2));
}

#[test]
fn a_host_told_to_stop_gives_back_what_does_not_end_in_time() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start();
        let spinning = server.enqueue("spin", "null");
        let mut host = server.host(&["--grace", "0", "--wait", "forever"]);
        server.until("it runs", |seen| seen.runs(spinning));
        let waiting = {
            host.signal(signal);
            server.until("it is given back", |seen| seen.handed_back.first().copied())
        };
        assert_eq!(waiting, spinning);
        let (code, log) = server.until_exit(&mut host);
        assert_eq!(code, Some(0), "{log}");
        server.set(|seen| assert!(seen.left && seen.finished.is_empty()));
    }
}

#[test]
fn a_second_signal_ends_the_host_at_once() {
    let server = Server::start();
    let spinning = server.enqueue("spin", "null");
    let mut host = server.host(&["--grace", "300"]);
    server.until("it runs", |seen| seen.runs(spinning));
    host.signal(Signal::TERM);
    server.until("it has closed", |seen| seen.requests.last().filter(|request| request.room == 0).map(drop));
    host.signal(Signal::TERM);
    assert_eq!(server.until_exit(&mut host).0, Some(143));
}

#[test]
fn a_machine_without_a_right_stops_its_guests_and_exits() {
    for (status, code, word) in [
        (401, 3, "does not know"),
        (404, 3, "does not know"),
        (410, 3, "does not know"),
        (426, 4, "protocol"),
    ] {
        let server = Server::start();
        let spinning = server.enqueue("spin", "null");
        let mut host = server.host(&[]);
        server.until("it runs", |seen| seen.runs(spinning));
        server.set(|seen| seen.refuses = Some(status));
        let (exit, log) = server.until_exit(&mut host);
        assert_eq!(exit, Some(code), "{log}");
        assert!(log.contains(word), "{log}");
    }
}

#[test]
fn a_host_goes_with_its_leash() {
    let server = Server::start();
    let spinning = server.enqueue("spin", "null");
    let mut host = server.host(&[]);
    server.until("it runs", |seen| seen.runs(spinning));
    assert_eq!(host.let_go().code(), Some(6));
}

#[test]
fn a_result_of_the_largest_size_gets_through() {
    let server = Server::start();
    let job = server.enqueue("cat", "null");
    let input = vec![7u8; midge_protocol::limits::RESULT_BYTES_MAX];
    server.set(|seen| seen.give_input(job, input.clone()));
    let mut host = server.host(&["--wait", "0"]);
    let Outcome::Completed { result } = server.until("the job ended", |seen| seen.end(job)) else { panic!() };
    assert!(result == input);
    assert_eq!(server.until_exit(&mut host).0, Some(0));
}

#[test]
fn wrong_usage_is_told_and_exits_with_2() {
    for args in [
        &["wrok"][..],
        &["work", "--places", "many"],
        &["work"],
        &["run"],
        &["run", "cat", "--args", "{"],
        &[],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_midge-host"))
            .args(args)
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{args:?}");
    }
}
