//! One thing that is done to all jobs that fit a filter, in steps: what it does to each, and how far it is.

use midge_protocol::api::{Action, Cursor, JobCount, JobFilter, NotDone, SweepView};
use midge_protocol::job::{Cause, State};
use midge_protocol::{JobId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Job, JobEvent, JobRefused, JobSearch, Phase};

/// Sweeps that are remembered: people look at the last few.
pub const SWEEPS_MAX: usize = 100;
/// Sweeps that go on at once. They take turns, so that more would only all be slower.
pub const SWEEPS_OPEN_MAX: usize = 8;
/// Jobs of a sweep that are named with the reason why it was not done to them.
const NOT_DONE_MAX: usize = 10;

/// A sweep, with how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// The sweep as the API shows it.
    pub view: SweepView,
    /// The point up to which jobs were looked at.
    pub cursor: Option<Cursor>,
    /// How many steps were made, by which sweeps take turns.
    pub steps: u64,
}

/// What becomes of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Acted {
    /// It is another job now.
    Changed(Box<Job>),
    /// It is to be deleted.
    Deleted,
    /// It stays as it is: the action is for other jobs.
    Left,
}

/// Returns what an action makes of a job that fits a filter.
///
/// # Errors
/// [`JobRefused`] says why it cannot be done, where somebody may have expected that it is.
pub fn act(action: &Action, filter: &JobFilter, job: &Job, now: Timestamp) -> Result<Acted, JobRefused> {
    let phase = job.phase();
    let (is_for, event) = match action {
        // Who wants completed jobs to run again says so, and who wants pending ones to start without waiting for others. What a
        // batch is to run waits for nothing else than its time, and what it did not run is nothing that went wrong. Nor is a
        // job that was to follow another: with that one retried, it would run at once.
        Action::Retry => {
            let is_for = match phase {
                Phase::Running => false,
                Phase::Completed => filter.state == Some(State::Completed),
                Phase::Pending => filter.state == Some(State::Pending) && job.links.callback.is_none(),
                Phase::Cancelled if is_unmet(job) => {
                    let is_meant =
                        filter.state == Some(State::Cancelled) || filter.cause == Some(Cause::Unmet);
                    is_meant && job.links.callback.is_none()
                }
                _ => true,
            };
            (is_for, JobEvent::RetryAsked)
        }
        Action::Cancel => (job.ended_at().is_none(), JobEvent::CancelAsked),
        Action::Priority(priority) => (phase.is_waiting(), JobEvent::PriorityAsked(*priority)),
        Action::Move(queue) => (phase.is_waiting(), JobEvent::MoveAsked(queue.clone())),
        Action::Delete => {
            job.may_be_deleted()?;
            return Ok(Acted::Deleted);
        }
    };
    if !is_for {
        return Ok(Acted::Left);
    }
    let changed = job.apply(event, now)?.job;
    Ok(if changed == *job { Acted::Left } else { Acted::Changed(Box::new(changed)) })
}

/// Returns the search for the jobs that fit a filter, without those in phases that the action is not for: who looks at some only
/// would find none behind many of them.
pub fn search_for(action: &Action, filter: &JobFilter, now: Timestamp) -> JobSearch {
    let mut search = JobSearch::of(filter, now);
    if filter.state.is_none() {
        let is_for = |phase: &Phase| match action {
            Action::Retry => !matches!(phase, Phase::Running | Phase::Completed | Phase::Pending),
            Action::Cancel => phase.is_waiting() || *phase == Phase::Running,
            Action::Priority(_) | Action::Move(_) => phase.is_waiting(),
            // It is said of one that runs that it cannot be deleted.
            Action::Delete => true,
        };
        search.state.phases = Phase::ALL.into_iter().filter(is_for).collect();
    }
    search
}

/// Returns whether a job was cancelled because what it waited for did not happen.
fn is_unmet(job: &Job) -> bool {
    job.failure.as_ref().is_some_and(|failure| failure.cause == Cause::Unmet)
}

/// Returns what an action makes of a job whose row cannot be read: it can be deleted, and nothing else.
///
/// # Errors
/// Why it cannot be done, for people.
pub fn act_unreadable(action: &Action) -> Result<Acted, &'static str> {
    match action {
        Action::Delete => Ok(Acted::Deleted),
        _ => Err("its row cannot be read: delete it"),
    }
}

