//! Whole builds: from `midge.toml` to modules that the engine loads, and what is done again when something changed.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use midge_build::{
    BuildError, Built, Difference, Environment, Event, Options, Origin, Project, VerifyError, build, verify,
    write_program,
};
use midge_engine::{Cpu, Modules};
use midge_protocol::ModuleName;

const COMMAND: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
const OTHER_COMMAND: &str = r#"(module (memory (export "memory") 2) (func (export "_start") nop))"#;

/// A project in a folder of its own.
struct Folder(tempfile::TempDir);

impl Folder {
    /// With one module for each name.
    fn with_modules(names: &[&str]) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.describe(names);
        for name in names {
            folder.wasm(name, COMMAND);
        }
        folder
    }

    fn describe(&self, names: &[&str]) {
        let section = |name: &&str| format!("[modules.{name}]\nwasm = \"{name}.wasm\"\n");
        self.write("midge.toml", names.iter().map(section).collect::<String>().as_bytes());
    }

    fn wasm(&self, name: &str, wat: &str) {
        self.write(&format!("{name}.wasm"), &wat::parse_str(wat).unwrap());
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn out(&self) -> PathBuf {
        self.path("target/midge")
    }

    fn options(&self) -> Options {
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        let vars: [(OsString, OsString); 1] = [("PATH".into(), path.into())];
        Options::new(self.path("cache"), Environment::new(vars))
    }

    fn build(&self) -> Result<Built, BuildError> {
        build(&Project::read(self.0.path()).unwrap(), &self.options(), &|_| {})
    }

    fn program(&self, name: &str, script: &str) {
        fs::create_dir_all(self.path("bin")).unwrap();
        let path = self.path("bin").join(name);
        write_program(&path, &format!("#!/bin/sh\n{script}\n")).unwrap();
    }
}

fn name(name: &str) -> ModuleName {
    ModuleName::new(name).unwrap()
}

fn names(modules: &[ModuleName]) -> Vec<&str> {
    modules.iter().map(ModuleName::as_str).collect()
}

#[test]
fn what_is_built_is_what_the_engine_loads_and_the_manifest_says() {
    let folder = Folder::with_modules(&["a", "b"]);
    let built = folder.build().unwrap();
    assert_eq!(names(&built.compiled), ["a", "b"]);
    assert_eq!(verify(&folder.out()).unwrap(), built.manifest);
    let modules = Modules::open(folder.out()).unwrap();
    assert_eq!(modules.load(&name("a")).unwrap().entry, built.manifest.modules["a"]);
}

#[test]
fn an_unchanged_module_is_not_compiled_again() {
    let folder = Folder::with_modules(&["a", "b"]);
    folder.build().unwrap();
    folder.wasm("b", OTHER_COMMAND);
    let seen = RefCell::new(Vec::new());
    let project = Project::read(folder.0.path()).unwrap();
    let built = build(&project, &folder.options(), &|event| {
        if let Event::Unchanged(module) = event {
            seen.borrow_mut().push(module.to_string());
        }
    })
    .unwrap();
    assert_eq!(names(&built.compiled), ["b"]);
    assert_eq!(seen.into_inner(), ["a"]);
    assert_eq!(folder.build().unwrap().compiled, []);
}

#[test]
fn a_setting_that_changes_no_code_changes_the_manifest_only() {
    let folder = Folder::with_modules(&["a"]);
    folder.build().unwrap();
    folder.write("midge.toml", b"[modules.a]\nwasm = \"a.wasm\"\ntime_limit = \"1s\"\n");
    let built = folder.build().unwrap();
    assert_eq!((built.compiled.len(), built.manifest.modules["a"].limits.time_ms), (0, 1_000));
}

#[test]
fn another_cpu_is_another_module() {
    let folder = Folder::with_modules(&["a"]);
    folder.build().unwrap();
    let options = Options { cpu: Some(Cpu::V3), ..folder.options() };
    let built = build(&Project::read(folder.0.path()).unwrap(), &options, &|_| {});
    // A CPU without AVX2 cannot load it back, and says so.
    match built {
        Ok(built) => {
            assert_eq!((names(&built.compiled), built.manifest.cpu.as_str()), (vec!["a"], "x86-64-v3"))
        }
        Err(error) => assert!(Cpu::V3.missing_here().is_some(), "{error}"),
    }
}

