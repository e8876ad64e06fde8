//! A guest's requests, against whoever is at the other end of its lines.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use midge_engine::{Attempt, Here, Lines, Place, Stop};
use midge_protocol::exchange::{self, Outcome};
use midge_protocol::job::{AttemptLimits, Cause};
use midge_protocol::limits::{OPEN_REQUESTS_MAX, REQUESTS_MAX};
use midge_protocol::line::{Failed, Head, Kind, PREFIX_BYTES, Request, Why};

use crate::support::*;

/// The other end of a line.
pub struct End(pub UnixStream);

impl End {
    /// Reads the next frame; nothing where the line has ended.
    fn next(&mut self) -> Option<(Kind, Vec<u8>)> {
        let mut prefix = [0; PREFIX_BYTES];
        self.0.read_exact(&mut prefix).ok()?;
        let (kind, length) = Kind::of_prefix(prefix).unwrap();
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).ok()?;
        Some((kind, bytes))
    }

    /// Reads a request with all of its body.
    pub fn request(&mut self) -> Option<(Request, Vec<usize>, Vec<u8>)> {
        let (kind, head) = self.next()?;
        assert_eq!(kind, Kind::Request);
        let (mut pieces, mut body) = (Vec::new(), Vec::new());
        loop {
            match self.next()? {
                (Kind::Body, bytes) => {
                    pieces.push(bytes.len());
                    body.extend(bytes);
                }
                (Kind::End, _) => return Some((exchange::decode(&head).unwrap(), pieces, body)),
                other => panic!("{other:?} in a request"),
            }
        }
    }

    fn say(&mut self, kind: Kind, bytes: &[u8]) {
        let _ = self.0.write_all(&[&kind.prefix(bytes.len())[..], bytes].concat());
    }

    pub fn answer(&mut self, pieces: &[&[u8]]) {
        let headers = vec![("server".to_owned(), "fake".into()), ("odd".to_owned(), (&b"\xff"[..]).into())];
        let head = Head { status: 200, url: "http://a.example/".to_owned(), headers };
        let head = exchange::encode(&head);
        let frame = |kind: Kind, bytes: &[u8]| [&kind.prefix(bytes.len())[..], bytes].concat();
        let mut all = frame(Kind::Head, &head);
        pieces.iter().for_each(|piece| all.extend(frame(Kind::Body, piece)));
        // At once, so that all of a short one is there with its head.
        let _ = self.0.write_all(&[all, frame(Kind::End, &[])].concat());
    }

    pub fn fail(&mut self, why: Why, message: &str) {
        self.say(Kind::Failed, &exchange::encode(&Failed { why, message: message.to_owned() }));
    }
}

/// Lines to somebody who serves each by itself, and how many were made.
pub fn lines(serve: impl Fn(End) + Send + Sync + 'static) -> (Arc<Lines>, Arc<Mutex<usize>>) {
    let (serve, made) = (Arc::new(serve), Arc::new(Mutex::new(0)));
    let count = Arc::clone(&made);
    let open = move || {
        *count.lock().unwrap() += 1;
        let (ours, theirs) = UnixStream::pair()?;
        let serve = Arc::clone(&serve);
        thread::spawn(move || serve(End(theirs)));
        Ok(ours)
    };
    (Arc::new(Lines::new(open)), made)
}

pub const OPEN: &str = "(call $http_open (i32.const 1024) (i32.const 36) (i32.const 2) (i64.const 0))";

