//! What a build says while it goes on, for whoever draws it.
//!
//! Invariant: nothing here or elsewhere in this crate writes to a terminal.

use std::time::Duration;

use midge_protocol::ModuleName;

/// Something that happened during a build or while a toolchain was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A step began; it ends when the next one begins or the call returns. The text is for people: "compiling hello".
    Step(&'a str),
    /// How far the step is, where that can be told.
    Bytes {
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A line that cargo wrote, for a status line. Errors of a failed build are also in the error itself.
    CargoLine(&'a str),
    /// A module was as it should be already.
    Unchanged(&'a ModuleName),
    /// A module was compiled.
    Compiled {
        /// Its name.
        module: &'a ModuleName,
        /// The size of what was made, in bytes.
        size: u64,
        /// How long that took.
        took: Duration,
    },
}

/// Whoever wants to know. `&|_| {}` does not.
pub type OnEvent<'a> = &'a dyn Fn(Event<'_>);
