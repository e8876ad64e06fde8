//! CPUs and memory of a Machine: what Fly sells, and how it is written.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{limits, shown};

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

/// The sizes that Fly sells of one kind of CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sold {
    /// The kind of CPU.
    pub cpu_kind: &'static str,
    /// The numbers of CPUs.
    pub cpus: &'static [u32],
    /// The least memory for each CPU, in MiB.
    pub memory_mib_min: u32,
    /// The most memory for each CPU, in MiB.
    pub memory_mib_max: u32,
}

/// What Fly sells, from the sizes of its documentation. Memory is in steps of [`limits::MACHINE_MEMORY_STEP_MIB`].
pub const SIZES: [Sold; 2] = [
    Sold { cpu_kind: "shared", cpus: &[1, 2, 4, 6, 8], memory_mib_min: 256, memory_mib_max: 2048 },
    Sold {
        cpu_kind: "performance",
        cpus: &[1, 2, 4, 6, 8, 10, 12, 14, 16],
        memory_mib_min: 2048,
        memory_mib_max: 8192,
    },
];

/// The error of a size that Fly does not sell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSize {
    /// There are no such CPUs.
    #[error("there are no `{0}` CPUs: use `shared` or `performance`")]
    Kind(String),
    /// There are not so many of them in one Machine.
    #[error("{cpus} {cpu_kind} CPUs are not sold: use one of {sold}")]
    Cpus {
        /// The kind of CPU.
        cpu_kind: String,
        /// The number that was asked for.
        cpus: u32,
        /// The numbers that there are, for people.
        sold: String,
    },
    /// There is not so much memory for so many CPUs.
    #[error(
        "{memory_mib} MiB with {cpus} {cpu_kind} CPUs are not sold: use {least} to {most}, in steps of {}",
        limits::MACHINE_MEMORY_STEP_MIB
    )]
    Memory {
        /// The kind of CPU.
        cpu_kind: String,
        /// The number of CPUs.
        cpus: u32,
        /// The memory that was asked for.
        memory_mib: u32,
        /// The least that there is for so many.
        least: u32,
        /// The most that there is for so many.
        most: u32,
    },
    /// The text is the name of no size.
    #[error(
        "`{0}` is not a size: use Fly's name of one, such as `shared-cpu-2x` or `performance-1x`, or one with its memory, such as `shared-cpu-1x:1024`"
    )]
    Name(String),
}

impl Sold {
    /// Returns the least and the most memory for so many CPUs, in MiB.
    pub fn memory(&self, cpus: u32) -> (u32, u32) {
        (self.memory_mib_min.saturating_mul(cpus), self.memory_mib_max.saturating_mul(cpus))
    }

    fn has(&self, cpus: u32, memory_mib: u32) -> bool {
        let (least, most) = self.memory(cpus);
        let in_steps = memory_mib.is_multiple_of(limits::MACHINE_MEMORY_STEP_MIB);
        self.cpus.contains(&cpus) && (least..=most).contains(&memory_mib) && in_steps
    }
}

impl MachineSize {
    /// Checks that Fly sells it.
    ///
    /// # Errors
    /// Says what of it there is not, and what there is instead.
    pub fn check(&self) -> Result<(), InvalidSize> {
        let MachineSize { cpu_kind, cpus, memory_mib } = self;
        let sold = SIZES.iter().find(|sold| sold.cpu_kind == cpu_kind);
        let sold = sold.ok_or_else(|| InvalidSize::Kind(shown::cut(cpu_kind)))?;
        if !sold.cpus.contains(cpus) {
            let numbers = sold.cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            return Err(InvalidSize::Cpus { cpu_kind: cpu_kind.clone(), cpus: *cpus, sold: numbers });
        }
        if !sold.has(*cpus, *memory_mib) {
            let (least, most) = sold.memory(*cpus);
            let (cpu_kind, cpus, memory_mib) = (cpu_kind.clone(), *cpus, *memory_mib);
            return Err(InvalidSize::Memory { cpu_kind, cpus, memory_mib, least, most });
        }
        Ok(())
    }

    /// Returns the size of a Machine of which only the memory and the number of CPUs are known: with shared CPUs, where
    /// there is such a one. Nothing where Fly sells none.
    pub fn of_parts(memory_mib: u32, cpus: u32) -> Option<MachineSize> {
        let sold = SIZES.iter().find(|sold| sold.has(cpus, memory_mib))?;
        Some(MachineSize { cpu_kind: sold.cpu_kind.to_owned(), cpus, memory_mib })
    }
}

impl FromStr for MachineSize {
    type Err = InvalidSize;

