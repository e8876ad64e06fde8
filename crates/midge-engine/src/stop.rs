//! Why an attempt is stopped from outside.

/// Why an attempt is stopped from outside. It decides what the attempt is reported as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Its time limit is over: it fails as over time.
    OverTime,
    /// Somebody asked for the job to be cancelled: the attempt ends as cancelled.
    Cancelled,
    /// The Machine is told to stop: the attempt is given back unfinished, and is not spent.
    HandedBack,
}
