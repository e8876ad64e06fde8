//! `midge build`: from midge.toml to compiled modules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use midge_build::Built;
use midge_cli::build::{Builder, project};
use midge_cli::output::{dim, note, path, say, say_table};
use midge_cli::table::Table;
use midge_cli::words;
use midge_protocol::manifest::{Manifest, ModuleEntry, capability_changes};
use midge_protocol::{ModuleName, shown};

use super::capabilities::change_lines;

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
        // What nothing was known of has nothing new.
        let changes = built.before.iter().flat_map(|before| capability_changes(before, &built.manifest));
        for line in changes.flat_map(|change| change_lines(&change)) {
            note(line);
        }
        for what in &built.not_allowed {
            note(what);
        }
        for (module, name) in from_machines(&built.manifest) {
            note(dim(format_args!(
                "`{name}` of module `{module}` is not in [env]: its Machine has to have it, as a secret of Fly"
            )));
        }
        for (module, folder) in folders_not_here(&built.manifest.modules) {
            note(dim(format_args!(
                "folder {} of module `{module}` is not on this computer: the Machines of its jobs have to have it, or they fail \
                 as `not_loadable`",
                shown::cut(folder)
            )));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns the folders of Machines that guests see and that are not on this computer, whose Machines may be elsewhere.
fn folders_not_here(
    modules: &BTreeMap<ModuleName, ModuleEntry>,
) -> impl Iterator<Item = (&ModuleName, &str)> {
    let all = modules
        .iter()
        .flat_map(|(module, entry)| entry.dirs.values().map(move |folder| (module, folder.path.as_str())));
    all.filter(|(_, path)| !Path::new(path).is_dir())
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

#[cfg(test)]
mod tests {
    use midge_protocol::QueueName;
    use midge_protocol::manifest::Folder;

    use super::*;

    #[test]
    fn a_folder_that_is_not_on_this_computer_is_told_with_its_module() {
        let here = tempfile::tempdir().unwrap();
        let gone = here.path().join("gone");
        let folder = |path: &Path| Folder { path: path.display().to_string(), read_only: false };
        let entry = ModuleEntry {
            file: "send.cwasm".to_owned(),
            size: 1,
            sha256: String::new(),
            xxh3: String::new(),
            source_sha256: String::new(),
            queue: QueueName::default_queue(),
            limits: Default::default(),
            retry: Default::default(),
            env: Vec::new(),
            dirs: [("/here".to_owned(), folder(here.path())), ("/gone".to_owned(), folder(&gone))].into(),
            enqueues: Default::default(),
            http: Vec::new(),
            secrets: Default::default(),
        };
        let name = ModuleName::new("send").unwrap();
        let modules = BTreeMap::from([(name.clone(), entry)]);
        let told: Vec<_> = folders_not_here(&modules).collect();
        assert_eq!(told, [(&name, gone.to_str().unwrap())]);
    }
}
