use super::*;
use crate::process::write_program;

#[test]
fn the_order_is_setting_what_is_there_rustup_debian() {
    let nothing = Known::default();
    let rustup = Known { rustup_is_there: true, ..nothing };
    let failed = Known { rustup_failed: true, ..rustup };
    let cached = Known { debian_is_cached: true, ..rustup };
    let current = Known { current_has_target: true, ..cached };
    let explicit = Known { explicit: true, ..current };
    assert_eq!(next(explicit), Step::UseExplicit);
    assert_eq!(next(current), Step::UseCurrent);
    assert_eq!(next(cached), Step::UseDebian);
    assert_eq!(next(rustup), Step::AddWithRustup);
    assert_eq!(next(failed), Step::FetchDebian);
    assert_eq!(next(nothing), Step::FetchDebian);
}

/// A folder of programs that stand in for a Rust installation.
struct Installation {
    root: tempfile::TempDir,
    environment: Environment,
}

impl Installation {
    /// With a rustc that has its linker, but not the target.
    fn new() -> Installation {
        let root = tempfile::tempdir().unwrap();
        let path = format!("{}:/usr/bin:/bin", root.path().join("bin").display());
        let environment = Environment::new([("PATH".into(), path.into())]);
        let installation = Installation { root, environment };
        installation.rustc("bin", "sysroot");
        let tools = installation.path("sysroot/lib/rustlib/x86_64-unknown-linux-gnu/bin");
        fs::create_dir_all(&tools).unwrap();
        fs::write(tools.join("rust-lld"), "").unwrap();
        installation
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn rustc(&self, folder: &str, sysroot: &str) -> PathBuf {
        let sysroot = self.path(sysroot);
        let libraries = sysroot.join("libraries");
        let answer = format!("echo '{}'; echo '{}'", sysroot.display(), libraries.display());
        self.program(&format!("{folder}/rustc"), &answer)
    }

    fn program(&self, path: &str, script: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_program(&path, &format!("#!/bin/sh\n{script}\n")).unwrap();
        path
    }

    fn add_target(&self, sysroot: &str) {
        let libraries = self.path(sysroot).join("libraries");
        fs::create_dir_all(&libraries).unwrap();
        fs::write(libraries.join("libstd-0123.rlib"), "").unwrap();
    }

    fn cache_debian(&self) -> PathBuf {
        self.program("cache/guest-debian-trixie-1/rustc", "exit 1")
    }

    fn find(&self, rustc: Option<&Path>) -> Result<Toolchain, ToolchainError> {
        let (cache, apt) = (self.path("cache"), self.path("etc"));
        let wanted = Wanted {
            rustc,
            folder: self.root.path(),
            cache: &cache,
            apt: &apt,
            environment: &self.environment,
        };
        find(wanted, &|_| {})
    }

    fn calls(&self) -> usize {
        fs::read_to_string(self.path("calls")).unwrap_or_default().lines().count()
    }
}

#[test]
fn the_current_toolchain_is_used_where_it_has_the_target() {
    let installation = Installation::new();
    installation.cache_debian();
    installation.add_target("sysroot");
    let found = installation.find(None).unwrap();
    assert_eq!(found, Toolchain { origin: Origin::Current, rustc: None, linker: None });
}

#[test]
fn a_setting_is_used_whatever_else_there_is_and_borrows_a_linker() {
    let installation = Installation::new();
    installation.add_target("sysroot");
    let rustc = installation.rustc("other", "other-sysroot");
    let error = installation.find(Some(&rustc)).unwrap_err().to_string();
    assert!(error.contains("it has no standard library for wasm32-wasip1"), "{error}");

    installation.add_target("other-sysroot");
    let found = installation.find(Some(&rustc)).unwrap();
    assert_eq!((found.origin, found.rustc.as_deref()), (Origin::Explicit, Some(rustc.as_path())));
    assert!(found.linker.unwrap().ends_with("rust-lld"));
}

#[test]
fn a_setting_that_names_nothing_is_not_replaced_by_something_else() {
    let installation = Installation::new();
    installation.add_target("sysroot");
    let error = installation.find(Some(Path::new("/nowhere/rustc"))).unwrap_err().to_string();
    assert!(error.starts_with("`/nowhere/rustc` cannot build guests: it is not there"), "{error}");
}

#[test]
fn rustup_adds_the_target_where_it_can() {
    let installation = Installation::new();
    let libraries = installation.path("sysroot/libraries");
    let script = format!("mkdir -p {0} && touch {0}/libstd-0.rlib", libraries.display());
    installation.program("bin/rustup", &script);
    assert_eq!(installation.find(None).unwrap().origin, Origin::Rustup);
    assert_eq!(installation.find(None).unwrap().origin, Origin::Current);
}

#[test]
fn a_failure_of_rustup_is_told_and_remembered() {
    let installation = Installation::new();
    let script = format!(
        "echo call >> {}; echo 'error: could not download file' >&2; exit 1",
        installation.path("calls").display()
    );
    installation.program("bin/rustup", &script);
    let error = installation.find(None).unwrap_err().to_string();
    assert!(error.contains("rustup could not add it: error: could not download file"), "{error}");
    assert!(error.contains("run `rustup target add wasm32-wasip1`"), "{error}");

    let error = installation.find(None).unwrap_err().to_string();
    assert!(error.contains("less than a day ago"), "{error}");
    assert_eq!(installation.calls(), 1);
}

#[test]
fn a_cached_debian_toolchain_is_used_without_asking_rustup_and_borrows_a_linker() {
    let installation = Installation::new();
    let rustc = installation.cache_debian();
    installation.program("bin/rustup", &format!("echo call >> {}", installation.path("calls").display()));
    let found = installation.find(None).unwrap();
    assert_eq!((found.origin, found.rustc), (Origin::Debian, Some(rustc)));
    assert!(found.linker.unwrap().ends_with("rust-lld"));
    assert_eq!(installation.calls(), 0);
}

#[test]
fn no_rust_at_all_is_told_so() {
    let installation = Installation::new();
    fs::remove_file(installation.path("bin/rustc")).unwrap();
    let nothing = Environment::new([("PATH".into(), installation.path("bin").into())]);
    let installation = Installation { environment: nothing, ..installation };
    let error = installation.find(None).unwrap_err().to_string();
    assert!(error.starts_with("`rustc` does not run (it is not there): install Rust"), "{error}");
}
