//! Whether the kernel has ended processes because memory had run out, as the cgroup counts them.

use std::fs;
use std::path::{Path, PathBuf};

/// The count of flylet's own cgroup, which its Machines are in too.
#[derive(Debug)]
pub(crate) struct KillCount {
    events: Option<PathBuf>,
}

impl KillCount {
    /// Finds the cgroup. Where there is none of version 2, nothing is counted.
    pub(crate) fn of_this_process() -> KillCount {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        KillCount { events: events_file(&own).filter(|path| path.is_file()) }
    }

    /// Returns how many processes the kernel has ended so far.
    pub(crate) fn now(&self) -> u64 {
        let text = self.events.as_ref().and_then(|path| fs::read_to_string(path).ok());
        text.map_or(0, |text| killed(&text))
    }
}

fn events_file(own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new("/sys/fs/cgroup").join(path).join("memory.events"))
}

fn killed(events: &str) -> u64 {
    let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_files_are_read() {
        let file = events_file("1:name=systemd:/x\n0::/user.slice/a.scope\n").unwrap();
        assert_eq!(file, Path::new("/sys/fs/cgroup/user.slice/a.scope/memory.events"));
        assert_eq!(events_file("4:memory:/a\n"), None);
        assert_eq!(killed("low 0\nhigh 3\noom 2\noom_kill 4\noom_group_kill 1\n"), 4);
        assert_eq!(killed(""), 0);
    }
}
