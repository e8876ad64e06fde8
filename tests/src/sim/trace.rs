//! What a run did: a hash of all of it, the end of it in words, and counts.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use midge_protocol::Timestamp;

/// How many lines a violation shows.
const LINES_SHOWN: usize = 80;

/// The count of everything that happened.
pub(super) const STEPS: &str = "steps";

/// What happened, line by line.
#[derive(Default)]
pub(super) struct Trace {
    // `DefaultHasher::new` has fixed keys: the hash is the same in every process.
    hasher: DefaultHasher,
    lines: VecDeque<String>,
    counts: BTreeMap<&'static str, u64>,
}

impl Trace {
    /// Adds a line.
    pub(super) fn say(&mut self, now: Timestamp, line: fmt::Arguments<'_>) {
        let line = format!("{:>9.3} {line}", now.as_millis() as f64 / 1000.0);
        line.hash(&mut self.hasher);
        if self.lines.len() == LINES_SHOWN {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Counts something that a run should see at times.
    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Counts something that happened so many times at once.
    pub(super) fn count_many(&mut self, what: &'static str, times: usize) {
        if times > 0 {
            *self.counts.entry(what).or_default() += times as u64;
        }
    }

    pub(super) fn summary(self) -> Summary {
        Summary { trace_hash: self.hasher.finish(), counts: self.counts }
    }

    pub(super) fn violation(&self, seed: u64, broken: String) -> Violation {
        Violation { seed, broken, trace: self.lines.iter().cloned().collect() }
    }
}

/// What a run was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// A hash of everything that happened, in order.
    pub trace_hash: u64,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Summary {
    /// Returns how many things happened, one after the other.
    pub fn steps(&self) -> u64 {
        self.counts.get(STEPS).copied().unwrap_or(0)
    }
}

/// A rule that a run found broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The run's seed.
    pub seed: u64,
    /// What is broken.
    pub broken: String,
    /// What happened last.
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        write!(f, "seed {}: {}", self.seed, self.broken)
    }
}
