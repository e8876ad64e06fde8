//! What the HTTP API under `/v1` takes and gives, as JSON.

mod args;
mod base64_option;
mod batches;
mod check;
mod costs;
mod failures;
mod filter;
mod machines;
mod modules;
mod recorded;
mod schedules;
mod settings;
mod sweeps;
mod times;
mod unique;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

pub use self::args::{InvalidArgs, check_args};
pub use self::batches::{
    BatchCounts, BatchEvent, BatchFilter, BatchMade, BatchPage, BatchRequest, BatchState, BatchView,
};
pub use self::check::InvalidRequest;
pub use self::costs::{BudgetView, COST_GROUPS_MAX, Cost, CostGroup, Costs, CostsBy, CostsFilter};
pub use self::failures::{FailureGroup, FailureView, Failures, FailuresCursor, FailuresFilter};
pub use self::filter::{Cursor, JobCount, JobFilter, JobPage, PAGE_JOBS_DEFAULT, PAGE_JOBS_MAX, Sort, cause};
pub use self::machines::{MachineView, Machines};
pub use self::modules::{ModuleLack, ModuleView, Modules};
pub use self::recorded::RequestView;
pub use self::schedules::{LastRun, NextRun, RunRequest, ScheduleView, Schedules};
pub use self::settings::{ChangedSetting, QueueSettings, SetSetting, SettingsChange, SettingsRequest};
pub use self::sweeps::{
    Action, DryRun, MoveRequest, NotDone, PriorityRequest, SweepRequest, SweepView, Sweeps,
};
pub use self::times::Times;
pub use self::unique::{Conflict, OnConflict, Unique, UniqueBy, UniqueState, UniqueStates};
use crate::job::{AfterFailed, AttemptView, Backoff, Cause, JobView, State, Waits, is_zero};
use crate::labels::{read_meta, read_tags};
use crate::manifest::QueuePolicy;
use crate::object::{objects, or_default};
use crate::{
    AttemptNumber, AttemptRange, BatchId, Dollars, JobId, JobKey, ModuleName, QueueName, Tag, Timestamp,
    limits,
};

/// `POST /v1/jobs`: a request to run a module.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct EnqueueRequest {
    /// The job's id, by default a new one. Who sets it can repeat the request: the same id and content is the same job,
    /// the same id with other content is refused.
    #[serde(default = "JobId::generate", deserialize_with = "id_or_new")]
    pub id: JobId,
    /// The module to run.
    pub module: ModuleName,
    /// The args for the module: any JSON value, at most [`crate::limits::ARGS_BYTES_MAX`] bytes as text.
    #[serde(default = "no_args")]
    pub args: Box<RawValue>,
    /// Bytes for the guest's stdin, in base64 here; at most [`crate::limits::INPUT_BYTES_MAX`] of them.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "base64_option")]
    pub input: Option<Bytes>,
    /// The queue to wait in; the module's where this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueName>,
    /// The time before which the job does not run. Refused together with `in_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<Timestamp>,
    /// The milliseconds that must pass before the job runs. Refused together with `scheduled_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_ms: Option<u64>,
    /// How soon the job is run among those of its queue and key: [`limits::PRIORITIES`], smaller first, by default 0.
    #[serde(default, skip_serializing_if = "is_zero", deserialize_with = "or_default")]
    pub priority: i8,
    /// What the job has in common with others that are limited together and take turns with the rest, such as a tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<JobKey>,
    /// What there is to be one job of at a time; nothing where there may be many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Unique>,
    /// Words by which the job is found, at most [`limits::TAGS_MAX`], each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "read_tags")]
    pub tags: Vec<Tag>,
    /// Texts under names that are shown with the job, at most [`limits::META_BYTES_MAX`] bytes together.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "read_meta")]
    pub meta: BTreeMap<String, String>,
    /// How many attempts may be spent; the module's where this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// The time limit of an attempt in milliseconds; the module's where this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_ms: Option<u64>,
    /// The time by which the job has to be started: if it was not, it is discarded. Refused together with
    /// `expires_in_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The same in milliseconds from the enqueue. Refused together with `expires_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
    /// The waits between attempts; the module's where this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// The most that chance adds to a wait, in percent of it, 0 to 100; the module's where this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_percent: Option<u32>,
    /// The waits after failures of certain causes, in place of `backoff`; the module's where this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_by_cause")]
    pub backoff_by_cause: Option<BTreeMap<Cause, Backoff>>,
    /// The time after which the job is not tried again. Refused together with `retry_for_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_until: Option<Timestamp>,
    /// The same in milliseconds from when the job is due; the module's where both are missing. Refused together with
    /// `retry_until`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_for_ms: Option<u64>,
    /// Jobs that have to complete before this one is run, at most [`limits::AFTER_MAX`]: each is there already, or comes
    /// earlier in the same bulk.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub after: Vec<JobId>,
    /// What becomes of this job where one of those does not complete: by default it is cancelled.
    #[serde(default, skip_serializing_if = "AfterFailed::is_default", deserialize_with = "or_default")]
    pub after_failed: AfterFailed,
    /// The batch that the job is one of. It has to be open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchId>,
}

