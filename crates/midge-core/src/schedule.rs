//! When schedules bring jobs: which ticks are due, which were missed, and what the job of a tick is.

mod ticks;

use std::time::Duration;

use midge_protocol::api::Pause;
use midge_protocol::manifest::{Missed, ScheduleEntry};
use midge_protocol::{JobId, ScheduleName, Timestamp};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

pub use self::ticks::Ticks;

/// A tick that is dealt with this late is not missed: as long as a deploy takes, or a restart.
const LATE_MAX: Duration = Duration::from_secs(5 * 60);
/// How far beyond now ticks may have been dealt with: a clock that is put back by less goes on when it comes there, so that
/// no tick is dealt with twice.
const AHEAD_MAX: Duration = Duration::from_secs(60 * 60);
/// The state of a schedule that is not served any more is kept for so long, in case a deploy is taken back.
const REMOVED_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A schedule's state: what is remembered of it from one tick to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The name of the schedule.
    pub name: ScheduleName,
    /// A hash of its expression and its zone: those of others are other ticks.
    pub clock: u64,
    /// The time until which every tick has been dealt with.
    pub done: Timestamp,
    /// The time at which there is something to do about it; nothing while it is paused until somebody resumes it.
    pub next: Option<Timestamp>,
    /// That it is paused, and why. The ticks in a pause are not missed: they bring no job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// The last job, by a tick or by hand. Where its jobs are to be unique, it may be another's that was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_job: Option<JobId>,
    /// The time since which it is not served any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Timestamp>,
}

/// A tick whose job is to be enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// The time of the tick.
    pub at: Timestamp,
    /// The job's id.
    pub job: JobId,
    /// The time before which the job does not run: the tick with its jitter.
    pub due: Timestamp,
}

impl Schedule {
    /// Makes the state of a schedule that is served for the first time: its ticks count from now on.
    pub fn new(name: ScheduleName, entry: &ScheduleEntry, ticks: &Ticks, now: Timestamp) -> Schedule {
        Schedule {
            name,
            clock: clock(entry),
            done: now,
            next: ticks.after(now),
            pause: None,
            last_job: None,
            removed: None,
        }
    }

    /// Returns the state under what is served now, with its pause ended where the end has come. A schedule with other ticks
    /// than before, or one that comes back, has missed none: its ticks count from now on. So do those of one that a clock has
    /// dealt with which was ahead by more than an hour.
    #[must_use]
    pub fn served(&self, entry: &ScheduleEntry, ticks: &Ticks, now: Timestamp) -> Schedule {
        let mut served = self.clone();
        let is_ahead = self.done > now.after(AHEAD_MAX);
        if self.clock != clock(entry) || self.removed.is_some() || is_ahead {
            let next = ticks.after(now);
            served = Schedule { clock: clock(entry), done: now, next, removed: None, ..served };
        }
        match &self.pause {
            // A tick at the very end brings its job.
            Some(Pause { until: Some(until), .. }) if *until <= now => {
                served.resumed(ticks, until.before(Duration::from_millis(1)))
            }
            Some(pause) => served.paused(pause.clone()),
            None => served,
        }
    }

    /// Returns the state of a schedule that is not served any more; nothing where that is so long ago that it is forgotten.
    #[must_use]
    pub fn removed(&self, now: Timestamp) -> Option<Schedule> {
        let since = self.removed.unwrap_or(now);
        let until = since.after(REMOVED_KEPT);
        (now < until).then(|| Schedule { removed: Some(since), next: Some(until), ..self.clone() })
    }

    /// Returns the ticks whose jobs are to be enqueued now, oldest first and at most `room` of them, with the state after
    /// that. A tick is dealt with once, in whatever state the server was: where its job is in one transaction with this.
    pub fn due(
        &self,
        entry: &ScheduleEntry,
        ticks: &Ticks,
        room: usize,
        now: Timestamp,
    ) -> (Vec<Tick>, Schedule) {
        if self.pause.is_some() || self.removed.is_some() {
            return (Vec::new(), self.clone());
        }
        let mut times = self.chosen(entry, ticks, now);
        let more = times.len() > room;
        times.truncate(room);
        let last = times.last().copied();
        let done = if more { last.unwrap_or(self.done) } else { self.done.max(now) };
        let due: Vec<Tick> = times.iter().map(|at| self.tick(entry, *at)).collect();
        let after = Schedule {
            done,
            next: if more { Some(now) } else { ticks.after(done) },
            last_job: due.last().map(|tick| tick.job).or(self.last_job),
            ..self.clone()
        };
        (due, after)
    }

