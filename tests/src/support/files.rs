//! A folder for one test's files, gone with the test.

use std::fs;
use std::path::{Path, PathBuf};

/// A folder of files.
pub struct Files(tempfile::TempDir);

impl Files {
    /// Makes an empty folder.
    pub fn new() -> Files {
        Files(tempfile::Builder::new().prefix("midge-test-").tempdir().unwrap())
    }

    /// Returns the folder.
    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    /// Returns where a file is, or would be.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file, with the folders that it is in.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Default for Files {
    fn default() -> Files {
        Files::new()
    }
}
