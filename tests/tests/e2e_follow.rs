//! A running job, followed: by the command, through a real server, from a guest that logs slowly.

use midge_client::{JobNews, Position};
use midge_protocol::job::State;
use midge_tests::support::{FOUR, Flylet, Guest, Modules, Process, Server, block_on, eventually, run};
use serde_json::Value;

/// A guest that writes a line to stderr, and another one each tenth of a second: so many, or for ever where that is 0.
fn ticks(name: &str, lines: u32) -> Guest {
    let imports = [("poll_oneoff", FOUR), ("fd_write", FOUR)];
    let parts = "(data (i32.const 300) \"tick\\n\") (data (i32.const 310) \"done\")";
    let until = if lines == 0 {
        "(i32.const 1)".to_owned()
    } else {
        format!("(i32.lt_u (local.get 0) (i32.const {lines}))")
    };
    // A subscription: clock 1 at byte 16, the time at byte 24; all else is 0.
    let start = format!(
        "(local i32)
         (i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const 100000000))
         (loop
           (i32.store (i32.const 200) (i32.const 300)) (i32.store (i32.const 204) (i32.const 5))
           (drop (call $fd_write (i32.const 2) (i32.const 200) (i32.const 1) (i32.const 208)))
           (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
           (local.set 0 (i32.add (local.get 0) (i32.const 1)))
           (br_if 0 {until}))
         (i32.store (i32.const 200) (i32.const 310)) (i32.store (i32.const 204) (i32.const 4))
         (drop (call $fd_write (i32.const 1) (i32.const 200) (i32.const 1) (i32.const 208)))"
    );
    Guest::new(name, &imports, parts, &start)
}

fn server() -> Server {
    Server::start(&modules())
}

fn modules() -> Modules {
    let fails = Guest::new(
        "fails",
        &[("fd_write", FOUR), ("proc_exit", "(param i32)")],
        "(data (i32.const 300) \"tick\\n\")",
        "(i32.store (i32.const 200) (i32.const 300)) (i32.store (i32.const 204) (i32.const 5))
         (drop (call $fd_write (i32.const 2) (i32.const 200) (i32.const 1) (i32.const 208)))
         (call $proc_exit (i32.const 1))",
    );
    let fails = fails.settings("max_attempts = 2\nbackoff = \"1ms\"");
    let settings = "[queues.default]\nmax_machines = 1\njobs_per_machine = 3";
    Modules::of_guests(settings, &[ticks("few", 3), ticks("ever", 0), fails])
}

#[test]
fn a_log_is_followed_while_the_job_runs_and_until_it_has_ended() {
    let server = server();
    let id = server.enqueue("ever", Value::Null);
    let text = id.to_string();
    let mut follows = Process::start("midge jobs log -f", server.midge(&["jobs", "log", "-f", &text]));
    follows.says("three lines of a job that never ends", |said| {
        (said.matches("tick\n").count() >= 3).then_some(())
    });
    assert_eq!(server.job(id).state, State::Running);
    run(server.midge(&["jobs", "cancel", &text]), b"").ok();
    assert!(follows.ended().success());
    let said = follows.output();
    assert!(said.contains("ever is cancelled"), "{said}");
    // All of it, once: what was there before, and what came.
    let log = run(server.midge(&["jobs", "log", &text]), b"").ok();
    assert_eq!(said.matches("tick\n").count(), log.text().matches("tick\n").count());
    let again = run(server.midge(&["jobs", "log", "-f", &text]), b"").ok();
    assert_eq!(again.text(), log.text());
}

#[test]
fn enqueue_with_follow_writes_the_log_beside_the_result_and_exits_as_wait_does() {
    let server = server();
    let few = run(server.midge(&["enqueue", "few", "--follow"]), b"").ok();
    let (id, log) = few.stderr.split_once('\n').expect("the id comes first");
    assert!(id.starts_with("job "), "{id}");
    assert_eq!((few.text(), log), ("done", "tick\ntick\ntick\n"));
    let fails = run(server.midge(&["enqueue", "fails", "--follow"]), b"");
    let fails = fails.fails(3, &["attempt 1 failed: exit", "fails was discarded: exit"]);
    assert_eq!((fails.stderr.matches("tick\n").count(), fails.stdout.len()), (2, 0), "{}", fails.stderr);
    let ever = ["enqueue", "ever", "--follow", "--timeout", "1s"];
    run(server.midge(&ever), b"").fails(5, &["tick\n", "it goes on"]);
    run(server.midge(&["enqueue", "ever", "--timeout", "1s"]), b"").fails(2, &["--wait"]);
    run(server.midge(&["jobs", "log", "-f", "0190b3e4-7d5c-7c3a-9f00-0123456789ab"]), b"")
        .fails(1, &["there is no job"]);
}

#[test]
fn a_follower_goes_on_when_the_server_is_back() {
    // Its Machines outlive it.
    let flylet = Flylet::start();
    let mut server = Server::on_flylet(&modules(), &flylet, "v1");
    let id = server.enqueue("ever", Value::Null);
    let client = server.client().clone().tries(100);
    let (mut heard, mut cut) = (0, false);
    let mut follow = client.follow(id, Position::BEGINNING);
    while heard < 40 {
        if let Some(JobNews::Log(piece)) = block_on(follow.next()).unwrap() {
            assert_eq!(piece.offset, heard, "no byte is lost, and none comes twice");
            heard += piece.bytes.len() as u64;
            if !std::mem::replace(&mut cut, true) {
                server.kill();
                server.start_again();
            }
        }
    }
    block_on(server.client().cancel(id)).unwrap();
    eventually("the job's end is told", || match block_on(follow.next()).unwrap() {
        Some(JobNews::Ended(job)) => {
            assert_eq!(job.state, State::Cancelled);
            Some(())
        }
        _ => None,
    });
}
