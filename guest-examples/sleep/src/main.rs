//! Sleeps for ever: it waits inside a call to the host, where no code of the guest runs that could be stopped.

use std::time::Duration;

/// A day.
const NAP: Duration = Duration::from_secs(24 * 60 * 60);

#[midge_job::main]
fn sleep() {
    loop {
        std::thread::sleep(NAP);
    }
}
