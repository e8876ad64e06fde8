//! `midge replay`: runs jobs again here that were pulled from a server, with what the world told them there.

mod many;

mod candidate;
mod live;
mod places;

mod compare;
mod verdict;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use midge_cli::build::{Builder, project};
use midge_cli::checkout::{Missing, host_program};
use midge_cli::output::{note, note_bytes, say, say_json};
use midge_cli::words;
use midge_engine::Dir;
use midge_protocol::{ModuleName, shown};
use serde_json::json;

use self::candidate::Candidate;
use self::verdict::{Verdict, exit_code};
use super::jobs::FilterArgs;
use super::pulled::Pulled;
use super::run::is_there;
use super::{own_folder, pulled};
use crate::arguments::{ServerArgs, key_value};

/// Jobs that are replayed where nothing else is said: some minutes of work.
const JOBS_DEFAULT: u32 = 1_000;
/// The most jobs that are replayed in one go: each is pulled and run.
const JOBS_MAX: i64 = 100_000;

/// Run a job again here as it ran there, or many of them, with the modules that you have now
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With a folder of `midge jobs pull`, its job is run with the module of the nearest midge.toml,
which is built first. Where it was recorded, its clock and its randomness are as they were, and its
requests are answered from the recording, in their order: no request leaves this computer, and
one that differs from the recorded one is told. The log goes to stderr. Exits with 0 where it
completes, and as it did where it had; else with the guest's exit code, or 1.

With flags that say which jobs, each of them is pulled from the server and run, as many at once as
there are cores, and it is said how many would complete. Nothing on the server changes. Exits with
0 where all of them would, 1 where not, and 6 where there is no such job.

Of the variables that its `env` names, a guest sees what [env] of midge.toml says, else what is set
here; --env goes before both.

Examples:
  midge replay job-0190b3e4-7d5c-7c3a-9f00-0123456789ab
  midge replay job-0190b3e4-7d5c-7c3a-9f00-0123456789ab --modules /app/modules --dir ./data::/data
  midge replay --state discarded --module report            would the mended module do?
  midge replay --state discarded --since 2h --limit 100 --json")]
pub(crate) struct Args {
    /// The folder that `midge jobs pull` wrote
    #[arg(required_unless_present = "FilterArgs", conflicts_with_all = ["FilterArgs", "limit"])]
    folder: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    json: bool,
    /// Run compiled modules of this folder, and build nothing
    #[arg(long, value_name = "PATH", conflicts_with = "project")]
    modules: Option<PathBuf>,
    /// Make its requests, rather than answer them from the recording; asks before that
    #[arg(long)]
    live: bool,
    /// Make them unasked
    #[arg(long, requires = "live")]
    yes: bool,
    /// A variable that the guest sees
    #[arg(long, value_name = "K=V", value_parser = key_value)]
    env: Vec<(String, String)>,
    /// A folder that the guest sees, in place of the Machine's that it would see there
    #[arg(long, value_name = "HOST::GUEST", value_parser = folder)]
    dir: Vec<(PathBuf, String)>,
    /// A folder in which the guest can only read
    #[arg(long, value_name = "HOST::GUEST", value_parser = folder)]
    read_only_dir: Vec<(PathBuf, String)>,
    /// The folder of midge.toml [default: the nearest from here upward]
    #[arg(long, value_name = "PATH")]
    project: Option<PathBuf>,
    /// The host program, beside which lies the one that has the network [default: the one beside midge, or built from its
    /// source]
    #[arg(long, value_name = "PATH", env = "MIDGE_HOST")]
    host_program: Option<PathBuf>,
    /// A rustc that has the target wasm32-wasip1
    #[arg(long, value_name = "PATH", env = "MIDGE_GUEST_RUSTC")]
    rustc: Option<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
    /// How many jobs at most
    #[arg(long, value_name = "N", default_value_t = JOBS_DEFAULT, value_parser = words::whole::<u32>(1..=JOBS_MAX))]
    limit: u32,
    #[command(flatten)]
    server: ServerArgs,
}

impl Args {
    pub(crate) async fn run(mut self) -> Result<ExitCode> {
        match self.folder.take() {
            Some(folder) => self.one(&folder).await,
            None => self.many().await,
        }
    }

    async fn one(self, folder: &Path) -> Result<ExitCode> {
        let pulled = Pulled::read(folder)?;
        if !self.may_go_on(&format!("job {}", pulled.about.id))? {
            return Ok(ExitCode::FAILURE);
        }
        let candidate = self.candidate(Some(&pulled.about.module))?;
        candidate.missing(&pulled.about.module).into_iter().for_each(note);
        let mut log = shown::Pieces::default();
        let replayed = candidate.replay(&pulled, |piece| note_bytes(log.take(piece).as_bytes())).await?;
        note_bytes(log.end().as_bytes());
        let verdict = Verdict::of(&pulled, &replayed);
        if self.json {
            let differences: Vec<String> = replayed.differences.iter().map(ToString::to_string).collect();
            say_json(&json!({
                "id": pulled.about.id, "attempt": pulled.about.attempt, "verdict": verdict.word(),
                "then": verdict::then(&pulled), "now": verdict::now(&replayed), "differences": differences,
                "result": verdict.result_differs(), "requests": replayed.requests.map(|(made, _)| made),
                "recorded_requests": replayed.requests.map(|(_, recorded)| recorded),
                "enqueues": replayed.enqueues,
            }))?;
        } else {
            tell(&pulled, &replayed, &verdict)?;
        }
        Ok(ExitCode::from(exit_code(&verdict, &replayed)))
    }

