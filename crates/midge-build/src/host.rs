//! Builds midge's own programs for Machines from midge's checkout: the host, and the one that has the network beside it.
//! Both are static; each is built alone, so that no compiler gets into the host.

use std::path::{Path, PathBuf};

use crate::cargo::{self, CargoError};
use crate::environment::Environment;
use crate::progress::{Event, OnEvent};

const HOST: &str = "midge-host";
const NET: &str = "midge-net";

/// Why there is no such program.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The folder, which is named, is no checkout of midge.
    #[error("`{}` is not a checkout of midge: it has no crates/{HOST}", .0.display())]
    NotACheckout(PathBuf),
    /// cargo could not build it.
    #[error(transparent)]
    Cargo(#[from] CargoError),
    /// cargo built it and did not say where.
    #[error("cargo did not say where it put `{0}`")]
    Lost(&'static str),
}

/// How cargo builds a program: alone, since other crates' features would bring the compiler into the host; and in a profile
/// with a folder of its own, which a workspace build does not write to.
const fn args(program: &str) -> [&str; 9] {
    [
        "rustc",
        "--package",
        program,
        "--bin",
        program,
        "--profile",
        "host",
        // A static program cannot look for the C library's `getrandom`, and would read /dev/urandom: seven system calls
        // instead of one, and a Machine might not even have that file. ChaCha would ask for the CPU's features, which takes
        // longer than the few numbers that WASI wants of it. And names that tell each instance of a generic function from
        // the others, for the order of the host's.
        "--config",
        r#"target.x86_64-unknown-linux-gnu.rustflags=["--cfg", "getrandom_backend=\"linux_raw\"", "--cfg", "chacha20_backend=\"sse2\"", "-Csymbol-mangling-version=v0"]"#,
    ]
}

/// What the host's last crate alone is compiled with, so that proc macros and build scripts stay as they are.
const HOST_RUSTC_ARGS: [&str; 7] = [
    "--",
    "-C",
    "target-feature=+crt-static",
    "-C",
    "relocation-model=static",
    // What a start runs lies together: a third of the pages, and half of what is read from a cold disk.
    "-C",
    "link-arg=-Wl,-T,crates/midge-host/start-order.ld",
];
/// The same for the program that has the network. It stays one that is loaded to an address by chance, unlike the host: it
/// reads what strangers send, and starts seldom.
const NET_RUSTC_ARGS: [&str; 3] = ["--", "-C", "target-feature=+crt-static"];

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
    build(HOST, &HOST_RUSTC_ARGS, checkout, environment, progress)
}

/// Builds the program that has the network, which a host starts: it lies beside the host, where both are built from one
/// checkout. Returns its path.
///
/// # Errors
/// [`HostError`] where the folder is no checkout, or cargo fails.
pub fn build_net(
    checkout: &Path,
    environment: &Environment,
    progress: OnEvent<'_>,
) -> Result<PathBuf, HostError> {
    build(NET, &NET_RUSTC_ARGS, checkout, environment, progress)
}

fn build(
    program: &'static str,
    rustc_args: &[&str],
    checkout: &Path,
    environment: &Environment,
    progress: OnEvent<'_>,
) -> Result<PathBuf, HostError> {
    if !checkout.join("crates").join(HOST).join("Cargo.toml").is_file() {
        return Err(HostError::NotACheckout(checkout.to_owned()));
    }
    let step = format!("cargo builds {program}");
    progress(Event::Step(&step));
    let mut cargo = environment.command("cargo");
    cargo.current_dir(checkout);
    cargo.args(args(program)).args(cargo::MESSAGES).args(rustc_args);
    let ended = cargo::run(&mut cargo, program, progress)?;
    let artifacts = cargo::artifacts(&ended.stdout);
    let built = artifacts.iter().find(|artifact| artifact.is_program(program));
    built.and_then(cargo::Artifact::program).ok_or(HostError::Lost(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that a file has these words in this order, and returns what comes behind the last.
    fn has<'a>(file: &str, text: &'a str, words: &[&str]) -> &'a str {
        words.iter().fold(text, |rest, word| {
            let at = rest.find(word).unwrap_or_else(|| panic!("{file} lacks {word}, or has it earlier"));
            &rest[at + word.len()..]
        })
    }

    fn read(file: &str) -> String {
        std::fs::read_to_string(format!("{}/../../{file}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn dockerfile_and_start_order_build_the_host_in_the_same_way() {
        for file in ["Dockerfile", "crates/midge-host/start-order.sh"] {
            has(file, has(file, &read(file), &args(HOST)), &HOST_RUSTC_ARGS);
        }
    }

    #[test]
    fn dockerfile_builds_the_program_that_has_the_network_in_the_same_way_and_beside_the_host() {
        let text = read("Dockerfile");
        let rest = has("Dockerfile", has("Dockerfile", &text, &args(NET)), &NET_RUSTC_ARGS);
        let end = rest.lines().next().unwrap();
        assert_eq!(end, "", "it is given nothing else");
        has("Dockerfile", rest, &["/src/target/host/midge-host /usr/local/bin/midge-host"]);
        has("Dockerfile", rest, &["/src/target/host/midge-net /usr/local/bin/midge-net"]);
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
