//! Makes compiled modules and their manifest from `midge.toml`: finds a guest toolchain, runs cargo, checks what a
//! module imports and exports, compiles it ahead of time, and loads it back before it says that it is done. The way to
//! fetch Debian's packages, which that may take, also fetches a kernel for virtual machines.
//!
//! Invariant: the only crate with Cranelift. It draws nothing, prints nothing and does not read its process's
//! environment. Everything blocks.

mod project;

mod build;

mod cargo;
mod debian;
mod toolchain;

mod check;
mod compile;
mod output;

mod host;

mod environment;
mod process;
mod progress;

pub use build::{BuildError, Built, Options, build, has_toolchain};
pub use cargo::CargoError;
pub use check::{MissingImport, WasmError};
pub use compile::compile;
pub use debian::{DebianError, find_kernel};
pub use environment::Environment;
pub use host::{HostError, build_host, build_net};
pub use output::{Difference, OutputError, VerifyError, verify};
pub use process::write_program;
pub use progress::{Event, OnEvent};
pub use project::{ConfigError, ModuleSource, PROJECT_FILE, Project, ProjectModule};
pub use toolchain::{GUEST_TARGET, Origin, Toolchain, ToolchainError, Wanted, find as find_toolchain};