fn some_by_cause<'de, D: Deserializer<'de>>(map: D) -> Result<Option<BTreeMap<Cause, Backoff>>, D::Error> {
    #[derive(Deserialize)]
    struct ByCause(#[serde(deserialize_with = "crate::retry::by_cause")] BTreeMap<Cause, Backoff>);
    Ok(Option::<ByCause>::deserialize(map)?.map(|ByCause(map)| map))
}

impl EnqueueRequest {
    /// Makes a request under a new id, with `null` for args and no input; all else is as the module has it.
    pub fn new(module: ModuleName) -> EnqueueRequest {
        EnqueueRequest {
            id: JobId::generate(),
            module,
            args: no_args(),
            input: None,
            queue: None,
            scheduled_at: None,
            in_ms: None,
            priority: 0,
            key: None,
            unique: None,
            tags: Vec::new(),
            meta: BTreeMap::new(),
            max_attempts: None,
            time_limit_ms: None,
            expires_at: None,
            expires_in_ms: None,
            backoff: None,
            jitter_percent: None,
            backoff_by_cause: None,
            retry_until: None,
            retry_for_ms: None,
            after: Vec::new(),
            after_failed: AfterFailed::default(),
            batch: None,
        }
    }

    /// Gives the module args: any value that can be written as JSON.
    ///
    /// # Errors
    /// Where the value cannot be written as JSON, such as a map whose keys are no strings.
    pub fn args<T: Serialize + ?Sized>(mut self, args: &T) -> Result<EnqueueRequest, serde_json::Error> {
        self.args = serde_json::value::to_raw_value(args)?;
        Ok(self)
    }

    /// Gives the guest bytes to read from stdin.
    #[must_use]
    pub fn input(mut self, input: impl Into<Bytes>) -> EnqueueRequest {
        self.input = Some(input.into());
        self
    }

    /// Has the job run no sooner than so long from now.
    #[must_use]
    pub fn delay(mut self, delay: std::time::Duration) -> EnqueueRequest {
        self.in_ms = Some(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Has the job discarded if it was not started so long from now.
    #[must_use]
    pub fn expires_in(mut self, within: std::time::Duration) -> EnqueueRequest {
        self.expires_in_ms = Some(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Has the job tried again after other waits than the module's.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> EnqueueRequest {
        self.backoff = Some(backoff);
        self
    }

    /// Has the job tried again after other waits than usual where an attempt failed for this cause; with
    /// [`Backoff::None`], discarded at once. The module's own of this kind are left out.
    #[must_use]
    pub fn backoff_after(mut self, cause: Cause, backoff: Backoff) -> EnqueueRequest {
        self.backoff_by_cause.get_or_insert_default().insert(cause, backoff);
        self
    }

    /// Has the job tried again until a time, and not after it.
    #[must_use]
    pub fn retry_until(mut self, until: Timestamp) -> EnqueueRequest {
        self.retry_until = Some(until);
        self
    }

    /// Has the job run sooner (less than 0) or later than others of its queue and key: [`limits::PRIORITIES`].
    #[must_use]
    pub fn priority(mut self, priority: i8) -> EnqueueRequest {
        self.priority = priority;
        self
    }

    /// Gives the job a key, such as a tenant: jobs of one key are limited together and take turns with those of others.
    #[must_use]
    pub fn key(mut self, key: JobKey) -> EnqueueRequest {
        self.key = Some(key);
        self
    }

    /// Has the job enqueued only if there is no other like it.
    #[must_use]
    pub fn unique(mut self, unique: Unique) -> EnqueueRequest {
        self.unique = Some(unique);
        self
    }

    /// Gives the job one more word by which it is found, such as `customer:42`.
    #[must_use]
    pub fn tag(mut self, tag: Tag) -> EnqueueRequest {
        self.tags.push(tag);
        self
    }

    /// Gives the job a text under a name, which is shown with it.
    #[must_use]
    pub fn meta(mut self, name: impl Into<String>, text: impl Into<String>) -> EnqueueRequest {
        self.meta.insert(name.into(), text.into());
        self
    }

    /// Has the job run after another has completed. May be said of several.
    #[must_use]
    pub fn after(mut self, job: JobId) -> EnqueueRequest {
        self.after.push(job);
        self
    }

    /// Says what becomes of the job where one that it is to run after does not complete.
    #[must_use]
    pub fn after_failed(mut self, then: AfterFailed) -> EnqueueRequest {
        self.after_failed = then;
        self
    }

    /// Makes the job one of a batch, which has to be open.
    #[must_use]
    pub fn batch(mut self, batch: BatchId) -> EnqueueRequest {
        self.batch = Some(batch);
        self
    }

    /// Puts the job into another queue than the module's.
    #[must_use]
    pub fn queue(mut self, queue: QueueName) -> EnqueueRequest {
        self.queue = Some(queue);
        self
    }
}

objects!(EnqueueRequest, BulkRequest, PauseRequest, RunRequest);

fn no_args() -> Box<RawValue> {
    RawValue::from_string("null".to_owned()).expect("null is JSON")
}

/// `POST /v1/jobs/bulk`: many jobs, all or none.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct BulkRequest {
    /// The jobs to enqueue, at most [`crate::limits::BULK_JOBS_MAX`]. Of more, one too many is read and the rest is not:
    /// a job takes many times the memory that its text does.
    #[serde(deserialize_with = "no_more_jobs_than_may_be")]
    pub jobs: Vec<EnqueueRequest>,
}

fn no_more_jobs_than_may_be<'de, D: Deserializer<'de>>(jobs: D) -> Result<Vec<EnqueueRequest>, D::Error> {
    struct Jobs;
    impl<'de> Visitor<'de> for Jobs {
        type Value = Vec<EnqueueRequest>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of jobs")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<EnqueueRequest>, A::Error> {
            let mut jobs = Vec::new();
            while jobs.len() <= limits::BULK_JOBS_MAX {
                let Some(job) = list.next_element()? else { return Ok(jobs) };
                jobs.push(job);
            }
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(jobs)
        }
    }
    jobs.deserialize_seq(Jobs)
}

/// Reads an id. `null` is as if it were left out, as of every other field that may be.
fn id_or_new<'de, D: Deserializer<'de>>(deserializer: D) -> Result<JobId, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(JobId::generate))
}

