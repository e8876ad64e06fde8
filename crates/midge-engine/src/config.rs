//! The one wasmtime configuration, for builder and host alike.
//!
//! Invariant: nothing here is only available with a compiler, so that a host without one gets the very same
//! configuration. What only a compiler can be told (the CPU's flags) is a list that `midge-build` applies.

use std::num::NonZeroUsize;

use midge_protocol::limits;
use wasmtime::{
    Config, InstanceAllocationStrategy, ModuleVersionStrategy, WasmBacktraceDetails, WasmFeatures,
};
use xxhash_rust::xxh3::xxh3_64;

/// The exact version of wasmtime in this build, which the manifest must name. A test holds it against `Cargo.lock`.
///
/// wasmtime itself compares major versions only, so that a fix in its code generator would not force a rebuild.
pub const WASMTIME_VERSION: &str = "48.0.8";
/// The version of what a guest sees (`docs/abi.md`). It rises when an import changes its meaning.
pub const ABI_VERSION: u32 = 1;
/// The only target that modules are compiled for, as a target triple.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Address space of a guest's memory: all that 32 bits reach, so that no access needs a bounds check.
const MEMORY_RESERVATION: u64 = 4 << 30;
/// Address space behind it that traps, for the constant offsets of accesses.
const MEMORY_GUARD_SIZE: u64 = 32 << 20;
/// A fiber's stack: the guest's part, and as much again for the host calls that run on it.
const FIBER_STACK_SIZE: usize = 2 * limits::STACK_BYTES_MAX;
/// Wasm frames that a trap's message can draw on.
const BACKTRACE_FRAMES_MAX: usize = 8;

/// The WebAssembly that guests may use: what compilers emit for `wasm32-wasip1`, and SIMD.
///
/// Memory64, several memories, threads, exceptions, GC and components are off: none is needed by a WASI command,
/// and most of wasmtime's advisories are about them.
const FEATURES: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::CALL_INDIRECT_OVERLONG)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::BULK_MEMORY_OPT)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::EXTENDED_CONST);

/// Returns the configuration of every engine in midge.
///
/// `midge-build` adds the target ([`TARGET`]), the CPU's flags ([`Cpu::flags`]) and how hard to optimise; the host
/// takes it as it is, and checks at load.
pub fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_features(WasmFeatures::all().difference(FEATURES), false)
        .wasm_features(FEATURES, true)
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        // There is no ticker: a deadline or a cancel bumps the epoch once.
        .epoch_interruption(true)
        .consume_fuel(false)
        .concurrency_support(false)
        .relaxed_simd_deterministic(false)
        .max_wasm_stack(limits::STACK_BYTES_MAX)
        .async_stack_size(FIBER_STACK_SIZE)
        .memory_reservation(MEMORY_RESERVATION)
        .memory_guard_size(MEMORY_GUARD_SIZE)
        .memory_may_move(false)
        .guard_before_linear_memory(true)
        .memory_init_cow(true)
        .table_lazy_init(true)
        .signals_based_traps(true)
        // Else wasmtime would ask the environment, and a module would depend on it.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES_MAX))
        .debug_symbols(false)
        // Smaller files, less to map and register: only outside tools need either.
        .generate_address_map(false)
        .native_unwind_info(false);
    config
        .module_version(ModuleVersionStrategy::Custom(format!("{WASMTIME_VERSION}+{}", config_hash())))
        .expect("version and hash are shorter than 255 bytes");
    config
}

/// Returns a hash (XXH3-64, 16 hex digits) over everything that a compiled module depends on. The manifest carries
/// it.
pub fn config_hash() -> String {
    format!("{:016x}", xxh3_64(describe().as_bytes()))
}

