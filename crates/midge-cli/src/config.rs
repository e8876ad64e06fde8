//! What is taken from the environment: what builds are given, and where caches are.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result};
use midge_build::Environment;

/// Returns the environment for the programs that a build starts.
pub fn environment() -> Environment {
    Environment::new(std::env::vars_os())
}

/// Returns where fetched toolchains are kept: `$XDG_CACHE_HOME/midge`, or `~/.cache/midge`.
pub fn cache_dir() -> Result<PathBuf> {
    cache_dir_of(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"))
        .context("there is no folder for caches: set HOME or XDG_CACHE_HOME")
}

fn cache_dir_of(xdg: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    // By the XDG specification a relative path counts as none.
    let xdg = xdg.map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || home.filter(|home| !home.is_empty()).map(|home| PathBuf::from(home).join(".cache"));
    xdg.or_else(home).map(|cache| cache.join("midge"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_xdg_specification_says() {
        let cache = |xdg: Option<&str>, home: Option<&str>| {
            cache_dir_of(xdg.map(OsString::from), home.map(OsString::from))
        };
        assert_eq!(cache(Some("/x"), Some("/home/a")), Some("/x/midge".into()));
        assert_eq!(cache(None, Some("/home/a")), Some("/home/a/.cache/midge".into()));
        assert_eq!(cache(Some("relative"), Some("/home/a")), Some("/home/a/.cache/midge".into()));
        assert_eq!(cache(None, None), None);
    }
}