/// The answer to an enqueue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enqueued {
    /// The id of the job: another's than was asked for where there is a `conflict`.
    pub id: JobId,
    /// Whether the job was added now; false where the same job was already there.
    pub new: bool,
    /// What became of the job that was there, where the one asked for was not to be added beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<Conflict>,
}

/// The answer to a bulk enqueue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkEnqueued {
    /// One answer for each job asked for, in the same order.
    pub jobs: Vec<Enqueued>,
}

/// `GET /v1/jobs/{id}`: a job with its attempts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobDetail {
    /// The job as it is listed, without what follows.
    #[serde(flatten)]
    pub job: JobView,
    /// The job's args, to the digit as they were enqueued.
    pub args: Box<RawValue>,
    /// The jobs that it was enqueued to run after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<JobId>,
    /// How many jobs its attempts enqueued that are still there; missing where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub children: Option<JobCount>,
    /// Attempts that ended, oldest first.
    pub attempts: Vec<AttemptView>,
    /// What those attempts cost together; nothing where that is known of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Dollars>,
    /// The numbers of attempts that ended and whose rows cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable_attempts: Vec<AttemptNumber>,
    /// The attempts that ended and are not kept any more, nor their logs: those between the first
    /// [`ATTEMPTS_KEPT_FIRST`](crate::limits::ATTEMPTS_KEPT_FIRST) and the last
    /// [`ATTEMPTS_KEPT_LAST`](crate::limits::ATTEMPTS_KEPT_LAST).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgotten_attempts: Option<AttemptRange>,
    /// The attempt of which there is a recording: the last one that was recorded and failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<AttemptNumber>,
    /// The first requests of that attempt, in the order in which they began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recorded_requests: Vec<RequestView>,
    /// How many more it made: the recording has those too. Nothing where it made no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more_recorded_requests: Option<u64>,
}