    /// Reads Fly's name of a size, such as `shared-cpu-2x` or `performance-1x`, which has the least memory for its CPUs; or
    /// what a size is written as, such as `shared-cpu-2x:1024`, whether Fly sells it or not.
    fn from_str(text: &str) -> Result<MachineSize, InvalidSize> {
        let none = || InvalidSize::Name(shown::cut(text));
        let (name, memory_mib) = match text.split_once(':') {
            Some((name, memory_mib)) => (name, Some(memory_mib)),
            None => (text, None),
        };
        let (cpu_kind, count) = match (name.strip_prefix("shared-cpu-"), name.strip_prefix("performance-")) {
            (Some(count), _) => ("shared", count),
            (None, Some(count)) => ("performance", count),
            (None, None) => return Err(none()),
        };
        let cpus = count.strip_suffix('x').and_then(|count| count.parse().ok()).ok_or_else(none)?;
        let size = |memory_mib| MachineSize { cpu_kind: cpu_kind.to_owned(), cpus, memory_mib };
        if let Some(memory_mib) = memory_mib {
            let size = size(memory_mib.parse().map_err(|_| none())?);
            // One size is written in one way: two of them would have two prices.
            return if size.to_string() == text { Ok(size) } else { Err(none()) };
        }
        let sold = SIZES.iter().find(|sold| sold.cpu_kind == cpu_kind).ok_or_else(none)?;
        let size = size(sold.memory(cpus).0);
        size.check().map(|()| size)
    }
}

impl fmt::Display for MachineSize {
    /// Writes Fly's name for its CPUs, and the memory in MiB, such as `shared-cpu-1x:1024`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MachineSize { cpu_kind, cpus, memory_mib } = self;
        let dash_cpu = if cpu_kind == "shared" { "-cpu" } else { "" };
        write!(f, "{cpu_kind}{dash_cpu}-{cpus}x:{memory_mib}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(cpu_kind: &str, cpus: u32, memory_mib: u32) -> MachineSize {
        MachineSize { cpu_kind: cpu_kind.to_owned(), cpus, memory_mib }
    }

    #[test]
    fn what_fly_does_not_sell_is_refused_with_what_it_does() {
        for sold in [size("shared", 1, 256), size("shared", 8, 16_384), size("performance", 16, 131_072)] {
            assert_eq!(sold.check(), Ok(()));
        }
        for (size, words) in [
            (size("fast", 1, 256), "use `shared` or `performance`"),
            (size("shared", 3, 1024), "use one of 1, 2, 4, 6, 8"),
            (size("shared", 2, 256), "use 512 to 4096, in steps of 256"),
            (size("shared", 1, 300), "use 256 to 2048, in steps of 256"),
            (size("performance", 1, 1024), "use 2048 to 8192, in steps of 256"),
            (size("performance", u32::MAX, u32::MAX), "use one of 1, 2, 4"),
        ] {
            let error = size.check().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_size_is_read_by_fly_s_name_for_it() {
        assert_eq!("shared-cpu-2x".parse(), Ok(size("shared", 2, 512)));
        assert_eq!("performance-16x".parse(), Ok(size("performance", 16, 32_768)));
        for bad in [
            "",
            "shared",
            "shared-cpu-3x",
            "shared-cpu-x",
            "performance-2",
            "a100",
            "shared-cpu-99999999999x",
        ] {
            assert!(bad.parse::<MachineSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_size_reads_as_it_is_written() {
        for (size, text) in [
            (MachineSize::default(), "shared-cpu-1x:1024"),
            (size("performance", 2, 4096), "performance-2x:4096"),
            (size("performance", u32::MAX, 0), "performance-4294967295x:0"),
        ] {
            assert_eq!(size.to_string(), text);
            assert_eq!(text.parse(), Ok(size));
        }
        for wrong in [
            "shared-cpu-1:256",
            "shared-1x:256",
            "shared-cpu--1x:256",
            "performance-cpu-1x:2048",
            "shared-cpu-1x:",
        ]
        .into_iter()
        .chain(["shared-cpu-01x:256", "shared-cpu-1x:+256", "shared-cpu-1x:256:256"])
        {
            assert!(wrong.parse::<MachineSize>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_size_of_which_only_parts_are_known_is_the_cheapest_that_has_them() {
        assert_eq!(MachineSize::of_parts(512, 1), Some(size("shared", 1, 512)));
        assert_eq!(MachineSize::of_parts(4096, 1), Some(size("performance", 1, 4096)));
        for (memory_mib, cpus) in [(512, 3), (300, 1), (256, 2), (0, 0), (u32::MAX, u32::MAX)] {
            assert_eq!(MachineSize::of_parts(memory_mib, cpus), None, "{memory_mib} {cpus}");
        }
    }
}
