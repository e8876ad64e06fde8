//! What a Machine lacks is not the job's fault: it is given back unspent with a word, and the host leaves.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use midge_protocol::exchange::Outcome;
use midge_protocol::job::{AttemptLimits, Cause};
use midge_protocol::limits::OPEN_FILES_MAX;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use crate::server::{Host, Server};

/// Starts a host that waits, takes something from it, and gives it a job that it cannot run without. Returns what it says.
fn without(take: impl FnOnce(Pid), module: &str) -> (String, String) {
    let server = Server::start();
    let mut host = server.host(&["--wait", "forever"]);
    server.until("it waits", |seen| seen.requests.last().map(drop));
    take(host.pid());
    let job = server.enqueue(module, "null");
    let lacks = server.until("it is given back", |seen| seen.lacks.first().cloned());
    let (code, log) = server.until_exit(&mut host);
    server.set(|seen| {
        assert!(seen.left && seen.finished.is_empty(), "{log}");
        assert_eq!(seen.handed_back, [job]);
    });
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains(&format!("job {} attempt 1: given back", job.job)), "{log}");
    assert!(log.contains(&lacks) && log.contains("leaves"), "{log}");
    (lacks, log)
}

fn limit(pid: Pid, resource: Resource, limit: u64) {
    let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
    prlimit(Some(pid), resource, limit).unwrap();
}

/// The number that the next file of a process would get.
fn next_descriptor(pid: Pid) -> u64 {
    let folder = format!("/proc/{}/fd", pid.as_raw_nonzero());
    let taken: Vec<u64> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    (0..).find(|number| !taken.contains(number)).unwrap()
}

