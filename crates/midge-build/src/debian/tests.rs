use super::*;
use std::cell::RefCell;

/// Programs that stand in for apt and dpkg, and a mirror that is never asked.
pub(super) struct Machine {
    root: tempfile::TempDir,
    pub(super) environment: Environment,
}

/// What `apt-get` does: lists 18 packages of 1000 bytes, and fetches as many as it is told to.
fn apt_get(fetched: usize) -> String {
    format!(
        r#"case "$*" in
*--print-uris*) for n in $(seq 18); do echo "'http://mirror.test/$n.deb' $n.deb 1000 SHA256:0"; done ;;
*download*) for n in $(seq {fetched}); do head -c 1000 /dev/zero > $n.deb; done; [ {fetched} = 18 ] ;;
esac"#
    )
}

const DPKG_DEB: &str = r#"mkdir -p "$3/usr/bin" "$3/usr/lib/x86_64-linux-gnu" "$3/usr/lib/rustlib/wasm32-wasip2"
touch "$3/usr/bin/rustc"
printf '#!/bin/sh\n' > "$3/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
chmod +x "$3/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2""#;

impl Machine {
    pub(super) fn new(apt_get: &str) -> Machine {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine { environment: environment(root.path()), root };
        fs::create_dir_all(machine.root.path().join("bin")).unwrap();
        fs::create_dir_all(machine.apt().join("sources.list.d")).unwrap();
        let keyring = machine.root.path().join("keys.gpg");
        fs::write(&keyring, "").unwrap();
        let source = format!("deb [signed-by={}] http://mirror.test/debian x main", keyring.display());
        fs::write(machine.apt().join("sources.list"), source).unwrap();
        machine.program("apt-get", apt_get);
        machine.program("dpkg-deb", DPKG_DEB);
        machine
    }

    pub(super) fn program(&self, name: &str, script: &str) {
        let path = self.root.path().join("bin").join(name);
        write_program(&path, &format!("#!/bin/sh\n{script}\n")).unwrap();
    }

    pub(super) fn apt(&self) -> PathBuf {
        self.root.path().join("etc")
    }

    pub(super) fn cache(&self) -> PathBuf {
        self.root.path().join("cache")
    }

    fn fetch(&self, progress: OnEvent<'_>) -> Result<PathBuf, DebianError> {
        fetch(&self.cache(), &self.apt(), &self.environment, progress)
    }
}

fn environment(root: &Path) -> Environment {
    let path = format!("{}:/usr/bin:/bin", root.join("bin").display());
    Environment::new([("PATH".into(), path.into())])
}

#[test]
fn a_toolchain_that_was_fetched_is_in_the_cache() {
    let machine = Machine::new(&apt_get(18));
    let steps = RefCell::new(Vec::new());
    let rustc = machine.fetch(&|event| steps.borrow_mut().push(format!("{event:?}"))).unwrap();
    assert_eq!(cached(&machine.cache()), Some(rustc.clone()));
    let whole = rustc.parent().unwrap();
    assert!(whole.join("system/usr/bin/rustc").is_file());
    assert!(!whole.join("apt").exists() && !whole.join("system/usr/lib/rustlib/wasm32-wasip2").exists());
    assert!(steps.borrow().iter().any(|step| step.contains("fetching the guest toolchain")));
    assert!(steps.borrow().contains(&"Bytes { done: 18000, total: 18000 }".to_owned()), "{steps:?}");
}

#[test]
fn half_a_download_never_looks_like_a_toolchain_and_the_next_one_begins_anew() {
    let machine = Machine::new(&apt_get(7));
    let error = machine.fetch(&|_| {}).unwrap_err().to_string();
    assert!(error.starts_with("fetching Debian's packages"), "{error}");
    assert_eq!(cached(&machine.cache()), None);

    machine.program("apt-get", &apt_get(18));
    machine.fetch(&|_| {}).unwrap();
    assert!(cached(&machine.cache()).is_some());
}

#[test]
fn a_rustc_that_does_not_run_is_not_kept() {
    let machine = Machine::new(&apt_get(18));
    machine.program("dpkg-deb", "exit 0");
    let error = machine.fetch(&|_| {}).unwrap_err().to_string();
    assert!(
        error.contains("cannot write the cache") || error.starts_with("running Debian's rustc"),
        "{error}"
    );
    assert_eq!(cached(&machine.cache()), None);
}

#[test]
fn what_apt_says_is_told() {
    let machine = Machine::new("echo 'E: The repository is not signed.' >&2; exit 100");
    let error = machine.fetch(&|_| {}).unwrap_err().to_string();
    assert!(error.contains("apt-get update) failed") && error.contains("not signed"), "{error}");
}

#[test]
fn a_machine_without_debian_is_told_what_is_missing() {
    let machine = Machine::new(&apt_get(18));
    fs::write(machine.apt().join("sources.list"), "deb http://mirror.test/ubuntu noble main").unwrap();
    assert!(matches!(machine.fetch(&|_| {}), Err(DebianError::NoMirror(_))));

    let nothing = Environment::new([("PATH".into(), "/nowhere".into())]);
    let error = fetch(&machine.cache(), &machine.apt(), &nothing, &|_| {}).unwrap_err();
    assert!(matches!(error, DebianError::NoProgram("apt-get")), "{error}");
}

#[test]
fn apt_is_kept_from_the_system() {
    let settings = apt::settings(Path::new("/cache/apt"));
    let folders = settings.lines().filter(|line| line.starts_with("Dir::"));
    assert!(folders.clone().count() >= 9);
    assert!(folders.clone().all(|line| line.contains("\"/cache/apt")), "{settings}");
    assert!(settings.contains("#clear APT::Update::Post-Invoke;"));
}
