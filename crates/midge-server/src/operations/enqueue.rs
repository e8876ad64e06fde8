//! Enqueueing: a request is checked and completed from the manifest, then written with all others of its call.

pub(crate) mod after;
mod again;
mod unique;

use std::collections::{BTreeMap, BTreeSet};

use midge_core::{Job, Links, NewJob};
use midge_protocol::api::{EnqueueRequest, Enqueued, Times, Unique};
use midge_protocol::job::OfSchedule;
use midge_protocol::{JobId, JobKey, Labels, ModuleName, QueueName, Timestamp, limits};
use midge_store::{Content, Rows, StoreError};
use xxhash_rust::xxh3::Xxh3;

use self::after::{Batches, Dependencies};
use crate::catalog::Catalog;
use crate::error::ServiceError;
use crate::midge::Midge;
use crate::room::check_room;

/// A request that is in order, with all that the manifest adds to it.
pub(crate) struct Accepted {
    new: NewJob,
    request: EnqueueRequest,
    times: Times,
}

impl Midge {
    /// Enqueues a job. When this returns, it is durable. The same request can be repeated.
    pub async fn enqueue(&self, request: EnqueueRequest) -> Result<Enqueued, ServiceError> {
        let mut enqueued = self.enqueue_all(vec![request]).await.map_err(|error| match error {
            ServiceError::OfMany { error, .. } => *error,
            error => error,
        })?;
        Ok(enqueued.pop().expect("one request has one answer"))
    }

    /// Enqueues many jobs, all or none. At most [`limits::BULK_JOBS_MAX`].
    ///
    /// # Errors
    /// [`ServiceError::OfMany`] where one of them cannot be enqueued.
    pub async fn enqueue_all(&self, requests: Vec<EnqueueRequest>) -> Result<Vec<Enqueued>, ServiceError> {
        if requests.len() > limits::BULK_JOBS_MAX {
            return Err(ServiceError::TooManyJobs { max: limits::BULK_JOBS_MAX });
        }
        let now = self.inner.clock.now();
        let catalog = self.inner.catalog.get();
        let mut accepted = Vec::with_capacity(requests.len());
        for (index, request) in requests.into_iter().enumerate() {
            let id = request.id;
            accepted.push(accept(request, &catalog, now).map_err(|error| of_many(index, id, error))?);
        }
        let written =
            midge_store::write(&*self.inner.store, move |rows| write(rows, accepted, &catalog, now));
        let Written { enqueued, queues } = written.await?;
        queues.iter().for_each(|queue| self.inner.wake_queue(queue));
        self.inner.waiters.dispatcher.notify_one();
        Ok(enqueued)
    }
}

fn of_many(index: usize, id: JobId, error: ServiceError) -> ServiceError {
    ServiceError::OfMany { index, id, error: Box::new(error) }
}

/// Checks a request, and completes it from the manifest.
pub(crate) fn accept(
    request: EnqueueRequest,
    catalog: &Catalog,
    now: Timestamp,
) -> Result<Accepted, ServiceError> {
    let waits = !request.after.is_empty();
    accept_as(request, catalog, now, waits)
}

/// Checks a request as [`accept`] does. `waits` says whether the job waits for something else than its time.
pub(crate) fn accept_as(
    request: EnqueueRequest,
    catalog: &Catalog,
    now: Timestamp,
    waits: bool,
) -> Result<Accepted, ServiceError> {
    let module = catalog.module(&request.module).map_err(|nearest| ServiceError::UnknownModule {
        name: request.module.clone(),
        nearest: nearest.map(str::to_owned),
    })?;
    request.check()?;
    let times = request.times(now)?;
    let (retry, retry_until) = again::retry(&request, &module.retry, &times, (now, waits));
    let labels = Labels { tags: request.tags.clone(), meta: request.meta.clone() };
    let mut attempt_limits = module.limits;
    if let Some(millis) = request.time_limit_ms {
        attempt_limits.time_ms = millis;
    }
    let queue = request.queue.as_ref().unwrap_or(&module.queue);
    let new = NewJob {
        id: request.id,
        module: request.module.clone(),
        queue: queue.clone(),
        priority: request.priority,
        key: request.key.clone(),
        labels,
        content_hash: content_hash(&request),
        retry,
        limits: attempt_limits,
        has_own_time_limit: request.time_limit_ms.is_some(),
        due: times.due,
        retry_until,
        expires_at: times.expires_at,
        unique: unique::hold(&request, queue.as_str(), &times),
        links: Links { after_failed: request.after_failed, batch: request.batch, ..Links::default() },
    };
    Ok(Accepted { new, request, times })
}

impl Accepted {
    /// Returns it as one that a schedule enqueues.
    #[must_use]
    pub(crate) fn of_schedule(mut self, schedule: OfSchedule) -> Accepted {
        self.new.links.schedule = Some(schedule);
        self
    }

    /// Returns the id of the job.
    pub(crate) fn id(&self) -> JobId {
        self.new.id
    }

    /// Returns the time before which the job does not run.
    pub(crate) fn due(&self) -> Timestamp {
        self.new.due
    }

