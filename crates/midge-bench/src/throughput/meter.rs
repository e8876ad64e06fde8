//! Time that passes, and what is used meanwhile.

use std::time::Instant;

use anyhow::Result;

use super::Figures;
use crate::processes::Used;

/// Measures the time and the CPU time that pass, and the bytes that are written, from when it is made.
pub(super) struct Meter {
    began: Instant,
    used: Used,
}

impl Meter {
    /// Begins to measure.
    pub(super) fn begin() -> Result<Meter> {
        Ok(Meter { used: Used::so_far()?, began: Instant::now() })
    }

    /// Ends the measurement, and returns it as a row: `jobs` of the kind `what` were done meanwhile.
    pub(super) fn end(self, what: String, jobs: u64) -> Result<Figures> {
        Ok(self.reading()?.figures(what, jobs))
    }

    /// Ends the measurement, and returns what has passed.
    pub(super) fn reading(self) -> Result<Reading> {
        let seconds = self.began.elapsed().as_secs_f64();
        let used = Used::so_far()?.since(self.used);
        Ok(Reading { seconds, cpu_us: used.cpu.as_secs_f64() * 1e6, written_bytes: used.written as f64 })
    }
}

/// What a meter has measured. The readings of several stretches of time can be added up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reading {
    pub(super) seconds: f64,
    pub(super) cpu_us: f64,
    pub(super) written_bytes: f64,
}

impl std::ops::AddAssign for Reading {
    fn add_assign(&mut self, more: Reading) {
        self.seconds += more.seconds;
        self.cpu_us += more.cpu_us;
        self.written_bytes += more.written_bytes;
    }
}

impl Reading {
    /// Returns the row of so many jobs that were done meanwhile.
    pub(super) fn figures(self, what: String, jobs: u64) -> Figures {
        let each = jobs.max(1) as f64;
        Figures {
            what,
            jobs,
            a_second: jobs as f64 / self.seconds,
            ratio: None,
            cpu_us_each: self.cpu_us / each,
            written_bytes_each: self.written_bytes / each,
        }
    }
}

/// How many jobs were enqueued or run, and what that took. Several can be added up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) reading: Reading,
    pub(super) jobs: u64,
}

impl std::ops::AddAssign for Seen {
    fn add_assign(&mut self, more: Seen) {
        self.reading += more.reading;
        self.jobs += more.jobs;
    }
}

impl Seen {
    /// Returns how many that were a second.
    pub(super) fn a_second(self) -> f64 {
        self.jobs as f64 / self.reading.seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_add_up_to_one_rate() {
        let mut sum = Reading::default();
        sum += Reading { seconds: 0.5, cpu_us: 100.0, written_bytes: 4096.0 };
        sum += Reading { seconds: 1.5, cpu_us: 300.0, written_bytes: 0.0 };
        let figures = sum.figures("it".to_owned(), 4);
        assert_eq!([figures.a_second, figures.cpu_us_each, figures.written_bytes_each], [2.0, 100.0, 1024.0]);
    }
}
