//! Builds midge's own host program from midge's checkout: static, and alone, so that no compiler gets into it.

use std::path::{Path, PathBuf};

use crate::cargo::{self, CargoError};
use crate::environment::Environment;
use crate::progress::{Event, OnEvent};

const HOST: &str = "midge-host";

/// Why there is no host program.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The folder, which is named, is no checkout of midge.
    #[error("`{}` is not a checkout of midge: it has no crates/midge-host", .0.display())]
    NotACheckout(PathBuf),
    /// cargo could not build it.
    #[error(transparent)]
    Cargo(#[from] CargoError),
    /// cargo built it and did not say where.
    #[error("cargo did not say where it put `{HOST}`")]
    Lost,
}

/// How cargo builds the host: alone, since other crates' features would bring the compiler into it; and in a profile
/// with a folder of its own, which a workspace build does not write to.
const ARGS: [&str; 9] = [
    "rustc",
    "--package",
    HOST,
    "--bin",
    HOST,
    "--profile",
    "host",
    // A static program cannot look for the C library's `getrandom`, and would read /dev/urandom: seven system calls
    // instead of one, and a Machine might not even have that file. ChaCha would ask for the CPU's features, which takes
    // longer than the few numbers that WASI wants of it. And names that tell each instance of a generic function from
    // the others, for the order below.
    "--config",
    r#"target.x86_64-unknown-linux-gnu.rustflags=["--cfg", "getrandom_backend=\"linux_raw\"", "--cfg", "chacha20_backend=\"sse2\"", "-Csymbol-mangling-version=v0"]"#,
];
/// What the last crate alone is compiled with, so that proc macros and build scripts stay as they are.
const RUSTC_ARGS: [&str; 7] = [
    "--",
    "-C",
    "target-feature=+crt-static",
    "-C",
    "relocation-model=static",
    // What a start runs lies together: a third of the pages, and half of what is read from a cold disk.
    "-C",
    "link-arg=-Wl,-T,crates/midge-host/start-order.ld",
];

/// Builds the host program from a checkout of midge, and returns its path. Cargo decides whether there is anything to
/// do.
///
/// # Errors
/// [`HostError`] where the folder is no checkout, or cargo fails.
pub fn build_host(
    checkout: &Path,
    environment: &Environment,
    progress: OnEvent<'_>,
) -> Result<PathBuf, HostError> {
    if !checkout.join("crates").join(HOST).join("Cargo.toml").is_file() {
        return Err(HostError::NotACheckout(checkout.to_owned()));
    }
    progress(Event::Step("cargo builds midge-host"));
    let mut cargo = environment.command("cargo");
    cargo.current_dir(checkout);
    cargo.args(ARGS).args(cargo::MESSAGES).args(RUSTC_ARGS);
    let ended = cargo::run(&mut cargo, HOST, progress)?;
    let artifacts = cargo::artifacts(&ended.stdout);
    let host = artifacts.iter().find(|artifact| artifact.is_program(HOST));
    host.and_then(cargo::Artifact::program).ok_or(HostError::Lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockerfile_and_start_order_build_the_host_in_the_same_way() {
        for file in ["Dockerfile", "crates/midge-host/start-order.sh"] {
            let text =
                std::fs::read_to_string(format!("{}/../../{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
            let mut rest = text.as_str();
            for word in ARGS.iter().chain(&RUSTC_ARGS) {
                let at = rest.find(word).unwrap_or_else(|| panic!("{file} lacks {word}, or has it earlier"));
                rest = &rest[at + word.len()..];
            }
        }
    }

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