/// The address space of a process, in bytes.
fn address_space(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_host_may_open_what_all_its_places_may_need_as_far_as_the_system_lets_it() {
    let server = Server::start();
    let host = server.host_after("ulimit -S -n 64", &["--wait", "forever", "--places", "4"]);
    server.until("it waits", |seen| seen.requests.last().map(drop));
    let hard = getrlimit(Resource::Nofile).maximum;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", host.pid().as_raw_nonzero())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft: u64 = line.split_whitespace().nth(3).unwrap().parse().unwrap();
    let needed = 4 * OPEN_FILES_MAX as u64;
    assert!(soft > needed.min(hard.unwrap_or(u64::MAX) - 1) && soft < 2 * needed, "{soft}");
}

#[test]
fn a_guest_that_reaches_a_limit_of_files_does_not_take_its_host_down() {
    let server = Server::start();
    let host = server.host(&["--wait", "forever"]);
    server.until("it waits", |seen| seen.requests.last().map(drop));
    // What the system sends where a write would exceed the limit.
    kill_process(host.pid(), Signal::XFSZ).unwrap();
    let job = server.enqueue("cat", "null");
    server.until("it goes on", |seen| seen.finished.iter().find(|done| done.attempt == job).map(drop));
}

#[test]
fn a_job_whose_module_cannot_be_read_for_want_of_descriptors_is_given_back() {
    let (lacks, _) = without(|pid| limit(pid, Resource::Nofile, next_descriptor(pid)), "cat");
    assert!(lacks.contains("file descriptors") && lacks.contains("read"), "{lacks}");
    assert!(!lacks.contains("midge build"), "{lacks}");
}

#[test]
fn a_job_whose_memory_cannot_be_had_is_given_back() {
    // Room for the module and a thread, and none for the 4 GiB of addresses that a guest's memory takes.
    let room = 256 << 20;
    let (lacks, _) = without(|pid| limit(pid, Resource::As, address_space(pid) + room), "cat");
    assert!(lacks.contains("address space"), "{lacks}");
    assert!(!lacks.contains("midge build"), "{lacks}");
}

#[test]
fn attempts_that_meet_a_pipe_leave_no_thread_behind() {
    let server = Server::start();
    let pipe = server.folder.path().join("data/a");
    std::fs::remove_file(&pipe).unwrap();
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let host = server.host(&["--wait", "forever"]);
    let threads = || {
        let folder = format!("/proc/{}/task", host.pid().as_raw_nonzero());
        std::fs::read_dir(folder).unwrap().count()
    };
    let mut after_each = Vec::new();
    for _ in 0..20 {
        let opens = server.enqueue("open", "null");
        let end = server.until("it is told that it is none of its business", |seen| seen.end(opens));
        assert!(matches!(&end, Outcome::Failed(failure) if failure.cause == Cause::Trap), "{end:?}");
        let good = server.enqueue("cat", "null");
        server.until("a neighbour completes", |seen| seen.end(good));
        after_each.push(threads());
    }
    assert_eq!(after_each[1], after_each[19], "{after_each:?}");
}

#[test]
fn a_job_whose_folder_or_file_cannot_be_opened_for_want_of_descriptors_is_given_back() {
    // The manifest and the module are opened one after the other: one number is enough for them, and for the folder. The
    // file in it is what there is none for.
    for (room, word) in [(1, "file descriptors"), (0, "file descriptors")] {
        let (lacks, _) = without(|pid| limit(pid, Resource::Nofile, next_descriptor(pid) + room), "open");
        assert!(lacks.contains(word), "{lacks}");
    }
}

/// Whether this user may mount something where nobody else sees it. Where not, a broken disk of the engine's tests has to do.
fn can_mount() -> bool {
    let mut try_it = Command::new("unshare");
    try_it.args(["--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
    try_it.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[test]
fn a_job_whose_folder_is_on_a_full_disk_is_given_back() {
    if !can_mount() {
        eprintln!("not tried: no mount namespace can be made here (unshare)");
        return;
    }
    // No room for another file; and room for one, and not for what is in it.
    for options in ["nr_inodes=1", "size=64k"] {
        let server = Server::start();
        let mount = format!("mount -t tmpfs -o {options} tmpfs \"$DATA\"");
        let mut host = server.host_with_mounts(&mount, &["--wait", "forever"]);
        let job = server.enqueue("keep", "null");
        let lacks = server.until("it is given back", |seen| seen.lacks.first().cloned());
        assert!(lacks.contains("space on its disk"), "{lacks}");
        let (code, log) = server.until_exit(&mut host);
        assert_eq!(code, Some(0), "{log}");
        server.set(|seen| {
            assert_eq!(seen.handed_back, [job]);
            assert!(seen.left && seen.finished.is_empty(), "it is not spent: {log}");
        });
    }
}

/// A file that nobody else can open: who tries waits until this is dropped, or the system loses patience.
struct Held(#[allow(dead_code)] File);

impl Held {
    #[allow(unsafe_code)]
    fn new(path: &std::path::Path) -> Held {
        let file = File::options().read(true).write(true).open(path).unwrap();
        // SAFETY: plain numbers go to the system. Whoever holds such a file is told by a signal, which is not to end the test.
        let held = unsafe {
            libc::signal(libc::SIGIO, libc::SIG_IGN);
            libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK)
        };
        assert_eq!(held, 0, "{}", std::io::Error::last_os_error());
        Held(file)
    }
}

#[test]
fn a_host_whose_disk_does_not_answer_takes_nothing_more_and_leaves_and_no_neighbour_notices() {
    let server = Server::start();
    let held = Held::new(&server.folder.path().join("data/a"));
    let mut host: Host = server.host(&["--wait", "forever", "--places", "2"]);
    // Long enough for a guest on a busy machine to come to its open: one that is stopped before has left nothing behind.
    let limits = AttemptLimits { time_ms: 3_000, ..AttemptLimits::default() };
    let hangs = server.enqueue_with("open", "null", limits);
    let Outcome::Failed(failure) = server.until("it is over time", |seen| seen.end(hangs)) else { panic!() };
    assert_eq!(failure.cause, Cause::OverTime);
    // The other place is as good as before, and this one is not given away.
    for _ in 0..3 {
        let good = server.enqueue("cat", "null");
        server.until("a neighbour completes", |seen| seen.end(good));
    }
    server.set(|seen| {
        assert!(
            seen.requests
                .iter()
                .skip_while(|request| request.finished.is_empty())
                .all(|request| request.room <= 1)
        );
    });
    let (code, log) = server.until_exit(&mut host);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("lacks a disk that answers"), "{log}");
    server.set(|seen| assert!(seen.left && seen.handed_back.is_empty()));
    drop(held);
}
