//! Which jobs a public state stands for, in terms that SQL may search by; and which jobs somebody means.

use midge_protocol::api::{Cursor, JobFilter, Sort};
use midge_protocol::job::{Cause, State};
use midge_protocol::{BatchId, Fingerprint, JobId, JobKey, ModuleName, QueueName, Tag, Timestamp};

use crate::{Job, Phase, UnreadableJob};

/// The phases and due times that a public state stands for at a time: the inverse of [`Job::state_at`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateFilter {
    /// Only jobs in one of these phases; all where it is empty.
    pub phases: Vec<Phase>,
    /// Only jobs that are due at or before this.
    pub due_until: Option<Timestamp>,
    /// Only jobs that are due after this.
    pub due_after: Option<Timestamp>,
}

impl StateFilter {
    /// Returns the filter that finds the jobs in a state at a time.
    pub fn of(state: State, now: Timestamp) -> StateFilter {
        let phases = |phases: &[Phase]| StateFilter { phases: phases.to_vec(), ..StateFilter::default() };
        match state {
            State::Pending => phases(&[Phase::Pending]),
            State::Available => {
                StateFilter { due_until: Some(now), ..phases(&[Phase::Fresh, Phase::Retrying, Phase::Held]) }
            }
            State::Scheduled => StateFilter { due_after: Some(now), ..phases(&[Phase::Fresh]) },
            State::Retryable => StateFilter { due_after: Some(now), ..phases(&[Phase::Retrying]) },
            State::Running => phases(&[Phase::Running]),
            State::Completed => phases(&[Phase::Completed]),
            State::Cancelled => phases(&[Phase::Cancelled]),
            State::Discarded => phases(&[Phase::Discarded]),
        }
    }

    /// Returns whether it finds a job.
    pub fn matches(&self, job: &Job) -> bool {
        self.has(job.phase(), job.due())
    }

    fn has(&self, phase: Phase, due: Timestamp) -> bool {
        (self.phases.is_empty() || self.phases.contains(&phase))
            && self.due_until.is_none_or(|until| due <= until)
            && self.due_after.is_none_or(|after| due > after)
    }
}

/// A search for jobs. A job is found if it fits every field that is set; all jobs fit the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobSearch {
    /// Only jobs whose phase and due time this matches.
    pub state: StateFilter,
    /// Only jobs of this queue.
    pub queue: Option<QueueName>,
    /// Only jobs of this module.
    pub module: Option<ModuleName>,
    /// Only jobs of this batch.
    pub batch: Option<BatchId>,
    /// Only jobs that an attempt at this job enqueued.
    pub parent: Option<JobId>,
    /// Only jobs with this key.
    pub key: Option<JobKey>,
    /// Only jobs that have this tag.
    pub tag: Option<Tag>,
    /// Only jobs whose last attempt failed for this cause.
    pub cause: Option<Cause>,
    /// Only jobs whose last failure has this fingerprint.
    pub failure: Option<Fingerprint>,
    /// Only jobs whose id [says](JobId::time) that it was made in this stretch of time.
    pub made: Stretch,
    /// Only jobs whose last attempt [failed](Job::failed_at) in this stretch of time.
    pub failed: Stretch,
    /// Only jobs in the message of whose last failure this stands.
    pub text: Option<String>,
    /// Only jobs in whose args this stands.
    pub args: Option<String>,
    /// Only jobs whose last attempt failed, the one that failed last first; else by id, the highest first.
    pub by_failure: bool,
    /// Only jobs that come after this point in that order.
    pub before: Option<Cursor>,
}

/// A stretch of time: from its beginning on, and before its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stretch {
    /// The first time that is in it; all up to the end where this is missing.
    pub since: Option<Timestamp>,
    /// The first time that is not in it any more; all from the beginning on where this is missing.
    pub until: Option<Timestamp>,
}

impl Stretch {
    /// Returns whether a time is in it.
    pub fn has(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }

    /// Returns whether every time is in it.
    pub fn is_all(&self) -> bool {
        *self == Stretch::default()
    }
}

