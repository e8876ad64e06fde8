//! What may happen to a job or a Machine, and what to do next.
//!
//! Invariant: pure. No clock, no randomness, no environment, no files, no async: time, jitter and the world are
//! arguments, so that the whole system can run under a seed. Three functions hold every rule: [`Job::apply`],
//! [`admit`] and [`plan`].

mod admit;
mod backoff;
mod job;
mod machine;
mod plan;

pub use admit::{Claim, admit, may_leave};
pub use backoff::backoff;
pub use job::{AttemptEnd, Change, Ending, Event, Job, JobState, NewJob, Phase, Refused};
pub use machine::{Exit, Machine, MachineEvent, MachineRefused, MachineState, Sight};
pub use plan::{Action, QueueDemand, View, plan};
