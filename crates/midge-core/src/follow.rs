//! What a follower of a job is told next: all of it is found in the rows, so that one that comes back goes on where it was.

use std::ops::ControlFlow;

use bytes::Bytes;
use midge_protocol::job::{Progress, State};
use midge_protocol::news::{Position, Stage};
use midge_protocol::{AttemptNumber, Timestamp};

use crate::Job;

/// One follower of one job: how much it has been told.
///
/// Of each attempt that is kept it is told the log and then the end, one attempt after the other; and between these, of what
/// is true by now and not of what was, the job's state and the progress.
#[derive(Debug, Clone)]
pub struct Follow {
    at: Position,
    state: Option<Shown>,
    progress: Option<(AttemptNumber, Progress)>,
}

/// What makes a state another one for a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shown {
    state: State,
    attempt: AttemptNumber,
    due: Timestamp,
    cancelling: bool,
}

/// One thing to tell a follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tell {
    /// The job as it is now.
    State,
    /// A piece of a log.
    Log {
        /// The attempt whose log it is.
        attempt: AttemptNumber,
        /// Where in the log it begins, in bytes.
        offset: u64,
        /// The piece.
        bytes: Bytes,
    },
    /// How an attempt ended.
    Attempt(AttemptNumber),
    /// How far the attempt that runs says it is.
    Progress(AttemptNumber, Progress),
    /// The job as it is now, which has ended: the last thing.
    Ended,
    /// That the job was deleted, and another enqueued under its id: the last thing.
    Deleted,
}

impl Follow {
    /// Makes a follower that was told of all before a position.
    pub const fn from(at: Position) -> Follow {
        Follow { at, state: None, progress: None }
    }

    /// Returns how much it has been told.
    pub const fn position(&self) -> Position {
        self.at
    }

    /// Returns whether the job's end was told, and nothing has happened since.
    pub fn is_over(&self, job: &Job) -> bool {
        self.at.stage == Stage::Over && self.at.attempt == job.attempt && job.ended_at().is_some()
    }

    /// Returns the next thing to tell of a job as it is at `now`; nothing where the follower knows all of it. `log` reads the
    /// log of an attempt from a byte on: as much of it as goes into one piece.
    ///
    /// # Errors
    /// Those of `log`.
    pub fn next<E>(
        &mut self,
        job: &Job,
        now: Timestamp,
        log: &mut dyn FnMut(AttemptNumber, u64) -> Result<Bytes, E>,
    ) -> Result<Option<Tell>, E> {
        loop {
            if let ControlFlow::Break(tell) = self.step(job, now, log)? {
                return Ok(tell);
            }
        }
    }

    fn step<E>(
        &mut self,
        job: &Job,
        now: Timestamp,
        log: &mut dyn FnMut(AttemptNumber, u64) -> Result<Bytes, E>,
    ) -> Result<ControlFlow<Option<Tell>>, E> {
        let Position { attempt, offset, stage } = self.at;
        if attempt > job.attempt {
            return Ok(ControlFlow::Break(Some(Tell::Deleted)));
        }
        if attempt.0 > 0 && stage == Stage::Begun {
            let runs = job.lease().is_some_and(|lease| lease.attempt == attempt);
            if runs && let Some(state) = self.state(job, now) {
                return Ok(ControlFlow::Break(Some(state)));
            }
            let mut bytes = log(attempt, offset)?;
            bytes.truncate(piece_len(&bytes, runs));
            if !bytes.is_empty() {
                self.at.offset = offset.saturating_add(bytes.len() as u64);
                return Ok(ControlFlow::Break(Some(Tell::Log { attempt, offset, bytes })));
            }
            if runs {
                return Ok(ControlFlow::Break(self.progress(job)));
            }
            self.at.stage = Stage::Ended;
            return Ok(ControlFlow::Break(Some(Tell::Attempt(attempt))));
        }
        if attempt < job.attempt {
            let next = attempt.next();
            let forgotten = job.forgotten_attempts().filter(|range| range.contains(next));
            self.at = Position::before(forgotten.map_or(next, |range| range.last.next()));
            return Ok(ControlFlow::Continue(()));
        }
        if job.ended_at().is_some() {
            self.at.stage = Stage::Over;
            return Ok(ControlFlow::Break(Some(Tell::Ended)));
        }
        Ok(ControlFlow::Break(self.state(job, now)))
    }

