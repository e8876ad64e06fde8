//! Where something was measured, and with which versions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A computer, its system and what runs on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Computer {
    cpu: String,
    cores: usize,
    kernel: String,
    /// Processes that wanted to run, on average over the minute before.
    load: String,
    midge: String,
    wasmtime: String,
}

impl Computer {
    /// Returns this computer, with its load of now.
    pub(super) fn here() -> Computer {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
        let first = |text: String| text.split_whitespace().next().unwrap_or("unknown").to_owned();
        Computer {
            cpu: model.unwrap_or("unknown CPU").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: first(read("/proc/sys/kernel/osrelease")),
            load: first(read("/proc/loadavg")),
            midge: env!("CARGO_PKG_VERSION").to_owned(),
            wasmtime: midge_engine::WASMTIME_VERSION.to_owned(),
        }
    }
}

impl Computer {
    /// Returns the load: how many processes wanted to run, on average over the minute before.
    pub(super) fn load(&self) -> &str {
        &self.load
    }

    /// Returns the versions of midge and wasmtime, for people.
    pub(super) fn versions(&self) -> String {
        format!("midge {}, wasmtime {}", self.midge, self.wasmtime)
    }

    /// Returns what differs from a computer before, a line for each: CPU, cores or kernel. Load and versions of midge
    /// are left out: the one always differs, and the other is what a comparison is for.
    pub(super) fn differences(&self, before: &Computer) -> Vec<String> {
        let parts = [
            ("CPU", &before.cpu, &self.cpu),
            ("cores", &before.cores.to_string(), &self.cores.to_string()),
            ("Linux", &before.kernel, &self.kernel),
        ];
        let others = parts.into_iter().filter(|(_, before, now)| before != now);
        others.map(|(what, before, now)| format!("{what} was {before} and is {now}")).collect()
    }
}

impl fmt::Display for Computer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Computer { cpu, cores, kernel, load, midge, wasmtime } = self;
        write!(
            f,
            "{cpu}, {cores} cores, Linux {kernel}, load {load} before; midge {midge}, wasmtime {wasmtime}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_kernel_is_a_difference_and_another_load_is_none() {
        let here = Computer::here();
        assert_eq!(here.differences(&Computer { load: "99.0".to_owned(), ..here.clone() }), [""; 0]);
        let other = Computer { kernel: "2.6.32".to_owned(), ..here.clone() };
        assert_eq!(here.differences(&other), [format!("Linux was 2.6.32 and is {}", here.kernel)]);
    }
}
