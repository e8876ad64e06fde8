//! What the client asks about counts, sweeps and failures that are alike.

use midge_protocol::api::{
    DryRun, FailureView, Failures, FailuresFilter, JobCount, JobFilter, MoveRequest, PriorityRequest,
    SweepRequest, SweepView, Sweeps,
};
use midge_protocol::job::JobView;
use midge_protocol::{Fingerprint, JobId, QueueName};

use crate::client::json;
use crate::transport::{Call, Repeat};
use crate::{Client, ClientError};

impl Client {
    /// Counts the jobs that fit a filter, as far as that is fast.
    pub async fn count_jobs(&self, filter: &JobFilter) -> Result<JobCount, ClientError> {
        self.ask(Call { query: filter.pairs(), ..Call::get(&["jobs", "count"]) }).await
    }

    /// Gives a waiting job another priority. Returns the job as it is then.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where there is no such job, or it does not wait.
    pub async fn set_priority(&self, id: JobId, priority: i8) -> Result<JobView, ClientError> {
        let body = Some(json(&PriorityRequest { priority })?);
        let path = ["jobs", &id.to_string(), "priority"];
        self.ask(Call { body, ..Call::post(&path, Repeat::Safe) }).await
    }

    /// Puts a waiting job into another queue. Returns the job as it is then.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where there is no such job or queue, the job does not wait, or the queue is full.
    pub async fn move_job(&self, id: JobId, queue: &QueueName) -> Result<JobView, ClientError> {
        let body = Some(json(&MoveRequest { queue: queue.clone() })?);
        let path = ["jobs", &id.to_string(), "move"];
        self.ask(Call { body, ..Call::post(&path, Repeat::Safe) }).await
    }

    /// Begins to do one thing to all jobs that fit a filter. It goes on in the server: [`Client::sweep`] says how far it is.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where the request is not in order, means every job and does not say so, or as many sweeps
    /// go on as may.
    pub async fn begin_sweep(&self, request: &SweepRequest) -> Result<SweepView, ClientError> {
        let request = SweepRequest { dry_run: false, ..request.clone() };
        self.ask(Call { body: Some(json(&request)?), ..Call::post(&["sweeps"], Repeat::Unsent) }).await
    }

    /// Says to how many jobs a sweep would do it, and shows the first.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where the request is not in order.
    pub async fn dry_run(&self, request: &SweepRequest) -> Result<DryRun, ClientError> {
        let request = SweepRequest { dry_run: true, ..request.clone() };
        self.ask(Call { body: Some(json(&request)?), ..Call::post(&["sweeps"], Repeat::Safe) }).await
    }

    /// Returns the sweeps that go on, and the last that ended; newest first.
    pub async fn sweeps(&self) -> Result<Sweeps, ClientError> {
        self.ask(Call::get(&["sweeps"])).await
    }

    /// Returns a sweep, with how far it is.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the code `no_such_sweep` where there is none of that number.
    pub async fn sweep(&self, id: u64) -> Result<SweepView, ClientError> {
        self.ask(Call::get(&["sweeps", &id.to_string()])).await
    }

    /// Ends a sweep before it is through. What it did stays done.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the code `no_such_sweep` where there is none of that number.
    pub async fn cancel_sweep(&self, id: u64) -> Result<SweepView, ClientError> {
        self.ask(Call::post(&["sweeps", &id.to_string(), "cancel"], Repeat::Safe)).await
    }

    /// Returns groups of failures that are alike, the one that was seen last first.
    pub async fn failures(&self, filter: &FailuresFilter) -> Result<Failures, ClientError> {
        // Every field by name: one that is added and not sent does not compile.
        let FailuresFilter { module, before, limit } = filter;
        let call = Call::get(&["failures"]).query("module", module.as_ref());
        self.ask(call.query("before", *before).query("limit", *limit)).await
    }

    /// Returns the failures of one fingerprint.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the code `no_such_failure` where none of it was seen.
    pub async fn failure(&self, fingerprint: Fingerprint) -> Result<FailureView, ClientError> {
        self.ask(Call::get(&["failures", &fingerprint.to_string()])).await
    }
}
