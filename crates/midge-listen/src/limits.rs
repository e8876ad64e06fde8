//! The bounds on connections, derived from how many files the process may open.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// The most connections of a server, whatever the system would allow. Each costs some 30 KB while it is answered.
const CONNECTIONS_MAX: usize = 16_384;
/// The most connections of strangers: with the largest head that is read they hold 64 MiB together.
const STRANGERS_MAX: usize = 1_024;
/// The most connections of one host. A host has two requests under way at most; as many again may have been lost on their
/// way without the server having heard of it.
const OF_A_HOST: usize = 4;
/// Open files that are taken for the number where the system has no limit.
const OPEN_FILES_MAX: u64 = 1 << 16;

/// How many connections there may be, of whom, and how long each may stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// The most connections at once.
    pub connections: usize,
    /// The most connections of callers, those that have shown that they may use the API. The rest is kept for hosts.
    pub callers: usize,
    /// The most connections of hosts, those that have shown that they are of Machines. The rest is kept for callers.
    pub hosts: usize,
    /// The most connections of one host.
    pub of_a_host: usize,
    /// The most connections that have shown no right and are not being answered. The oldest gives way to a new one.
    pub strangers: usize,
    /// How long the head of a request may take to come; and how long a stranger may say nothing.
    pub head: Duration,
    /// How long a kept connection may be idle between two requests.
    pub idle: Duration,
    /// How long an answer may stand still that its receiver does not take.
    pub still: Duration,
    /// How long what a client still sends is thrown away after it was refused, so that it can read why.
    pub linger: Duration,
}

impl ConnectionLimits {
    /// Returns the limits for a process that may open so many files: half of them are for connections, the rest for
    /// the store, the Machines API and whatever else the process does.
    pub fn for_open_files(files: u64) -> ConnectionLimits {
        let files = usize::try_from(files.min(OPEN_FILES_MAX)).expect("it is small");
        ConnectionLimits::of((files / 2).clamp(4, CONNECTIONS_MAX))
    }

    /// Returns the limits for this process, from its limit on open files.
    pub fn of_this_process() -> ConnectionLimits {
        ConnectionLimits::for_open_files(getrlimit(Resource::Nofile).current.unwrap_or(OPEN_FILES_MAX))
    }

    /// Returns limits for so many connections: half at most are callers', three quarters hosts', a quarter strangers'.
    pub fn of(connections: usize) -> ConnectionLimits {
        ConnectionLimits {
            connections,
            callers: (connections / 2).max(1),
            hosts: connections - connections / 4,
            of_a_host: OF_A_HOST,
            strangers: (connections / 4).clamp(1, STRANGERS_MAX),
            head: Duration::from_secs(10),
            // Longer than programs keep theirs (reqwest 90 s): then it is they who close, and none sends into a close.
            idle: Duration::from_secs(120),
            still: Duration::from_secs(30),
            linger: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_open_files_are_connections_and_each_kind_has_its_share() {
        for (files, connections, callers, hosts, strangers) in [
            (64, 32, 16, 24, 8),
            (1_024, 512, 256, 384, 128),
            (64_000, 16_384, 8_192, 12_288, 1_024),
            (0, 4, 2, 3, 1),
        ] {
            let limits = ConnectionLimits::for_open_files(files);
            let shares = (limits.connections, limits.callers, limits.hosts, limits.strangers);
            assert_eq!(shares, (connections, callers, hosts, strangers), "{files}");
        }
        assert_eq!(ConnectionLimits::for_open_files(u64::MAX).connections, CONNECTIONS_MAX);
    }

    #[test]
    fn each_machine_that_a_server_may_have_has_room_for_both_its_requests() {
        let hosts = ConnectionLimits::for_open_files(u64::MAX).hosts;
        assert!(hosts >= 2 * midge_protocol::limits::SERVER_MACHINES_MAX as usize, "{hosts}");
    }

    #[test]
    fn hosts_and_callers_have_a_share_that_no_others_can_take() {
        for files in 8..10_000 {
            let limits = ConnectionLimits::for_open_files(files);
            assert!(limits.callers + limits.strangers < limits.connections, "{files}: {limits:?}");
            // A stranger's gives way to a caller's, which begins as one.
            assert!(limits.hosts < limits.connections, "{files}: {limits:?}");
        }
    }
}
