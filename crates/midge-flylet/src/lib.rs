//! The Machines API on a laptop: a server on a loopback port whose Machines are child processes.
//!
//! It speaks as much of Fly's API as midge needs, with Fly's states, events and error bodies, so that the client
//! for Fly is the client for it.
//!
//! Invariant: no program outlives its flylet. Dropping or shutting it down kills them with their process groups; where
//! flylet itself is killed, the leash does it: each program's stdin is a pipe whose other end only flylet holds, and a host
//! leaves when it reads the end. Nothing is kept on disk, so a flylet that starts knows no Machine. CPUs, memory and image of a
//! Machine are kept and shown, not enforced. What goes wrong is asked for: without [`Faults`], limits and latencies it is
//! as quick and as kind as can be.

mod settings;

mod flylet;

mod api;
mod call;
mod gate;
mod refusal;

mod faults;
mod latency;
mod lease;
mod limits;
mod regions;
mod sizes;

mod fleet;
mod machine;
mod order;

mod log;
mod memory;
mod process;
mod supervise;

mod chance;
mod draws;
mod halt;
mod image_ref;

pub use faults::{FAULT_HEADER, Fault, Faults};
pub use flylet::{Flylet, FlyletError};
pub use latency::{CREATE_MS, Latency, RESUME_MS, START_MS};
pub use regions::Region;
pub use settings::FlyletSettings;
