//! Every field of every answer stands in docs/api.md, in the table of what has it, and nothing stands there that no
//! answer has.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use midge_protocol::api::{
    Action, BatchCounts, BatchEvent, BatchMade, BatchPage, BatchState, BatchView, BudgetView, BulkEnqueued,
    ChangedSetting, Conflict, Cost, CostGroup, Costs, CostsBy, Cursor, DryRun, Enqueued, FailureGroup,
    FailureView, Failures, FailuresCursor, JobCount, JobDetail, JobFilter, JobPage, LastRun, MachineView,
    Machines, ModuleLack, ModuleView, Modules, NextRun, NotDone, Pause, Paused, QueueSettings, QueueView,
    Queues, RequestView, ScheduleView, Schedules, SetSetting, SettingsChange, Sort, SweepView, Sweeps,
    Unique, UniqueState, UniqueStates,
};
use midge_protocol::job::{
    AfterFailed, AttemptLimits, AttemptView, Backoff, Cause, Failed, Failure, JobView, OfSchedule, Progress,
    RetryPolicy, State, Suspicion, UniqueView, Usage, Waits,
};
use midge_protocol::manifest::{
    AtBudget, Budget, Folder, Idle, Keep, MachineSize, Missed, ModuleEntry, QueuePolicy, Rate, Wait,
};
use midge_protocol::news::{AttemptProgress, DeletedJob, LogPiece};
use midge_protocol::recording::{Data, RecordedAnswer, RecordedRequest, Recording, Seed};
use midge_protocol::{
    AttemptNumber, AttemptRange, BatchId, Day, Dollars, Fingerprint, JobId, Labels, Timestamp, line,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::documents::{API, spans};
use super::routes::ROUTES;

/// Fields whose own fields are named by whoever enqueues, or writes midge.toml.
const NAMED_BY_OTHERS: [&str; 5] = ["args", "meta", "dirs", "secrets", "backoff_by_cause"];

const AT: Timestamp = Timestamp::LATEST;

/// Makes a name of whatever kind.
fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(name: &str) -> T {
    name.parse().unwrap()
}

// Each value below has every field, and each by its name: one that is added does not compile until it stands here.

fn count() -> JobCount {
    JobCount { jobs: 1, exact: true }
}

fn waits() -> Waits {
    Waits { code: "scheduled".into(), text: "later".into() }
}

fn failure() -> Failure {
    Failure { cause: Cause::Exit, message: "no".into(), exit_code: Some(1), retry_after_ms: Some(1) }
}

fn job() -> JobView {
    JobView {
        id: JobId::generate(),
        module: name("hello"),
        queue: name("mail"),
        priority: 1,
        key: Some(name("acme")),
        labels: Labels { tags: vec![name("a")], meta: [("by".into(), "Ada".into())].into() },
        after_failed: AfterFailed::Wait,
        batch: Some(BatchId::generate()),
        parent: Some(JobId::generate()),
        callback_of: Some(BatchId::generate()),
        schedule: Some(OfSchedule { name: name("nightly"), tick: Some(AT) }),
        state: State::Running,
        waits: Some(waits()),
        attempt: AttemptNumber(1),
        spent: 1,
        max_attempts: 2,
        backoff: Some(Backoff::Sidekiq),
        jitter_percent: Some(1),
        backoff_by_cause: [(Cause::Trap, Backoff::None)].into(),
        retry_until: Some(AT),
        expires_at: Some(AT),
        time_limit_ms: Some(1),
        unique: Some(UniqueView { states: UniqueStates([UniqueState::Waiting].into()), until: Some(AT) }),
        enqueued_at: AT,
        scheduled_at: AT,
        started_at: Some(AT),
        ended_at: Some(AT),
        machine: Some(name("m")),
        cancelling: true,
        may_cancel: true,
        may_retry: true,
        progress: Some(Progress { done: 1, total: 2, message: "half".into() }),
        suspicion: Some(Suspicion { crashes: 1, unexplained: 1 }),
        failure: Some(failure()),
        failed: Some(Failed { at: AT, fingerprint: Some(Fingerprint(1)) }),
        result_bytes: Some(1),
        unreadable: Some("garbage".into()),
    }
}

fn attempt() -> AttemptView {
    AttemptView {
        attempt: AttemptNumber(1),
        machine: name("m"),
        scheduled_at: AT,
        started_at: AT,
        ended_at: AT,
        spent: true,
        failure: Some(failure()),
        usage: Some(Usage { ran_us: 1, cpu_us: 1, memory_peak_bytes: 1, share_us: 1 }),
        cost: Some(Dollars::from_nanos(1)),
    }
}

fn detail() -> JobDetail {
    JobDetail {
        job: job(),
        args: serde_json::value::to_raw_value(&1).unwrap(),
        after: vec![JobId::generate()],
        children: Some(count()),
        attempts: vec![attempt()],
        cost: Some(Dollars::from_nanos(1)),
        unreadable_attempts: vec![AttemptNumber(2)],
        forgotten_attempts: Some(AttemptRange { first: AttemptNumber(3), last: AttemptNumber(4) }),
        recorded: Some(AttemptNumber(1)),
        recorded_requests: vec![RequestView {
            method: "GET".into(),
            origin: Some("http://a.example".into()),
            status: Some(200),
            failed: Some(line::Why::Reset),
            sent_bytes: 1,
            received_bytes: 1,
            began_us: 1,
            took_us: Some(1),
        }],
        more_recorded_requests: Some(1),
    }
}

fn recording() -> Recording {
    let headers = vec![("accept".to_owned(), Data(Bytes::from_static(b"*/*")))];
    let answer = RecordedAnswer {
        status: 200,
        url: "http://a.example/".into(),
        headers: headers.clone(),
        body: Data::default(),
        body_bytes: 1,
        ended: true,
    };
    let request = RecordedRequest {
        method: "GET".into(),
        url: "http://a.example/".into(),
        headers,
        body: Data::default(),
        body_bytes: 1,
        redirects: 1,
        began_us: 1,
        ended_us: Some(1),
        answer: Some(answer),
        failed: Some(line::Failed { why: line::Why::Reset, message: "no".into() }),
    };
    Recording {
        attempt: AttemptNumber(1),
        sha256: "0".repeat(64),
        source_sha256: "0".repeat(64),
        limits: AttemptLimits::default(),
        began_at_ns: 1,
        seed: Seed([0; 32]),
        saved: Some(Data::default()),
        clock_ns: vec![1],
        requests: vec![request],
        cut: true,
    }
}

fn enqueued() -> Enqueued {
    Enqueued { id: JobId::generate(), new: false, conflict: Some(Conflict::Kept) }
}

fn callbacks() -> BTreeMap<BatchEvent, JobId> {
    BatchEvent::ALL.map(|when| (when, JobId::generate())).into()
}

fn batch() -> BatchView {
    let jobs = BatchCounts { pending: 1, waiting: 1, running: 1, completed: 1, cancelled: 1, discarded: 1 };
    BatchView {
        id: BatchId::generate(),
        name: "import".into(),
        state: BatchState::Closed,
        cancelled: true,
        jobs,
        total: jobs.total(),
        created_at: AT,
        closed_at: Some(AT),
        failed_at: Some(AT),
        ended_at: Some(AT),
        callbacks: callbacks(),
    }
}

fn pause() -> Pause {
    Pause { since: AT, until: Some(AT), reason: "flood".into(), by: "Ada".into() }
}

fn budget() -> Budget {
    Budget { dollars_per_month: Dollars::from_nanos(1), at: AtBudget::Pause }
}

fn set_setting() -> SetSetting {
    SetSetting { name: "wait".into(), value: json!(5), declared: json!(10) }
}

fn settings() -> QueueSettings {
    let changed = ChangedSetting { name: "wait".into(), from: json!(10), to: json!(5), unset: true };
    let change = SettingsChange { at: AT, by: "Ada".into(), reason: "load".into(), changed: vec![changed] };
    QueueSettings { set: vec![set_setting()], unusable: Some("it is not".into()), changes: vec![change] }
}

fn queue() -> QueueView {
    let rate = Rate { jobs: 1, per_ms: 1, burst: 1 };
    let policy = QueuePolicy {
        pool: Some(name("small")),
        max_machines: 1,
        warm_machines: 1,
        ready_machines: 1,
        jobs_per_machine: 1,
        wait: Wait::Millis(1),
        idle: Idle::Suspend,
        boot_deadline_ms: 1,
        max_age_ms: Some(1),
        single_use: true,
        max_jobs: 1,
        max_running: Some(1),
        max_running_per_key: Some(1),
        rate: Some(rate),
        rate_per_key: Some(rate),
        keep: Keep { completed_ms: Some(1), cancelled_ms: Some(1), discarded_ms: Some(1) },
        record: true,
        budget: Some(budget()),
        size: Some(MachineSize { cpu_kind: "shared".into(), cpus: 1, memory_mib: 256 }),
        regions: vec!["ams".parse().unwrap()],
    };
    QueueView {
        name: name("mail"),
        policy,
        jobs: State::ALL.map(|state| (state, 1)).into(),
        oldest_waits_ms: Some(1),
        waits: Some(waits()),
        pause: Some(pause()),
        budget: Some(BudgetView {
            budget: budget(),
            spent: Dollars::from_nanos(1),
            warns: true,
            until: Some(AT),
        }),
        set: vec![set_setting()],
        machines: 1,
        declared: true,
    }
}

fn module() -> ModuleView {
    let entry = ModuleEntry {
        file: "hello.cwasm".into(),
        size: 1,
        sha256: "0".repeat(64),
        xxh3: "0".into(),
        source_sha256: "0".repeat(64),
        queue: name("mail"),
        limits: AttemptLimits { time_ms: 1, memory_bytes: 1 },
        retry: RetryPolicy {
            max_attempts: 1,
            backoff: Backoff::Sidekiq,
            jitter_percent: Some(1),
            backoff_by_cause: [(Cause::Trap, Backoff::None)].into(),
            retry_for_ms: Some(1),
        },
        env: vec!["LOG".into()],
        dirs: [("/data".into(), Folder { path: "/srv".into(), read_only: true })].into(),
        enqueues: [name("resize")].into(),
        http: vec!["https://api.example.com".parse().unwrap()],
        secrets: [(name("STRIPE"), vec!["https://api.example.com".parse().unwrap()])].into(),
    };
    ModuleView { name: name("hello"), entry: Some(entry), pause: Some(pause()), lacks: Some(lack()), held: 1 }
}

fn lack() -> ModuleLack {
    ModuleLack { what: "the secret `STRIPE`".into(), times: 1, since: AT, next: AT }
}

fn machine() -> MachineView {
    MachineView {
        name: name("m"),
        id: Some(name("e1")),
        queue: name("mail"),
        state: "up".into(),
        suspended: true,
        since: AT,
        heard_at: Some(AT),
        running: 1,
        attempts: 1,
        generation: "g1".into(),
        note: Some("gone".into()),
    }
}

fn schedule() -> ScheduleView {
    ScheduleView {
        name: name("nightly"),
        module: name("hello"),
        queue: Some(name("mail")),
        priority: 1,
        key: Some(name("acme")),
        expires_in_ms: Some(1),
        labels: Labels { tags: vec![name("a")], meta: [("by".into(), "Ada".into())].into() },
        unique: Some(Unique { text: Some("a".into()), for_ms: Some(1), ..Unique::default() }),
        args: Value::Null,
        cron: "@daily".into(),
        zone: "UTC".into(),
        missed: Missed::All,
        missed_max: 1,
        jitter_ms: 1,
        next: vec![NextRun { tick: AT, due: AT, job: JobId::generate() }],
        last: Some(LastRun { job: JobId::generate(), tick: Some(AT), state: Some(State::Completed) }),
        pause: Some(pause()),
        waits: Some(waits()),
    }
}

fn not_done() -> Vec<NotDone> {
    vec![NotDone { job: JobId::generate(), why: "it runs".into() }]
}

fn sweep() -> SweepView {
    let filter = JobFilter {
        state: Some(State::Discarded),
        queue: Some(name("mail")),
        module: Some(name("hello")),
        batch: Some(BatchId::generate()),
        parent: Some(JobId::generate()),
        key: Some(name("acme")),
        tag: Some(name("a")),
        cause: Some(Cause::Trap),
        failure: Some(Fingerprint(1)),
        since: Some(AT),
        until: Some(AT),
        failed_since: Some(AT),
        failed_until: Some(AT),
        text: Some("no".into()),
        args: Some("42".into()),
        sort: Some(Sort::Failed),
        before: Some(Cursor::Id(JobId::generate())),
        limit: Some(1),
    };
    SweepView {
        id: 1,
        action: Action::Retry,
        filter,
        fitted: count(),
        found: 1,
        done: 1,
        asked: 1,
        could_not: 1,
        first_not: not_done(),
        started_at: AT,
        ended_at: Some(AT),
        cancelled: true,
    }
}

fn group() -> FailureView {
    let group = FailureGroup {
        fingerprint: Fingerprint(1),
        module: name("hello"),
        cause: Cause::Trap,
        message: "no".into(),
        count: 1,
        first_seen: AT,
        last_seen: AT,
        first_generation: "g1".into(),
        last_generation: "g2".into(),
        job: JobId::generate(),
    };
    FailureView { group, open: JobCount { jobs: 1, exact: true } }
}

fn cost() -> Cost {
    let one = Dollars::from_nanos(1);
    Cost {
        attempts: 1,
        machines: 1,
        busy_us: 1,
        idle_us: 1,
        stopped_us: 1,
        busy: one,
        idle: one,
        stopped: one,
        dollars: one,
        always_on: Some(one),
    }
}

/// The calls that answer JSON, and events by their names: each with a whole answer. A sweep that is not made has another
/// one.
fn answers() -> Vec<(&'static str, Value)> {
    fn json(value: impl Serialize) -> Value {
        serde_json::to_value(value).unwrap()
    }
    let next = Some(Cursor::Id(JobId::generate()));
    let failures_next = Some(FailuresCursor { at: AT, fingerprint: Fingerprint(1) });
    let groups = vec![CostGroup { name: Some("mail".into()), cost: cost() }];
    let (by, day) = (CostsBy::Queue, Day::of(AT));
    let costs = Costs { since: day, until: day, by, groups, left_out: 1, total: cost() };
    let dry_run = DryRun { would: count(), first: vec![job()], could_not: 1, first_not: not_done() };
    let progress = Progress { done: 1, total: 2, message: "half".into() };
    let paused = json(Paused { pause: pause(), replaced: Some(pause()) });
    let [text, bytes] = [&b"text"[..], b"\xff"].map(|bytes| {
        json(LogPiece { attempt: AttemptNumber(1), offset: 1, bytes: Bytes::from_static(bytes) })
    });
    vec![
        ("POST /v1/jobs", json(enqueued())),
        ("POST /v1/schedules/{name}/run", json(enqueued())),
        ("POST /v1/jobs/bulk", json(BulkEnqueued { jobs: vec![enqueued()] })),
        ("GET /v1/jobs", json(JobPage { jobs: vec![job()], next, stopped_early: true })),
        ("GET /v1/jobs/count", json(count())),
        ("GET /v1/jobs/{id}", json(detail())),
        ("GET /v1/jobs/{id}/recording", json(recording())),
        ("GET /v1/jobs/{id}/wait", json(job())),
        ("POST /v1/jobs/{id}/cancel", json(job())),
        ("POST /v1/jobs/{id}/retry", json(job())),
        ("POST /v1/jobs/{id}/priority", json(job())),
        ("POST /v1/jobs/{id}/move", json(job())),
        ("POST /v1/batches", json(BatchMade { id: BatchId::generate(), new: true, callbacks: callbacks() })),
        ("GET /v1/batches", json(BatchPage { batches: vec![batch()], next: Some(BatchId::generate()) })),
        ("GET /v1/batches/{id}", json(batch())),
        ("POST /v1/batches/{id}/close", json(batch())),
        ("POST /v1/batches/{id}/cancel", json(batch())),
        ("GET /v1/queues", json(Queues { queues: vec![queue()], machines: 1, max_machines: 1 })),
        ("GET /v1/modules", json(Modules { modules: vec![module()], generation: "g1".to_owned() })),
        ("GET /v1/machines", json(Machines { machines: vec![machine()] })),
        ("POST /v1/machines/{name}/drain", json(machine())),
        ("GET /v1/schedules", json(Schedules { schedules: vec![schedule()] })),
        ("GET /v1/schedules/{name}", json(schedule())),
        ("POST /v1/queues/{name}/pause", paused.clone()),
        ("GET /v1/queues/{name}/settings", json(settings())),
        ("POST /v1/queues/{name}/settings", json(settings())),
        ("POST /v1/modules/{name}/pause", paused.clone()),
        ("POST /v1/schedules/{name}/pause", paused),
        ("POST /v1/sweeps", json(sweep())),
        ("dry_run", json(dry_run)),
        ("GET /v1/sweeps", json(Sweeps { sweeps: vec![sweep()] })),
        ("GET /v1/sweeps/{number}", json(sweep())),
        ("POST /v1/sweeps/{number}/cancel", json(sweep())),
        ("GET /v1/failures", json(Failures { failures: vec![group()], next: failures_next })),
        ("GET /v1/failures/{fingerprint}", json(group())),
        ("GET /v1/costs", json(costs)),
        ("log", text),
        ("log", bytes),
        ("progress", json(AttemptProgress { attempt: AttemptNumber(1), progress })),
        ("attempt", json(attempt())),
        ("deleted", json(DeletedJob { id: JobId::generate() })),
    ]
}

/// The calls that answer no JSON.
const OTHERS: [&str; 9] = [
    "GET /v1/jobs/{id}/result",
    "GET /v1/jobs/{id}/input",
    "GET /v1/jobs/{id}/saved",
    "GET /v1/jobs/{id}/log",
    "GET /v1/jobs/{id}/events",
    "DELETE /v1/jobs/{id}",
    "POST /v1/queues/{name}/resume",
    "POST /v1/modules/{name}/resume",
    "POST /v1/schedules/{name}/resume",
];

/// A row of a table: the code in its first cell, and what the others say.
type Row = (Vec<&'static str>, &'static str);

/// Returns the rows of the tables below each heading, by what a link to the heading says.
fn tables() -> BTreeMap<String, Vec<Row>> {
    let mut tables: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let mut heading = String::new();
    for line in API.lines() {
        if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        } else if let Some((first, rest)) = line.strip_prefix("| ").and_then(|line| line.split_once(" | ")) {
            let first = spans(first);
            // The head of a table has no code.
            if !first.is_empty() {
                tables.entry(heading.clone()).or_default().push((first, rest));
            }
        }
    }
    tables
}

