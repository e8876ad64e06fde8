//! The example job `hello`, built for this measurement alone.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use midge_build::{GUEST_TARGET, Project};
use midge_cli::build::Builder;
use midge_cli::checkout::Checkout;

/// The name of the example job: a Rust program with JSON in and out, made with midge's SDK. It writes no stamp.
pub(super) const NAME: &str = "hello";
/// The args that the job is given, as JSON.
pub(super) const ARGS: &str = r#"{"name": "bench"}"#;

/// The example job as it was built: the folder of the compiled module, and the WebAssembly it was made from.
pub(super) struct Hello {
    pub(super) modules: PathBuf,
    pub(super) wasm: PathBuf,
}

/// Builds the example job `hello` into a folder. Fails where midge's source or a toolchain for guests is missing. This
/// blocks.
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
