//! Following a job: its log, progress and state as they come, until it has ended.
//!
//! Invariant: what is told next is said by [`midge_core::Follow`], from the rows. Nothing is kept for a follower that has
//! not taken what it was told, and nothing asks the store on a timer: whoever writes of a job wakes its followers.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use midge_core::{Follow, Job, Tell};
use midge_protocol::job::AttemptView;
use midge_protocol::news::{AttemptProgress, DeletedJob, JobNews, LogPiece, Position};
use midge_protocol::{AttemptNumber, JobId, Timestamp, limits};
use midge_store::StoreError;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::error::ServiceError;
use crate::midge::Midge;

/// What is read of logs in one look, and so held for one follower, and one piece more.
const LOOK_BYTES_MAX: usize = 2 * limits::LOG_PIECE_BYTES_MAX;
/// Pieces of news in one look: of many short attempts, a part.
const LOOK_NEWS_MAX: usize = 32;

/// Somebody who follows a job. There are at most [`limits::FOLLOWERS_MAX`] of them, and dropping one makes room.
pub struct Follower {
    midge: Midge,
    id: JobId,
    follow: Follow,
    /// Read, and not taken yet.
    told: VecDeque<(Position, JobNews)>,
    is_over: bool,
    /// The time from which the job is due, where that is still to come: its state is another one then.
    due: Option<Timestamp>,
    news: Arc<Notify>,
    asked: Arc<Notify>,
    _place: OwnedSemaphorePermit,
}

/// What one look found.
struct Look {
    job: Job,
    follow: Follow,
    tells: Vec<(Position, Tell)>,
    /// The attempts that ended, where one of them is told of.
    attempts: Vec<Result<AttemptView, AttemptNumber>>,
}

impl Midge {
    /// Follows a job from a position on: its log, progress and state as they come, until it has ended. Returns nothing
    /// where the position is behind the job's end.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchJob`] where there is none of that id, [`ServiceError::NoSuchAttempt`] where the position is one
    /// that the job never had, and [`ServiceError::TooManyFollowers`].
    pub async fn follow(&self, id: JobId, from: Position) -> Result<Option<Follower>, ServiceError> {
        let inner = &self.inner;
        let place = inner.followers.clone().try_acquire_owned();
        let place = place.map_err(|_| ServiceError::TooManyFollowers { max: limits::FOLLOWERS_MAX })?;
        let mut follower = Follower {
            midge: self.clone(),
            id,
            follow: Follow::from(from),
            told: VecDeque::new(),
            is_over: false,
            due: None,
            news: inner.waiters.news.notifier(&id),
            asked: inner.waiters.jobs.notifier(&id),
            _place: place,
        };
        let look = follower.look().await?.ok_or(ServiceError::NoSuchJob(id))?;
        if follower.follow.is_over(&look.job) {
            return Ok(None);
        }
        if look.tells.iter().any(|(_, tell)| *tell == Tell::Deleted) {
            let (attempt, begun) = (from.attempt, look.job.attempt.0);
            return Err(ServiceError::NoSuchAttempt { id, attempt, begun });
        }
        follower.take(look).await?;
        Ok(Some(follower))
    }
}

impl Follower {
    /// Returns the next piece of news, as soon as there is any, with the position behind it; nothing once the job has ended,
    /// or where the server stops. It may be dropped while it waits, and asked again.
    ///
    /// # Errors
    /// [`ServiceError::Store`] where the store cannot be read.
    pub async fn next(&mut self) -> Result<Option<(Position, JobNews)>, ServiceError> {
        let mut stopping = self.midge.inner.stopping.subscribe();
        let (news, asked) = (self.news.clone(), self.asked.clone());
        loop {
            if let Some(told) = self.told.pop_front() {
                return Ok(Some(told));
            }
            if self.is_over || *stopping.borrow() {
                return Ok(None);
            }
            // Both ears are open before the look, so that nothing that comes after it is missed.
            let (mut news, mut asked) = (pin!(news.notified()), pin!(asked.notified()));
            news.as_mut().enable();
            asked.as_mut().enable();
            match self.look().await? {
                Some(look) => self.take(look).await?,
                None => self.was_deleted(),
            }
            if !self.told.is_empty() {
                continue;
            }
            let wait = self.due.map(|due| due.since(self.midge.inner.clock.now()));
            tokio::select! {
                () = news => {}
                () = asked => {}
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        }
    }

    /// Looks what there is to tell. Returns nothing where there is no such job.
    async fn look(&self) -> Result<Option<Look>, ServiceError> {
        let (id, now) = (self.id, self.midge.inner.clock.now());
        let mut follow = self.follow.clone();
        let read = midge_store::read(&*self.midge.inner.store, move |rows| -> Result<_, StoreError> {
            let Some(job) = rows.jobs(&[id])?.pop().flatten() else { return Ok(None) };
            let (mut tells, mut bytes_told, mut attempts) = (Vec::new(), 0, Vec::new());
            while bytes_told < LOOK_BYTES_MAX && tells.len() < LOOK_NEWS_MAX {
                let mut log =
                    |attempt, offset| rows.log_from(id, attempt, offset, limits::LOG_PIECE_BYTES_MAX);
                let Some(tell) = follow.next(&job, now, &mut log)? else { break };
                bytes_told += if let Tell::Log { bytes, .. } = &tell { bytes.len() } else { 0 };
                let is_last = matches!(tell, Tell::Ended | Tell::Deleted);
                tells.push((follow.position(), tell));
                if is_last {
                    break;
                }
            }
            if tells.iter().any(|(_, tell)| matches!(tell, Tell::Attempt(_))) {
                attempts = rows.attempts(id)?;
            }
            Ok(Some(Look { job, follow, tells, attempts }))
        });
        Ok(read.await?)
    }

    /// Takes what was found, to be told.
    async fn take(&mut self, look: Look) -> Result<(), ServiceError> {
        let Look { job, follow, tells, attempts } = look;
        self.follow = follow;
        let is_due_later = job.phase().is_waiting() && job.due() > self.midge.inner.clock.now();
        self.due = is_due_later.then(|| job.due());
        for (position, tell) in tells {
            let news = match tell {
                Tell::State => JobNews::State(Box::new(self.midge.view(Ok(job.clone())).await?)),
                Tell::Ended => JobNews::Ended(Box::new(self.midge.view(Ok(job.clone())).await?)),
                Tell::Log { attempt, offset, bytes } => JobNews::Log(LogPiece { attempt, offset, bytes }),
                Tell::Progress(attempt, progress) => JobNews::Progress(AttemptProgress { attempt, progress }),
                Tell::Attempt(number) => {
                    let known = attempts.iter().flatten().find(|attempt| attempt.attempt == number);
                    // One that is not kept any more, or cannot be read, is passed.
                    let Some(attempt) = known else { continue };
                    JobNews::Attempt(Box::new(attempt.clone()))
                }
                Tell::Deleted => JobNews::Deleted(DeletedJob { id: self.id }),
            };
            self.is_over |= news.is_last();
            self.told.push_back((position, news));
        }
        Ok(())
    }

    fn was_deleted(&mut self) {
        self.is_over = true;
        self.told.push_back((self.follow.position(), JobNews::Deleted(DeletedJob { id: self.id })));
    }
}
