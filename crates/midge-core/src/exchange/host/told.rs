//! What fits into one request of what is to be told.

use bytes::Bytes;
use midge_protocol::exchange::{AttemptRef, Finished, FollowUpsSize, LogChunk, Outcome};
use midge_protocol::limits;
use midge_protocol::recording::Recording;

use super::{Entry, LOG_CHUNK_BYTES_MAX};

/// What an exchange has of each job beside its request and its input: an id, and the names of the fields.
const JOB_BYTES: usize = 64;

/// What a request still has room for.
pub(super) struct Left {
    bytes: usize,
    /// How many more jobs may be enqueued.
    jobs: usize,
    /// Whether something was left out for want of room.
    pub(super) is_short: bool,
}

impl Left {
    pub(super) fn new(bytes: usize) -> Left {
        Left { bytes, jobs: limits::FOLLOW_UPS_MAX, is_short: false }
    }

    /// Takes room for so many bytes. Returns whether there was as much.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.unwrap_or(self.bytes);
        self.is_short |= left.is_none();
        left.is_some()
    }

    /// Takes room for so many bytes and jobs. Returns whether there was as much of both.
    fn take_jobs(&mut self, jobs: usize, bytes: usize) -> bool {
        let Some(left) = self.jobs.checked_sub(jobs) else {
            self.is_short = true;
            return false;
        };
        let fits = self.take(bytes);
        self.jobs = if fits { left } else { self.jobs };
        fits
    }
}

/// What a request says about an attempt.
pub(super) struct Told {
    pub(super) finished: Option<Finished>,
    pub(super) log: Vec<LogChunk>,
}

impl Entry {
    /// Says what fits. An attempt whose end does not fit any more is still running, as far as the server knows.
    pub(super) fn told(
        &self,
        attempt: AttemptRef,
        speaks: bool,
        left: &mut Left,
        log: &dyn Fn(AttemptRef, u64, usize) -> Bytes,
    ) -> Told {
        let nothing = Told { finished: None, log: Vec::new() };
        if !speaks {
            return nothing;
        }
        let recording = self.finished.as_ref().and_then(|finished| finished.recording.as_deref());
        let recording_len = recording.map_or(0, Recording::counted_bytes);
        let (result_len, log_max) = match self.finished.as_ref().map(|finished| &finished.outcome) {
            None => (0, LOG_CHUNK_BYTES_MAX),
            // Whoever runs it again begins a log of its own.
            Some(Outcome::HandedBack { .. } | Outcome::ModuleLacks { .. }) => (0, 0),
            Some(Outcome::Completed { result }) => (result.len(), limits::LOG_BYTES_MAX),
            Some(_) => (limits::MESSAGE_BYTES_MAX, limits::LOG_BYTES_MAX),
        };
        let bytes = if log_max == 0 { Bytes::new() } else { log(attempt, self.log_told, log_max) };
        let jobs =
            self.finished.as_ref().map(|finished| FollowUpsSize::of(&finished.jobs)).unwrap_or_default();
        let in_all = result_len + recording_len + bytes.len() + jobs.bytes + jobs.jobs * JOB_BYTES;
        if !left.take_jobs(jobs.jobs, in_all) {
            return nothing;
        }
        let log = match bytes.is_empty() {
            true => Vec::new(),
            false => vec![LogChunk { attempt, offset: self.log_told, bytes }],
        };
        Told { finished: self.finished.clone(), log }
    }
}
