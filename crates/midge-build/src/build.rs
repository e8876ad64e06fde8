//! The build itself: from a project to a folder of compiled modules, doing again only what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use midge_engine::{Cpu, LoadError, Modules, WASMTIME_VERSION, config_hash, imports};
use midge_protocol::ModuleName;
use midge_protocol::manifest::{FORMAT, Manifest, ModuleEntry};

use crate::cargo::{self, CargoError};
use crate::check::{Checks, WasmError};
use crate::compile::Compiler;
use crate::environment::Environment;
use crate::output::{self, OutFolder, OutputError};
use crate::progress::{Event, OnEvent};
use crate::project::{ModuleSource, Project, ProjectModule};
use crate::toolchain::{self, Toolchain, ToolchainError};

/// What a build is started with. What is set here overrides `midge.toml`.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder where a fetched toolchain is kept, such as `~/.cache/midge`.
    pub cache: PathBuf,
    /// The environment that rustc, cargo, rustup and apt are started with.
    pub environment: Environment,
    /// The rustc that compiles guests, instead of one that is looked for.
    pub rustc: Option<PathBuf>,
    /// The folder that compiled modules and the manifest are written to.
    pub out: Option<PathBuf>,
    /// The CPU to compile for.
    pub cpu: Option<Cpu>,
    /// The folder of apt's settings, which name Debian's mirror and keyring: `/etc/apt`.
    pub apt: PathBuf,
}

impl Options {
    /// Makes options that leave everything to `midge.toml`.
    pub fn new(cache: impl Into<PathBuf>, environment: Environment) -> Options {
        Options {
            cache: cache.into(),
            environment,
            rustc: None,
            out: None,
            cpu: None,
            apt: PathBuf::from("/etc/apt"),
        }
    }
}

/// What a build made.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// The folder that holds the modules and the manifest.
    pub out: PathBuf,
    /// The manifest in that folder.
    pub manifest: Manifest,
    /// The manifest that the folder had before; none where it had none.
    pub before: Option<Manifest>,
    /// What modules import and may not use, in words, with what to do.
    pub not_allowed: Vec<String>,
    /// The modules that were compiled now. All others were as they should be.
    pub compiled: Vec<ModuleName>,
    /// The toolchain that was used; none where there were no packages to build.
    pub toolchain: Option<Toolchain>,
    /// The warnings of rustc, as it wrote them; empty where there were none.
    pub warnings: String,
    /// The files that it was made from: those that the project names, and all that cargo knows its packages to read.
    pub read: BTreeSet<PathBuf>,
}

