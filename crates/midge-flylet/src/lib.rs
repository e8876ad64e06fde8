//! The Machines API on a laptop: a server on a loopback port whose Machines are child processes.
//!
//! It speaks as much of Fly's API as midge needs, with Fly's states, events and error bodies, so that the client
//! for Fly is the client for it.
//!
//! Invariant: no process outlives its flylet. Dropping or shutting it down kills them; where flylet itself is
//! killed, the leash does it: each program's stdin is a pipe whose other end only flylet holds, and a host leaves
//! when it reads the end. Nothing is kept on disk, so a flylet that starts knows no Machine. CPUs, memory, image and
//! region of a Machine are kept and shown, not enforced.

mod settings;

mod flylet;

mod api;
mod refusal;

mod fleet;
mod machine;
mod order;

mod log;
mod process;
mod supervise;

mod chance;
mod halt;
mod image_ref;

pub use flylet::{Flylet, FlyletError};
pub use settings::FlyletSettings;
