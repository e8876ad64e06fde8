//! What processes use, from `/proc`.

use std::collections::BTreeMap;
use std::fs;

/// Returns how much memory of a process is resident, in bytes.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a live process has a VmRSS");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("VmRSS is in kB");
    kib * 1024
}

/// Returns how often each thread of a process has begun to wait for something, by the thread's id: what a process
/// does, however fast the machine is and whoever else works on it.
pub fn waits(pid: u32) -> BTreeMap<u32, u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    threads
        .filter_map(|thread| {
            let thread = thread.ok()?;
            // A thread may be gone by now.
            let status = fs::read_to_string(thread.path().join("status")).ok()?;
            let waits = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            Some((thread.file_name().to_str()?.parse().ok()?, waits.trim().parse().ok()?))
        })
        .collect()
}

/// Returns the page faults of a process's main thread, those included that needed a disk.
pub fn main_thread_page_faults(pid: u32) -> u64 {
    let fields = fields(&format!("/proc/{pid}/task/{pid}/stat")).expect("the process lives");
    // The 10th and 12th field of proc(5); two are before `fields`.
    [7, 9].map(|field: usize| fields[field].parse::<u64>().unwrap()).iter().sum()
}

/// Returns the ids of a process's children, theirs, and so on, that have a program of this name.
pub fn descendants(pid: u32, program: &str) -> Vec<u32> {
    let all =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let all: Vec<u32> = all.collect();
    let parents: Vec<(u32, u32)> =
        all.iter().filter_map(|&pid| Some((pid, stat(pid)?[1].parse().ok()?))).collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.remove(0);
    let name =
        |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == program);
    found.into_iter().filter(name).collect()
}

/// Returns the fields of `/proc/PID/stat` behind the program's name; nothing where there is no such process.
fn stat(pid: u32) -> Option<Vec<String>> {
    fields(&format!("/proc/{pid}/stat"))
}

fn fields(path: &str) -> Option<Vec<String>> {
    let stat = fs::read_to_string(path).ok()?;
    // The name is in parentheses and may hold some itself.
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}