/// Why a build made nothing. What was built before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no toolchain that can build guests.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// cargo made no `.wasm` file.
    #[error(transparent)]
    Cargo(#[from] CargoError),
    /// A `.wasm` file cannot be read.
    #[error("module `{module}`: cannot read `{file}`: {source}", file = .file.display())]
    Unreadable {
        /// The module that is made from the file.
        module: ModuleName,
        /// The file that cannot be read.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A `.wasm` file is no job.
    #[error("module `{module}` (`{file}`): {problem}", file = .file.display())]
    Wasm {
        /// The module that is made from the file.
        module: ModuleName,
        /// The file that was looked into.
        file: PathBuf,
        /// What is wrong with it.
        problem: WasmError,
    },
    /// What was compiled cannot be loaded by the engine.
    #[error("what was compiled cannot be loaded back")]
    Load(#[from] LoadError),
    /// The output folder cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The compiler does not start, which is a mistake in midge itself.
    #[error("the compiler cannot start: {0}")]
    Compiler(String),
}

/// Builds a project: cargo, checks, Cranelift, and the manifest last. `progress` is told what happens meanwhile.
///
/// A module whose `.wasm`, CPU, wasmtime and configuration are those of last time, and whose file is whole, is not
/// compiled again. Two builds of one folder come one after the other.
///
/// # Errors
/// [`BuildError`] says which step failed. What was built before is as it was.
pub fn build(project: &Project, options: &Options, progress: OnEvent<'_>) -> Result<Built, BuildError> {
    let out = options.out.as_ref().unwrap_or(&project.out);
    let cpu = options.cpu.unwrap_or(project.cpu);
    let output = OutFolder::lock(out, progress)?;
    let sources = Sources::get(project, options, progress)?;
    let before = output.manifest();
    let old = before.as_ref().filter(|old| {
        old.wasmtime == WASMTIME_VERSION && old.config_hash == config_hash() && old.cpu == cpu.as_str()
    });

    let mut manifest = empty_manifest(project, cpu);
    let mut files = BTreeMap::new();
    let mut not_allowed = Vec::new();
    let mut compiler: Option<Compiler> = None;
    for (name, module) in &project.modules {
        let (file, wasm) = &sources.files[name];
        let source_sha256 = output::sha256(wasm);
        let wrong = |problem| BuildError::Wasm { module: name.clone(), file: file.clone(), problem };
        let old = old.and_then(|old| old.modules.get(name));
        let old = old.filter(|old| old.source_sha256 == source_sha256 && output.is_whole(name, old));
        // Checked although it was compiled before: its memory limit may be another one.
        let imports = sources.checks.check(wasm, module.limits.memory_bytes).map_err(wrong)?;
        let useless = lacking(name, module, &imports);
        let entry = match old {
            Some(old) => {
                progress(Event::Unchanged(name));
                entry(module, old.clone())
            }
            None => {
                progress(Event::Step(&format!("compiling {name}")));
                let began = Instant::now();
                let compiler = match &mut compiler {
                    Some(compiler) => compiler,
                    none => none.insert(start_compiler(cpu)?),
                };
                let cwasm = compiler.compile(wasm).map_err(|reason| wrong(WasmError::Invalid(reason)))?;
                let made = file_entry(name, &cwasm, source_sha256);
                progress(Event::Compiled { module: name, size: made.size, took: began.elapsed() });
                files.insert(name.clone(), cwasm);
                entry(module, made)
            }
        };
        manifest.modules.insert(name.clone(), entry);
        not_allowed.extend(useless);
    }
    install(&output, &files, &manifest)?;
    Ok(Built {
        out: out.clone(),
        before,
        manifest,
        not_allowed,
        compiled: files.into_keys().collect(),
        toolchain: sources.toolchain,
        warnings: sources.warnings,
        read: sources.read,
    })
}

/// Says what a module imports of midge's own functions and may not use.
fn lacking(
    name: &ModuleName,
    module: &ProjectModule,
    imports: &BTreeSet<String>,
) -> impl Iterator<Item = String> {
    let lacks = |import: &str, may: bool| imports.contains(import) && !may;
    let requests = lacks("http_open", !module.http.is_empty()).then(|| {
        format!(
            "module `{name}` makes requests, and may make none: name their destinations in [modules.{name}], such as \
             http = [\"https://api.example.com\"]"
        )
    });
    let jobs = lacks("enqueue", !module.enqueues.is_empty()).then(|| {
        format!(
            "module `{name}` enqueues jobs, and may enqueue none: name their modules in [modules.{name}], such as \
             enqueues = [\"resize\"]"
        )
    });
    requests.into_iter().chain(jobs)
}

fn start_compiler(cpu: Cpu) -> Result<Compiler, BuildError> {
    Compiler::new(cpu).map_err(|error| BuildError::Compiler(format!("{error:#}")))
}

/// Loads new modules as a host will, before they replace the old ones.
fn install(
    output: &OutFolder,
    files: &BTreeMap<ModuleName, Vec<u8>>,
    manifest: &Manifest,
) -> Result<(), BuildError> {
    let mut staged = manifest.clone();
    staged.modules.retain(|name, _| files.contains_key(name));
    let try_out = || -> Result<(), BuildError> {
        let modules = Modules::open(output.stage(files, &staged)?)?;
        files.keys().try_for_each(|name| modules.load(name).map(drop))?;
        Ok(output.install(files, manifest)?)
    };
    try_out().inspect_err(|_| {
        // The first error is the one to tell.
        let _ = output.clear_staging();
    })
}

/// The `.wasm` of every module, with what is needed to judge them.
struct Sources {
    files: BTreeMap<ModuleName, (PathBuf, Vec<u8>)>,
    checks: Checks,
    toolchain: Option<Toolchain>,
    warnings: String,
    read: BTreeSet<PathBuf>,
}

impl Sources {
    /// Runs cargo where there are packages, and reads every file.
    fn get(project: &Project, options: &Options, progress: OnEvent<'_>) -> Result<Sources, BuildError> {
        let mut packages = Vec::new();
        let mut paths: BTreeMap<ModuleName, PathBuf> = BTreeMap::new();
        for (module, described) in &project.modules {
            match &described.source {
                ModuleSource::Wasm(path) => {
                    paths.insert(module.clone(), path.clone());
                }
                ModuleSource::Package { folder, bin } => {
                    packages.push(cargo::WantedProgram { module, folder, bin: bin.as_deref() });
                }
            }
        }
        let mut toolchain = None;
        let mut warnings = String::new();
        let mut read_files: BTreeSet<PathBuf> = paths.values().cloned().collect();
        if !packages.is_empty() {
            let found = toolchain::find(wanted(project, options), progress)?;
            let made = cargo::build(&packages, &found, &options.environment, progress)?;
            read_files.extend(made.files.values().flat_map(|wasm| cargo::read_for(wasm)));
            paths.extend(made.files);
            warnings = made.warnings;
            toolchain = Some(found);
        }
        let files = paths.into_iter().map(|(module, path)| read(module, path)).collect::<Result<_, _>>()?;
        Ok(Sources { files, checks: Checks::new(imports()), toolchain, warnings, read: read_files })
    }
}

/// Returns whether a build of packages would find a toolchain without fetching one.
pub fn has_toolchain(project: &Project, options: &Options) -> bool {
    toolchain::is_here(wanted(project, options))
}

fn wanted<'a>(project: &'a Project, options: &'a Options) -> toolchain::Wanted<'a> {
    toolchain::Wanted {
        rustc: options.rustc.as_deref().or(project.rustc.as_deref()),
        folder: &project.folder,
        cache: &options.cache,
        apt: &options.apt,
        environment: &options.environment,
    }
}

type Read = (ModuleName, (PathBuf, Vec<u8>));

fn read(module: ModuleName, path: PathBuf) -> Result<Read, BuildError> {
    let bytes = fs::metadata(&path).and_then(|there| {
        // A device or a pipe may never end.
        let not_a_file = || io::Error::new(io::ErrorKind::InvalidInput, "it is no file");
        if there.is_file() { fs::read(&path) } else { Err(not_a_file()) }
    });
    match bytes {
        Ok(bytes) => Ok((module, (path, bytes))),
        Err(source) => Err(BuildError::Unreadable { module, file: path, source }),
    }
}

fn empty_manifest(project: &Project, cpu: Cpu) -> Manifest {
    Manifest {
        format: FORMAT,
        wasmtime: WASMTIME_VERSION.to_owned(),
        config_hash: config_hash(),
        cpu: cpu.to_string(),
        modules: BTreeMap::new(),
        server: project.server.clone(),
        prices: project.prices.clone(),
        queues: project.queues.clone(),
        schedules: project.schedules.clone(),
        env: project.env.clone(),
        secrets: project.secrets.clone(),
    }
}

/// What an entry says about the file; the rest is put there by [`entry`].
fn file_entry(name: &ModuleName, cwasm: &[u8], source_sha256: String) -> ModuleEntry {
    ModuleEntry {
        file: output::file_name(name),
        size: cwasm.len() as u64,
        sha256: output::sha256(cwasm),
        xxh3: output::xxh3(cwasm),
        source_sha256,
        queue: midge_protocol::QueueName::default_queue(),
        limits: Default::default(),
        retry: Default::default(),
        env: Vec::new(),
        dirs: BTreeMap::new(),
        enqueues: Default::default(),
        http: Vec::new(),
        secrets: BTreeMap::new(),
    }
}

/// Describes a module as `midge.toml` does now, whenever its file was made.
fn entry(module: &ProjectModule, file: ModuleEntry) -> ModuleEntry {
    ModuleEntry {
        queue: module.queue.clone(),
        limits: module.limits,
        retry: module.retry.clone(),
        env: module.env.clone(),
        dirs: module.dirs.clone(),
        enqueues: module.enqueues.clone(),
        http: module.http.clone(),
        secrets: module.secrets.clone(),
        ..file
    }
}
