//! The environment that rustc, cargo, rustup and apt are started with: the caller's, cleaned.
//!
//! Invariant: this crate does not read its own process's environment; the caller hands it over.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::process::Command;

/// Environment variables for the programs that a build starts.
///
/// A build is often started by another cargo (`cargo run -- demo`, `cargo test`), whose variables describe that
/// cargo's package and flags, not the guest's or the host's. They are left out, and so are flags and targets meant
/// for native code. `RUSTUP_TOOLCHAIN` stays: it says which toolchain is the current one.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    vars: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// Takes the variables of a process, as `std::env::vars_os()` gives them, and leaves out what describes another
    /// build.
    pub fn new(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Environment {
        Environment { vars: vars.into_iter().filter(|(name, _)| !leaks(name)).collect() }
    }

    /// Returns a command that is started with these variables and no others.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.vars);
        command
    }

    /// Returns whether a program of this name is in one of the folders of `PATH`.
    pub(crate) fn has_program(&self, name: &str) -> bool {
        let path = self.vars.get(OsStr::new("PATH"));
        path.is_some_and(|path| std::env::split_paths(path).any(|folder| folder.join(name).is_file()))
    }
}

/// Names that describe another package's build.
const OUTER_NAMES: &[&str] = &[
    "CARGO",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTDOC",
    "CARGO_BUILD_RUSTDOCFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_CRATE_NAME",
    "CARGO_ENCODED_RUSTDOCFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MAKEFLAGS",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_LINKS",
    "CARGO_MANIFEST_PATH",
    "CARGO_PRIMARY_PACKAGE",
    "MAKEFLAGS",
    "MFLAGS",
    "OUT_DIR",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
];
/// The same, by how they begin.
const OUTER_PREFIXES: &[&str] = &["CARGO_BIN_", "CARGO_CFG_", "CARGO_FEATURE_", "CARGO_PKG_", "DEP_"];

fn leaks(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    // `CARGO_TARGET_DIR` says where to build and is kept; `CARGO_TARGET_<TRIPLE>_LINKER` and the like say how.
    OUTER_NAMES.contains(&name)
        || OUTER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || (name.starts_with("CARGO_TARGET_") && name != "CARGO_TARGET_DIR")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_outer_cargo_set_does_not_reach_an_inner_one() {
        let outer = [
            "RUSTC",
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_MANIFEST_DIR",
            "CARGO_PKG_NAME",
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER",
        ];
        let kept =
            ["PATH", "HOME", "CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_NET_OFFLINE", "RUSTUP_TOOLCHAIN"];
        let vars = outer.iter().chain(&kept).map(|name| (OsString::from(name), OsString::from("x")));
        let environment = Environment::new(vars);
        let mut names: Vec<&str> = environment.vars.keys().filter_map(|name| name.to_str()).collect();
        names.sort_by_key(|name| kept.iter().position(|k| k == name));
        assert_eq!(names, kept);
    }
}
