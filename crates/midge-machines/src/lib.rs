//! Machines, behind one trait, and the client for Fly's REST API, which flylet speaks too.
//!
//! Calls are spaced by the API's published limits ([`pace`]).
//!
//! Invariant: nothing here decides whether a Machine should be, retries a call or reads the environment, and
//! nothing here knows a store. What the API answered becomes a [`Seen`] or a [`MachineError`]; the dispatcher
//! judges it.

mod classify;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod fly;
mod machine;
pub mod own;
pub mod pace;
mod probe;
pub mod regions;
mod turns;
pub mod wire;

use std::time::Duration;

use async_trait::async_trait;
use midge_protocol::MachineId;

pub use error::{BoxError, MachineError};
pub use fly::{FlyMachines, FlySettings};
pub use machine::{Label, Launch, MachineSpec, Seen, SeenExit, SeenState};
pub use probe::Probe;

/// Makes, moves and looks at the Machines of one app.
#[async_trait]
pub trait Machines: Send + Sync {
    /// Makes a Machine and returns its id. One of that name that is already there is adopted.
    ///
    /// # Errors
    /// [`MachineError::Ambiguous`] where the Machine may or may not have been made: the same call, repeated
    /// later, finds out, because the name is unique.
    async fn create(&self, spec: &MachineSpec, launch: Launch) -> Result<MachineId, MachineError>;

    /// Starts a stopped or suspended Machine. One that runs already is no error.
    async fn start(&self, id: &MachineId) -> Result<(), MachineError>;

    /// Asks a Machine's program to stop, with SIGTERM, and ends it where it has not after
    /// [`wire::STOP_TIMEOUT`]. Answers when the API has accepted that, not when it has happened.
    async fn stop(&self, id: &MachineId) -> Result<(), MachineError>;

    /// Asks that a Machine's memory is written away and its program stands still until the next start, which goes on
    /// with it. One that is suspended already is no error. Answers when the API has accepted that.
    ///
    /// # Errors
    /// [`MachineError::Invalid`] where the Machine cannot be suspended, as with memory above
    /// [`wire::SUSPEND_MEMORY_MIB_MAX`] or with swap; [`MachineError::NotReady`] where it does not run.
    async fn suspend(&self, id: &MachineId) -> Result<(), MachineError>;

    /// Destroys a Machine, whatever it does. One that is gone already is no error.
    async fn destroy(&self, id: &MachineId) -> Result<(), MachineError>;

    /// Returns what a Machine does now.
    ///
    /// # Errors
    /// [`MachineError::Gone`] where there is none. Fly may say so of a Machine that was made a moment ago.
    async fn get(&self, id: &MachineId) -> Result<Seen, MachineError>;

    /// Returns every Machine that carries a label and is not destroyed, in no order. A Machine made a moment ago
    /// may be missing, and one that is not [`Seen::reachable`] too, since its labels may not be known.
    async fn list(&self, label: &Label) -> Result<Vec<Seen>, MachineError>;

    /// Waits until a Machine is in a state: started, stopped, suspended, destroyed or failed.
    ///
    /// # Errors
    /// [`MachineError::NotReady`] where it is not after `timeout`; [`MachineError::Gone`] where it was destroyed
    /// instead.
    async fn wait(&self, id: &MachineId, state: SeenState, timeout: Duration) -> Result<(), MachineError>;
}
