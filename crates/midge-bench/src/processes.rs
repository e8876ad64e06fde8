//! What processes use, as the kernel counts it.

use std::time::Duration;

use anyhow::{Context, Result};

/// Linux counts the CPU time of a process in these for programs, whatever its own tick is.
const TICKS_PER_SECOND: u64 = 100;

/// Returns how many bytes of memory a process has resident. Fails where it is gone.
pub(super) fn resident_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.with_context(|| format!("process {pid} is gone"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("the kernel does not say what process {pid} holds"))? * 1024)
}

/// Returns the processes that a process started and that still run.
pub(super) fn children(parent: u32) -> Result<Vec<u32>> {
    let entries = std::fs::read_dir("/proc").context("cannot read /proc")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    Ok(pids.filter(|pid| stat(*pid, 1).next() == Some(parent.into())).collect())
}

/// What a process and those that it started have used so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    /// CPU time, with that of running children.
    pub(super) cpu: Duration,
    /// Bytes that the process itself, without its children, sent to a disk.
    pub(super) written: u64,
}

impl Used {
    /// Returns what this process has used so far.
    pub(super) fn so_far() -> Result<Used> {
        let ours = std::process::id();
        let ticks: u64 = children(ours)?.into_iter().chain([ours]).map(cpu_ticks).sum();
        let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok());
        Ok(Used {
            cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND),
            written: written.unwrap_or(0),
        })
    }

    /// Returns what was used since an earlier reading.
    pub(super) fn since(self, earlier: Used) -> Used {
        Used {
            // A child that has ended meanwhile is no longer counted.
            cpu: self.cpu.saturating_sub(earlier.cpu),
            written: self.written.saturating_sub(earlier.written),
        }
    }
}

fn cpu_ticks(pid: u32) -> u64 {
    // User and system time.
    stat(pid, 11).take(2).sum()
}

/// Returns the numbers in a process's `stat` from a field on, counted from its state, which is field 0.
fn stat(pid: u32, field: usize) -> impl Iterator<Item = u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which may hold spaces.
    let fields = stat.rsplit(") ").next().unwrap_or_default().to_owned();
    let numbers: Vec<u64> = fields.split(' ').skip(field).map_while(|field| field.parse().ok()).collect();
    numbers.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_found_and_its_memory_read() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = children(std::process::id()).unwrap();
        let resident = resident_bytes(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&child.id()), "{found:?}");
        assert!(resident.unwrap() > 0);
    }
}
