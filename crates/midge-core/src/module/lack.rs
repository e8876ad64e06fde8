//! What Machines lack of what a module's guests are given, such as a secret, and when one job tries again.
//!
//! Nothing is wrong with such a Machine: it goes on with other modules. The jobs of this one are held, all but one at a time,
//! the *trial*: so that one Machine at most is started for them in vain, however many wait.

use std::time::Duration;

use midge_protocol::job::Cause;
use midge_protocol::{JobId, Timestamp, limits};
use serde::{Deserialize, Serialize};

use crate::{Job, JobState, Phase};

/// The first wait before a job tries again: a Machine may have been told meanwhile. It doubles up to [`TRIAL_WAIT_MAX`].
const TRIAL_WAIT_FIRST: Duration = Duration::from_secs(10);
/// The longest wait before a job tries again. Who has set what was missing waits no longer than that, and a Machine that is
/// started in vain each five minutes costs little.
const TRIAL_WAIT_MAX: Duration = Duration::from_secs(300);
/// A trial that has run for so long has begun: a host says at once where it cannot.
const TRIAL_BEGUN: Duration = Duration::from_secs(5);
/// A trial that could not start for so long makes room for another, which may be of a queue that goes on.
const TRIAL_STUCK: Duration = Duration::from_secs(120);

/// What Machines lack of what a module's guests are given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// What it is, in the words of the host that was told to begin a job.
    pub what: String,
    /// The generation whose Machines lack it: those of another may be given it.
    pub generation: String,
    /// How many jobs have tried in vain, one after the other, since somebody last had one try.
    pub times: u32,
    /// The time of the first of them.
    pub since: Timestamp,
    /// The time of the last of them.
    pub at: Timestamp,
    /// The time from which one tries again, or does already.
    pub next: Timestamp,
    /// The job that tries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<JobId>,
}

/// What has come of trying whether Machines still lack something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// A job is to try now.
    Due,
    /// Nothing yet; there may be something to see without anything happening at a time.
    Wait(Timestamp),
    /// A job has begun, so that nothing is lacked.
    Begun,
}

impl Lack {
    /// Returns what is kept once a host has said what it lacks; `before` is what was kept.
    pub fn told(before: Option<&Lack>, what: String, generation: &str, now: Timestamp) -> Lack {
        let mut what = what;
        what.truncate(what.floor_char_boundary(limits::MESSAGE_BYTES_MAX));
        let before = before.filter(|lack| lack.generation == generation);
        if let Some(lack) = before.filter(|lack| lack.waits(now)) {
            // Of those that were granted together, the first has counted.
            return Lack { what, ..lack.clone() };
        }
        let times = before.map_or(0, |lack| lack.times).saturating_add(1);
        let doubled = TRIAL_WAIT_FIRST.saturating_mul(1 << (times - 1).min(10));
        Lack {
            what,
            generation: generation.to_owned(),
            times,
            since: before.map_or(now, |lack| lack.since),
            at: now,
            next: now.after(doubled.min(TRIAL_WAIT_MAX)),
            trial: None,
        }
    }

    /// Returns whether it is not yet time to try again. A clock that was put back meanwhile says nothing about it.
    fn waits(&self, now: Timestamp) -> bool {
        self.at <= now && now < self.next
    }

    /// Has a job try from now on, or none where there is none.
    pub fn tries(&mut self, job: Option<JobId>, now: Timestamp) {
        self.trial = job;
        if job.is_some() {
            self.next = now;
        }
    }

    /// Has a job try at once: somebody says that it is there now. Who was told before that it is not waits no longer for that.
    pub fn asked_for(&mut self, now: Timestamp) {
        (self.next, self.times, self.trial) = (self.next.min(now), 0, None);
    }

    /// Returns whether a Machine that has been up since a time, and says again that it lacks something, is to go: what was set
    /// since it began is given to those that begin now.
    pub fn outdates(&self, up_since: Timestamp, now: Timestamp) -> bool {
        up_since <= self.at && !self.waits(now)
    }

    /// Returns what has come of the trial; `job` is the job that tries, where it is still there.
    pub fn trial(&self, job: Option<&Job>, now: Timestamp) -> Trial {
        let Some(job) = job.filter(|job| self.trial == Some(job.id)) else {
            return if self.waits(now) { Trial::Wait(self.next) } else { Trial::Due };
        };
        match job.state {
            JobState::Running { .. } => {
                let begun = job.started_at.unwrap_or(now).after(TRIAL_BEGUN);
                if now < begun { Trial::Wait(begun) } else { Trial::Begun }
            }
            JobState::Ended { .. } if job.phase() == Phase::Cancelled => Trial::Due,
            JobState::Ended { .. } => Trial::Begun,
            // It was begun and has ended otherwise than by leaving its Machine: its host would have said so.
            _ if job.started_at.is_some_and(|at| at >= self.next) && !has_only_left(job) => Trial::Begun,
            JobState::Waiting { .. } | JobState::Held { .. } | JobState::Pending { .. } => {
                let stuck = self.next.after(TRIAL_STUCK);
                if self.at <= now && now < stuck { Trial::Wait(stuck) } else { Trial::Due }
            }
        }
    }
}

