//! Extremes of every field that a caller or a host can bring, written and read back: no answer is a 5xx.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use midge_protocol::api::{
    ApiError, BatchMade, BulkEnqueued, Enqueued, JobDetail, JobPage, Machines, Queues,
};
use midge_protocol::exchange::{Answer, AttemptRef, Finished, LogChunk, Outcome, Running, decode, encode};
use midge_protocol::job::{Cause, Failure, Progress, State, Usage};
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{AttemptNumber, JobId, limits};
use midge_store::conformance::fixtures::Database;
use midge_store::{MemoryStore, Store};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::stage::{Host, JSON, Reply, Server};

const HOST: (&str, &str) = ("host", "localhost");
/// Requests of one run.
const REQUESTS: usize = 150;
/// Seeds that are tried. One that once failed stays in the list.
const SEEDS: [u64; 3] = [1, 2, 3];

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "1000",
    "1001",
    "86400000",
    "86400001",
    "2147483648",
    "4294967295",
    "4294967296",
    "253402300800000",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1.5",
    "1e400",
    "-0.0",
    "9007199254740993",
];
const TIMES: &[&str] = &[
    r#""2020-01-01T00:00:00Z""#,
    r#""2090-01-01T00:00:00+14:00""#,
    r#""0000-01-01T00:00:00Z""#,
    r#""-000001-12-31T00:00:00Z""#,
    r#""9999-12-30T22:00:00Z""#,
    r#""9999-12-30T22:00:00.001Z""#,
    r#""9999-12-31T23:59:59Z""#,
    r#""10000-01-01T00:00:00Z""#,
    r#""noon""#,
];
const TEXTS: &[&str] = &[
    r#""""#,
    r#""hello""#,
    r#""HELLO""#,
    r#""../etc""#,
    r#""\u0000""#,
    r#""\ud800""#,
    r#""\ud83d\ude00""#,
    r#""a b""#,
    "\"\u{202e}\u{1b}[31m\"",
    r#""AAAA""#,
    r#""%%""#,
    r#""00000000-0000-0000-0000-000000000000""#,
    r#""ffffffff-ffff-ffff-ffff-ffffffffffff""#,
    r#""{0190b3e4-7d5c-7c3a-9f00-0123456789ab}""#,
];
const OTHERS: &[&str] = &["null", "true", "[]", "{}", "[[]]", r#"{"a": {"b": [1.0, {}]}}"#];
const INTEGERS: &[u64] =
    &[0, 1, 4_096, u32::MAX as u64, 253_402_300_800_000, i64::MAX as u64, u64::MAX - 1, u64::MAX];

fn pick<'a, T: ?Sized>(chance: &mut StdRng, of: &[&'a T]) -> &'a T {
    of[chance.random_range(0..of.len())]
}

fn integer(chance: &mut StdRng) -> u64 {
    INTEGERS[chance.random_range(0..INTEGERS.len())]
}

fn text(chance: &mut StdRng) -> String {
    let piece = pick(chance, &["", "a", "é\u{202e}", "\u{0}\r\n\u{1b}[2J", "</pre><script>", "\u{10ffff}"]);
    let times = match chance.random_range(0..20) {
        // Over the bound of a log.
        0 => 300_000,
        number => [1, 63, 64, 5_000][number % 4],
    };
    piece.repeat(times)
}

/// Any JSON value.
fn value(chance: &mut StdRng) -> String {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    match chance.random_range(0..12) {
        0..3 => pick(chance, NUMBERS).to_owned(),
        3..5 => pick(chance, TEXTS).to_owned(),
        5 => pick(chance, TIMES).to_owned(),
        6 => nested([100, 101, 5_000][chance.random_range(0..3)]),
        7 => format!("\"{}\"", "x".repeat(limits::ARGS_BYTES_MAX - 2 + chance.random_range(0..2))),
        8 => serde_json::to_string(&text(chance)).unwrap(),
        _ => pick(chance, OTHERS).to_owned(),
    }
}

