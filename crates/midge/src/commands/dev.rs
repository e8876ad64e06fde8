//! `midge dev`: build, serve, and build again on save, in one process.

mod generations;
mod watch;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use midge_build::{ConfigError, Project};
use midge_cli::build::{Builder, project_file};
use midge_cli::checkout::{Missing, host_program};
use midge_cli::output::{bold, dim, note, path, show_error};
use midge_cli::serving::{Backend, Serving, Start, listen, open_database};
use midge_cli::stop::StopSignal;
use midge_flylet::Latency;
use midge_protocol::shown;
use midge_server::{Catalog, Midge, Retention};

use self::generations::Generations;
use self::watch::Watch;
use super::{own_folder, start_log};
use crate::arguments::listen_address;
use crate::config::secrets;

/// Build, serve, and rebuild on save: the next job gets the new module
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Jobs are kept in .midge/dev.db beside midge.toml. Machines are processes on this computer.

A save is one of what a build reads: midge.toml, the .wasm files that it names, and of packages
Cargo.toml, *.rs and whatever else cargo found that they read. After a build that failed it is
any file, but for hidden ones, logs, databases, and folders that `dirs` gives to jobs.

Examples:
  midge dev
  midge dev path/to/project --listen 127.0.0.1:8000")]
pub(crate) struct Args {
    /// The folder of midge.toml, or the file; else the nearest one from here upward
    path: Option<PathBuf>,
    /// Where to listen: a loopback address; port 0 takes any that is free
    #[arg(long, value_parser = listen_address, value_name = "ADDR", default_value = "127.0.0.1:7433")]
    listen: SocketAddr,
    /// The host program [default: the one beside midge, or built from its source]
    #[arg(long, value_name = "PATH", env = "MIDGE_HOST")]
    host_program: Option<PathBuf>,
    /// A rustc that has the target wasm32-wasip1
    #[arg(long, value_name = "PATH", env = "MIDGE_GUEST_RUSTC")]
    rustc: Option<PathBuf>,
    /// What to log, such as `info` or `midge_server=debug`
    #[arg(long, value_name = "FILTER", env = "MIDGE_LOG", default_value = "warn")]
    log: String,
}

impl Args {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        start_log(&self.log)?;
        let mut stop = StopSignal::listen()?;
        midge_cli::serving::check_loopback(self.listen)?;
        let listener = listen(self.listen).await?;
        let workshop = Arc::new(Workshop::open(&self)?);
        // From before the first build, so that a save during it is not missed.
        let mut watch = workshop.watch()?;
        let Some((catalog, host_program)) =
            stop.or(workshop.clone().first_build(&mut watch, self.host_program)).await.transpose()?
        else {
            return Ok(ExitCode::SUCCESS);
        };
        let secrets = secrets(&catalog.manifest);
        let store = open_database(&workshop.folder.join("dev.db")).await?;
        let serving = Serving::start(Start {
            catalog,
            store,
            listener,
            token: None,
            retention: Retention::default(),
            backend: Backend::Local { host_program, secrets, latency: Latency::None },
        })
        .await?;
        note(format_args!(
            "midge serves at {}, and builds again on save; Ctrl-C ends it",
            bold(&serving.url)
        ));
        let answer = stop.or(workshop.rebuild_on_save(watch, &serving.midge)).await;
        serving.shutdown(&mut stop).await;
        match answer {
            Some(Err(error)) => Err(error),
            _ => Ok(ExitCode::SUCCESS),
        }
    }
}

/// Builds a project again and again.
struct Workshop {
    /// The midge.toml, which may change.
    file: PathBuf,
    /// What belongs to it alone, beside midge.toml.
    folder: PathBuf,
    builder: Builder,
    generations: Generations,
    /// What the last build read; nothing where it failed, and may lack any file.
    read: Mutex<Option<BTreeSet<PathBuf>>>,
}

impl Workshop {
    fn open(args: &Args) -> Result<Workshop> {
        // What is wrong in it is told by the first build, and waited for as is all else.
        let file = std::path::absolute(project_file(args.path.as_deref())?)?;
        if !file.is_file() {
            return Err(ConfigError::NotThere(file).into());
        }
        let folder = own_folder(&file)?;
        let builder = Builder::new(args.rustc.clone())?;
        let generations = Generations::new(folder.join("generations"));
        Ok(Workshop { file, folder, builder, generations, read: Mutex::default() })
    }