/// Returns whether a text has a word in its code, such as `"new"` in `{"id", "new"}`.
fn has_in_code(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    spans(text).iter().any(|code| code.split(|c| !is_part(c)).any(|part| part == word))
}

/// What the document says of answers, and which of it was asked for.
struct Document {
    tables: BTreeMap<String, Vec<Row>>,
    asked: RefCell<BTreeSet<(String, String)>>,
}

impl Document {
    fn new() -> Document {
        Document { tables: tables(), asked: RefCell::default() }
    }

    /// Returns what a table says of a field.
    fn row(&self, table: &str, field: &str) -> Option<&'static str> {
        let row = self.tables.get(table)?.iter().find(|(fields, _)| fields.contains(&field))?;
        self.asked.borrow_mut().insert((table.to_owned(), field.to_owned()));
        Some(row.1)
    }

    /// Checks that each field of an object stands in what is told of the object, or in a table to which that links. What is
    /// told of a call names its own fields first, and links to what those hold.
    fn check(&self, object: &Value, told: &'static str, path: &str) {
        let links: Vec<&str> = told.split("](#").skip(1).filter_map(|rest| rest.split(')').next()).collect();
        for (field, value) in object.as_object().unwrap_or_else(|| panic!("{path} is no object")) {
            let own = || has_in_code(told, field).then_some(told);
            let linked = || links.iter().find_map(|table| self.row(table, field));
            let of_a_call = !path.contains('.');
            let path = format!("{path}.{field}");
            let told = if of_a_call { own().or_else(linked) } else { linked().or_else(own) };
            let told = told.unwrap_or_else(|| panic!("docs/api.md does not say what {path} is"));
            let value = value.as_array().and_then(|list| list.first()).unwrap_or(value);
            if value.is_object() && !NAMED_BY_OTHERS.contains(&field.as_str()) {
                self.check(value, told, &path);
            }
        }
    }
}

