//! What a build says while it goes on, for whoever draws it.
//!
//! Invariant: nothing here or elsewhere in this crate writes to a terminal.

use std::time::Duration;

use midge_protocol::ModuleName;

/// Something that happened during a build, or while a toolchain was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A step began. It ends when the next one begins or the call returns. The text is for people: "compiling hello".
    Step(&'a str),
    /// How far a step that fetches something is.
    Bytes {
        /// Bytes that were fetched.
        done: u64,
        /// Bytes to fetch in all.
        total: u64,
    },
    /// A line that cargo wrote to stderr, for a status line. Errors of a failed build are also in the error itself.
    CargoLine(&'a str),
    /// A module was as it should be already, and was not compiled.
    Unchanged(&'a ModuleName),
    /// A module was compiled.
    Compiled {
        /// The module.
        module: &'a ModuleName,
        /// The size of its machine code in the file, in bytes.
        size: u64,
        /// How long the compiler took.
        took: Duration,
    },
}

/// Is told what happens. `&|_| {}` tells nobody.
pub type OnEvent<'a> = &'a dyn Fn(Event<'_>);
