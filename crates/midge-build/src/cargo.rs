//! Runs cargo for guest packages: one call for each workspace, and the programs that it says it made.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use midge_protocol::ModuleName;
use serde::Deserialize;

use crate::environment::Environment;
use crate::process::{self, ProcessOutput, Tick};
use crate::progress::{Event, OnEvent};
use crate::toolchain::{GUEST_TARGET, Toolchain};

/// Messages for programs go to stdout, and what people read goes to stderr.
pub(crate) const MESSAGES: [&str; 2] = ["--message-format", "json-render-diagnostics"];

/// Why cargo made no `.wasm` file.
#[derive(Debug, thiserror::Error)]
pub enum CargoError {
    /// cargo itself does not run.
    #[error("cannot run `cargo` ({0}): install Rust, see https://rust-lang.org/tools/install")]
    NoCargo(#[source] io::Error),
    /// A package is not there, or is not what `midge.toml` says.
    #[error("module `{module}`: {reason}")]
    Package {
        /// The module that is made from the package.
        module: ModuleName,
        /// What is wrong with the package.
        reason: String,
    },
    /// A package does not compile.
    #[error("cargo could not build {what}:\n{output}")]
    Build {
        /// The modules that were to be built, in words for a message.
        what: String,
        /// What cargo and rustc wrote to stderr.
        output: String,
    },
}

/// A package that a module is made from.
pub(crate) struct WantedProgram<'a> {
    pub(crate) module: &'a ModuleName,
    pub(crate) folder: &'a Path,
    pub(crate) bin: Option<&'a str>,
}

/// What cargo made.
pub(crate) struct Made {
    /// The `.wasm` of each module.
    pub(crate) files: BTreeMap<ModuleName, PathBuf>,
    /// Warnings, as rustc wrote them.
    pub(crate) warnings: String,
}

/// Builds packages for guests.
pub(crate) fn build(
    wanted: &[WantedProgram<'_>],
    toolchain: &Toolchain,
    environment: &Environment,
    progress: OnEvent<'_>,
) -> Result<Made, CargoError> {
    let mut made = Made { files: BTreeMap::new(), warnings: String::new() };
    for workspace in workspaces(wanted, environment)? {
        let mut cargo = environment.command("cargo");
        cargo.current_dir(&workspace.root);
        cargo.args(["build", "--release", "--target", GUEST_TARGET]).args(MESSAGES);
        for program in &workspace.programs {
            cargo.args(["--package", &program.package_id, "--bin", &program.bin]);
        }
        toolchain.apply(&mut cargo);
        let names: Vec<&str> = workspace.programs.iter().map(|program| program.module.as_str()).collect();
        let what = names.join(", ");
        progress(Event::Step(&format!("cargo builds {what}")));
        let ended = run(&mut cargo, &what, progress)?;

        let artifacts = artifacts(&ended.stdout);
        for program in workspace.programs {
            let found = artifacts.iter().find(|artifact| artifact.is(&program.package_id, &program.bin));
            let file = found.and_then(Artifact::program).ok_or_else(|| CargoError::Package {
                module: program.module.clone(),
                reason: format!("cargo did not say where it put `{}`", program.bin),
            })?;
            made.files.insert(program.module, file);
        }
        if ended.stderr.contains("warning") {
            made.warnings.push_str(&ended.stderr);
        }
    }
    Ok(made)
}

/// Runs a cargo command that compiles, given [`MESSAGES`].
pub(crate) fn run(
    cargo: &mut Command,
    what: &str,
    progress: OnEvent<'_>,
) -> Result<ProcessOutput, CargoError> {
    let mut tick = |tick: Tick<'_>| {
        if let Tick::Line(line) = tick {
            progress(Event::CargoLine(line));
        }
    };
    let ended = process::run_with(cargo, Duration::MAX, &mut tick).map_err(CargoError::NoCargo)?;
    if ended.status.success() {
        Ok(ended)
    } else {
        Err(CargoError::Build { what: what.to_owned(), output: ended.stderr })
    }
}

/// A message of cargo about something that it made. Format: the Cargo book, "External tools".
#[derive(Debug, Deserialize)]
pub(crate) struct Artifact {
    package_id: String,
    target: Target,
    /// The program, where it is one.
    executable: Option<PathBuf>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

impl Artifact {
    /// Returns whether it is this program of this package.
    fn is(&self, package_id: &str, bin: &str) -> bool {
        self.package_id == package_id && self.is_program(bin)
    }

