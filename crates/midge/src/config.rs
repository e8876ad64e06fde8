//! What is taken from the environment beside the flags that `cli` lists with their variables.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result};
use midge_build::Environment;

/// Returns the environment for the programs that a build starts.
pub(crate) fn environment() -> Environment {
    Environment::new(std::env::vars_os())
}

/// Returns where fetched toolchains are kept: `$XDG_CACHE_HOME/midge`, or `~/.cache/midge`.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    cache_dir_of(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"))
        .context("there is no folder for caches: set HOME or XDG_CACHE_HOME")
}

fn cache_dir_of(xdg: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    // By the XDG specification a relative path counts as none.
    let xdg = xdg.map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || home.filter(|home| !home.is_empty()).map(|home| PathBuf::from(home).join(".cache"));
    xdg.or_else(home).map(|cache| cache.join("midge"))
}

/// What Fly tells a Machine about itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct FlyMachine {
    pub(crate) id: Option<String>,
    pub(crate) private_ip: Option<String>,
}

/// Returns what Fly tells this Machine about itself, if this is one.
pub(crate) fn fly_machine() -> FlyMachine {
    let var = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    FlyMachine { id: var("FLY_MACHINE_ID"), private_ip: var("FLY_PRIVATE_IP") }
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