    async fn many(self) -> Result<ExitCode> {
        let filter = self.filter.clone().filter();
        let client = self.server.client()?;
        let found = many::find(&client, &filter, self.limit as usize).await?;
        if found.jobs.is_empty() {
            return many::none(&client, &filter, self.json).await;
        }
        if !self.may_go_on(&words::count(found.jobs.len(), "job"))? {
            return Ok(ExitCode::FAILURE);
        }
        let candidate = self.candidate(filter.module.as_ref())?;
        many::replay(&client, found, &candidate, self.json).await
    }

    /// Returns whether jobs may be run: where their requests are made once more, somebody has to say so.
    fn may_go_on(&self, jobs: &str) -> Result<bool> {
        if !self.live || self.yes {
            return Ok(true);
        }
        let may = live::may_go_on(jobs)?;
        if !may {
            note("nothing was run");
        }
        Ok(may)
    }

    /// Returns what jobs are run with: modules that are built, unless a folder of them is named.
    fn candidate(&self, only: Option<&ModuleName>) -> Result<Candidate> {
        let modules = match &self.modules {
            Some(modules) => modules.clone(),
            None => self.build(only)?,
        };
        let network = if self.live { Some(self.network_program()?) } else { None };
        let given = |dirs: &[(PathBuf, String)], read_only| {
            let dir = move |(host, guest): &(PathBuf, String)| Dir {
                host: host.clone(),
                guest: guest.clone(),
                read_only,
            };
            dirs.iter().map(dir).collect::<Vec<Dir>>()
        };
        let dirs = [given(&self.dir, false), given(&self.read_only_dir, true)].concat();
        Candidate::open(&modules, network, self.env.clone(), dirs)
    }

    fn build(&self, only: Option<&ModuleName>) -> Result<PathBuf> {
        let project = project(self.project.as_deref())?;
        // Not where `midge build` puts them, which may be served.
        let own = own_folder(&project.file)?;
        let builder = Builder::new(self.rustc.clone())?;
        let built = match only {
            Some(module) => {
                is_there(&project, module)?;
                let out = own.join("run").join(module.as_str());
                builder.out(Some(out)).build(&project.only(module))?
            }
            None => builder.out(Some(own.join("replay"))).build(&project)?,
        };
        Ok(built.out)
    }

    /// Returns where the program is that has the network: beside the host program.
    fn network_program(&self) -> Result<PathBuf> {
        let builder = Builder::new(self.rustc.clone())?;
        let host = host_program(self.host_program.as_deref(), Missing::Build, builder.environment())?;
        Ok(host.with_file_name("midge-net"))
    }
}

/// Tells how an attempt ended here beside how it had ended there.
fn tell(pulled: &Pulled, replayed: &candidate::Replayed, verdict: &Verdict) -> Result<()> {
    let pulled::About { id, module, .. } = &pulled.about;
    say(format_args!("{module} {id} {}", pulled.about.which()))?;
    say(format_args!("  then  {}", shown::line(&verdict::then(pulled))))?;
    say(format_args!("  now   {}", shown::line(&verdict::now(replayed))))?;
    for besides in verdict::besides(pulled, replayed) {
        say(format_args!("  {}", shown::line(&besides)))?;
    }
    for difference in &replayed.differences {
        say(format_args!("  {}", shown::line(&difference.to_string())))?;
    }
    if let Some(differs) = verdict.result_differs() {
        say(format_args!("  {}", shown::line(differs)))?;
    }
    if pulled.recording.as_ref().is_some_and(|recording| recording.cut) {
        note("the recording has not all of what the attempt was told: it went over a bound");
    }
    say(format_args!("  {}", shown::line(&verdict.sentence())))
}

/// Reads a folder of this computer, and the path under which a guest sees it.
fn folder(text: &str) -> Result<(PathBuf, String), String> {
    match text.split_once("::") {
        Some((host, guest)) if !host.is_empty() && !guest.is_empty() => Ok((host.into(), guest.to_owned())),
        _ => Err("use HOST::GUEST, such as ./data::/data".to_owned()),
    }
}

/// Checks that a folder of modules is one, before jobs are pulled for it.
fn is_folder(modules: &Path) -> Result<()> {
    ensure!(modules.is_dir(), "there is no folder {}: name one that `midge build` wrote", modules.display());
    Ok(())
}