#[test]
fn every_field_of_every_answer_is_told_and_no_other() {
    let document = Document::new();
    for (call, answer) in answers() {
        // Events have a table of their own, above the first section.
        let told = document.row("answers", call).or_else(|| document.row("the-http-api", call));
        let told = told.unwrap_or_else(|| panic!("docs/api.md does not say what {call} answers"));
        document.check(&answer, told, call);
    }
    for call in OTHERS {
        assert!(document.row("answers", call).is_some(), "docs/api.md does not say what {call} answers");
    }
    let (_, section) = API.split_once("\n## Answers\n").expect("it has a section about answers");
    let section = section.split("\n## ").next().unwrap();
    let slugs = section.lines().filter_map(|line| line.strip_prefix("### "));
    let slugs = slugs.map(|heading| heading.to_lowercase().replace(' ', "-")).chain(["answers".to_owned()]);
    for slug in slugs {
        for field in document.tables[&slug].iter().flat_map(|(fields, _)| fields) {
            let asked = document.asked.borrow().contains(&(slug.clone(), (*field).to_owned()));
            assert!(asked, "no answer has `{field}`, which docs/api.md tells in {slug}");
        }
    }
}

#[test]
fn what_each_call_answers_is_among_them() {
    let known: BTreeSet<&str> = answers().iter().map(|(call, _)| *call).chain(OTHERS).collect();
    let names = ["{id}", "{name}", "{number}", "{fingerprint}"];
    for (path, methods) in ROUTES {
        for method in methods.split(',').filter(|method| *method != "HEAD") {
            let of_name =
                |name: &&str| format!("{method} {}", path.replace("ID", name).replace("NAME", name));
            let calls: Vec<String> = names.iter().map(of_name).collect();
            assert!(calls.iter().any(|call| known.contains(call.as_str())), "{method} {path}");
        }
    }
}