    /// Begins to watch the sources: those of a `midge.toml` that cannot be read are the folder that it is in.
    fn watch(&self) -> Result<Watch> {
        Watch::begin(&self.file, Project::read(&self.file).ok().as_ref())
    }

    /// Returns whether a file that changed is one that a build reads.
    fn is_read(&self, file: &Path) -> bool {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        watch::is_read(file, &self.file, read.as_ref())
    }

    /// Builds the host program and the project. A project that does not build is built again when it is saved.
    async fn first_build(
        self: Arc<Workshop>,
        watch: &mut Watch,
        host: Option<PathBuf>,
    ) -> Result<(Catalog, PathBuf)> {
        let workshop = self.clone();
        let host = move || host_program(host.as_deref(), Missing::Build, workshop.builder.environment());
        let host = blocking(host).await?;
        loop {
            let workshop = self.clone();
            match blocking(move || workshop.build()).await {
                Ok(catalog) => return Ok((catalog, host)),
                Err(error) => {
                    show_error(&error);
                    note(dim("it is built again when something is saved; Ctrl-C ends it"));
                    self.saved(watch).await?;
                }
            }
        }
    }

    /// Waits until something is saved.
    async fn saved(&self, watch: &mut Watch) -> Result<()> {
        loop {
            let changed = watch.changed(|path| self.is_read(path)).await?;
            // There may be new folders. A save during the build that follows is for the next turn.
            *watch = self.watch()?;
            let Some(changed) = watch::saved_in(&changed, |path| self.is_read(path)) else { continue };
            let folder = self.file.parent().unwrap_or(&self.file);
            note(format_args!("{} changed", bold(path(changed.strip_prefix(folder).unwrap_or(&changed)))));
            return Ok(());
        }
    }

    /// Builds the project, and keeps what was made where no later build replaces it. This blocks.
    fn build(&self) -> Result<Catalog> {
        let set_read = |read| *self.read.lock().unwrap_or_else(PoisonError::into_inner) = read;
        let built = Project::read(&self.file)
            .map_err(anyhow::Error::from)
            .and_then(|project| self.builder.build(&project))
            .inspect_err(|_| set_read(None))?;
        let canonical = |file: &PathBuf| file.canonicalize().unwrap_or_else(|_| file.clone());
        set_read(Some(built.read.iter().map(canonical).collect()));
        if !built.warnings.is_empty() {
            note(shown::text(built.warnings.trim_end()));
        }
        self.generations.keep(&built.out)
    }

    /// Builds and deploys whenever a source is saved. Returns only where that is no longer possible.
    async fn rebuild_on_save(self: Arc<Workshop>, mut watch: Watch, midge: &Midge) -> Result<()> {
        loop {
            self.saved(&mut watch).await?;
            let workshop = self.clone();
            match blocking(move || workshop.build()).await {
                Ok(catalog) => self.deploy(midge, catalog).await,
                Err(error) => {
                    show_error(&error);
                    note(dim("the modules of before are served until this is mended"));
                }
            }
        }
    }

    async fn deploy(&self, midge: &Midge, catalog: Catalog) {
        if midge.catalog().generation == catalog.generation {
            note("nothing is different: the same modules are served");
            return;
        }
        let generation = catalog.generation.clone();
        let declared = &midge.catalog().manifest.secrets;
        if catalog.manifest.secrets.iter().any(|secret| declared.get(secret.0) != Some(secret.1)) {
            note("[secrets] is another one: Machines are given it when `midge dev` is started again");
        }
        midge.deploy(catalog).await;
        note(format_args!("the next job gets generation {}", bold(&generation)));
        match midge.machines().await {
            Ok(machines) => self.generations.tidy(&generation, &machines.machines),
            Err(error) => tracing::warn!(%error, "cannot list the Machines"),
        }
    }
}

/// Runs what blocks beside what must go on.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("a build ended unfinished")?
}