/// A guest whose head of a request is at 1024.
pub fn requesting(locals: &str, body: &str) -> String {
    let head = r#"(data (i32.const 1024) "POST http://a.example/x\0aaccept: */*\0a")"#;
    format!(r#"(module {HEAD} (memory (export "memory") 4) {head} (func (export "_start") {locals} {body}))"#)
}

/// Reads the answer of `$r` to its end, and prints it.
pub const PRINT_BODY: &str = "
    (loop $on
      (local.set $n (call $http_read (local.get $r) (i32.const 8192) (i32.const 1000)))
      (if (i32.gt_s (local.get $n) (i32.const 0))
        (then (call $write (i32.const 1) (i32.const 8192) (local.get $n)) (br $on))))";
/// Prints why the last call failed, and the number in `$n` below 0 as an exit code above it.
pub const PRINT_ERROR: &str = "
    (call $write (i32.const 2) (i32.const 8192) (call $http_error (i32.const 8192) (i32.const 1000)))
    (call $proc_exit (i32.sub (i32.const 0) (local.get $n)))";
pub const LOCALS: &str = "(local $r i32) (local $n i32)";

fn run_with(text: &str, lines: Arc<Lines>) -> midge_protocol::exchange::Finished {
    let (_folder, _modules, module) = load(text);
    run(Attempt { lines: Some(lines), ..attempt(module) }).0
}

fn failure_with(text: &str, lines: Arc<Lines>) -> midge_protocol::job::Failure {
    match run_with(text, lines).outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("it should have failed: {other:?}"),
    }
}

#[test]
fn a_request_goes_out_whole_and_its_answer_is_read_in_pieces() {
    let (asked, requests) = mpsc::channel();
    let (lines, _) = lines(move |mut end| {
        while let Some(request) = end.request() {
            asked.send(request).unwrap();
            end.answer(&[b"one ", b"two ", &[b'x'; 2_000]]);
        }
    });
    let body = format!(
        "(local.set $r {OPEN})
         (drop (call $http_write (local.get $r) (i32.const 1024) (i32.const 4)))
         (drop (call $http_write (local.get $r) (i32.const 1029) (i32.const 4)))
         (local.set $n (call $http_send (local.get $r)))
         (call $write (i32.const 1) (i32.const 4096) (call $http_head (local.get $r) (i32.const 4096) (local.get $n)))
         {PRINT_BODY} (call $http_close (local.get $r))"
    );
    let ended = run_with(&requesting(LOCALS, &body), lines);
    let expected = [&b"200 http://a.example/\nserver: fake\nodd: \xffone two "[..], &[b'x'; 2_000]].concat();
    assert_eq!(result(&ended), expected);
    let (request, _, body) = requests.recv().unwrap();
    assert_eq!((request.method.as_str(), request.url.as_str()), ("POST", "http://a.example/x"));
    assert_eq!(request.headers, [("accept".to_owned(), "*/*".into())]);
    assert_eq!((request.module.as_str(), request.redirects, request.body_bytes), ("guest", 2, Some(8)));
    assert!(request.timeout_ms <= 301_000, "it is waited for hardly longer than the attempt has");
    assert_eq!(body, b"POSThttp");
}

#[test]
fn a_large_body_goes_out_in_pieces_as_they_come() {
    let (asked, requests) = mpsc::channel();
    let (lines, _) = lines(move |mut end| {
        while let Some(request) = end.request() {
            asked.send(request).unwrap();
            end.answer(&[]);
        }
    });
    let body = format!(
        "(local.set $r {OPEN})
         (loop $on
           (drop (call $http_write (local.get $r) (i32.const 0) (i32.const 200000)))
           (local.set $n (i32.add (local.get $n) (i32.const 1)))
           (br_if $on (i32.lt_u (local.get $n) (i32.const 5))))
         (if (i32.lt_s (call $http_send (local.get $r)) (i32.const 0)) (then unreachable))"
    );
    run_with(&requesting(LOCALS, &body), lines);
    let (request, pieces, body) = requests.recv().unwrap();
    assert_eq!((request.body_bytes, body.len()), (None, 1_000_000));
    assert!(pieces.iter().all(|piece| *piece <= 65_536), "{pieces:?}");
}