#[test]
fn a_file_that_is_not_the_one_that_was_built_is_found_and_made_again() {
    type Spoil = fn(&Path);
    let spoil: [(&str, Spoil); 3] = [
        ("bytes where the manifest has", |file| {
            fs::OpenOptions::new().write(true).open(file).unwrap().set_len(100).unwrap();
        }),
        ("was altered", |file| {
            let mut bytes = fs::read(file).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(file, bytes).unwrap();
        }),
        ("cannot be read", |file| fs::remove_file(file).unwrap()),
    ];
    for (expected, spoil) in spoil {
        let folder = Folder::with_modules(&["a", "b"]);
        folder.build().unwrap();
        spoil(&folder.out().join("a.cwasm"));
        let VerifyError::Different(different) = verify(&folder.out()).unwrap_err() else {
            panic!("another error than a difference");
        };
        let [Difference { module, what }] = &different[..] else { panic!("{different:?}") };
        assert!(module.as_str() == "a" && what.contains(expected), "{module} {what}");

        assert_eq!(names(&folder.build().unwrap().compiled), ["a"]);
        verify(&folder.out()).unwrap();
    }
}

#[test]
fn a_module_that_is_no_longer_in_the_project_leaves_and_what_is_not_ours_stays() {
    let folder = Folder::with_modules(&["a", "b"]);
    folder.build().unwrap();
    fs::write(folder.out().join("notes.txt"), "").unwrap();
    folder.describe(&["a"]);
    folder.build().unwrap();
    let mut left: Vec<String> = fs::read_dir(folder.out())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, [".lock", "a.cwasm", "manifest.json", "notes.txt"]);
}

#[test]
fn a_build_that_fails_leaves_what_was_there_before() {
    let folder = Folder::with_modules(&["a", "b"]);
    let before = folder.build().unwrap().manifest;
    folder.wasm("a", OTHER_COMMAND);
    folder.wasm(
        "b",
        r#"(module (import "env" "missing" (func)) (memory (export "memory") 1) (func (export "_start")))"#,
    );
    let error = folder.build().unwrap_err().to_string();
    assert!(error.starts_with("module `b` (") && error.contains("`env.missing`"), "{error}");
    assert_eq!(verify(&folder.out()).unwrap(), before);
}

#[test]
fn of_an_import_with_a_long_name_no_more_is_told_than_people_read() {
    let folder = Folder::with_modules(&["a"]);
    let long = "x".repeat(100_000);
    for (module, name) in [("env", &*long), (&long, "f"), ("wasi_snapshot_preview1", &long), ("midge", &long)]
    {
        let wasm = format!(
            r#"(module (import "{module}" "{name}" (func)) (memory (export "memory") 1) (func (export "_start")))"#
        );
        folder.wasm("a", &wasm);
        let error = folder.build().unwrap_err().to_string();
        assert!(error.len() < 1_000 && error.contains("..."), "{}", error.len());
    }
}

#[test]
fn an_output_folder_that_cannot_be_written_is_told_and_left_as_it_is() {
    let folder = Folder::with_modules(&["a"]);
    let before = folder.build().unwrap().manifest;
    folder.wasm("a", OTHER_COMMAND);
    // A file where the staging folder would be. Permissions would not stop root, who runs tests in containers.
    fs::write(folder.out().join(".new"), "").unwrap();
    let error = folder.build().unwrap_err().to_string();
    assert!(error.contains(".new`") && error.contains("what was built before is as it was"), "{error}");
    assert_eq!(verify(&folder.out()).unwrap(), before);
}