impl Sweep {
    /// Makes a sweep that has done nothing yet.
    pub fn new(id: u64, action: Action, filter: JobFilter, fitted: JobCount, now: Timestamp) -> Sweep {
        let view = SweepView {
            id,
            action,
            filter,
            fitted,
            found: 0,
            done: 0,
            asked: 0,
            could_not: 0,
            first_not: Vec::new(),
            started_at: now,
            ended_at: None,
            cancelled: false,
        };
        Sweep { view, cursor: None, steps: 0 }
    }

    /// Returns whether it goes on.
    pub fn is_open(&self) -> bool {
        self.view.ended_at.is_none()
    }

    /// Returns the search for its next jobs. What fails after it began comes before the point at which it began: so it does
    /// not meet a job again that it had run, and ends.
    pub fn search(&self, now: Timestamp) -> JobSearch {
        let search = search_for(&self.view.action, &self.view.filter, now);
        let first = || {
            let at = self.view.started_at.after(std::time::Duration::from_millis(1));
            search.by_failure.then_some(Cursor::Failed { at, id: JobId::from_bytes([0; 16]) })
        };
        JobSearch { before: self.cursor.or_else(first), ..search }
    }

    /// Does it to a job that was found, and counts it. Returns what becomes of the job.
    pub fn meets(&mut self, job: &Job, now: Timestamp) -> Acted {
        if job.enqueued_at > self.view.started_at {
            return Acted::Left;
        }
        self.view.found += 1;
        match act(&self.view.action, &self.view.filter, job, now) {
            Ok(Acted::Left) => Acted::Left,
            Ok(acted) => {
                self.view.done += 1;
                let asks = matches!(&acted, Acted::Changed(job) if job.phase() == Phase::Running);
                self.view.asked += u64::from(asks);
                acted
            }
            Err(refused) => {
                self.could_not(job.id, refused.to_string());
                Acted::Left
            }
        }
    }

    /// Does it to a job that was found and whose row cannot be read. Returns what becomes of the job.
    pub fn meets_unreadable(&mut self, job: JobId) -> Acted {
        self.view.found += 1;
        match act_unreadable(&self.view.action) {
            Ok(acted) => {
                self.view.done += 1;
                acted
            }
            Err(why) => {
                self.could_not(job, why.to_owned());
                Acted::Left
            }
        }
    }

    /// Takes note that it could not be done to a job that was found.
    pub fn could_not(&mut self, job: JobId, why: String) {
        self.view.could_not += 1;
        if self.view.first_not.len() < NOT_DONE_MAX {
            self.view.first_not.push(NotDone { job, why });
        }
    }

    /// Takes back that it was done to a job: there was something else in the way.
    pub fn was_not_done(&mut self, job: JobId, why: String) {
        self.view.done = self.view.done.saturating_sub(1);
        self.could_not(job, why);
    }

    /// Ends a step: jobs up to a point were looked at, or all.
    pub fn stepped(&mut self, cursor: Option<Cursor>, now: Timestamp) {
        self.steps += 1;
        match cursor {
            Some(cursor) => self.cursor = Some(cursor),
            None => self.view.ended_at = Some(now),
        }
    }

    /// Ends it before it is through, where it goes on. What was done stays done.
    pub fn cancel(&mut self, now: Timestamp) {
        if self.is_open() {
            (self.view.ended_at, self.view.cancelled) = (Some(now), true);
        }
    }
}

/// Returns which sweep makes the next step: of those that go on, the one with the fewest, and of these the first.
pub fn next_sweep(sweeps: &[Sweep]) -> Option<&Sweep> {
    let open = sweeps.iter().filter(|sweep| sweep.is_open());
    open.min_by_key(|sweep| (sweep.steps, sweep.view.id))
}

/// Returns the sweeps that are to be forgotten so that there is room for one more: of those that ended, the first.
pub fn sweeps_over(sweeps: &[Sweep]) -> Vec<u64> {
    let mut ended: Vec<u64> =
        sweeps.iter().filter(|sweep| !sweep.is_open()).map(|sweep| sweep.view.id).collect();
    ended.sort_unstable();
    ended.truncate((sweeps.len() + 1).saturating_sub(SWEEPS_MAX));
    ended
}

#[cfg(test)]
mod tests {
    use midge_protocol::api::BatchEvent;
    use midge_protocol::{BatchId, QueueName};