impl JobSearch {
    /// Returns the search for the jobs that a filter means at a time.
    pub fn of(filter: &JobFilter, now: Timestamp) -> JobSearch {
        let filter = filter.clone();
        JobSearch {
            by_failure: filter.sort() == Sort::Failed,
            state: filter.state.map(|state| StateFilter::of(state, now)).unwrap_or_default(),
            queue: filter.queue,
            module: filter.module,
            batch: filter.batch,
            parent: filter.parent,
            key: filter.key,
            tag: filter.tag,
            cause: filter.cause,
            failure: filter.failure,
            made: Stretch { since: filter.since, until: filter.until },
            failed: Stretch { since: filter.failed_since, until: filter.failed_until },
            text: filter.text,
            args: filter.args,
            before: filter.before,
        }
    }

    /// Returns whether a job fits every field, but for its args, which it does not hold: see [`JobSearch::matches_args`].
    pub fn matches(&self, job: &Job) -> bool {
        let failure = || job.failure.as_ref();
        let failed = job.failed_at();
        self.state.matches(job)
            && self.has_names(&job.queue, &job.module)
            && self.batch.is_none_or(|batch| job.links.batch == Some(batch))
            && self.parent.is_none_or(|parent| job.links.parent == Some(parent))
            && self.key.as_ref().is_none_or(|key| job.key.as_ref() == Some(key))
            && self.tag.as_ref().is_none_or(|tag| job.labels.tags.contains(tag))
            && self
                .cause
                .as_ref()
                .is_none_or(|cause| failure().is_some_and(|failure| failure.cause == *cause))
            && self.failure.is_none_or(|failure| job.fingerprint() == Some(failure))
            && self.is_made_in_time(job.id)
            && (self.failed.is_all() || failed.is_some_and(|at| self.failed.has(at)))
            && self
                .text
                .as_ref()
                .is_none_or(|text| failure().is_some_and(|failure| failure.message.contains(text)))
            && self.has_point(job.id, failed)
    }

    /// Returns whether args fit. Only a search for args looks at them.
    pub fn matches_args(&self, args: &[u8]) -> bool {
        let Some(wanted) = &self.args else { return true };
        std::str::from_utf8(args).is_ok_and(|args| args.contains(wanted))
    }

    /// Returns whether a job whose row cannot be read fits: of it, little is known, and what asks for more does not find it.
    pub fn matches_unreadable(&self, job: &UnreadableJob) -> bool {
        let JobSearch { batch, parent, key, tag, cause, failure, failed, text, args, .. } = self;
        let asks_for_more = batch.is_some()
            || parent.is_some()
            || key.is_some()
            || tag.is_some()
            || cause.is_some()
            || failure.is_some()
            || !failed.is_all()
            || text.is_some()
            || args.is_some();
        !asks_for_more
            && self.state.has(job.phase, job.due)
            && self.has_names(&job.queue, &job.module)
            && self.is_made_in_time(job.id)
            // It has failed when somebody would have run it.
            && self.has_point(job.id, job.ended_at)
    }

    /// Returns whether it asks for nothing but a state, a queue and a module, in the order of ids.
    pub fn is_plain(&self) -> bool {
        let JobSearch { state, queue, module, before, .. } = self.clone();
        *self == JobSearch { state, queue, module, before, ..JobSearch::default() }
    }

    /// Returns the search by which the same jobs are counted, whose order does not matter: each that was discarded has failed.
    pub fn to_count(&self) -> JobSearch {
        let by_failure = self.by_failure && self.state.phases != [Phase::Discarded];
        JobSearch { by_failure, before: None, ..self.clone() }
    }

    /// Returns the part of the search by which a store finds jobs: those of one tag, batch, parent or key, or that failed in one way,
    /// in a stretch of time. It passes by all others, and looks at these.
    pub fn narrowest(&self) -> JobSearch {
        let JobSearch { made, failed, by_failure, before, .. } = self.clone();
        let by_id = JobSearch { made, by_failure, before, ..JobSearch::default() };
        let by_failure = JobSearch { failed, made: Stretch::default(), ..by_id.clone() };
        match self {
            JobSearch { by_failure: true, failure: Some(failure), .. } => {
                JobSearch { failure: Some(*failure), ..by_failure }
            }
            JobSearch { by_failure: true, cause: Some(cause), .. } => {
                JobSearch { cause: Some(cause.clone()), ..by_failure }
            }
            JobSearch { by_failure: true, state, .. } => {
                let state = StateFilter { phases: state.phases.clone(), ..StateFilter::default() };
                JobSearch { state, ..by_failure }
            }
            JobSearch { tag: Some(tag), .. } => JobSearch { tag: Some(tag.clone()), ..by_id },
            JobSearch { batch: Some(batch), .. } => JobSearch { batch: Some(*batch), ..by_id },
            JobSearch { parent: Some(parent), .. } => JobSearch { parent: Some(*parent), ..by_id },
            JobSearch { key: Some(key), .. } => JobSearch { key: Some(key.clone()), ..by_id },
            _ => by_id,
        }
    }

