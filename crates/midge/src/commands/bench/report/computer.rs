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
    /// Returns this one; the load is that of now.
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

impl fmt::Display for Computer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Computer { cpu, cores, kernel, load, midge, wasmtime } = self;
        write!(
            f,
            "{cpu}, {cores} cores, Linux {kernel}, load {load} before; midge {midge}, wasmtime {wasmtime}"
        )
    }
}