#[test]
fn a_line_is_used_again_once_an_answer_has_ended_and_else_given_up() {
    let get = format!(
        "(local.set $r {OPEN}) (local.set $n (call $http_send (local.get $r)))
         (if (i32.lt_s (local.get $n) (i32.const 0)) (then {PRINT_ERROR}))"
    );
    let serve = |mut end: End| {
        while end.request().is_some() && {
            end.answer(&[b"x"]);
            true
        } {}
    };
    let read_all = format!("{get} {PRINT_BODY} (call $http_close (local.get $r))").repeat(3);
    let read_all = read_all.replacen("$on", "$on1", 2).replacen("$on", "$on2", 2);
    let (kept, made) = lines(serve);
    assert_eq!(result(&run_with(&requesting(LOCALS, &read_all), kept)), b"xxx");
    assert_eq!(*made.lock().unwrap(), 1);
    // Nobody has to read the few words behind a status; what is longer is given up.
    let unread = requesting(LOCALS, &format!("{get} (call $http_close (local.get $r))").repeat(3));
    let (kept, made) = lines(serve);
    run_with(&unread, kept);
    assert_eq!(*made.lock().unwrap(), 1);
    let long = |mut end: End| {
        while end.request().is_some() && {
            end.answer(&[&[b'x'; 60_000][..]; 20]);
            true
        } {}
    };
    let (given_up, made) = lines(long);
    run_with(&unread, given_up);
    assert_eq!(*made.lock().unwrap(), 3);
    // Whoever ends its end between two requests is not asked again.
    let (dead, made) = lines(|mut end| {
        end.request().unwrap();
        end.answer(&[b"x"]);
    });
    let (_folder, _modules, module) =
        load(&requesting(LOCALS, &format!("{get} {PRINT_BODY} (call $http_close (local.get $r))")));
    for _ in 0..2 {
        let ended = run(Attempt { lines: Some(Arc::clone(&dead)), ..attempt(Arc::clone(&module)) }).0;
        assert_eq!(result(&ended), b"x");
    }
    assert_eq!(*made.lock().unwrap(), 2);
}

#[test]
fn why_a_request_failed_is_a_number_and_words() {
    let text = requesting(
        LOCALS,
        &format!("(local.set $r {OPEN}) (local.set $n (call $http_send (local.get $r))) {PRINT_ERROR}"),
    );
    for (why, code) in [
        (Why::NotAllowed, 1),
        (Why::Invalid, 2),
        (Why::NoSuchHost, 3),
        (Why::Refused, 4),
        (Why::Reset, 5),
        (Why::Tls, 6),
        (Why::TimedOut, 7),
        (Why::TooLarge, 8),
        (Why::NotHttp, 9),
        (Why::TooManyRedirects, 10),
    ] {
        let (lines, _) = lines(move |mut end| {
            end.request();
            end.fail(why, "it is told in words");
        });
        let failure = failure_with(&text, lines);
        assert_eq!(
            (failure.exit_code, failure.message.as_str()),
            (Some(code), "it is told in words"),
            "{why:?}"
        );
    }
    let (lines, _) = lines(|mut end| {
        end.request();
        end.fail(Why::Lacks, "descriptors");
    });
    let outcome = run_with(&text, lines).outcome;
    assert_eq!(outcome, Outcome::HandedBack { lacks: Some("descriptors".to_owned()) });
}

#[test]
fn whoever_is_at_the_other_end_can_say_what_it_likes() {
    let text = requesting(
        LOCALS,
        &format!(
            "(local.set $r {OPEN}) (local.set $n (call $http_send (local.get $r)))
             (if (i32.ge_s (local.get $n) (i32.const 0)) (then (loop $on
               (local.set $n (call $http_read (local.get $r) (i32.const 8192) (i32.const 1000)))
               (br_if $on (i32.gt_s (local.get $n) (i32.const 0))))))
             {PRINT_ERROR}"
        ),
    );
    let head = exchange::encode(&Head { status: 200, url: String::new(), headers: Vec::new() });
    let headed = [&Kind::Head.prefix(head.len())[..], &head].concat();
    for said in [
        vec![],
        vec![0xff; 100],
        vec![0; 5],
        Kind::End.prefix(0).to_vec(),
        Kind::Head.prefix(10).to_vec(),
        [&Kind::Head.prefix(3)[..], b"abc"].concat(),
        [&headed[..], &Kind::Request.prefix(0)].concat(),
        [&headed[..], &Kind::Body.prefix(100), b"short"].concat(),
        [&headed[..], &[3, 255, 255, 255, 255]].concat(),
    ] {
        let shown = format!("{said:?}");
        let (lines, _) = lines(move |mut end| {
            end.request();
            let _ = end.0.write_all(&said);
        });
        let failure = failure_with(&text, lines);
        assert_eq!(failure.exit_code, Some(5), "{shown}: {}", failure.message);
        assert!(failure.message.contains("the program that has the network is gone"), "{}", failure.message);
    }
}

