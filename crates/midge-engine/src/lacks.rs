//! What a Machine lacks, told apart from what is wrong with a module: by the error number that the system gave.
//!
//! Invariant: only what another Machine may have is told here. A file that is missing is missing everywhere.

use std::error::Error;

use rustix::io::Errno;

/// Returns what the Machine lacks, in words, where that is what an error or one of its causes says.
pub(crate) fn of(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(errno) = errno(error)
            && let Some(what) = of_errno(errno)
        {
            return Some(what);
        }
        cause = error.source();
    }
    None
}

/// Returns what the Machine lacks where that is what an error of the system says.
pub(crate) fn of_errno(errno: Errno) -> Option<String> {
    what(errno).map(|what| format!("{what} ({errno})"))
}

/// Returns the error of whoever wants another descriptor, where there is none to be had. WASI's errors do not tell.
pub(crate) fn descriptors() -> Option<Errno> {
    let another = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 0);
    another.err().filter(|errno| matches!(*errno, Errno::MFILE | Errno::NFILE))
}

fn errno(error: &(dyn Error + 'static)) -> Option<Errno> {
    if let Some(errno) = error.downcast_ref::<Errno>() {
        return Some(*errno);
    }
    if error.is::<wasmtime::OutOfMemory>() {
        return Some(Errno::NOMEM);
    }
    Errno::from_io_error(error.downcast_ref::<std::io::Error>()?)
}

fn what(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::MFILE | Errno::NFILE => "file descriptors",
        Errno::NOMEM => "memory or address space",
        Errno::AGAIN => "threads or memory",
        Errno::NOSPC | Errno::DQUOT => "space on its disk",
        Errno::IO => "a disk that can be read and written",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_machine_may_have_is_told_from_what_is_wrong_everywhere() {
        for (errno, word) in [
            (Errno::MFILE, "descriptors"),
            (Errno::NFILE, "descriptors"),
            (Errno::NOMEM, "memory"),
            (Errno::AGAIN, "threads"),
            (Errno::NOSPC, "space"),
            (Errno::IO, "disk"),
        ] {
            let error = wasmtime::Error::from(std::io::Error::from(errno)).context("mmap failed");
            let lacks = of(error.as_ref()).unwrap();
            assert!(lacks.contains(word) && lacks.contains("os error"), "{lacks}");
            assert_eq!(of(&errno).unwrap(), lacks);
        }
        for errno in [Errno::NOENT, Errno::ACCESS, Errno::NOTDIR, Errno::INVAL] {
            assert_eq!(of(&std::io::Error::from(errno)), None);
        }
        assert_eq!(of(wasmtime::Error::msg("no start").as_ref()), None);
        assert_eq!(descriptors(), None);
    }
}
