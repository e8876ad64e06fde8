//! Why an attempt is stopped from outside.

/// Why an attempt is stopped from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Its time limit is over.
    OverTime,
    /// Somebody asked for the job to be cancelled.
    Cancelled,
    /// The Machine is told to stop: the attempt is given back.
    HandedBack,
}