    /// Returns the module that the job runs.
    pub(crate) fn module(&self) -> &ModuleName {
        &self.new.module
    }

    /// Returns the hash of all that was asked for.
    pub(crate) fn content_hash(&self) -> u64 {
        self.new.content_hash
    }
}

/// Returns a hash of all that was asked for, so that a repeated request is told from another under the same id.
fn content_hash(request: &EnqueueRequest) -> u64 {
    // Every field by name: one that is added and not hashed here does not compile.
    let EnqueueRequest {
        id: _,
        module,
        args,
        input,
        queue,
        scheduled_at,
        in_ms,
        priority,
        key,
        unique,
        tags,
        meta,
        max_attempts,
        time_limit_ms,
        expires_at,
        expires_in_ms,
        backoff,
        jitter_percent,
        backoff_by_cause,
        retry_until,
        retry_for_ms,
        after,
        after_failed,
        batch,
    } = request;
    let mut hash = Xxh3::new();
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(module.as_str().as_bytes());
    part(args.get().as_bytes());
    part(input.as_deref().unwrap_or_default());
    part(queue.as_ref().map_or("", QueueName::as_str).as_bytes());
    let numbers = [
        scheduled_at.map(|at| at.as_millis() as u64),
        *in_ms,
        max_attempts.map(u64::from),
        *time_limit_ms,
        input.as_ref().map(|_| 0),
    ];
    for number in numbers {
        part(number.map(u64::to_le_bytes).as_ref().map_or(&[], |bytes| bytes));
    }
    // Under their names, and only where they are set: what an earlier release hashed without them is still the same.
    let by_cause = backoff_by_cause.iter().flatten();
    let by_cause: Vec<String> = by_cause.map(|(cause, backoff)| format!("{cause}={backoff:?}")).collect();
    let set = [
        ("priority", (*priority != 0).then(|| priority.to_string())),
        ("key", key.as_ref().map(JobKey::to_string)),
        ("unique", unique.as_ref().map(what_is_unique)),
        ("tags", (!tags.is_empty()).then(|| format!("{tags:?}"))),
        ("meta", (!meta.is_empty()).then(|| format!("{meta:?}"))),
        ("expires_at", expires_at.map(|at| at.to_string())),
        ("expires_in_ms", expires_in_ms.map(|millis| millis.to_string())),
        ("backoff", backoff.as_ref().map(|backoff| format!("{backoff:?}"))),
        ("jitter_percent", jitter_percent.map(|percent| percent.to_string())),
        ("backoff_by_cause", backoff_by_cause.as_ref().map(|_| by_cause.join(";"))),
        ("retry_until", retry_until.map(|until| until.to_string())),
        ("retry_for_ms", retry_for_ms.map(|millis| millis.to_string())),
        ("after", (!after.is_empty()).then(|| format!("{after:?}"))),
        ("batch", batch.map(|batch| batch.to_string())),
        ("after_failed", (!after_failed.is_default()).then(|| after_failed.as_str().to_owned())),
    ];
    for (name, value) in set {
        if let Some(value) = value {
            part(name.as_bytes());
            part(value.as_bytes());
        }
    }
    hash.digest()
}

/// Returns what a request asks to be the only one of, as it is hashed: by what it means, and as an earlier release wrote it,
/// which had the states in every request.
fn what_is_unique(unique: &Unique) -> String {
    let Unique { by, text, states: _, for_ms, on_conflict } = unique;
    let states = unique.states();
    format!(
        "Unique {{ by: {by:?}, text: {text:?}, states: {states:?}, for_ms: {for_ms:?}, on_conflict: {on_conflict:?} }}"
    )
}

/// What was written.
pub(crate) struct Written {
    pub(crate) enqueued: Vec<Enqueued>,
    /// The queues that have new jobs.
    pub(crate) queues: Vec<QueueName>,
}

/// Writes jobs, all or none: what is refused is refused before anything is written.
pub(crate) fn write(
    rows: &mut dyn Rows,
    accepted: Vec<Accepted>,
    catalog: &Catalog,
    now: Timestamp,
) -> Result<Written, ServiceError> {
    write_as(rows, accepted, catalog, now, |job| job)
}

