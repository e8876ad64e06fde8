//! midge's own source, where this command was built from it: the host program and the example jobs come from there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use midge_build::{Environment, HostError, OnEvent};

use crate::progress::BuildProgress;

/// The name of the host program's file.
const HOST: &str = "midge-host";

/// The name of the file of the program that has the network, which lies beside the host program.
pub const NETWORK_PROGRAM: &str = "midge-net";

/// What builds a program from a checkout.
type Build = fn(&Path, &Environment, OnEvent<'_>) -> std::result::Result<PathBuf, HostError>;

/// A checkout of midge's repository.
#[derive(Debug, Clone)]
pub struct Checkout {
    folder: PathBuf,
}

impl Checkout {
    /// Finds the checkout that this command was built from, if it is still there.
    pub fn find() -> Option<Checkout> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
        let checkout = Checkout { folder: folder.to_owned() };
        checkout.job_sdk().join("Cargo.toml").is_file().then_some(checkout)
    }

    /// Returns the folder of the crate with which jobs are written.
    pub fn job_sdk(&self) -> PathBuf {
        self.folder.join("crates/midge-job")
    }

    /// Returns the folder of the example jobs.
    pub fn guest_examples(&self) -> PathBuf {
        self.folder.join("guest-examples")
    }
}

/// What [`host_program`] does where there is no host program yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Builds it from the checkout.
    Build,
    /// Returns an error that says where to put it.
    Fail,
}

/// Returns the host program: the one that is named; one beside this command; or one built from the checkout, with the
/// program that has the network beside it. Where no such program is beside another one, its guests' requests fail, and
/// nothing else does. This blocks.
pub fn host_program(named: Option<&Path>, missing: Missing, environment: &Environment) -> Result<PathBuf> {
    if let Some(named) = named {
        if !named.is_file() {
            bail!("there is no host program at {}: look at --host-program and MIDGE_HOST", named.display());
        }
        return std::path::absolute(named).context("there is no current folder");
    }
    let checkout = Checkout::find();
    let ours = std::env::current_exe().context("cannot tell where this program is")?;
    let beside = ours.with_file_name(HOST);
    // In a target folder lies whatever was built last, perhaps long ago, and perhaps with a compiler in it.
    let is_ours = checkout.as_ref().is_some_and(|checkout| ours.starts_with(&checkout.folder));
    if beside.is_file() && !is_ours {
        return Ok(beside);
    }
    match checkout {
        Some(checkout) if missing == Missing::Build => {
            let progress = BuildProgress::default();
            let build = |build: Build| build(&checkout.folder, environment, &|event| progress.event(event));
            build(midge_build::build_net).context("cannot build the program that has the network")?;
            build(midge_build::build_host).context("cannot build the host program")
        }
        _ => bail!(
            "there is no host program: put `{HOST}` and `{NETWORK_PROGRAM}` beside {}, or name it with --host-program or MIDGE_HOST",
            ours.display()
        ),
    }
}