    /// Returns the point in the list of the search at which a job stands.
    pub fn point_of(&self, job: &Job) -> Cursor {
        match job.failed_at() {
            Some(at) if self.by_failure => Cursor::Failed { at, id: job.id },
            _ => Cursor::Id(job.id),
        }
    }

    /// Returns the point at which a job that was found stands, whether its row can be read or not.
    pub fn point_of_read(&self, job: Result<&Job, &UnreadableJob>) -> Cursor {
        match job {
            Ok(job) => self.point_of(job),
            Err(job) => match job.ended_at {
                Some(at) if self.by_failure => Cursor::Failed { at, id: job.id },
                _ => Cursor::Id(job.id),
            },
        }
    }

    /// Returns the ids that may be made in time: from the first on, and before the second.
    pub fn ids(&self) -> (Option<JobId>, Option<JobId>) {
        let before = match self.before {
            Some(Cursor::Id(id)) => Some(id),
            _ => None,
        };
        let until = self.made.until.map(JobId::first_at);
        (self.made.since.map(JobId::first_at), [before, until].into_iter().flatten().min())
    }

    fn has_names(&self, queue: &QueueName, module: &ModuleName) -> bool {
        self.queue.as_ref().is_none_or(|wanted| wanted == queue)
            && self.module.as_ref().is_none_or(|wanted| wanted == module)
    }

    fn is_made_in_time(&self, id: JobId) -> bool {
        self.made.is_all() || id.time().is_some_and(|time| self.made.has(time))
    }