    fn state(&mut self, job: &Job, now: Timestamp) -> Option<Tell> {
        let (state, cancelling) = (job.state_at(now), job.is_cancelling());
        let shown = Some(Shown { state, attempt: job.attempt, due: job.due(), cancelling });
        (std::mem::replace(&mut self.state, shown) != shown).then_some(Tell::State)
    }

    fn progress(&mut self, job: &Job) -> Option<Tell> {
        let progress = job.progress.clone().map(|progress| (job.attempt, progress));
        if self.progress == progress {
            return None;
        }
        self.progress = progress.clone();
        progress.map(|(attempt, progress)| Tell::Progress(attempt, progress))
    }
}

/// Returns how much of what there is of a log is told as one piece: what is text by itself, so that no character is cut
/// and people can read on. What is none is told as it is. Half a character at the end of a log that may grow (`grows`) waits
/// for its other half.
fn piece_len(bytes: &[u8], grows: bool) -> usize {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.len(),
        Err(error) if error.valid_up_to() > 0 => error.valid_up_to(),
        Err(error) if error.error_len().is_none() && grows => 0,
        Err(_) => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use midge_protocol::exchange::Outcome;
    use midge_protocol::job::{Cause, Failure};
    use midge_protocol::{Lease, MachineName};

    use super::*;
    use crate::job::tests::new_job;
    use crate::{JobEvent, JobState};

    const NOW: i64 = 1_000_000;
    /// The most of a log that is read at once.
    const LEN: usize = 4;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(NOW + millis)
    }

    /// A job, the logs of its attempts, and somebody who follows it.
    struct Scene {
        job: Job,
        logs: Vec<Vec<u8>>,
        follow: Follow,
        now: i64,
    }

    impl Scene {
        fn new() -> Scene {
            Scene {
                job: Job::new(new_job(7, at(0)), at(0)),
                logs: Vec::new(),
                follow: Follow::from(Position::BEGINNING),
                now: 0,
            }
        }

        fn happens(&mut self, event: JobEvent) {
            self.now += 1;
            self.job = self.job.apply(event, at(self.now)).unwrap().job;
        }

        fn lease(&self) -> Lease {
            Lease { machine: MachineName::new("m").unwrap(), attempt: self.job.attempt }
        }

        fn begins(&mut self) {
            self.now = self.now.max(self.job.due().as_millis() - at(0).as_millis());
            self.happens(JobEvent::Claimed { machine: self.lease().machine });
            self.logs.push(Vec::new());
        }

        fn says(&mut self, bytes: &[u8]) {
            self.logs.last_mut().unwrap().extend_from_slice(bytes);
        }

        fn ends(&mut self, outcome: Outcome) {
            let lease = self.lease();
            self.happens(JobEvent::Finished { lease, outcome, usage: None, jitter: 0.0 });
        }

        fn fails(&mut self) {
            self.ends(Outcome::Failed(Failure::new(Cause::Exit, "no")));
        }

        fn completes(&mut self) {
            self.ends(Outcome::Completed { result: Bytes::new() });
        }

        /// Returns all that is told now, in short.
        fn told(&mut self) -> Vec<String> {
            let mut all = Vec::new();
            let logs = &self.logs;
            let mut log = |attempt: AttemptNumber, offset: u64| {
                let log = logs.get(attempt.0 as usize - 1).map_or(&[][..], |log| log);
                let from = log.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
                Ok::<_, Infallible>(Bytes::copy_from_slice(&from[..from.len().min(LEN)]))
            };
            while let Some(tell) = self.follow.next(&self.job, at(self.now), &mut log).unwrap() {
                let last = matches!(tell, Tell::Ended | Tell::Deleted);
                all.push(match tell {
                    Tell::State => self.job.state_at(at(self.now)).to_string(),
                    Tell::Log { attempt, offset, bytes } => {
                        format!("{attempt}@{offset} {}", bytes.escape_ascii())
                    }
                    Tell::Attempt(attempt) => format!("{attempt} ended"),
                    Tell::Progress(attempt, progress) => format!("{attempt} {}", progress.message),
                    Tell::Ended => "over".to_owned(),
                    Tell::Deleted => "deleted".to_owned(),
                });
                if last {
                    break;
                }
            }
            all
        }
    }

    #[test]
    fn a_follower_hears_each_byte_and_each_end_once_and_in_order() {
        let mut scene = Scene::new();
        assert_eq!(scene.told(), ["available"]);
        assert!(scene.told().is_empty());
        scene.begins();
        scene.says(b"abcdef");
        assert_eq!(scene.told(), ["running", "1@0 abcd", "1@4 ef"]);
        scene.says(b"gh");
        let lease = scene.lease();
        let progress = Progress { done: 1, total: 2, message: "half".to_owned() };
        scene.happens(JobEvent::Progressed { lease, progress });
        assert_eq!(scene.told(), ["1@6 gh", "1 half"]);
        assert!(scene.told().is_empty(), "the same progress is told once");
        scene.says(b"i");
        scene.fails();
        assert_eq!(scene.told(), ["1@8 i", "1 ended", "retryable"]);
        scene.begins();
        scene.completes();
        assert_eq!(scene.told(), ["2 ended", "over"], "what is over by now is not said to be so");
    }

    #[test]
    fn one_that_comes_back_goes_on_at_its_position() {
        let mut scene = Scene::new();
        scene.begins();
        scene.says(b"abcd");
        scene.told();
        let at = scene.follow.position();
        assert_eq!(at.to_string(), "1:4");
        scene.says(b"ef");
        scene.fails();
        scene.begins();
        scene.says(b"xy");
        scene.follow = Follow::from(at);
        assert_eq!(scene.told(), ["1@4 ef", "1 ended", "running", "2@0 xy"]);
        scene.completes();
        scene.follow = Follow::from("1:6:ended".parse().unwrap());
        assert_eq!(scene.told(), ["2@0 xy", "2 ended", "over"]);
        assert_eq!(scene.follow.position().to_string(), "2:2:over");
        assert!(scene.follow.is_over(&scene.job));
        assert!(!Follow::from(at).is_over(&scene.job));
    }

    #[test]
    fn a_job_that_runs_again_by_hand_is_not_over_any_more() {
        let mut scene = Scene::new();
        scene.begins();
        scene.completes();
        scene.told();
        scene.happens(JobEvent::RetryAsked);
        assert!(!scene.follow.is_over(&scene.job));
        assert_eq!(scene.told(), ["available"]);
    }

    #[test]
    fn a_character_is_never_cut_and_what_is_no_text_is_told_all_the_same() {
        let mut scene = Scene::new();
        scene.begins();
        scene.says(b"abc\xc3");
        assert_eq!(scene.told(), ["running", "1@0 abc"]);
        scene.says(b"\xa9d");
        assert_eq!(scene.told(), ["1@3 \\xc3\\xa9d"]);
        scene.says(b"\xff\xfee\xc3");
        assert_eq!(scene.told(), ["1@6 \\xff\\xfee\\xc3"]);
        scene.says(b"\xc3");
        assert!(scene.told().is_empty());
        scene.completes();
        assert_eq!(scene.told(), ["1@10 \\xc3", "1 ended", "over"]);
    }

    #[test]
    fn attempts_that_are_not_kept_any_more_are_passed() {
        let mut scene = Scene::new();
        scene.job.attempt = AttemptNumber(200);
        scene.job.state = JobState::Waiting { due: at(0) };
        let told = scene.told();
        assert_eq!((told.len(), told[10].as_str()), (101, "111 ended"));
        // One that was away for so long that its attempt was forgotten hears that it ended, and goes on.
        scene.follow = Follow::from(Position::before(AttemptNumber(20)));
        assert_eq!(scene.told()[..2], ["20 ended", "111 ended"]);
    }

    #[test]
    fn any_position_is_taken() {
        for text in ["0:7:over", "1:18446744073709551615", "1:0:over", "2:0"] {
            let mut scene = Scene::new();
            scene.begins();
            scene.says(b"abc");
            scene.follow = Follow::from(text.parse().unwrap());
            let told = scene.told();
            assert_eq!(told.iter().any(|tell| tell == "deleted"), text == "2:0", "{text}: {told:?}");
            scene.completes();
            scene.told();
        }
    }
}
