//! Debian's kernel for virtual machines, the one file of its package that starts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{DebianError, Once, once};
use crate::environment::Environment;
use crate::progress::OnEvent;

/// Has no files: it depends on the newest kernel.
const METAPACKAGE: &str = "linux-image-cloud-amd64";
/// How the packages of kernels begin, and after it their versions.
const PACKAGE_PREFIX: &str = "linux-image-";
/// How the files of kernels begin, and after it their versions.
const FILE_PREFIX: &str = "vmlinuz-";
/// The folder of the kernel. The number rises when what is in it changes.
const FOLDER: &str = "kernel-debian-trixie-1";

/// Returns Debian's kernel for virtual machines (`vmlinuz-VERSION`): from the cache, else fetched into it by the
/// machine's apt, as the guest toolchain is. `apt` is apt's folder, `/etc/apt`.
pub fn find_kernel(
    cache: &Path,
    apt: &Path,
    environment: &Environment,
    progress: OnEvent<'_>,
) -> Result<PathBuf, DebianError> {
    if let Some(kernel) = kernel_in(&cache.join(FOLDER)) {
        return Ok(kernel);
    }
    if !environment.has_program("apt-cache") {
        return Err(DebianError::NoProgram("apt-cache"));
    }
    let what = Once { folder: FOLDER, find: kernel_in, cache, apt, environment, progress };
    once(what, |root, folder| {
        root.update()?;
        let unexpected = |output: &str| DebianError::Failed {
            step: "finding Debian's kernel".to_owned(),
            output: output.to_owned(),
        };
        let said = root.show(METAPACKAGE)?;
        let package = package_of(&said)
            .ok_or_else(|| unexpected(&format!("{METAPACKAGE} depends on no kernel:\n{said}")))?;
        root.download(&[package], "a kernel for virtual machines (Debian's)")?;
        let system = folder.join("system");
        root.unpack(&system, "the kernel")?;
        let kernel = kernel_in(&system.join("boot")).ok_or_else(|| unexpected("its package has none"))?;
        let keep = || -> io::Result<()> {
            fs::rename(&kernel, folder.join(kernel.file_name().unwrap_or_default()))?;
            // Its modules, ten times as large.
            fs::remove_dir_all(&system)
        };
        keep().map_err(|source| DebianError::Cache { path: folder.to_owned(), source })
    })
}

/// Returns the kernel that lies in a folder.
fn kernel_in(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let kernel = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.starts_with(FILE_PREFIX));
    files.map(|file| file.path()).find(|path| path.file_name().is_some_and(kernel))
}

/// Returns the package that the metapackage depends on.
fn package_of(shown: &str) -> Option<&str> {
    let depends = shown.lines().find_map(|line| line.strip_prefix("Depends:"))?;
    let names = depends.split(',').filter_map(|dependency| dependency.split_whitespace().next());
    names.into_iter().find(|name| name.starts_with(PACKAGE_PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::tests::Machine;

    const SHOWN: &str = "Package: linux-image-cloud-amd64
Depends: other, linux-image-6.12.1-cloud-amd64 (= 6.12.1-1)
Size: 1496";

    #[test]
    fn the_kernel_is_what_the_metapackage_depends_on() {
        assert_eq!(package_of(SHOWN), Some("linux-image-6.12.1-cloud-amd64"));
        assert_eq!(package_of("Package: linux-image-cloud-amd64\nDepends: firmware"), None);
    }

    #[test]
    fn a_kernel_is_fetched_once_and_only_its_file_is_kept() {
        let machine = Machine::new(r#"case "$4 $5" in "download linux"*) touch "$5.deb" ;; esac"#);
        machine.program("apt-cache", &format!("echo '{SHOWN}'"));
        machine.program(
            "dpkg-deb",
            r#"case "$2" in *6.12.1*) ;; *) exit 1 ;; esac
mkdir -p "$3/boot" "$3/usr/lib/modules" && touch "$3/boot/config-6.12.1" "$3/boot/vmlinuz-6.12.1""#,
        );
        let kernel = find_kernel(&machine.cache(), &machine.apt(), &machine.environment, &|_| {}).unwrap();
        assert!(kernel.is_file() && kernel.ends_with("vmlinuz-6.12.1"), "{}", kernel.display());
        let kept = fs::read_dir(kernel.parent().unwrap()).unwrap().count();
        assert_eq!(kept, 1);

        let nothing = Environment::new([("PATH".into(), "/nowhere".into())]);
        let again = find_kernel(&machine.cache(), &machine.apt(), &nothing, &|_| {}).unwrap();
        assert_eq!(again.file_name(), kernel.file_name());
    }

    #[test]
    fn without_apt_it_is_said_what_is_missing() {
        let machine = Machine::new("exit 1");
        let nothing = Environment::new([("PATH".into(), "/nowhere".into())]);
        let error = find_kernel(&machine.cache(), &machine.apt(), &nothing, &|_| {}).unwrap_err();
        assert!(matches!(error, DebianError::NoProgram("apt-cache")), "{error}");
    }
}