#[test]
fn a_stop_ends_a_request_at_once_at_both_ends() {
    let (asked, requests) = mpsc::channel();
    let (over, ended) = mpsc::channel();
    let (lines, _) = lines(move |mut end| {
        asked.send(end.request().unwrap()).unwrap();
        assert_eq!(end.next().map(|(kind, _)| kind), None);
        over.send(()).unwrap();
    });
    let (_folder, _modules, module) =
        load(&requesting(LOCALS, &format!("(local.set $r {OPEN}) (drop (call $http_send (local.get $r)))")));
    let place = Place::start(0).unwrap();
    let running = place.run(Attempt { lines: Some(lines), ..attempt(module) });
    requests.recv_timeout(PATIENCE).unwrap();
    running.control().stop(Stop::Cancelled);
    assert_eq!(wait(running).outcome, Outcome::Cancelled);
    ended.recv_timeout(PATIENCE).unwrap();
    assert!(place.is_free());
}

#[test]
fn a_deadline_ends_a_request_where_the_guest_has_the_only_thread() {
    let (lines, _) = lines(|mut end| while end.next().is_some() {});
    let (_folder, _modules, module) =
        load(&requesting(LOCALS, &format!("(local.set $r {OPEN}) (drop (call $http_send (local.get $r)))")));
    let limits = AttemptLimits { time_ms: 20, memory_bytes: 1 << 20 };
    let here = Here::new(Attempt { lines: Some(lines), limits, ..attempt(module) }, |_| {}).unwrap();
    assert_eq!(cause(&here.run()), Cause::OverTime);
}

#[test]
fn an_attempt_has_a_bound_of_open_requests_and_of_all() {
    let (open, _) = lines(|_| {});
    let many = format!(
        "(loop $on (local.set $n {OPEN}) (br_if $on (i32.ge_s (local.get $n) (i32.const 0)))) {PRINT_ERROR}"
    );
    let failure = failure_with(&requesting(LOCALS, &many), open);
    assert_eq!((failure.cause, failure.exit_code), (Cause::OverOpenRequests, Some(11)));
    assert!(failure.message.contains(&OPEN_REQUESTS_MAX.to_string()), "{}", failure.message);
    let (all, made) = lines(|_| {});
    let many = format!(
        "(loop $on (local.set $n {OPEN}) (call $http_close (local.get $n))
           (br_if $on (i32.ge_s (local.get $n) (i32.const 0)))) {PRINT_ERROR}"
    );
    let failure = failure_with(&requesting(LOCALS, &many), all);
    assert_eq!((failure.cause, failure.exit_code), (Cause::OverRequests, Some(11)));
    assert!(failure.message.contains(&REQUESTS_MAX.to_string()), "{}", failure.message);
    assert_eq!(*made.lock().unwrap(), 0, "what is not sent needs no line");
}

