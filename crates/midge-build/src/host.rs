//! Builds midge's own host program from midge's checkout: static, and alone, so that no compiler gets into it.

use std::path::{Path, PathBuf};

use crate::cargo::{self, CargoError};
use crate::environment::Environment;
use crate::progress::{Event, Progress};

const HOST: &str = "midge-host";

/// Why there is no host program.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The folder is something else.
    #[error("`{}` is not a checkout of midge: it has no crates/midge-host", .0.display())]
    NotACheckout(PathBuf),
    /// cargo did not build it.
    #[error(transparent)]
    Cargo(#[from] CargoError),
    /// cargo built it and did not say where.
    #[error("cargo did not say where it put `{HOST}`")]
    Lost,
}

/// Builds the host and returns where it is. Cargo decides whether there is anything to do.
///
/// The flags reach the last crate only, so that proc macros and build scripts stay as they are; the profile has a
/// folder of its own, so that a workspace build does not replace the result by one with a compiler in it.
pub fn build_host(
    checkout: &Path,
    environment: &Environment,
    progress: Progress<'_>,
) -> Result<PathBuf, HostError> {
    if !checkout.join("crates").join(HOST).join("Cargo.toml").is_file() {
        return Err(HostError::NotACheckout(checkout.to_owned()));
    }
    progress(Event::Step("cargo builds midge-host"));
    let mut cargo = environment.command("cargo");
    cargo.current_dir(checkout);
    cargo.args(["rustc", "--package", HOST, "--bin", HOST, "--profile", "host"]);
    cargo.args(cargo::MESSAGES);
    cargo.args(["--", "-C", "target-feature=+crt-static", "-C", "relocation-model=static"]);
    let ended = cargo::run(&mut cargo, HOST, progress)?;
    let artifacts = cargo::artifacts(&ended.stdout);
    let host = artifacts.iter().find(|artifact| artifact.is_program(HOST));
    host.and_then(cargo::Artifact::program).ok_or(HostError::Lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_folder_is_not_taken_for_a_checkout() {
        let folder = tempfile::tempdir().unwrap();
        let error = build_host(folder.path(), &Environment::default(), &|_| {}).unwrap_err();
        assert!(
            error.to_string().ends_with("is not a checkout of midge: it has no crates/midge-host"),
            "{error}"
        );
    }
}
