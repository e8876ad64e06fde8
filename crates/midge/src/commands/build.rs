//! `midge build`: from midge.toml to compiled modules.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use midge_build::Built;
use midge_cli::build::{Builder, project};
use midge_cli::output::{dim, note, path, say, say_table};
use midge_cli::table::Table;
use midge_cli::words;
use midge_protocol::manifest::Manifest;
use midge_protocol::{ModuleName, shown};

/// Build the modules that midge.toml lists
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Runs cargo for the guest target, checks what each module imports, compiles it ahead of time,
and writes it with a manifest. Modules that did not change are not compiled again. Where no
Rust toolchain for guests is found, one is fetched into the cache folder.

Examples:
  midge build
  midge build path/to/project --out /app/modules")]
pub(crate) struct Args {
    /// The folder of midge.toml, or the file; else the nearest one from here upward
    path: Option<PathBuf>,
    /// Where compiled modules go [default: what midge.toml says, or target/midge beside it]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A rustc that has the target wasm32-wasip1
    #[arg(long, value_name = "PATH", env = "MIDGE_GUEST_RUSTC")]
    rustc: Option<PathBuf>,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let project = project(self.path.as_deref())?;
        let built = Builder::new(self.rustc)?.out(self.out).build(&project)?;
        if !built.warnings.is_empty() {
            note(shown::text(built.warnings.trim_end()));
        }
        say_table(table(&built))?;
        say(dim(format_args!("in {}", path(&built.out))))?;
        for (module, name) in from_machines(&built.manifest) {
            note(dim(format_args!(
                "`{name}` of module `{module}` is not in [env]: its Machine has to have it, as a secret of Fly"
            )));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns the env that guests see only where their Machine has it from elsewhere.
fn from_machines(manifest: &Manifest) -> impl Iterator<Item = (&ModuleName, &String)> {
    let all =
        manifest.modules.iter().flat_map(|(module, entry)| entry.env.iter().map(move |name| (module, name)));
    all.filter(|(_, name)| !manifest.env.contains_key(*name))
}

fn table(built: &Built) -> Table {
    let mut table = Table::new(&["MODULE", "QUEUE", ">SIZE", "COMPILED"]);
    for (name, module) in &built.manifest.modules {
        let compiled = if built.compiled.contains(name) { "now" } else { "before: unchanged" };
        table.row([
            name.to_string(),
            module.queue.to_string(),
            words::bytes(module.size),
            compiled.to_owned(),
        ]);
    }
    table
}
