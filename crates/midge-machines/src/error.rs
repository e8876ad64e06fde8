//! What can go wrong with a call to the Machines API, by what the caller does next.

use std::time::Duration;

use midge_protocol::{MachineId, MachineName};

/// An error of any kind, as the source of another.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a call to the Machines API did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// There is no room for it. To start: use another Machine. To create: wait, or use another region.
    #[error("no capacity for the Machine: {0}")]
    NoCapacity(String),
    /// The organization may have no more Machines. Stop growing, keep queueing, tell a person.
    #[error("the limit of Machines is reached: {0}")]
    LimitReached(String),
    /// Too many calls. Wait as long as said; a second or so, and not all at once, where it is not.
    #[error("the Machines API asks for fewer calls")]
    RateLimited {
        /// How long to wait, where the API said so.
        retry_after: Option<Duration>,
    },
    /// The token is not good for this app, or there is no such app. Stop, and tell a person.
    #[error("the Machines API denies access: {0}")]
    Denied(String),
    /// There is no such app, or the token is not good for it: the API says the same of both. Stop, and tell a person.
    #[error("the Machines API denies access: {0}")]
    NoApp(String),
    /// There is no such Machine. Its jobs go back to the queue.
    #[error("Machine {0} is gone")]
    Gone(MachineId),
    /// Not now, but soon: the Machine is on its way to another state. Ask again within seconds.
    #[error("the Machine is not ready: {0}")]
    NotReady(String),
    /// Somebody else holds or changes the Machine. Look at it again, or use another.
    #[error("the Machine is in somebody else's hands: {0}")]
    Conflict(String),
    /// The Machine may have been made or not. Create it again, under the same name.
    #[error("cannot tell whether Machine {name} was made: repeat the create under the same name")]
    Ambiguous {
        /// The name that was to be created.
        name: MachineName,
        /// What happened to the call.
        #[source]
        source: BoxError,
    },
    /// What was asked for cannot be: our own mistake. Repeating it does not help.
    #[error("the Machines API refuses the request: {0}")]
    Invalid(String),
    /// The API cannot be reached, or fails. Back off and ask again.
    #[error("the Machines API is unavailable")]
    Unavailable(#[source] BoxError),
}