/// A request to enqueue: each field likely of its kind, and now and then of any.
fn request(chance: &mut StdRng) -> String {
    let name = format!("\"{}\"", "q".repeat(63));
    let mut fields = vec![("module", r#""hello""#.to_owned())];
    for (field, of_its_kind) in [
        ("id", pick(chance, TEXTS)),
        ("args", pick(chance, OTHERS)),
        ("input", pick(chance, &[r#""""#, r#""AAAA""#, r#""AA==""#])),
        ("queue", pick(chance, &[r#""default""#, name.as_str()])),
        ("scheduled_at", pick(chance, TIMES)),
        ("in_ms", pick(chance, NUMBERS)),
        ("priority", pick(chance, &["-100", "100", "-101", "101", "128", "null", "1e2"])),
        (
            "key",
            pick(chance, &[r#""acme""#, r#""""#, r#""\u001b[31m""#, r#""\u202e\ud83e\udd9f""#, "null", "7"]),
        ),
        (
            "tags",
            pick(chance, &["[]", r#"["a", "b"]"#, r#"["a", "a"]"#, r#"["\u202e"]"#, "null", r#"["日本"]"#]),
        ),
        ("meta", pick(chance, &["{}", r#"{"by": "\u202e\u0000"}"#, r#"{"": ""}"#, r#"{"a": 1}"#, "null"])),
        ("max_attempts", pick(chance, NUMBERS)),
        ("time_limit_ms", pick(chance, NUMBERS)),
        ("expires_at", pick(chance, TIMES)),
        ("expires_in_ms", pick(chance, NUMBERS)),
        ("backoff", pick(chance, super::again::BACKOFFS)),
        ("jitter_percent", pick(chance, &["0", "1", "100", "101", "4294967295", "4294967296"])),
        ("backoff_by_cause", pick(chance, super::again::BY_CAUSE)),
        ("retry_until", pick(chance, TIMES)),
        ("retry_for_ms", pick(chance, NUMBERS)),
        ("unique", pick(chance, super::unique::RULES)),
        ("after", pick(chance, super::after::AFTER)),
        ("batch", pick(chance, &[r#""ffffffff-ffff-ffff-ffff-ffffffffffff""#, r#""""#, "null", "7"])),
        ("after_failed", pick(chance, &[r#""cancel""#, r#""go_on""#, r#""wait""#, r#""""#, "null"])),
    ] {
        match chance.random_range(0..16) {
            0..4 => fields.push((field, of_its_kind.to_owned())),
            4 => fields.push((field, value(chance))),
            _ if field == "args" => fields.push((field, value(chance))),
            _ => {}
        }
    }
    match chance.random_range(0..30) {
        0 => fields[0].1 = value(chance),
        1 => fields.push(("extra", value(chance))),
        // The values alone, as a list.
        2 => {
            return format!("[{}]", fields.into_iter().map(|(_, value)| value).collect::<Vec<_>>().join(","));
        }
        _ => {}
    }
    let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

/// Checks that an answer is a success, or an error that is documented.
#[track_caller]
fn answered(reply: &Reply, of: &str) -> bool {
    let shown = || format!("{of:.300} is answered {}: {:.300}", reply.status, reply.text());
    if reply.status.is_success() || reply.status.is_redirection() {
        return true;
    }
    let error: ApiError = serde_json::from_slice(&reply.body).unwrap_or_else(|_| panic!("{}", shown()));
    let documented = matches!(reply.status.as_u16(), 400 | 404 | 409 | 413 | 422 | 429);
    assert!(documented && !error.code.is_empty() && !error.error.is_empty(), "{}", shown());
    assert!(error.error.len() < 1_000, "{}", shown());
    false
}

/// Enqueues, one by one and in bulks. Returns the args of each job that there is then, where the test knows them.
async fn enqueue(server: &Server, chance: &mut StdRng) -> BTreeMap<JobId, Option<String>> {
    let mut jobs = BTreeMap::new();
    for _ in 0..REQUESTS {
        if chance.random_range(0..5) > 0 {
            let args = value(chance);
            let own = chance.random_range(0..2) == 0;
            let body = if own { format!(r#"{{"module":"hello","args":{args}}}"#) } else { request(chance) };
            let reply = server.enqueue(&body).await;
            if answered(&reply, &body) {
                let enqueued: Enqueued = reply.parse();
                jobs.entry(enqueued.id).or_insert(own.then_some(args));
            }
        } else {
            let few: Vec<String> = (0..chance.random_range(0..4)).map(|_| request(chance)).collect();
            let list = format!("[{}]", few.join(","));
            let body = if chance.random_range(0..8) == 0 { list } else { format!("{{\"jobs\":{list}}}") };
            let reply = server.call("POST", "/v1/jobs/bulk", body.clone()).await;
            if answered(&reply, &body) {
                jobs.extend(reply.parse::<BulkEnqueued>().jobs.into_iter().map(|job| (job.id, None)));
            }
        }
    }
    jobs
}

fn outcome(chance: &mut StdRng) -> Outcome {
    match chance.random_range(0..100) {
        99 => Outcome::Completed { result: vec![0xff; limits::RESULT_BYTES_MAX + 1].into() },
        0..30 => Outcome::Completed { result: text(chance).into_bytes().into() },
        30..70 => {
            let known = &Cause::KNOWN[chance.random_range(0..Cause::KNOWN.len())];
            let cause = if chance.random_range(0..2) == 0 {
                known.clone()
            } else {
                Cause::from(text(chance).as_str())
            };
            let retry_after_ms = Some(integer(chance)).filter(|millis| millis % 2 == 0);
            let exit_code = pick(chance, &[&None, &Some(0), &Some(i32::MIN), &Some(i32::MAX)]);
            Outcome::Failed(Failure { cause, message: text(chance), exit_code: *exit_code, retry_after_ms })
        }
        70..85 => Outcome::Snoozed { after_ms: integer(chance) },
        _ => [Outcome::Cancelled, Outcome::HANDED_BACK, Outcome::HandedBack { lacks: Some(text(chance)) }]
            [chance.random_range(0..3)]
        .clone(),
    }
}

/// Plays a host that takes all it can and reports whatever it likes.
async fn exchange(host: &mut Host, chance: &mut StdRng) {
    let mut granted: Vec<AttemptRef> = Vec::new();
    for _ in 0..6 {
        let mut request = host.request(u32::MAX);
        for attempt in std::mem::take(&mut granted) {
            let number = AttemptNumber(integer(chance) as u32);
            let another = AttemptRef::new(JobId::generate(), number);
            let attempt = if chance.random_range(0..20) == 0 { another } else { attempt };
            let bytes = text(chance).into_bytes().into();
            let offset = [0, 0, integer(chance)][chance.random_range(0..3)];
            request.log.push(LogChunk { attempt, offset, bytes });
            if chance.random_range(0..4) > 0 {
                let usage = Usage {
                    ran_us: integer(chance),
                    cpu_us: integer(chance),
                    memory_peak_bytes: integer(chance),
                    share_us: integer(chance),
                };
                request.finished.push(Finished::new(attempt, outcome(chance), usage));
            } else {
                let progress =
                    Progress { done: integer(chance), total: integer(chance), message: text(chance) };
                request.running.push(Running { attempt, progress: Some(progress) });
                granted.push(attempt);
            }
        }
        // As much as fits a body; the rest is said next time.
        while encode(&request).len() > limits::EXCHANGE_BODY_BYTES_MAX {
            request.finished.truncate(request.finished.len() / 2);
            request.log.truncate(request.log.len() / 2);
        }
        let reply = host.send(encode(&request)).await;
        assert!(answered(&reply, "an exchange"));
        let answer: Answer = decode(&reply.body).unwrap();
        granted.extend(answer.jobs.into_iter().map(|grant| grant.attempt));
    }
}

/// Reads everything back, in every way there is.
async fn read_back(server: &Server, jobs: &BTreeMap<JobId, Option<String>>) {
    let page: JobPage = server.get("/v1/jobs?limit=1000").await.parse();
    let listed: Vec<JobId> = page.jobs.iter().map(|job| job.id).collect();
    assert_eq!(listed.len(), jobs.len(), "every job is listed");
    assert!(page.jobs.iter().all(|job| job.unreadable.is_none()));
    let mut found = 0;
    for state in State::ALL {
        let page: JobPage = server.get(&format!("/v1/jobs?limit=1000&state={state}")).await.parse();
        found += page.jobs.len();
    }
    assert_eq!(found, jobs.len(), "each job is in one state");
    for query in [
        "limit=0",
        "limit=4294967295",
        "limit=4294967296",
        "limit=-1",
        "before=x",
        "state=",
        "queue=%00",
        "x=1",
        "tag=a",
        "key=acme",
        "cause=trap",
        "cause=%00",
        "failure=ffffffffffffffff",
        "since=0000-01-01T00:00:00Z&until=9999-12-30T22:00:00Z",
        "failed_since=9999-12-30T22:00:00Z",
        "failed_until=0000-01-01T00:00:00Z",
        "text=%00",
        "args=%E2%80%AE",
        "sort=failed&limit=1000",
        "before=9223372036854775807.ffffffff-ffff-ffff-ffff-ffffffffffff&sort=failed",
    ] {
        answered(&server.get(&format!("/v1/jobs?{query}")).await, query);
        answered(&server.get(&format!("/v1/jobs/count?{query}")).await, query);
    }
    for path in ["/v1/failures?limit=1000", "/v1/sweeps", "/v1/sweeps/9223372036854775807"] {
        answered(&server.get(path).await, path);
    }
    for (id, args) in jobs {
        let reply = server.get(&format!("/v1/jobs/{id}")).await;
        let detail: JobDetail = reply.parse();
        if let Some(args) = args {
            assert_eq!(detail.args.get(), args, "args are kept to the digit");
        }
        assert!(detail.unreadable_attempts.is_empty());
        for failure in detail.attempts.iter().filter_map(|attempt| attempt.failure.as_ref()) {
            assert!(failure.message.len() <= limits::MESSAGE_BYTES_MAX);
        }
        for part in ["wait", "result", "input", "log", "log?attempt=0", "log?attempt=4294967295"] {
            let reply = server.get(&format!("/v1/jobs/{id}/{part}")).await;
            answered(&reply, part);
            assert!(
                !part.starts_with("log") || reply.body.len() <= limits::LOG_BYTES_MAX,
                "{}",
                reply.body.len()
            );
        }
        let page = server.get(&format!("/jobs/{id}")).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text());
    }
    assert_eq!(server.get("/").await.status, StatusCode::OK);
    server.get("/v1/queues").await.parse::<Queues>();
    server.get("/v1/machines").await.parse::<Machines>();
}

/// An object of fields, each likely of its kind, and now and then of any.
fn object(chance: &mut StdRng, fields: &[(&str, &[&str])]) -> String {
    let mut written = Vec::new();
    for (field, of_its_kind) in fields {
        match chance.random_range(0..8) {
            0..5 => written.push(format!("\"{field}\":{}", pick(chance, of_its_kind))),
            5 => written.push(format!("\"{field}\":{}", value(chance))),
            _ => {}
        }
    }
    format!("{{{}}}", written.join(","))
}

const ACTIONS: &[&str] = &[
    r#""retry""#,
    r#""cancel""#,
    r#""delete""#,
    r#"{"priority":-100}"#,
    r#"{"priority":127}"#,
    r#"{"priority":128}"#,
    r#"{"move":"default"}"#,
    r#"{"move":"\u0000"}"#,
    r#"{"cancel":null}"#,
    r#""priority""#,
];
const FILTERS: &[&str] = &[
    "{}",
    "[]",
    r#"{"state":"available"}"#,
    r#"{"state":{"running":null}}"#,
    r#"{"tag":"a","key":"acme"}"#,
    r#"{"text":"","args":"a"}"#,
    r#"{"limit":1}"#,
    r#"{"since":"0000-01-01T00:00:00Z","until":"9999-12-30T22:00:00Z"}"#,
    r#"{"until":"9999-12-31T00:00:00Z"}"#,
];
const CALLBACKS: &[&str] = &[
    r#"{"module":"hello"}"#,
    r#"{"module":"hello","in_ms":18446744073709551615}"#,
    "{}",
    "[]",
    r#""hello""#,
];

/// Asks for all else that changes something, with extremes of each field.
async fn ask_for_the_rest(server: &Server, chance: &mut StdRng, jobs: &[JobId]) {
    let job = |chance: &mut StdRng| jobs[chance.random_range(0..jobs.len())];
    let mut batch = None;
    for _ in 0..REQUESTS {
        let (path, body) = match chance.random_range(0..9) {
            0 | 1 => {
                let what =
                    pick(chance, &["queues/default", "queues/none", "modules/hello", "schedules/nightly"]);
                let reason = pick(chance, TEXTS).to_owned();
                let fields: [(&str, &[&str]); 4] =
                    [("reason", &[&reason]), ("by", TEXTS), ("until", TIMES), ("for_ms", NUMBERS)];
                (format!("{what}/pause"), object(chance, &fields))
            }
            2 | 3 => {
                let fields: [(&str, &[&str]); 4] = [
                    ("action", ACTIONS),
                    ("filter", FILTERS),
                    ("dry_run", &["true", "false"]),
                    ("all", &["true", "1"]),
                ];
                ("sweeps".to_owned(), object(chance, &fields))
            }
            4 => {
                let fields: [(&str, &[&str]); 5] = [
                    ("id", TEXTS),
                    ("name", TEXTS),
                    ("on_completed", CALLBACKS),
                    ("on_ended", CALLBACKS),
                    ("on_failure", CALLBACKS),
                ];
                ("batches".to_owned(), object(chance, &fields))
            }
            5 => {
                let job = job(chance);
                let numbers = ["-100", "100", "101", "-128", "128", "1.5"];
                (format!("jobs/{job}/priority"), object(chance, &[("priority", &numbers)]))
            }
            6 => {
                let job = job(chance);
                (format!("jobs/{job}/move"), object(chance, &[("queue", TEXTS)]))
            }
            7 => {
                let number = pick(chance, NUMBERS);
                let path =
                    pick(chance, &["schedules/nightly/run", "schedules/%00/run", "machines/none/drain"]);
                match chance.random_range(0..2) {
                    0 => (format!("sweeps/{number}/cancel"), String::new()),
                    _ => (path.to_owned(), object(chance, &[("id", TEXTS)])),
                }
            }
            _ => match batch {
                Some(id) => (format!("batches/{id}/{}", pick(chance, &["close", "cancel"])), String::new()),
                None => ("batches".to_owned(), r#"{"name":"\u202e"}"#.to_owned()),
            },
        };
        let reply = server.call("POST", &format!("/v1/{path}"), body.clone()).await;
        if answered(&reply, &format!("{path} {body}")) && path == "batches" {
            batch = Some(reply.parse::<BatchMade>().id);
        }
    }
    let long = "k".repeat(limits::IDEMPOTENCY_KEY_BYTES_MAX + 1);
    let id = JobId::generate().to_string();
    for header in
        ["", " ", "order 17", "\"order 17\"", "\"", &id, "~", "18446744073709551616", "-1", "1.5", &long]
    {
        let headers = [HOST, JSON, ("idempotency-key", header)];
        let reply = server.send("POST", "/v1/jobs", &headers, r#"{"module":"hello"}"#).await;
        answered(&reply, header);
        let events = format!("/v1/jobs/{id}/events");
        let reply = server.send("GET", &events, &[HOST, ("last-event-id", header)], "").await;
        assert!(!answered(&reply, header), "there is no such job");
    }
    for path in
        ["jobs?limit=1000", "queues", "modules", "schedules", "machines", "sweeps", "batches?limit=1000"]
    {
        let reply = server.get(&format!("/v1/{path}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {:.300}", reply.text());
    }
    assert_eq!(server.get("/").await.status, StatusCode::OK);
}

async fn what_is_written_is_read_back(store: Arc<dyn Store>, seed: u64) {
    let mut chance = StdRng::seed_from_u64(seed);
    // One Machine runs all of them.
    let policy = QueuePolicy { jobs_per_machine: 1_024, max_machines: 1, ..QueuePolicy::default() };
    let mut server = Server::on(store, policy).await;
    let jobs = enqueue(&server, &mut chance).await;
    assert!(jobs.len() > REQUESTS / 10 && jobs.len() < 1_000, "{} jobs", jobs.len());
    read_back(&server, &jobs).await;
    let mut hosts = vec![server.host().await];
    while let Ok(spec) = server.made.try_recv() {
        hosts.push(Host::of(&server.midge, &spec));
    }
    for host in &mut hosts {
        exchange(host, &mut chance).await;
    }
    read_back(&server, &jobs).await;
    for (number, id) in jobs.keys().enumerate() {
        let (method, path) = match number % 3 {
            0 => ("POST", format!("/v1/jobs/{id}/cancel")),
            1 => ("POST", format!("/v1/jobs/{id}/retry")),
            _ => ("DELETE", format!("/v1/jobs/{id}")),
        };
        answered(&server.call(method, &path, "").await, &path);
    }
    let page: JobPage = server.get("/v1/jobs?limit=1000").await.parse();
    let left: Vec<JobId> = page.jobs.iter().map(|job| job.id).collect();
    let left: BTreeMap<JobId, Option<String>> =
        jobs.iter().filter(|(id, _)| left.contains(id)).map(|(id, args)| (*id, args.clone())).collect();
    read_back(&server, &left).await;
    let left: Vec<JobId> = left.into_keys().collect();
    ask_for_the_rest(&server, &mut chance, &left).await;
}

#[tokio::test]
async fn extremes_of_every_field_are_read_back_from_memory() {
    for seed in SEEDS {
        eprintln!("seed {seed}");
        what_is_written_is_read_back(Arc::new(MemoryStore::new()), seed).await;
    }
}

#[tokio::test]
async fn extremes_of_every_field_are_read_back_from_sqlite() {
    for seed in SEEDS {
        eprintln!("seed {seed}");
        let database = Database::fresh();
        what_is_written_is_read_back(Arc::new(database.open()), seed).await;
    }
}
