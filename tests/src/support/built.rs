//! The programs and modules under test: built once for a run of the tests, however many test binaries need them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use midge_build::{Environment, build_host, build_net};

use super::process::{BUILD_DEADLINE, Ran, run_within};

/// Returns the checkout that is tested.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is a folder of the checkout")
}

/// Returns the `midge` command's program.
pub fn midge_program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| alone(|| cargo_build(&["--bin", "midge"])));
    &PROGRAM
}

/// Returns the program that runs in Machines, as it is shipped: with the one that has the network beside it.
pub fn host_program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let environment = Environment::new(std::env::vars_os());
        alone(|| {
            let net = build_net(checkout(), &environment, &|_| {}).unwrap();
            let host = build_host(checkout(), &environment, &|_| {}).unwrap();
            assert_eq!(net.parent(), host.parent());
            host
        })
    });
    &PROGRAM
}

/// Returns the folder of the compiled example modules. It belongs to all tests: none may change it.
pub(super) fn examples() -> &'static Path {
    static EXAMPLES: LazyLock<PathBuf> = LazyLock::new(|| {
        // Before the lock is taken, which building it takes too.
        let mut build = midge(&["build"]);
        alone(|| {
            let out = e2e_folder().join("examples");
            // The toolchain may have to be fetched, into the cache that every project shares.
            build.arg(checkout().join("guest-examples")).arg("--out").arg(&out);
            run_within(BUILD_DEADLINE, build, b"").ok();
            out
        })
    });
    &EXAMPLES
}

/// Returns the program of `crates/midge/examples/app.rs`.
pub fn app_program() -> PathBuf {
    alone(|| cargo_build(&["--example", "app"]))
}

/// Makes sure that there is a toolchain for guests, which may have to be fetched.
pub fn guest_toolchain() {
    examples();
}

/// Returns a folder for what cargo makes of guests that tests write: their dependencies are built once.
pub fn guests_target() -> PathBuf {
    e2e_folder().join("guests")
}

/// Returns the `midge` command with arguments, in an environment that holds none of midge's own settings.
pub fn midge(args: &[&str]) -> Command {
    let mut command = Command::new(midge_program());
    command.args(args);
    without_outer_cargo(&mut command);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("MIDGE_") || name.starts_with("FLY_")) {
            command.env_remove(name);
        }
    }
    command
}

/// Returns cargo with arguments, as somebody calls it in a project of his own.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(args);
    without_outer_cargo(&mut command);
    command
}

/// Builds a program of the package `midge`, and returns where it is.
fn cargo_build(program: &[&str]) -> PathBuf {
    let mut cargo = Command::new("cargo");
    // With the features of the whole workspace, as `cargo test --workspace` has built most dependencies already: those
    // of the package alone would be another wasmtime.
    cargo.current_dir(checkout()).args(["build", "--workspace"]).args(program);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    // The profile that the tests have: its dependencies are there already.
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    without_outer_cargo(&mut cargo);
    executable(&run_within(BUILD_DEADLINE, cargo, b"").ok()).expect("cargo says where the program is")
}

fn executable(ran: &Ran) -> Option<PathBuf> {
    let messages = ran.text().lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut programs = messages.filter_map(|message| Some(message["executable"].as_str()?.into()));
    programs.next_back()
}

/// Removes what the cargo that runs the tests says to them about their own package.
fn without_outer_cargo(command: &mut Command) {
    let kept = ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_NET_OFFLINE"];
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let outer = name == "CARGO" || name == "LD_LIBRARY_PATH" || name.starts_with("CARGO_");
        if outer && !kept.contains(&name.as_str()) {
            command.env_remove(name);
        }
    }
}

/// Runs a build while no other test binary does.
fn alone<T>(build: impl FnOnce() -> T) -> T {
    let folder = e2e_folder();
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join(".lock")).unwrap();
    lock.lock().unwrap();
    build()
}

fn e2e_folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| checkout().join("target")).join("e2e")
}