    /// Returns the ticks since the last look that bring a job, oldest first.
    fn chosen(&self, entry: &ScheduleEntry, ticks: &Ticks, now: Timestamp) -> Vec<Timestamp> {
        let from = Timestamp::from_millis(self.done.as_millis() + 1);
        let on_time = now.before(LATE_MAX);
        let mut until = now;
        let mut chosen = Vec::new();
        let mut missed = 0;
        while let Some(tick) = ticks.last_until(until, from) {
            if tick < on_time {
                let wanted = match entry.missed {
                    Missed::Skip => false,
                    Missed::One => chosen.is_empty(),
                    Missed::All => missed < entry.missed_max,
                };
                if !wanted {
                    break;
                }
                missed += 1;
            }
            chosen.push(tick);
            until = tick.before(Duration::from_millis(1));
        }
        chosen.reverse();
        chosen
    }

    fn tick(&self, entry: &ScheduleEntry, at: Timestamp) -> Tick {
        Tick { at, job: tick_job(&self.name, at), due: at.after(jitter(&self.name, at, entry.jitter_ms)) }
    }

    /// Returns the next ticks after a time, with the jitter of their jobs, at most `limit`; none while it is paused until
    /// somebody resumes it.
    pub fn next_runs(&self, entry: &ScheduleEntry, ticks: &Ticks, limit: usize, now: Timestamp) -> Vec<Tick> {
        let done = match &self.pause {
            None => self.done,
            Some(Pause { until: Some(until), .. }) => until.before(Duration::from_millis(1)),
            Some(_) => return Vec::new(),
        };
        let first = ticks.after(done.max(now));
        let times = std::iter::successors(first, |tick| ticks.after(*tick));
        times.take(limit).map(|at| self.tick(entry, at)).collect()
    }

    /// Returns the state in a pause. One that is paused already is paused anew, with the newer reason and end.
    #[must_use]
    pub fn paused(&self, pause: Pause) -> Schedule {
        Schedule { next: pause.until, pause: Some(pause), ..self.clone() }
    }

    /// Returns the state after a pause: its ticks count from when that ended.
    #[must_use]
    pub fn resumed(&self, ticks: &Ticks, ended: Timestamp) -> Schedule {
        if self.pause.is_none() {
            return self.clone();
        }
        let done = self.done.max(ended);
        Schedule { pause: None, done, next: ticks.after(done), ..self.clone() }
    }
}

/// Returns the id of the job of a tick: always the same for the same tick of the same schedule. It has the form of a UUID of
/// version 7 (RFC 9562), which begins with its time, so that the job is listed among those of its time.
pub fn tick_job(schedule: &ScheduleName, tick: Timestamp) -> JobId {
    let hash = xxh3_128(&seed(schedule, tick, "job")).to_be_bytes();
    let mut bytes = hash;
    // A time before 1970 is nobody's tick.
    bytes[..6].copy_from_slice(&tick.as_millis().max(0).to_be_bytes()[2..]);
    bytes[6] = 0x70 | hash[6] & 0x0f;
    bytes[8] = 0x80 | hash[8] & 0x3f;
    JobId::from_bytes(bytes)
}

/// Returns how long after its tick a job is due: within the window, and always the same for the same tick.
fn jitter(schedule: &ScheduleName, tick: Timestamp, window_ms: u64) -> Duration {
    let hash = xxh3_64(&seed(schedule, tick, "jitter"));
    Duration::from_millis(hash.checked_rem(window_ms).unwrap_or(0))
}

fn seed(schedule: &ScheduleName, tick: Timestamp, purpose: &str) -> Vec<u8> {
    // No name has a slash.
    format!("{schedule}/{}/{purpose}", tick.as_millis()).into_bytes()
}

/// Returns a hash of what makes the ticks of a schedule.
fn clock(entry: &ScheduleEntry) -> u64 {
    // No name of a zone has a line break.
    xxh3_64(format!("{}\n{}", entry.zone, entry.cron).as_bytes())
}

#[cfg(test)]
mod tests;
