//! Cranelift: makes native code of WebAssembly, for a declared CPU and never for the one it happens to run on.

// Only the call that sets a CPU's flags.
#![allow(unsafe_code)]

use midge_engine::{Cpu, TARGET};
use wasmtime::{Engine, OptLevel};

/// Compiles a module for a CPU, as [`build`](crate::build()) does, without a look at whether it is a job. Returns the
/// machine code in the form that wasmtime loads.
///
/// # Errors
/// A text that says what of WebAssembly the module uses that jobs cannot.
pub fn compile(wasm: &[u8], cpu: Cpu) -> Result<Vec<u8>, String> {
    let compiler = Compiler::new(cpu).map_err(|error| format!("the compiler cannot start: {error:#}"))?;
    compiler.compile(wasm)
}

/// A compiler for one CPU.
pub(crate) struct Compiler {
    engine: Engine,
}

impl Compiler {
    pub(crate) fn new(cpu: Cpu) -> wasmtime::Result<Compiler> {
        let mut config = midge_engine::config();
        // Naming a target, though it is our own, keeps this machine's CPU features out of the code.
        config.target(TARGET)?.cranelift_opt_level(OptLevel::Speed);
        for flag in cpu.flags() {
            // SAFETY: these flags only say which instructions there are. A host without one of them refuses the
            // module when it loads it, and so does wasmtime.
            unsafe { config.cranelift_flag_enable(flag) };
        }
        Ok(Compiler { engine: Engine::new(&config)? })
    }

    /// Compiles a module. The error says what of WebAssembly it uses that jobs cannot.
    pub(crate) fn compile(&self, wasm: &[u8]) -> Result<Vec<u8>, String> {
        self.engine.precompile_module(wasm).map_err(|error| format!("{error:#}"))
    }
}