#[test]
fn what_is_no_request_is_told_and_nothing_is_sent() {
    let (lines, made) = lines(|_| {});
    for (head, said) in [
        ("GET", "its first line is not a method, a space and a URL"),
        ("", "its first line is not"),
        ("GET http://a/\\0anonsense", "`nonsense` is not a header"),
        ("GET http://a/\\0acontent-length: -1", "its `content-length` is not a number"),
        ("GET http://a/\\0acontent-length: +1", "its `content-length` is not a number"),
        ("GET http://a/\\0acontent-length: 1\\0acontent-length: 1", "it has more than one `content-length`"),
        ("GET http://a/\\ff", "its first line is not"),
    ] {
        let length = head.replace("\\0a", "n").replace("\\ff", "f").len();
        let text = format!(
            r#"(module {HEAD} (memory (export "memory") 1) (data (i32.const 1024) "{head}")
                (func (export "_start") (local $n i32)
                  (local.set $n (call $http_open (i32.const 1024) (i32.const {length}) (i32.const 0) (i64.const 0)))
                  {PRINT_ERROR}))"#
        );
        let failure = failure_with(&text, Arc::clone(&lines));
        assert_eq!(failure.exit_code, Some(2), "{head}");
        assert!(failure.message.contains(said), "{head}: {}", failure.message);
    }
    for call in [
        "(call $http_send (i32.const 0))",
        "(call $http_send (i32.const -1))",
        "(call $http_write (i32.const 15) (i32.const 0) (i32.const 1))",
        "(call $http_head (i32.const 2147483647) (i32.const 0) (i32.const 1))",
        "(call $http_read (i32.const -2147483648) (i32.const 0) (i32.const 1))",
    ] {
        let failure = failure_with(
            &requesting(LOCALS, &format!("(local.set $n {call}) {PRINT_ERROR}")),
            Arc::clone(&lines),
        );
        assert!(failure.message.contains("none with the number"), "{call}: {}", failure.message);
    }
    // A number that is none is closed without a word, and an address beyond the memory is a trap.
    let ended = run_with(
        &requesting("", "(call $http_close (i32.const -7)) (call $http_close (i32.const 3))"),
        Arc::clone(&lines),
    );
    assert_eq!(result(&ended), b"");
    let beyond = "(drop (call $http_open (i32.const -1) (i32.const -1) (i32.const 0) (i64.const 0)))";
    assert_eq!(failure_with(&requesting("", beyond), Arc::clone(&lines)).cause, Cause::Trap);
    assert_eq!(*made.lock().unwrap(), 0);
}

#[test]
fn a_machine_without_the_network_gives_the_attempt_back() {
    let text = requesting(
        LOCALS,
        &format!("(local.set $r {OPEN}) (local.set $n (call $http_send (local.get $r))) {PRINT_ERROR}"),
    );
    let none = Lines::new(|| Err(io::Error::new(io::ErrorKind::NotFound, "there is no midge-net")));
    match run_with(&text, Arc::new(none)).outcome {
        Outcome::HandedBack { lacks: Some(what) } => assert_eq!(what, "the network (there is no midge-net)"),
        other => panic!("{other:?}"),
    }
    // What it does without is its own business.
    let text = requesting(LOCALS, &format!("(local.set $r {OPEN}) (drop (call $http_send (local.get $r)))"));
    let none = Lines::new(|| Err(io::ErrorKind::NotFound.into()));
    assert_eq!(result(&run_with(&text, Arc::new(none))), b"");
}

#[test]
fn requests_of_neighbours_do_not_wait_for_each_other() {
    let (lines, _) = lines(|mut end| {
        while let Some((request, ..)) = end.request() {
            if request.module.as_str() == "stuck" {
                while end.next().is_some() {}
                return;
            }
            end.answer(&[b"here"]);
        }
    });
    let get = format!("(local.set $r {OPEN}) (drop (call $http_send (local.get $r))) {PRINT_BODY}");
    let text = requesting(LOCALS, &get);
    let folder = Folder::with(&[("stuck", &text), ("quick", &text)]);
    let modules = folder.open();
    let (one, other) = (Place::start(0).unwrap(), Place::start(1).unwrap());
    let begin = |place: &Place, module: &str| {
        let module = modules.load(&name(module)).unwrap();
        place.run(Attempt { lines: Some(Arc::clone(&lines)), ..attempt(module) })
    };
    let stuck = begin(&one, "stuck");
    assert_eq!(result(&wait(begin(&other, "quick"))), b"here");
    stuck.control().stop(Stop::HandedBack);
    assert_eq!(wait(stuck).outcome, Outcome::HANDED_BACK);
}