/// A queue as `GET /v1/queues` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueView {
    /// The name of the queue.
    pub name: QueueName,
    /// How many Machines serve the queue, of which size, and how long they wait.
    pub policy: QueuePolicy,
    /// The number of jobs in each state.
    pub jobs: BTreeMap<State, u64>,
    /// How long the job that is due longest has waited, in milliseconds; nothing where none is due, or all of those are held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_waits_ms: Option<u64>,
    /// Why those of its jobs that are available do not start, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Waits>,
    /// That it is paused, and why; nothing where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// How it stands to its budget; nothing where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetView>,
    /// What of the policy was set while a server ran, in the place of what midge.toml says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<SetSetting>,
    /// The number of Machines that run or are being started.
    pub machines: u32,
    /// Whether the manifest knows it. Where that declares queues and not this one, its jobs run by the default policy:
    /// without limits that an older manifest may have had.
    #[serde(default = "yes")]
    pub declared: bool,
}

impl QueueView {
    /// Returns whether jobs of the queue are due and none of them is in line: each is held until its module starts jobs again.
    pub fn all_due_are_held(&self) -> bool {
        self.oldest_waits_ms.is_none() && self.jobs.get(&State::Available).is_some_and(|jobs| *jobs > 0)
    }
}

/// What older servers do not say of a queue.
fn yes() -> bool {
    true
}

/// `POST /v1/queues/{name}/pause`, and so of a schedule: has a queue start nothing, or a schedule enqueue nothing, until it
/// is resumed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct PauseRequest {
    /// Why, for people.
    #[serde(deserialize_with = "or_default")]
    pub reason: String,
    /// Who paused it, for people.
    #[serde(deserialize_with = "or_default")]
    pub by: String,
    /// The time at which it goes on by itself. Refused together with `for_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The milliseconds after which it goes on by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

/// That a queue or a module starts nothing, or a schedule enqueues nothing, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// The time from which it has been paused.
    pub since: Timestamp,
    /// The time at which it goes on by itself; only when somebody resumes it where this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why, for people, as whoever paused it said; at most [`limits::PAUSE_BYTES_MAX`] bytes, and so is `by`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Who paused it, for people, as they said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

impl Pause {
    /// Returns whether it is paused at a time: it may have ended by itself.
    pub fn is_on(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// The answer of `POST /v1/queues/{name}/pause`, and so of a module and a schedule: the pause, and the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// The pause that holds from now on.
    #[serde(flatten)]
    pub pause: Pause,
    /// The pause that it replaced, which may have been another person's; missing where it was not paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Pause>,
}

/// The answer of `GET /v1/queues`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queues {
    /// All queues, in the order of their names.
    pub queues: Vec<QueueView>,
    /// The number of Machines of all queues together, stopped ones and those that are not destroyed yet included.
    #[serde(default)]
    pub machines: u32,
    /// The most of them that there may be.
    #[serde(default)]
    pub max_machines: u32,
}