    fn has_point(&self, id: JobId, failed: Option<Timestamp>) -> bool {
        match (self.before, failed) {
            (_, None) if self.by_failure => false,
            (Some(Cursor::Failed { at, id: last }), Some(failed)) => (failed, id) < (at, last),
            (Some(Cursor::Id(last)), _) => id < last,
            _ => true,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use midge_protocol::exchange::Outcome;
    use midge_protocol::job::Failure;
    use midge_protocol::{Lease, MachineName};

    use super::*;
    use crate::job::tests::new_job;
    use crate::{JobEvent, NewJob};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    /// A job in each of the states, by what may happen to one.
    pub(crate) fn jobs() -> Vec<Job> {
        let waiting = Job::new(new_job(1, NOW), NOW);
        let long_due = Job::new(new_job(2, Timestamp::EARLIEST), Timestamp::EARLIEST);
        let machine = MachineName::new("m").unwrap();
        let after = |job: &Job, event| job.apply(event, NOW).unwrap().job;
        let running = after(&waiting, JobEvent::Claimed { machine: machine.clone() });
        let ended = |outcome| {
            let lease = Lease { machine: machine.clone(), attempt: running.attempt };
            after(&running, JobEvent::Finished { lease, outcome, usage: None, jitter: 0.0 })
        };
        vec![
            after(&waiting, JobEvent::CancelAsked),
            after(&long_due, JobEvent::Held),
            Job::new(new_job(3, NOW), NOW).pending(),
            ended(Outcome::Completed { result: "ok".into() }),
            ended(Outcome::Failed(Failure::new(Cause::Exit, "again"))),
            ended(Outcome::Failed(Failure::new(Cause::Refused, "never"))),
            ended(Outcome::HANDED_BACK),
            waiting,
            running,
        ]
    }

    /// A job in a failed state, at a time.
    fn failed(id: JobId, message: &str, at: Timestamp) -> Job {
        let mut job = Job::new(NewJob { id, ..new_job(1, NOW) }, NOW);
        job.key = JobKey::new("acme").ok();
        job.labels.tags = vec![Tag::new("blue").unwrap()];
        job.links.parent = Some(self::id(7));
        job.fails(Some(Failure::new(Cause::Exit, message)), at);
        job
    }

    fn id(millis: u64) -> JobId {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        bytes[6] = 0x70;
        JobId::from_bytes(bytes)
    }

    #[test]
    fn a_search_finds_what_fits_every_field_and_nothing_else() {
        let at = |millis: i64| Timestamp::from_millis(1_000_000 + millis);
        let ours = failed(id(500), "user 42 not found", at(10));
        let fingerprint = ours.fingerprint();
        let all = |change: fn(&mut JobFilter)| {
            let mut filter = JobFilter::default();
            change(&mut filter);
            filter
        };
        let yes = [
            all(|_| {}),
            all(|filter| filter.key = JobKey::new("acme").ok()),
            all(|filter| filter.tag = Tag::new("blue").ok()),
            all(|filter| filter.parent = Some(id(7))),
            all(|filter| filter.cause = Some(Cause::Exit)),
            JobFilter { failure: fingerprint, ..JobFilter::default() },
            all(|filter| filter.since = Some(Timestamp::from_millis(500))),
            all(|filter| filter.until = Some(Timestamp::from_millis(501))),
            all(|filter| filter.failed_since = Some(Timestamp::from_millis(1_000_010))),
            all(|filter| filter.failed_until = Some(Timestamp::from_millis(1_000_011))),
            all(|filter| filter.text = Some("42 not".to_owned())),
            all(|filter| filter.state = Some(State::Retryable)),
        ];
        for filter in yes {
            let now = NOW.before(std::time::Duration::from_secs(1));
            assert!(JobSearch::of(&filter, now).matches(&ours), "{filter:?}");
        }
        let no = [
            all(|filter| filter.key = JobKey::new("acm").ok()),
            all(|filter| filter.tag = Tag::new("blu").ok()),
            all(|filter| filter.parent = Some(id(500))),
            all(|filter| filter.cause = Some(Cause::Trap)),
            all(|filter| filter.failure = Some(Fingerprint(1))),
            all(|filter| filter.since = Some(Timestamp::from_millis(501))),
            all(|filter| filter.until = Some(Timestamp::from_millis(500))),
            all(|filter| filter.failed_since = Some(Timestamp::from_millis(1_000_011))),
            all(|filter| filter.failed_until = Some(Timestamp::from_millis(1_000_010))),
            all(|filter| filter.text = Some("42 NOT".to_owned())),
            all(|filter| filter.state = Some(State::Completed)),
        ];
        for filter in no {
            assert!(!JobSearch::of(&filter, NOW).matches(&ours), "{filter:?}");
        }
        let fresh = Job { failure: None, failed: None, ..ours };
        let by_failure = JobFilter { sort: Some(Sort::Failed), ..JobFilter::default() };
        assert!(!JobSearch::of(&by_failure, NOW).matches(&fresh), "it has not failed");
    }

    #[test]
    fn every_job_is_after_all_points_before_its_own_and_before_its_own_it_is_not() {
        let early = failed(id(2), "a", NOW);
        let late = failed(id(1), "a", NOW.after(std::time::Duration::from_millis(1)));
        for by_failure in [false, true] {
            let search = JobSearch { by_failure, ..JobSearch::default() };
            let (first, last) = if by_failure { (&late, &early) } else { (&early, &late) };
            let after_first = JobSearch { before: Some(search.point_of(first)), ..search.clone() };
            assert!(after_first.matches(last) && !after_first.matches(first));
            let after_last = JobSearch { before: Some(search.point_of(last)), ..search };
            assert!(!after_last.matches(last) && !after_last.matches(first));
        }
    }

    #[test]
    fn a_text_in_the_args_is_found_as_it_is_written() {
        let search = |text: &str| JobSearch { args: Some(text.to_owned()), ..JobSearch::default() };
        let args = r#"{"customer": 42, "name": "Ada"}"#.as_bytes();
        assert!(search(r#""customer": 42"#).matches_args(args) && search("Ada").matches_args(args));
        assert!(!search("ada").matches_args(args) && !search("43").matches_args(b""));
        assert!(!search("a").matches_args(b"a\xff"), "what is no text has none");
        assert!(JobSearch::default().matches_args(b"\xff"));
    }

    #[test]
    fn every_job_is_found_by_the_state_that_it_is_in_and_by_no_other() {
        let times = [-1_000, 0, 1, 100_000].map(|by| Timestamp::from_millis(NOW.as_millis() + by));
        let mut found = std::collections::BTreeSet::new();
        for now in times {
            for job in jobs() {
                let states: Vec<State> = State::ALL
                    .into_iter()
                    .filter(|state| StateFilter::of(*state, now).matches(&job))
                    .collect();
                assert_eq!(states, [job.state_at(now)], "{job:?}");
                found.extend(states);
            }
        }
        assert_eq!(found.len(), State::ALL.len(), "every state was seen");
    }
}