fn describe() -> String {
    format!(
        "wasmtime {WASMTIME_VERSION}; abi {ABI_VERSION}; target {TARGET}; features {:#x}; epochs; no fuel; \
         stack {}+{FIBER_STACK_SIZE}; memory {MEMORY_RESERVATION}+{MEMORY_GUARD_SIZE}, fixed, guarded before, \
         copied on write; lazy tables; signals; no address map, unwind info or symbols",
        FEATURES.bits(),
        limits::STACK_BYTES_MAX,
    )
}

/// A CPU that modules are compiled for: one of the levels of the x86-64 psABI, never "the build machine's".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cpu {
    /// x86-64-v2: SSE 4.2 and POPCNT. Every x86-64 server of the last fifteen years.
    #[default]
    V2,
    /// x86-64-v3: AVX2, BMI, FMA and LZCNT as well.
    V3,
}

impl Cpu {
    /// Every level, the lowest first.
    pub const ALL: [Cpu; 2] = [Cpu::V2, Cpu::V3];

    /// Returns the word used in `midge.toml` and in the manifest, such as `x86-64-v2`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Cpu::V2 => "x86-64-v2",
            Cpu::V3 => "x86-64-v3",
        }
    }

    /// Returns the names of the Cranelift flags that the builder enables for this level.
    pub const fn flags(self) -> &'static [&'static str] {
        const FLAGS: [&str; 11] = [
            "has_sse3",
            "has_ssse3",
            "has_sse41",
            "has_sse42",
            "has_popcnt",
            "has_avx",
            "has_avx2",
            "has_bmi1",
            "has_bmi2",
            "has_fma",
            "has_lzcnt",
        ];
        match self {
            Cpu::V2 => FLAGS.split_at(5).0,
            Cpu::V3 => &FLAGS,
        }
    }

    /// Returns the first CPU feature of this level that the CPU of this Machine lacks; nothing where it has them all.
    pub fn missing_here(self) -> Option<&'static str> {
        macro_rules! first_missing {
            ($($feature:tt),*) => { [$(($feature, is_x86_feature_detected!($feature))),*] };
        }
        let detected = first_missing!(
            "sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "avx2", "bmi1", "bmi2", "fma", "lzcnt"
        );
        detected[..self.flags().len()].iter().find(|(_, has)| !has).map(|(feature, _)| *feature)
    }
}

impl std::fmt::Display for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Cpu {
    type Err = String;

    fn from_str(text: &str) -> Result<Cpu, String> {
        Cpu::ALL
            .into_iter()
            .find(|cpu| cpu.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not a CPU that midge builds for: use x86-64-v2 or x86-64-v3"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wasmtime_version_is_the_locked_one() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock")).unwrap();
        for name in ["wasmtime", "wasmtime-wasi"] {
            let entry = format!("name = \"{name}\"\nversion = \"{WASMTIME_VERSION}\"\n");
            assert!(lock.contains(&entry), "WASMTIME_VERSION is not {name}'s version in Cargo.lock");
        }
    }

    #[test]
    fn an_engine_takes_the_configuration_and_has_what_the_hash_says() {
        let engine = wasmtime::Engine::new(&config()).unwrap();
        assert_eq!(engine.get_wasm_features(), FEATURES);
        assert_eq!(engine.get_memory_reservation(), MEMORY_RESERVATION);
        assert_eq!(engine.get_memory_guard_size(), MEMORY_GUARD_SIZE);
        assert_eq!(engine.get_max_wasm_stack(), limits::STACK_BYTES_MAX);
        assert!(
            engine.get_epoch_interruption() && engine.get_memory_init_cow() && engine.get_table_lazy_init()
        );
        assert!(engine.get_signals_based_traps() && !engine.get_concurrency_support());
    }

    #[test]
    fn a_cpu_reads_as_it_is_written() {
        for cpu in Cpu::ALL {
            assert_eq!(cpu.as_str().parse::<Cpu>().unwrap(), cpu);
        }
        assert!("native".parse::<Cpu>().unwrap_err().contains("x86-64-v2"));
    }
}
