//! What end-to-end tests stand on: real programs built once, started as processes, asked over HTTP, and killed.
//!
//! Invariant: nothing here waits for a time to pass. It waits for a condition, and gives up at a deadline.

mod built;
mod files;
mod guests;
mod http;
mod kill;
mod modules;
mod process;
mod server;
mod site;
mod start;
mod usage;
mod wait;

pub use built::{
    app_program, cargo, checkout, guest_toolchain, guests_target, host_program, midge, midge_program,
};
pub use files::Files;
pub use guests::{FOUR, Guest};
pub use http::{Reply, StubServer, http};
pub use kill::{Chaos, Kills, hosts_of, kill, signal_host};
pub use modules::Modules;
pub use process::{Process, Ran, run, run_unread};
pub use rustix::process::Signal;
pub use server::{Flylet, Server, block_on, free_port, request, serve};
pub use site::{Asked, Site, say};
pub use start::{Ballast, Calls, Start, crates_linked, strace_missing, valgrind_missing};
pub use usage::{descendants, main_thread_page_faults, resident_bytes, waits};
pub use wait::{DEADLINE, eventually, eventually_within};