/// Returns whether a job's last attempt ended with its Machine, or on its way to it.
fn has_only_left(job: &Job) -> bool {
    let cause = job.failure.as_ref().map(|failure| &failure.cause);
    matches!(cause, Some(Cause::HandedBack | Cause::MachineLost | Cause::Cancelled))
}

#[cfg(test)]
mod tests {
    use midge_protocol::MachineName;
    use midge_protocol::exchange::Outcome;

    use super::*;
    use crate::JobEvent;
    use crate::job::tests::new_job;

    const KEY: &str = "the secret `KEY`";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn job() -> Job {
        Job::new(new_job(7, at(20)), at(0))
    }

    fn told(before: Option<&Lack>, now: Timestamp) -> Lack {
        Lack::told(before, KEY.to_owned(), "g1", now)
    }

    #[test]
    fn jobs_try_again_after_waits_that_double_up_to_five_minutes() {
        let mut lack = told(None, at(0));
        let mut waits = vec![lack.next.since(lack.at).as_secs()];
        for _ in 0..7 {
            let again = told(Some(&lack), lack.next);
            assert_eq!((again.since, again.at), (at(0), lack.next));
            lack = again;
            waits.push(lack.next.since(lack.at).as_secs());
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(lack.times, 8);
    }

    #[test]
    fn who_asks_for_a_try_has_one_at_once_and_the_waits_begin_anew() {
        let mut lack = told(Some(&told(None, at(0))), at(10));
        lack.tries(Some(job().id), at(30));
        lack.asked_for(at(40));
        assert_eq!(lack.trial(Some(&job()), at(40)), Trial::Due, "whatever tries already, and cannot start");
        let again = told(Some(&lack), at(41));
        assert_eq!((again.times, again.since, again.next), (1, at(0), at(51)));
    }

    #[test]
    fn of_jobs_that_were_granted_together_one_counts() {
        let first = told(None, at(0));
        assert_eq!(told(Some(&first), at(9)), first);
        let other = Lack::told(Some(&first), KEY.to_owned(), "g2", at(9));
        assert_eq!((other.times, other.next), (1, at(19)), "another generation is another matter");
    }

    #[test]
    fn a_machine_that_says_it_twice_is_to_go_and_one_that_began_since_stays() {
        let lack = told(None, at(0));
        assert!(!lack.outdates(at(-60), at(9)), "it was granted with the first");
        assert!(lack.outdates(at(-60), at(10)));
        assert!(!lack.outdates(at(5), at(10)), "it is the newest that there is");
    }

    #[test]
    fn one_job_tries_once_the_wait_is_over() {
        let lack = told(None, at(0));
        assert_eq!(lack.trial(None, at(9)), Trial::Wait(at(10)));
        assert_eq!(lack.trial(None, at(10)), Trial::Due);
        assert_eq!(lack.trial(Some(&job()), at(10)), Trial::Due, "it is not the one");
    }

    #[test]
    fn a_trial_that_goes_on_running_or_ends_shows_that_nothing_is_lacked() {
        let (started, machine) = (at(20), MachineName::new("m1").unwrap());
        let begun = job().apply(JobEvent::Claimed { machine }, started).unwrap().job;
        let lack = Lack { next: started, trial: Some(begun.id), ..told(None, started) };
        let sure = started.after(TRIAL_BEGUN);
        assert_eq!(lack.trial(Some(&begun), started), Trial::Wait(sure));
        assert_eq!(lack.trial(Some(&begun), sure), Trial::Begun);
        let ends = |outcome| {
            let (lease, usage, jitter) = (begun.lease().unwrap().clone(), None, 0.0);
            let ended = begun.apply(JobEvent::Finished { lease, outcome, usage, jitter }, started).unwrap();
            lack.trial(Some(&ended.job), started)
        };
        assert_eq!(ends(Outcome::Completed { result: "1".into() }), Trial::Begun);
        assert_eq!(ends(Outcome::Snoozed { after_ms: 5_000 }), Trial::Begun);
        assert!(matches!(ends(Outcome::HANDED_BACK), Trial::Wait(_)), "it shows nothing");
    }

    #[test]
    fn a_trial_that_cannot_start_or_is_cancelled_makes_room_for_another() {
        let (job, mut lack) = (job(), told(None, at(0)));
        lack.tries(Some(job.id), at(500));
        let stuck = at(500).after(TRIAL_STUCK);
        assert_eq!(lack.trial(Some(&job), at(500)), Trial::Wait(stuck), "since it was chosen");
        assert_eq!(lack.trial(Some(&job), stuck), Trial::Due);
        let cancelled = job.apply(JobEvent::CancelAsked, at(1)).unwrap().job;
        assert_eq!(lack.trial(Some(&cancelled), lack.next), Trial::Due);
        assert_eq!(lack.trial(None, lack.next), Trial::Due, "it was deleted");
    }

    #[test]
    fn where_the_clock_was_put_back_one_tries_at_once() {
        let lack = told(None, at(3_600));
        assert_eq!(lack.trial(None, at(0)), Trial::Due);
        let again = told(Some(&lack), at(0));
        assert_eq!((again.times, again.next), (2, at(20)));
    }
}
