//! The program that has the network, as a host starts it: its stdin is the socket by which lines come.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::Context;
use midge_net::{World, serve};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Threads that look names up, which is all that blocks: several modules whose names nobody answers for leave some to others.
const LOOKUP_THREADS_MAX: usize = 64;
/// The stack of such a thread: the C library's resolver wants a part of it.
const LOOKUP_STACK_BYTES: usize = 256 * 1024;

/// Said where somebody starts it by hand.
const NO_SOCKET: &str = "stdin is no socket: this program is started by midge-host";

fn main() {
    // Not by returning: a name that is being looked up must not keep the program.
    std::process::exit(match run() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("midge-net: {error:#}");
            1
        }
    });
}

fn run() -> anyhow::Result<()> {
    raise_open_files();
    let control = std::io::stdin().as_fd().try_clone_to_owned().context("there is no stdin")?;
    let control = UnixStream::from(control);
    control.set_nonblocking(true).context(NO_SOCKET)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(LOOKUP_THREADS_MAX)
        .thread_stack_size(LOOKUP_STACK_BYTES)
        .build()
        .context("cannot start")?;
    let served = runtime.block_on(async {
        let control = tokio::net::UnixStream::from_std(control).context(NO_SOCKET)?;
        let certificates =
            std::env::var_os("SSL_CERT_FILE").filter(|file| !file.is_empty()).map(PathBuf::from);
        serve(control, World::of_the_system(certificates)).await.context("cannot serve")
    });
    runtime.shutdown_background();
    served
}

/// Raises how many descriptors may be open to what the system allows at most: each line and each connection is one.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where it may not, requests that would need more fail for want of descriptors, each with that in its message.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
