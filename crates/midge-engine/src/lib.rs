//! The sandbox: the one wasmtime configuration, loading compiled modules, linking, limits, running an attempt.
//!
//! Invariant: no compiler, and no network but at the other end of a line. Code is
//! only ever mapped from a file that the manifest names and that passed every check.

mod config;
mod load;

mod lacks;
mod lines;
mod log;
mod over;
mod program;
mod stop;

mod shared;
mod stream;

mod recorder;
mod request_log;
mod world;

mod http;

mod guest;
mod imports;

mod attempt;
mod ending;
mod place;
mod replay;
pub mod start;

pub use attempt::{Attempt, Dir};
pub use config::{ABI_VERSION, Cpu, TARGET, WASMTIME_VERSION, config, config_hash};
pub use imports::{Import, Unfit, imports};
pub use lines::Lines;
pub use load::{LoadError, Loaded, Modules};
pub use place::{Here, Place, RunningAttempt};
pub use replay::{Difference, Judge, Replay};
pub use shared::Control;
pub use stop::Stop;
pub use world::World;