    use super::*;
    use crate::filter::tests::jobs;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn acted(action: &Action, filter: &JobFilter) -> Vec<(State, &'static str)> {
        let word = |acted| match acted {
            Ok(Acted::Changed(_)) => "changed",
            Ok(Acted::Deleted) => "deleted",
            Ok(Acted::Left) => "left",
            Err(_) => "refused",
        };
        jobs().iter().map(|job| (job.state_at(NOW), word(act(action, filter, job, NOW)))).collect()
    }

    fn states_that_are(word: &str, action: &Action, filter: &JobFilter) -> Vec<State> {
        let mut states: Vec<State> =
            acted(action, filter).into_iter().filter(|(_, is)| *is == word).map(|(state, _)| state).collect();
        states.sort_unstable();
        states.dedup();
        states
    }

    #[test]
    fn an_action_is_for_jobs_of_some_states_and_leaves_the_others_alone() {
        use State::{Available, Cancelled, Completed, Discarded, Pending, Retryable, Running};
        let all = JobFilter::default();
        let completed = JobFilter { state: Some(Completed), ..JobFilter::default() };
        let pending = JobFilter { state: Some(Pending), ..JobFilter::default() };
        let elsewhere = Action::Move(QueueName::new("elsewhere").unwrap());
        for (action, filter, changed) in [
            (Action::Retry, &all, vec![Retryable, Cancelled, Discarded]),
            (Action::Retry, &completed, vec![Retryable, Completed, Cancelled, Discarded]),
            (Action::Retry, &pending, vec![Pending, Retryable, Cancelled, Discarded]),
            (Action::Cancel, &all, vec![Pending, Available, Retryable, Running]),
            (Action::Priority(-5), &all, vec![Pending, Available, Retryable]),
            (elsewhere, &all, vec![Pending, Available, Retryable]),
        ] {
            assert_eq!(states_that_are("changed", &action, filter), changed, "{action}");
            assert_eq!(states_that_are("refused", &action, filter), [], "{action}");
        }
        assert_eq!(states_that_are("refused", &Action::Delete, &all), [Running]);
        assert_eq!(states_that_are("left", &Action::Delete, &all), []);
    }

    #[test]
    fn an_action_looks_at_all_jobs_that_it_does_not_leave() {
        let elsewhere = Action::Move(QueueName::new("elsewhere").unwrap());
        for action in [Action::Retry, Action::Cancel, Action::Delete, Action::Priority(9), elsewhere] {
            for state in [None].into_iter().chain(State::ALL.map(Some)) {
                let filter = JobFilter { state, ..JobFilter::default() };
                for job in jobs().iter().filter(|job| state.is_none_or(|state| job.state_at(NOW) == state)) {
                    let is_left = act(&action, &filter, job, NOW) == Ok(Acted::Left);
                    assert!(is_left || search_for(&action, &filter, NOW).matches(job), "{action} {job:?}");
                }
            }
        }
    }

    #[test]
    fn a_callback_whose_time_did_not_come_is_retried_by_its_id_only() {
        let batch = crate::Batch::new(BatchId::from_bytes([1; 16]), 1, String::new(), 0, NOW);
        let job = jobs().into_iter().find(|job| job.phase() == Phase::Pending).unwrap();
        let callback = job.clone().called_by(&batch, BatchEvent::Failure);
        let after = |job: &Job, event| job.apply(event, NOW).unwrap().job;
        let unmet = JobEvent::Unmet { why: "no job was discarded".into() };
        let pending = JobFilter { state: Some(State::Pending), ..JobFilter::default() };
        assert_eq!(act(&Action::Retry, &pending, &callback, NOW), Ok(Acted::Left), "its batch goes on");
        let uncalled = after(&callback, unmet.clone());
        for state in [None, Some(State::Cancelled)] {
            let filter = JobFilter { state, ..JobFilter::default() };
            let retried = |job: &Job| act(&Action::Retry, &filter, job, NOW) != Ok(Acted::Left);
            assert!(!retried(&uncalled));
            assert_eq!(retried(&after(&job, unmet.clone())), state.is_some(), "one that was after another");
            assert!(retried(&after(&callback, JobEvent::CancelAsked)), "somebody cancelled it");
        }
        assert!(uncalled.apply(JobEvent::RetryAsked, NOW).is_ok(), "who names it means it");
    }