/// Writes jobs as [`write`] does, each as what `begins` makes of it.
pub(crate) fn write_as(
    rows: &mut dyn Rows,
    accepted: Vec<Accepted>,
    catalog: &Catalog,
    now: Timestamp,
    begins: impl Fn(Job) -> Job,
) -> Result<Written, ServiceError> {
    let ids: Vec<JobId> = accepted.iter().map(|job| job.new.id).collect();
    let mut known: BTreeMap<JobId, u64> =
        rows.jobs(&ids)?.into_iter().flatten().map(|job| (job.id, job.content_hash)).collect();
    let mut dependencies = Dependencies::read(rows, accepted.iter().map(|job| job.request.after.as_slice()))?;
    let mut batches = Batches::default();
    let mut new_jobs = Vec::with_capacity(accepted.len());
    let mut queues: BTreeMap<QueueName, u64> = BTreeMap::new();
    for (index, Accepted { new, request, times }) in accepted.into_iter().enumerate() {
        let id = new.id;
        match known.get(&id) {
            Some(hash) if *hash != new.content_hash => {
                return Err(of_many(index, id, ServiceError::Conflict(id)));
            }
            Some(_) => {}
            None => {
                // One that was there before, in a queue that is declared no more, is still the same job.
                let name = &new.queue;
                let unknown = |nearest| ServiceError::UnknownQueue { name: name.clone(), nearest };
                let takes = catalog.takes_jobs(name).map_err(unknown);
                takes
                    .and_then(|()| Ok(request.check_not_too_late(&times, now)?))
                    .map_err(|error| of_many(index, id, error))?;
                known.insert(id, new.content_hash);
                *queues.entry(new.queue.clone()).or_default() += 1;
                new_jobs.push((index, begins(Job::new(new, now)), request));
            }
        }
    }
    no_more_queues(rows, &queues, catalog, now)?;
    let mut many = Vec::with_capacity(new_jobs.len());
    let mut answers: BTreeMap<JobId, Enqueued> = BTreeMap::new();
    let mut there: BTreeMap<QueueName, u64> = BTreeMap::new();
    for (index, job, request) in new_jobs {
        let job = dependencies.tie(job, &request.after, now).and_then(|job| batches.take(rows, job));
        let job = job.map_err(|error| of_many(index, request.id, error))?;
        if job.unique.is_none() {
            dependencies.is_as(&job);
            many.push((job, request));
            continue;
        }
        // Only writing one that may not be there twice tells whether it is new. What is refused later undoes it.
        let enqueued = unique::put(rows, &job, &request, &mut dependencies, now)?;
        match enqueued.new {
            true => *there.entry(job.queue.clone()).or_default() += u64::from(job.phase().is_waiting()),
            false => *queues.entry(job.queue.clone()).or_default() -= 1,
        }
        answers.insert(job.id, enqueued);
    }
    for (queue, new) in &queues {
        let waiting = rows.jobs_waiting(queue)? - there.get(queue).copied().unwrap_or(0);
        check_room(catalog, queue, waiting, *new)?;
    }
    let (mut jobs, requests): (Vec<Job>, Vec<EnqueueRequest>) = many.into_iter().unzip();
    dependencies.mark(&mut jobs);
    rows.put_jobs(&jobs)?;
    dependencies.write(rows)?;
    for (job, request) in jobs.iter().zip(&requests) {
        put_contents(rows, job.id, request)?;
        answers.insert(job.id, Enqueued { id: job.id, new: true, conflict: None });
    }
    let answer = |id: JobId| {
        let old = Enqueued { id, new: false, conflict: None };
        let Some(answer) = answers.get_mut(&id) else { return old };
        // Whoever names an id twice has the second answered as a repetition.
        std::mem::replace(answer, Enqueued { new: false, ..answer.clone() })
    };
    let enqueued = ids.into_iter().map(answer).collect();
    let queues = queues.into_iter().filter(|(_, new)| *new > 0).map(|(queue, _)| queue).collect();
    Ok(Written { enqueued, queues })
}

fn put_contents(rows: &mut dyn Rows, id: JobId, request: &EnqueueRequest) -> Result<(), StoreError> {
    rows.put_content(id, Content::Args, request.args.get().as_bytes())?;
    match &request.input {
        Some(input) => rows.put_content(id, Content::Input, input),
        None => Ok(()),
    }
}

/// Refuses jobs that would bring one undeclared queue too many.
pub(crate) fn no_more_queues(
    rows: &mut dyn Rows,
    queues: &BTreeMap<QueueName, u64>,
    catalog: &Catalog,
    now: Timestamp,
) -> Result<(), ServiceError> {
    let undeclared = |queue: &&QueueName| !catalog.manifest.knows_queue(queue);
    // One that has waiting jobs is there already, and so is most of what comes.
    let mut new = Vec::new();
    for queue in queues.keys().filter(undeclared) {
        if rows.jobs_waiting(queue)? == 0 {
            new.push(queue);
        }
    }
    if new.is_empty() {
        return Ok(());
    }
    let counts = rows.job_counts(now)?;
    let mut there: BTreeSet<&QueueName> = counts.keys().filter(undeclared).collect();
    let max = limits::UNDECLARED_QUEUES_MAX;
    match new.into_iter().find(|queue| there.insert(queue) && there.len() > max) {
        Some(queue) => Err(ServiceError::TooManyQueues { name: queue.clone(), max }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unique_is_hashed_by_what_it_means_as_earlier_releases_wrote_it() {
        let read = |json| what_is_unique(&serde_json::from_str(json).unwrap());
        let written = "Unique { by: None, text: None, states: UniqueStates({Waiting, Running}), for_ms: None, on_conflict: Keep }";
        assert_eq!(read("{}"), written);
        assert_eq!(read(r#"{"states":["running","waiting"]}"#), written);
        let replace = read(r#"{"on_conflict":"replace"}"#);
        assert_eq!(replace, read(r#"{"on_conflict":"replace","states":["waiting"]}"#));
        assert_ne!(replace, read("{}"));
    }
}
