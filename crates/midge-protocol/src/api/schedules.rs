//! What the API takes and gives about schedules.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Pause, Unique};
use crate::job::{State, Waits, is_zero};
use crate::manifest::Missed;
use crate::{JobId, JobKey, Labels, ModuleName, QueueName, ScheduleName, Timestamp};

/// The answer of `GET /v1/schedules`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedules {
    /// The schedules that are served, by name.
    pub schedules: Vec<ScheduleView>,
}

/// A schedule as `GET /v1/schedules` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleView {
    /// The name of the schedule.
    pub name: ScheduleName,
    /// The module of its jobs.
    pub module: ModuleName,
    /// The queue of its jobs; nothing where it is the module's, and the module is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueName>,
    /// The priority of its jobs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i8,
    /// The key of its jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<JobKey>,
    /// The milliseconds within which its jobs have to be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
    /// The tags and the meta of its jobs.
    #[serde(flatten)]
    pub labels: Labels,
    /// What each of its jobs is to be the only one of; nothing where there may be many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Unique>,
    /// The args of its jobs.
    pub args: Value,
    /// Its cron expression.
    pub cron: String,
    /// The time zone in which the expression is read.
    pub zone: String,
    /// What happens to ticks that were missed.
    pub missed: Missed,
    /// How many missed ticks are made up for at most, where all are.
    pub missed_max: u32,
    /// The milliseconds within which its jobs are spread.
    pub jitter_ms: u64,
    /// Its next runs, at most five; none while it is paused until somebody resumes it.
    pub next: Vec<NextRun>,
    /// Its last job; nothing before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastRun>,
    /// That it is paused, and why; nothing where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Why its ticks bring no jobs now, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Waits>,
}

/// A run of a schedule to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextRun {
    /// The time of the tick.
    pub tick: Timestamp,
    /// The time before which its job does not run: the tick with its jitter.
    pub due: Timestamp,
    /// The id that its job will have.
    pub job: JobId,
}

/// The last job of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// The job's id.
    pub job: JobId,
    /// The tick of the schedule that it is of; nothing where it was run by hand, is another that was kept since the
    /// schedule's jobs are unique, or cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tick: Option<Timestamp>,
    /// The job's state; nothing where it is deleted, or cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

/// `POST /v1/schedules/{name}/run`: a request to enqueue a job of a schedule now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct RunRequest {
    /// The job's id, by default a new one. Who sets it can repeat the request.
    #[serde(default = "JobId::generate", deserialize_with = "super::id_or_new")]
    pub id: JobId,
}
