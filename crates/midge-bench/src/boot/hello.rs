//! The example job `hello`, built for this measurement alone.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use midge_build::{GUEST_TARGET, Project};
use midge_cli::build::Builder;
use midge_cli::checkout::Checkout;

/// Its name: a Rust program with JSON in and out, made with midge's SDK. It takes no stamp.
pub(super) const NAME: &str = "hello";
/// What it is given.
pub(super) const ARGS: &str = r#"{"name": "bench"}"#;

/// Where the compiled job is, and the WebAssembly that it was made from.
pub(super) struct Hello {
    pub(super) modules: PathBuf,
    pub(super) wasm: PathBuf,
}

/// Builds it, if that can be done with what is here. This blocks.
pub(super) fn build(folder: &Path) -> Result<Hello> {
    let examples = Checkout::find().context("midge's source is not here")?.guest_examples();
    let mut project = Project::read(&examples)?;
    project.modules.retain(|name, _| name.as_str() == NAME);
    let builder = Builder::new(None)?.out(Some(folder.join(NAME)));
    if !builder.has_toolchain(&project) {
        bail!("there is no toolchain for guests: `midge build {}` gets one", examples.display());
    }
    let built = builder.build(&project)?;
    // Where cargo puts it if nobody says otherwise.
    let wasm = examples.join("target").join(GUEST_TARGET).join("release").join(NAME).with_extension("wasm");
    Ok(Hello { modules: built.out, wasm })
}