#[test]
fn webassembly_that_jobs_cannot_use_is_refused_with_its_name() {
    let folder = Folder::with_modules(&["a"]);
    folder.wasm("a", r#"(module (memory (export "memory") i64 1) (func (export "_start")))"#);
    let error = folder.build().unwrap_err().to_string();
    assert!(error.contains("module `a`") && error.contains("memory64"), "{error}");
}

#[test]
fn a_wasm_file_that_is_not_there_is_named() {
    let folder = Folder::with_modules(&["a"]);
    fs::remove_file(folder.path("a.wasm")).unwrap();
    let error = folder.build().unwrap_err().to_string();
    assert!(error.contains("module `a`: cannot read `") && error.contains("a.wasm"), "{error}");
}

#[test]
fn a_manifest_of_another_release_is_not_trusted() {
    let folder = Folder::with_modules(&["a"]);
    folder.build().unwrap();
    let path = folder.out().join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"wasmtime\": \"", "\"wasmtime\": \"0.")).unwrap();
    assert_eq!(names(&folder.build().unwrap().compiled), ["a"]);
}

#[test]
fn two_builds_of_one_folder_come_one_after_the_other() {
    let folder = Folder::with_modules(&["a"]);
    fs::create_dir_all(folder.out()).unwrap();
    let lock = fs::File::create(folder.out().join(".lock")).unwrap();
    lock.lock().unwrap();
    let (said, heard) = mpsc::channel();
    std::thread::scope(|scope| {
        let folder = &folder;
        let second = scope.spawn(move || {
            let project = Project::read(folder.0.path()).unwrap();
            build(&project, &folder.options(), &|event| said.send(format!("{event:?}")).unwrap()).unwrap()
        });
        let first = heard.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(first, "Step(\"waiting for another build of this project\")");
        assert!(!folder.out().join("manifest.json").exists());
        lock.unlock().unwrap();
        assert_eq!(names(&second.join().unwrap().compiled), ["a"]);
    });
}

/// A cargo that answers as the real one does, and a rustc that has the target.
fn install_rust(folder: &Folder, cargo_build: &str) {
    let root = folder.0.path().canonicalize().unwrap();
    let root = root.display();
    folder.program("rustc", &format!("echo {root}/sysroot; echo {root}/libraries"));
    fs::create_dir_all(folder.path("libraries")).unwrap();
    folder.write("libraries/libstd-0.rlib", b"");
    fs::create_dir_all(folder.path("job")).unwrap();
    folder.write("job/Cargo.toml", b"");
    folder.write("midge.toml", b"[modules.job]\npackage = \"job\"\n");
    let metadata = format!(
        r#"{{"packages":[{{"id":"job-id","name":"job","manifest_path":"{root}/job/Cargo.toml","targets":[{{"name":"job","kind":["bin"]}}]}}],"workspace_root":"{root}/job"}}"#
    );
    let script = format!("case $1 in\nmetadata) echo '{metadata}' ;;\nbuild) {cargo_build} ;;\nesac");
    folder.program("cargo", &script);
}

#[test]
fn a_package_is_built_by_cargo_and_its_program_compiled() {
    let folder = Folder::with_modules(&["made"]);
    let message = format!(
        r#"{{"reason":"compiler-artifact","package_id":"job-id","target":{{"name":"job","kind":["bin"]}},"filenames":["{0}"],"executable":"{0}"}}"#,
        folder.path("made.wasm").display()
    );
    install_rust(&folder, &format!("echo '{message}'; echo 'warning: unused' >&2"));
    let built = folder.build().unwrap();
    assert_eq!(names(&built.compiled), ["job"]);
    assert_eq!(
        (built.warnings.as_str(), built.toolchain.unwrap().origin),
        ("warning: unused\n", Origin::Current)
    );
}

#[test]
fn what_cargo_says_about_a_package_that_does_not_compile_is_shown_as_it_is() {
    let folder = Folder::with_modules(&[]);
    install_rust(&folder, "echo 'error[E0425]: cannot find value' >&2; exit 101");
    let error = folder.build().unwrap_err().to_string();
    assert_eq!(error, "cargo could not build job:\nerror[E0425]: cannot find value\n");
}

#[test]
fn a_package_that_is_not_there_is_named() {
    let folder = Folder::with_modules(&[]);
    install_rust(&folder, "exit 1");
    fs::remove_file(folder.path("job/Cargo.toml")).unwrap();
    let error = folder.build().unwrap_err().to_string();
    assert!(error.starts_with("module `job`: no cargo package in `"), "{error}");
}