/// Every error of the API, with the HTTP status that fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub struct ApiError {
    /// A word for programs, such as `unknown_module`.
    pub code: String,
    /// A sentence for people, with the value and what to do next.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enqueue_needs_a_module_and_nothing_else() {
        let request: EnqueueRequest = serde_json::from_str(r#"{"module": "hello"}"#).unwrap();
        assert_eq!(request.module.as_str(), "hello");
        assert_eq!(request.args.get(), "null");
    }

    #[test]
    fn of_too_many_jobs_only_one_too_many_is_read() {
        let bulk = |jobs: usize| {
            let jobs = vec![r#"{"module":"hello"}"#; jobs].join(",");
            serde_json::from_str::<BulkRequest>(&format!(r#"{{"jobs":[{jobs}]}}"#)).unwrap().jobs.len()
        };
        assert_eq!(bulk(limits::BULK_JOBS_MAX), limits::BULK_JOBS_MAX);
        assert_eq!(bulk(limits::BULK_JOBS_MAX + 1), limits::BULK_JOBS_MAX + 1);
        assert_eq!(bulk(3 * limits::BULK_JOBS_MAX), limits::BULK_JOBS_MAX + 1);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = serde_json::from_str::<EnqueueRequest>(r#"{"module": "hello", "arg": 1}"#).unwrap_err();
        assert!(error.to_string().contains("arg"), "{error}");
    }

    #[test]
    fn args_of_a_job_are_json_and_kept_to_the_digit() {
        let args = r#"{"z": 9007199254740993, "a": 1.0, "big": 1e400, "text": "\u00e9", "z": -0}"#;
        let json = r#"{"id":"0190b3e4-7d5c-7c3a-9f00-0123456789ab","module":"hello","queue":"default","state":"available",
            "attempt":0,"spent":0,"max_attempts":25,"enqueued_at":"2030-01-01T00:00:00Z","scheduled_at":"2030-01-01T00:00:00Z",
            "args":ARGS,"attempts":[]}"#;
        let detail: JobDetail = serde_json::from_str(&json.replace("ARGS", args)).unwrap();
        assert_eq!(detail.args.get(), args);
        let written = serde_json::to_string(&detail).unwrap();
        assert!(written.contains(&format!("\"args\":{args}")), "{written}");
    }

    #[test]
    fn a_request_is_an_object_and_never_a_list() {
        let list = r#"["0190b3e4-7d5c-7c3a-9f00-0123456789ab","hello",{},null,null,null,null,null,null]"#;
        for json in [list, "[]", "[[]]", "null", "\"hello\"", "1"] {
            let error = serde_json::from_str::<EnqueueRequest>(json).unwrap_err().to_string();
            assert!(error.contains("expected struct EnqueueRequest"), "{error}");
        }
        for json in ["[[]]", "[]", &format!(r#"{{"jobs": [{list}]}}"#)] {
            let error = serde_json::from_str::<BulkRequest>(json).unwrap_err().to_string();
            assert!(error.contains("invalid type: sequence"), "{error}");
        }
        assert_eq!(serde_json::from_str::<BulkRequest>(r#"{"jobs": []}"#).unwrap().jobs.len(), 0);
    }

    #[test]
    fn jobs_that_are_due_and_not_in_line_are_held() {
        let queue = |available: u64, oldest_waits_ms: Option<u64>| QueueView {
            budget: None,
            name: QueueName::default_queue(),
            policy: QueuePolicy::default(),
            jobs: [(State::Available, available)].into(),
            oldest_waits_ms,
            waits: None,
            pause: None,
            set: Vec::new(),
            machines: 0,
            declared: true,
        };
        assert!(queue(2, None).all_due_are_held());
        assert!(!queue(2, Some(5)).all_due_are_held() && !queue(0, None).all_due_are_held());
        assert!(!QueueView { jobs: BTreeMap::new(), ..queue(0, None) }.all_due_are_held());
    }

    #[test]
    fn args_and_input_survive_json_to_the_byte() {
        let mut request = EnqueueRequest::new(ModuleName::new("hello").unwrap());
        request.args = RawValue::from_string(r#"{"big":12345678901234567890123}"#.to_owned()).unwrap();
        request.input = Some(Bytes::from_static(&[0, 255, 1]));
        let json = serde_json::to_string(&request).unwrap();
        let read: EnqueueRequest = serde_json::from_str(&json).unwrap();
        assert_eq!(read.args.get(), request.args.get());
        assert_eq!(read.input, request.input);
    }
}
