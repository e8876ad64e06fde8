//! The client: one method for each thing that can be asked of a server.

use std::time::Duration;

use bytes::Bytes;
use midge_protocol::api::{
    BatchFilter, BatchMade, BatchPage, BatchRequest, BatchView, BulkEnqueued, BulkRequest, EnqueueRequest,
    Enqueued, JobDetail, JobFilter, JobPage, MachineView, Machines, Modules, PauseRequest, Paused,
    QueueSettings, Queues, RunRequest, ScheduleView, Schedules, SettingsRequest,
};
use midge_protocol::job::{JobView, State};
use midge_protocol::news::Position;
use midge_protocol::recording::Recording;
use midge_protocol::{
    AttemptNumber, BatchId, JobId, MachineName, ModuleName, QueueName, ScheduleName, Secret, limits,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::follow::Follow;
use crate::transport::{Call, Repeat, Transport, decode};
use crate::{ClientError, WaitError};

/// The longest that a server lets an answer wait. A longer wait is several calls.
const WAIT_CALL_MAX: Duration = Duration::from_secs(60);
/// Between two waits, since a server that is about to stop answers at once.
const WAIT_PAUSE: Duration = Duration::from_millis(100);
/// The server's word for a job that has no result, or none yet.
const NO_CONTENT: &str = "no_content";
/// The most of inputs and args in one bulk: in base64 and with the rest they stay within a body's bound.
const BULK_BYTES_MAX: usize = limits::ENQUEUE_BODY_BYTES_MAX / 2;

/// A client of one server. Cloning it is cheap, and clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Transport,
}

impl Client {
    /// Makes a client for the server at a URL, which may have a path. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] where that is not the URL of a server.
    pub fn new(base_url: &str) -> Result<Client, ClientError> {
        Ok(Client { transport: Transport::new(base_url)? })
    }

    /// Sends a token with each call.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] where it holds characters that a header cannot.
    pub fn token(mut self, token: &Secret) -> Result<Client, ClientError> {
        self.transport.set_token(token)?;
        Ok(self)
    }

    /// Says how often a call is tried while no server answers: 5 times where nothing is said, over 1.5 seconds.
    ///
    /// Only what can be repeated is, and an enqueue can, because the job's id is made before it is sent.
    #[must_use]
    pub fn tries(mut self, tries: u32) -> Client {
        self.transport.set_tries(tries);
        self
    }

    /// Enqueues a job. Once this returns, the job is on the server's disk. Repeating the same request, id and all,
    /// gives the same job.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where the server knows no such module, or the args or the input are too large.
    pub async fn enqueue(&self, request: &EnqueueRequest) -> Result<Enqueued, ClientError> {
        let call = Call { body: Some(json(request)?), ..Call::post(&["jobs"], Repeat::Safe) };
        self.ask(call).await
    }

    /// Enqueues many jobs in one transaction: all or none. More than [`limits::BULK_JOBS_MAX`] are refused, and so
    /// is more than [`limits::ENQUEUE_BODY_BYTES_MAX`] of them; [`Client::enqueue_in_bulks`] takes any number.
    pub async fn enqueue_all(&self, requests: Vec<EnqueueRequest>) -> Result<Vec<Enqueued>, ClientError> {
        let body = json(&BulkRequest { jobs: requests })?;
        let call = Call { body: Some(body), ..Call::post(&["jobs", "bulk"], Repeat::Safe) };
        Ok(self.ask::<BulkEnqueued>(call).await?.jobs)
    }

    /// Enqueues any number of jobs, at most `len` of them in one transaction, and tells `done` after each.
    ///
    /// Each bulk is all or none, but the whole is not: after an error, those before it are enqueued. To go on,
    /// repeat the call with the same requests; those that are there already are not enqueued again.
    pub async fn enqueue_in_bulks(
        &self,
        requests: impl IntoIterator<Item = EnqueueRequest>,
        len: usize,
        mut done: impl FnMut(&[Enqueued]),
    ) -> Result<(), ClientError> {
        let len = len.clamp(1, limits::BULK_JOBS_MAX);
        let mut bulk = Vec::new();
        let mut bytes = 0;
        for request in requests {
            let more = request.args.get().len() + request.input.as_ref().map_or(0, Bytes::len);
            if bulk.len() == len || (!bulk.is_empty() && bytes + more > BULK_BYTES_MAX) {
                done(&self.enqueue_all(std::mem::take(&mut bulk)).await?);
                bytes = 0;
            }
            bytes += more;
            bulk.push(request);
        }
        if !bulk.is_empty() {
            done(&self.enqueue_all(bulk).await?);
        }
        Ok(())
    }

