//! CPUs and memory of a Machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::shown;

/// CPUs and memory of a Machine, in Fly's words. `midge build` refuses sizes that Fly does not sell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineSize {
    /// The kind of CPU: `shared` or `performance`.
    pub cpu_kind: String,
    /// The number of CPUs: 1 or an even number, at most 8 `shared` and 16 `performance` ones.
    pub cpus: u32,
    /// The memory in MiB, in steps of 256.
    pub memory_mib: u32,
}

impl Default for MachineSize {
    fn default() -> MachineSize {
        // The smallest whose memory holds two places at the default memory limit, and the host.
        MachineSize { cpu_kind: "shared".to_owned(), cpus: 1, memory_mib: 1024 }
    }
}

impl fmt::Display for MachineSize {
    /// Writes the size's name: Fly's, and the memory in MiB, such as `shared-cpu-1x:1024`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-cpu-{}x:{}", self.cpu_kind, self.cpus, self.memory_mib)
    }
}

impl FromStr for MachineSize {
    type Err = String;

    fn from_str(text: &str) -> Result<MachineSize, String> {
        let read = || {
            let (cpus, memory_mib) = text.rsplit_once(':')?;
            let (cpu_kind, cpus) = cpus.rsplit_once("-cpu-")?;
            let (cpus, memory_mib) = (cpus.strip_suffix('x')?.parse().ok()?, memory_mib.parse().ok()?);
            Some(MachineSize { cpu_kind: cpu_kind.to_owned(), cpus, memory_mib })
        };
        // One size has one name: two of them would have two prices.
        read()
            .filter(|size| size.to_string() == text)
            .ok_or_else(|| format!("`{}` is not a size such as `shared-cpu-1x:1024`", shown::cut(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_reads_as_it_is_written() {
        let size = MachineSize { cpu_kind: "performance".to_owned(), cpus: u32::MAX, memory_mib: 0 };
        for (size, text) in
            [(MachineSize::default(), "shared-cpu-1x:1024"), (size, "performance-cpu-4294967295x:0")]
        {
            assert_eq!(size.to_string(), text);
            assert_eq!(text.parse(), Ok(size));
        }
        for wrong in ["", "shared-cpu-1x", "shared-cpu-1:256", "shared-1x:256", "shared-cpu--1x:256"]
            .into_iter()
            .chain(["shared-cpu-01x:256", "shared-cpu-1x:+256"])
        {
            assert!(wrong.parse::<MachineSize>().is_err(), "{wrong}");
        }
    }
}
