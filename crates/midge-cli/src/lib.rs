//! What midge's command-line programs share: building modules, a server in this process, and output for people.
//!
//! Invariant: takes no command line, and only `config` reads the environment.

pub mod build;
pub mod checkout;
pub mod serving;

pub mod config;
pub mod runtime;
pub mod stop;

pub mod output;
pub mod progress;
pub mod table;
pub mod words;