    /// Returns a job with its args and attempts.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the code `no_such_job` where there is none of that id, or it is deleted by now.
    pub async fn job(&self, id: JobId) -> Result<JobDetail, ClientError> {
        self.ask(Call::get(&["jobs", &id.to_string()])).await
    }

    /// Returns a page of the jobs that fit a filter. Its `next` goes into the `before` of the next filter.
    pub async fn jobs(&self, filter: &JobFilter) -> Result<JobPage, ClientError> {
        self.ask(Call { query: filter.pairs(), ..Call::get(&["jobs"]) }).await
    }

    /// Waits until a job has ended, or `timeout` is over, and returns it as it is then: look at its state. Without a
    /// timeout it waits for ever.
    pub async fn wait(&self, id: JobId, timeout: Option<Duration>) -> Result<JobView, ClientError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let waits = left.map_or(WAIT_CALL_MAX, |left| left.min(WAIT_CALL_MAX));
            let began = Instant::now();
            let path = ["jobs", &id.to_string(), "wait"];
            let call = Call::get(&path).query("timeout_ms", Some(waits.as_millis()));
            let job: JobView = self.ask(Call { waits, ..call }).await?;
            let over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if job.state.is_ended() || over {
                return Ok(job);
            }
            if began.elapsed() < WAIT_PAUSE {
                tokio::time::sleep(WAIT_PAUSE).await;
            }
        }
    }

    /// Returns the result of a completed job: the bytes that its guest wrote to stdout.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the code `no_content` where it has none, or none yet.
    pub async fn result_bytes(&self, id: JobId) -> Result<Bytes, ClientError> {
        self.transport.send(&Call::get(&["jobs", &id.to_string(), "result"])).await
    }

    /// Returns the bytes that a job was given for its guest's stdin.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the code `no_content` where it was given none.
    pub async fn input_bytes(&self, id: JobId) -> Result<Bytes, ClientError> {
        self.transport.send(&Call::get(&["jobs", &id.to_string(), "input"])).await
    }

    /// Returns what the attempts at a job saved last, for the next one.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the code `no_content` where they saved nothing.
    pub async fn saved_bytes(&self, id: JobId) -> Result<Bytes, ClientError> {
        self.transport.send(&Call::get(&["jobs", &id.to_string(), "saved"])).await
    }

    /// Returns what the world told the last attempt at a job that was recorded and failed.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the code `no_content` where there is none: its queue says `record = true` for it.
    pub async fn recording(&self, id: JobId) -> Result<Recording, ClientError> {
        self.ask(Call::get(&["jobs", &id.to_string(), "recording"])).await
    }

    /// Waits until a job has ended, and returns its result: one call where it completes within a minute.
    ///
    /// # Errors
    /// [`WaitError::NotCompleted`] with the job where it ended without a result, and where `timeout` is over before.
    pub async fn wait_result_bytes(&self, id: JobId, timeout: Option<Duration>) -> Result<Bytes, WaitError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let waits = left.map_or(WAIT_CALL_MAX, |left| left.min(WAIT_CALL_MAX));
            let path = ["jobs", &id.to_string(), "result"];
            let call = Call::get(&path).query("timeout_ms", Some(waits.as_millis()));
            match self.transport.send(&Call { waits, ..call }).await {
                Err(error) if error.code() == Some(NO_CONTENT) => {}
                answered => return Ok(answered?),
            }
            // It runs still, or has ended without a result: the job says which.
            let job = self.wait(id, Some(Duration::ZERO)).await?;
            let over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if job.state != State::Completed && (job.state.is_ended() || over) {
                return Err(WaitError::NotCompleted(Box::new(job)));
            }
            // A server that is about to stop answers at once.
            tokio::time::sleep(left.map_or(WAIT_PAUSE, |left| left.min(WAIT_PAUSE))).await;
        }
    }

    /// Waits, for ever if need be, until a job has ended, and returns its result, read from JSON.
    ///
    /// # Errors
    /// [`WaitError::NotCompleted`] with the job where it ended without a result; [`WaitError::NotTheType`] where that
    /// is not JSON of this type.
    pub async fn wait_result<T: DeserializeOwned>(&self, id: JobId) -> Result<T, WaitError> {
        let result = self.wait_result_bytes(id, None).await?;
        serde_json::from_slice(&result).map_err(|source| WaitError::NotTheType { id, source })
    }

    /// Enqueues a job, waits, for ever if need be, until it has ended, and returns its result, read from JSON.
    ///
    /// # Errors
    /// Those of [`Client::enqueue`] and [`Client::wait_result`].
    pub async fn run<T: DeserializeOwned>(&self, request: &EnqueueRequest) -> Result<T, WaitError> {
        self.wait_result(self.enqueue(request).await?.id).await
    }

    /// Returns the log of one attempt at a job, of the last one where none is named: the bytes that its guest wrote
    /// to stderr, as far as they are kept.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where there is no such job or no log of that attempt.
    pub async fn log(&self, id: JobId, attempt: Option<AttemptNumber>) -> Result<Bytes, ClientError> {
        let path = ["jobs", &id.to_string(), "log"];
        self.transport.send(&Call::get(&path).query("attempt", attempt)).await
    }

    /// Follows a job: its log, progress and state as they come, until it has ended. Begins behind a position, such as
    /// [`Position::BEGINNING`], which is before all that is kept of it. Nothing is sent until the first
    /// [`Follow::next`]; where the connection is cut, it comes back without losing or repeating a byte of a log.
    pub fn follow(&self, id: JobId, from: Position) -> Follow {
        Follow::new(self.transport.clone(), id, from)
    }

    /// Cancels a job: at once where it waits, as soon as its Machine has heard of it where it runs. Returns the job
    /// as it is then.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where there is no such job, or it has ended.
    pub async fn cancel(&self, id: JobId) -> Result<JobView, ClientError> {
        self.ask(Call::post(&["jobs", &id.to_string(), "cancel"], Repeat::Unsent)).await
    }

    /// Runs an ended job again under a new allowance of attempts, or makes a waiting one due now. Returns the job as
    /// it is then.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where there is no such job, or it runs.
    pub async fn retry(&self, id: JobId) -> Result<JobView, ClientError> {
        self.ask(Call::post(&["jobs", &id.to_string(), "retry"], Repeat::Unsent)).await
    }

    /// Deletes a job with all that belongs to it, also one whose row the server cannot read.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where there is no such job, or it runs: cancel it first.
    pub async fn delete(&self, id: JobId) -> Result<(), ClientError> {
        self.transport.send(&Call::delete(&["jobs", &id.to_string()])).await.map(drop)
    }

    /// Makes a batch, which is open: jobs can be added until it is closed. Repeating the same request gives the same batch.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where a job that it is to run is not in order.
    pub async fn make_batch(&self, request: &BatchRequest) -> Result<BatchMade, ClientError> {
        let call = Call { body: Some(json(request)?), ..Call::post(&["batches"], Repeat::Safe) };
        self.ask(call).await
    }

    /// Returns a batch, with how many of its jobs are in which state.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the code `no_such_batch` where there is none of that id, or it is deleted by now.
    pub async fn batch(&self, id: BatchId) -> Result<BatchView, ClientError> {
        self.ask(Call::get(&["batches", &id.to_string()])).await
    }

    /// Returns a page of batches, the highest id first. Its `next` goes into the `before` of the next filter.
    pub async fn batches(&self, filter: &BatchFilter) -> Result<BatchPage, ClientError> {
        let call = Call::get(&["batches"]).query("before", filter.before).query("limit", filter.limit);
        self.ask(call).await
    }

    /// Closes a batch: no job can be added, and it ends when all of its jobs have.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where there is no such batch.
    pub async fn close_batch(&self, id: BatchId) -> Result<BatchView, ClientError> {
        self.ask(Call::post(&["batches", &id.to_string(), "close"], Repeat::Safe)).await
    }

    /// Closes a batch and cancels its jobs, those that run too.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where there is no such batch, or it has ended.
    pub async fn cancel_batch(&self, id: BatchId) -> Result<BatchView, ClientError> {
        self.ask(Call::post(&["batches", &id.to_string(), "cancel"], Repeat::Unsent)).await
    }

    /// Returns the queues that are declared or hold jobs.
    pub async fn queues(&self) -> Result<Queues, ClientError> {
        self.ask(Call::get(&["queues"])).await
    }

    /// Has a queue start nothing until it is resumed, or its pause is over: what runs ends, and its Machines go. A pause that
    /// it was in is replaced, and is in the answer.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where there is no such queue, or the request is not in order.
    pub async fn pause_queue(&self, name: &QueueName, request: &PauseRequest) -> Result<Paused, ClientError> {
        let path = ["queues", name.as_str(), "pause"];
        self.ask(Call { body: Some(json(request)?), ..Call::post(&path, Repeat::Safe) }).await
    }

    /// Has a paused queue go on.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where there is no such queue.
    pub async fn resume_queue(&self, name: &QueueName) -> Result<(), ClientError> {
        let path = ["queues", name.as_str(), "resume"];
        self.transport.send(&Call::post(&path, Repeat::Safe)).await.map(drop)
    }

    /// Returns what was set of a queue while a server ran, and who changed it last.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where there is no such queue.
    pub async fn queue_settings(&self, name: &QueueName) -> Result<QueueSettings, ClientError> {
        self.ask(Call::get(&["queues", name.as_str(), "settings"])).await
    }

    /// Changes settings of a queue, all or none, at once and until they are unset: over restarts and deploys.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where there is no such queue or setting, a value is out of its bounds, or values do not go
    /// together.
    pub async fn change_queue_settings(
        &self,
        name: &QueueName,
        request: &SettingsRequest,
    ) -> Result<QueueSettings, ClientError> {
        let path = ["queues", name.as_str(), "settings"];
        self.ask(Call { body: Some(json(request)?), ..Call::post(&path, Repeat::Safe) }).await
    }

    /// Returns the schedules that are served, each with its next runs and its last job.
    pub async fn schedules(&self) -> Result<Schedules, ClientError> {
        self.ask(Call::get(&["schedules"])).await
    }

    /// Returns a schedule.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the code `no_such_schedule` where none of that name is served.
    pub async fn schedule(&self, name: &ScheduleName) -> Result<ScheduleView, ClientError> {
        self.ask(Call::get(&["schedules", name.as_str()])).await
    }

    /// Has a schedule enqueue nothing until it is resumed, or its pause is over.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where none of that name is served, or the request is not in order.
    pub async fn pause_schedule(
        &self,
        name: &ScheduleName,
        request: &PauseRequest,
    ) -> Result<Paused, ClientError> {
        let path = ["schedules", name.as_str(), "pause"];
        self.ask(Call { body: Some(json(request)?), ..Call::post(&path, Repeat::Safe) }).await
    }

    /// Has a paused schedule go on: what ticked meanwhile brings no jobs.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where none of that name is served.
    pub async fn resume_schedule(&self, name: &ScheduleName) -> Result<(), ClientError> {
        let path = ["schedules", name.as_str(), "resume"];
        self.transport.send(&Call::post(&path, Repeat::Safe)).await.map(drop)
    }

    /// Enqueues a job of a schedule now, beside those of its ticks. Repeating the same request gives the same job.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where none of that name is served, or its queue is full.
    pub async fn run_schedule(
        &self,
        name: &ScheduleName,
        request: &RunRequest,
    ) -> Result<Enqueued, ClientError> {
        let path = ["schedules", name.as_str(), "run"];
        self.ask(Call { body: Some(json(request)?), ..Call::post(&path, Repeat::Safe) }).await
    }

    /// Returns the Machines that are there, and those that went lately; newest first.
    pub async fn machines(&self) -> Result<Machines, ClientError> {
        self.ask(Call::get(&["machines"])).await
    }

    /// Has a Machine take no more jobs, finish what it runs and go. Returns the Machine as it is then.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where there is no such Machine, or it goes already.
    pub async fn drain_machine(&self, name: &MachineName) -> Result<MachineView, ClientError> {
        self.ask(Call::post(&["machines", name.as_str(), "drain"], Repeat::Safe)).await
    }

    /// Returns the modules that jobs may name, with their settings, and those that start none just now.
    pub async fn modules(&self) -> Result<Modules, ClientError> {
        self.ask(Call::get(&["modules"])).await
    }

    /// Has no job of a module start, in whatever queue, until it is resumed or its pause is over.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where there is no such module, or the request is not in order.
    pub async fn pause_module(
        &self,
        name: &ModuleName,
        request: &PauseRequest,
    ) -> Result<Paused, ClientError> {
        let path = ["modules", name.as_str(), "pause"];
        self.ask(Call { body: Some(json(request)?), ..Call::post(&path, Repeat::Safe) }).await
    }

    /// Has a paused module start jobs again.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where there is no such module.
    pub async fn resume_module(&self, name: &ModuleName) -> Result<(), ClientError> {
        let path = ["modules", name.as_str(), "resume"];
        self.transport.send(&Call::post(&path, Repeat::Safe)).await.map(drop)
    }

    pub(crate) async fn ask<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, ClientError> {
        decode(&self.transport.url(&call), &self.transport.send(&call).await?)
    }
}

pub(crate) fn json<T: Serialize>(value: &T) -> Result<Bytes, ClientError> {
    let text = serde_json::to_vec(value);
    text.map(Bytes::from).map_err(|error| ClientError::Invalid(format!("cannot be written as JSON: {error}")))
}