    #[test]
    fn what_would_change_nothing_is_left() {
        assert_eq!(states_that_are("changed", &Action::Priority(0), &JobFilter::default()), []);
        let here = Action::Move(QueueName::default_queue());
        assert_eq!(states_that_are("changed", &here, &JobFilter::default()), []);
    }

    #[test]
    fn a_sweep_counts_what_it_does_and_names_the_first_to_which_it_could_not() {
        let mut sweep = Sweep::new(1, Action::Delete, JobFilter::default(), JobCount::default(), NOW);
        let running = jobs().into_iter().find(|job| job.lease().is_some()).unwrap();
        for _ in 0..20 {
            sweep.meets(&running, NOW);
        }
        let waiting = jobs().into_iter().find(|job| job.phase().is_waiting()).unwrap();
        assert_eq!(sweep.meets(&waiting, NOW), Acted::Deleted);
        assert_eq!((sweep.view.found, sweep.view.done, sweep.view.could_not), (21, 1, 20));
        assert_eq!(sweep.view.first_not.len(), NOT_DONE_MAX);
        assert_eq!(sweep.view.first_not[0].why, "the job is running: cancel it first");
    }

    #[test]
    fn a_job_that_runs_is_asked_to_stop_and_counted_apart() {
        let mut sweep = Sweep::new(1, Action::Cancel, JobFilter::default(), JobCount::default(), NOW);
        for job in jobs() {
            sweep.meets(&job, NOW);
        }
        let waiting = jobs().iter().filter(|job| job.phase().is_waiting()).count() as u64;
        assert_eq!((sweep.view.done, sweep.view.asked), (waiting + 1, 1));
    }

    #[test]
    fn a_job_that_came_after_the_sweep_began_is_left() {
        let before = NOW.before(std::time::Duration::from_millis(1));
        let mut sweep = Sweep::new(1, Action::Cancel, JobFilter::default(), JobCount::default(), before);
        let new = jobs().into_iter().find(|job| job.enqueued_at == NOW && job.phase().is_waiting()).unwrap();
        assert_eq!((sweep.meets(&new, NOW), sweep.view.found), (Acted::Left, 0));
    }

    #[test]
    fn a_sweep_of_failures_meets_none_that_came_after_it_began() {
        let filter = JobFilter { text: Some("again".to_owned()), ..JobFilter::default() };
        let sweep = Sweep::new(1, Action::Retry, filter, JobCount::default(), NOW);
        let failed = jobs()
            .into_iter()
            .find(|job| job.failure.as_ref().is_some_and(|f| f.message == "again"))
            .unwrap();
        assert!(sweep.search(NOW).matches(&failed), "it failed when the sweep began");
        let mut later = failed;
        later.fails(later.failure.clone(), NOW.after(std::time::Duration::from_millis(1)));
        assert!(!sweep.search(NOW).matches(&later));
    }

    #[test]
    fn sweeps_take_turns_and_the_first_that_ended_are_forgotten() {
        let sweep = |id, steps, ended| {
            let mut sweep = Sweep::new(id, Action::Retry, JobFilter::default(), JobCount::default(), NOW);
            sweep.steps = steps;
            sweep.view.ended_at = Some(NOW).filter(|_| ended);
            sweep
        };
        let sweeps = [sweep(1, 0, true), sweep(2, 2, false), sweep(3, 1, false), sweep(4, 1, false)];
        assert_eq!(next_sweep(&sweeps).map(|sweep| sweep.view.id), Some(3));
        assert_eq!(next_sweep(&sweeps[..1]), None);
        let many: Vec<Sweep> = (0..SWEEPS_MAX as u64).map(|id| sweep(id, 0, id > 2)).collect();
        assert_eq!(sweeps_over(&many), [3]);
        assert_eq!(sweeps_over(&many[1..]), [0; 0]);
    }

    #[test]
    fn a_sweep_that_is_cancelled_ends_once() {
        let mut sweep = Sweep::new(1, Action::Retry, JobFilter::default(), JobCount::default(), NOW);
        sweep.stepped(Some(Cursor::Id(JobId::from_bytes([7; 16]))), NOW);
        assert!(sweep.is_open());
        sweep.cancel(NOW);
        assert!(sweep.view.cancelled && !sweep.is_open());
        let mut through = Sweep::new(1, Action::Retry, JobFilter::default(), JobCount::default(), NOW);
        through.stepped(None, NOW);
        through.cancel(NOW);
        assert!(!through.view.cancelled);
    }
}