    /// Returns whether it is a program of this name.
    pub(crate) fn is_program(&self, bin: &str) -> bool {
        self.target.is_program() && self.target.name == bin
    }

    /// Returns where the program is.
    pub(crate) fn program(&self) -> Option<PathBuf> {
        let wasm = || self.filenames.iter().find(|path| path.extension().is_some_and(|e| e == "wasm"));
        self.executable.clone().or_else(|| wasm().cloned())
    }
}

/// Reads what was made from cargo's messages. Messages of other kinds are skipped.
pub(crate) fn artifacts(messages: &[u8]) -> Vec<Artifact> {
    #[derive(Deserialize)]
    struct Kind<'a> {
        reason: &'a str,
    }
    let is_artifact = |line: &&[u8]| {
        serde_json::from_slice::<Kind<'_>>(line).is_ok_and(|kind| kind.reason == "compiler-artifact")
    };
    let lines = messages.split(|&byte| byte == b'\n').filter(is_artifact);
    lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Packages that one cargo call builds.
struct Workspace {
    root: PathBuf,
    programs: Vec<Program>,
}

struct Program {
    module: ModuleName,
    package_id: String,
    bin: String,
}

/// What `cargo metadata` says. Format: the Cargo book, "cargo metadata".
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Target {
    fn is_program(&self) -> bool {
        self.kind.iter().any(|kind| kind == "bin")
    }
}

/// Finds the workspaces of packages, asking cargo once for each.
fn workspaces(wanted: &[WantedProgram<'_>], environment: &Environment) -> Result<Vec<Workspace>, CargoError> {
    let mut found: Vec<(Metadata, Workspace)> = Vec::new();
    for wanted in wanted {
        let wrong = |reason| CargoError::Package { module: wanted.module.clone(), reason };
        let manifest = wanted.folder.join("Cargo.toml");
        let manifest = manifest
            .canonicalize()
            .map_err(|error| wrong(format!("no cargo package in `{}` ({error})", wanted.folder.display())))?;
        let known = found.iter().position(|(metadata, _)| metadata.package(&manifest).is_some());
        let index = match known {
            Some(index) => index,
            None => {
                let metadata = metadata(&manifest, environment, wanted.module)?;
                let root = metadata.workspace_root.clone();
                found.push((metadata, Workspace { root, programs: Vec::new() }));
                found.len() - 1
            }
        };
        let (metadata, workspace) = &mut found[index];
        let package = metadata.package(&manifest).ok_or_else(|| {
            wrong(format!("`{}` is no package: is it the manifest of a workspace?", manifest.display()))
        })?;
        let bin = package.program(wanted.bin).map_err(wrong)?.to_owned();
        let program = Program { module: wanted.module.clone(), package_id: package.id.clone(), bin };
        workspace.programs.push(program);
    }
    Ok(found.into_iter().map(|(_, workspace)| workspace).collect())
}

fn metadata(manifest: &Path, environment: &Environment, module: &ModuleName) -> Result<Metadata, CargoError> {
    let wrong = |reason| CargoError::Package { module: module.clone(), reason };
    let mut cargo = environment.command("cargo");
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--manifest-path"]).arg(manifest);
    // In its folder, since that decides about the toolchain and about cargo's settings.
    cargo.current_dir(manifest.parent().unwrap_or(Path::new("/")));
    let ended = process::run(&mut cargo).map_err(CargoError::NoCargo)?;
    if !ended.status.success() {
        return Err(wrong(format!("cargo cannot read its package:\n{}", ended.stderr.trim_end())));
    }
    serde_json::from_slice(&ended.stdout)
        .map_err(|error| wrong(format!("cargo's metadata cannot be read: {error}")))
}

impl Metadata {
    fn package(&self, manifest: &Path) -> Option<&Package> {
        let same = |path: &Path| path == manifest || path.canonicalize().is_ok_and(|path| path == manifest);
        self.packages.iter().find(|package| same(&package.manifest_path))
    }
}

impl Package {
    /// Returns which program is meant: the one named, the one with the package's name, or the only one.
    fn program(&self, named: Option<&str>) -> Result<&str, String> {
        let programs: Vec<&str> = self
            .targets
            .iter()
            .filter(|target| target.is_program())
            .map(|target| target.name.as_str())
            .collect();
        let has = |name: &str| programs.iter().copied().find(|program| *program == name);
        match (named, &programs[..]) {
            (_, []) => Err(format!(
                "package `{}` has no program: a module needs a `main` (src/main.rs), not a library",
                self.name
            )),
            (Some(bin), _) => has(bin).ok_or_else(|| {
                format!("package `{}` has no program `{bin}`: it has {}", self.name, programs.join(", "))
            }),
            (None, [only]) => Ok(only),
            (None, _) => has(&self.name).ok_or_else(|| {
                format!(
                    "package `{}` has several programs: set `bin` to one of {}",
                    self.name,
                    programs.join(", ")
                )
            }),
        }
    }
}

/// Returns the files that a program was made from, as cargo lists them beside it: those of its package and of all packages
/// in folders, with what their build scripts and `include_str!` read. Nothing where there is no such list.
pub(crate) fn read_for(program: &Path) -> Vec<PathBuf> {
    std::fs::read_to_string(program.with_extension("d")).map(|text| dep_info(&text)).unwrap_or_default()
}

/// Reads a rule of make: `PROGRAM: FILE FILE`, in which a space of a name is written `\\ `.
fn dep_info(text: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in text.lines() {
        let Some((_, named)) = line.split_once(": ") else { continue };
        let (mut file, mut chars) = (String::new(), named.chars().peekable());
        while let Some(next) = chars.next() {
            match next {
                '\\' if chars.peek() == Some(&' ') => file.extend(chars.next()),
                ' ' => files.push(std::mem::take(&mut file)),
                other => file.push(other),
            }
        }
        files.push(file);
    }
    files.into_iter().filter(|file| !file.is_empty()).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(programs: &[&str]) -> Package {
        let target = |name: &&str| Target { name: (*name).to_owned(), kind: vec!["bin".to_owned()] };
        let mut targets: Vec<Target> = programs.iter().map(target).collect();
        targets.push(Target { name: "lib".to_owned(), kind: vec!["lib".to_owned()] });
        Package { id: "id".to_owned(), name: "main".to_owned(), manifest_path: PathBuf::new(), targets }
    }

    #[test]
    fn the_named_program_the_packages_own_or_the_only_one_is_meant() {
        assert_eq!(package(&["a", "main"]).program(Some("a")), Ok("a"));
        assert_eq!(package(&["a", "main"]).program(None), Ok("main"));
        assert_eq!(package(&["a"]).program(None), Ok("a"));
        assert!(package(&["a", "b"]).program(None).unwrap_err().contains("set `bin` to one of a, b"));
        assert!(package(&["a", "b"]).program(Some("c")).unwrap_err().contains("it has a, b"));
        assert!(package(&[]).program(None).unwrap_err().contains("not a library"));
    }

    #[test]
    fn what_a_program_was_made_from_is_what_cargo_lists() {
        let text = "/t/a.wasm: /p/src/main.rs /p/my\\ page.html  /q/lib.rs\n\n/p/src/main.rs:\n";
        let files: Vec<String> = dep_info(text).iter().map(|file| file.display().to_string()).collect();
        assert_eq!(files, ["/p/src/main.rs", "/p/my page.html", "/q/lib.rs"]);
        assert!(dep_info("").is_empty() && read_for(Path::new("/no/such/a.wasm")).is_empty());
    }

    #[test]
    fn only_artifacts_are_read_from_cargos_messages() {
        let messages = br#"{"reason":"build-script-executed","package_id":"x"}
not json
{"reason":"compiler-artifact","package_id":"p","target":{"name":"a","kind":["bin"]},"filenames":["/t/a.wasm"],"executable":"/t/a.wasm"}
{"reason":"compiler-artifact","package_id":"p","target":{"name":"a","kind":["lib"]},"filenames":["/t/a.rlib"],"executable":null}
"#;
        let artifacts = artifacts(messages);
        let programs: Vec<_> = artifacts.iter().filter(|artifact| artifact.is("p", "a")).collect();
        assert_eq!((artifacts.len(), programs.len()), (2, 1));
        assert_eq!(programs[0].program(), Some("/t/a.wasm".into()));
    }
}
