//! The floor: a static C program that stamps the time in its `main` and ends. No process starts sooner.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::program::said;

/// The floor's name in reports.
pub(crate) const NAME: &str = "floor: static C";

const SOURCE: &str = r#"
#include <time.h>
#include <unistd.h>
int main(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    unsigned long long stamp = now.tv_sec * 1000000000ull + now.tv_nsec;
    return write(1, &stamp, sizeof stamp) != sizeof stamp;
}
"#;

/// Compiles the floor into a folder with `cc`, and returns the path of the program.
pub(crate) fn compile(folder: &Path) -> Result<PathBuf> {
    let (source, program) = (folder.join("floor.c"), folder.join("floor"));
    std::fs::write(&source, SOURCE)?;
    let mut cc = Command::new("cc");
    cc.args(["-static", "-O2", "-o"]).arg(&program).arg(&source);
    said(&mut cc)?;
    Ok(program)
}
