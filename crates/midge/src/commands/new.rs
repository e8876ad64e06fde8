//! `midge new`: a folder with a job in it, which builds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use midge_cli::checkout::Checkout;
use midge_cli::output::{bold, note, say};
use midge_protocol::ModuleName;

/// The files of a new job, with `{{name}}` and the like where something is filled in.
const TEMPLATE: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("new/template/Cargo.toml.txt")),
    ("src/main.rs", include_str!("new/template/main.rs.txt")),
    ("midge.toml", include_str!("new/template/midge.toml.txt")),
    ("README.md", include_str!("new/template/README.md.txt")),
    (".gitignore", include_str!("new/template/gitignore.txt")),
];

/// Names that are good for a module but not for a Rust function or a cargo package: words of the language, and crates
/// that are always there.
const RESERVED: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "macro",
    "main",
    "match",
    "midge-job",
    "midge_job",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc_macro",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "serde",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

/// Write a new job that builds: a folder with Cargo.toml, src/main.rs and midge.toml
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  midge new greet && cd greet && midge dev")]
pub(crate) struct Args {
    /// The job's name, and the folder's
    name: ModuleName,
    /// The folder of the crate midge-job [default: the one in the source that midge was built from]
    #[arg(long, value_name = "DIR")]
    midge_job: Option<PathBuf>,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode> {
        check_name(&self.name)?;
        let midge_job = match self.midge_job {
            Some(path) if path.join("Cargo.toml").is_file() => {
                std::path::absolute(&path).context("there is no current folder")?
            }
            Some(path) => bail!("there is no crate in {}: look at --midge-job", path.display()),
            None => Checkout::find().map(|checkout| checkout.job_sdk()).context(
                "the source that midge was built from is gone: name the folder of its crate midge-job with --midge-job",
            )?,
        };
        let folder = Path::new(self.name.as_str());
        write(folder, &self.name, &midge_job)?;
        note(format_args!("wrote a job into {}; next:", bold(format_args!("{}/", self.name))));
        say(format_args!("  cd {}", self.name))?;
        say("  midge dev")?;
        say(format_args!(
            "  midge enqueue {} --args '{{\"name\": \"you\"}}' --wait    # in another terminal",
            self.name
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn check_name(name: &ModuleName) -> Result<()> {
    if RESERVED.contains(&name.as_str()) {
        bail!("`{name}` already means something to Rust: take another name, such as `{name}-job`");
    }
    if name.as_str().starts_with(|c: char| c.is_ascii_digit()) {
        bail!(
            "`{name}` begins with a digit, which no Rust package does: take another name, such as `job-{name}`"
        );
    }
    Ok(())
}

fn write(folder: &Path, name: &ModuleName, midge_job: &Path) -> Result<()> {
    match fs::read_dir(folder) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                bail!("{} is there already and not empty: take another name, or empty it", folder.display());
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot use {}", folder.display())),
    }
    // As a TOML string: a path may hold quotes and backslashes.
    let midge_job = midge_job.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    for (file, text) in TEMPLATE {
        let text = text
            .replace("{{name}}", name.as_str())
            .replace("{{function}}", &name.as_str().replace('-', "_"))
            .replace("{{midge-job}}", &midge_job);
        let path = folder.join(file);
        let parent = path.parent().expect("a file in a folder has a parent");
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, text));
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use midge_build::Project;

    use super::*;

    fn name(name: &str) -> ModuleName {
        ModuleName::new(name).unwrap()
    }

    #[test]
    fn a_new_job_is_a_project_that_midge_build_reads() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("word-count");
        write(&folder, &name("word-count"), Path::new("/src/midge-job")).unwrap();
        let project = Project::read(&folder).unwrap();
        assert_eq!(project.modules.keys().collect::<Vec<_>>(), [&name("word-count")]);
        for (file, _) in TEMPLATE {
            let text = fs::read_to_string(folder.join(file)).unwrap();
            assert!(
                !text.contains("{{name") && !text.contains("{{function") && !text.contains("{{midge"),
                "{file}"
            );
        }
        let main = fs::read_to_string(folder.join("src/main.rs")).unwrap();
        assert!(main.contains("fn word_count(args: Args)"), "{main}");
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &name("a"), Path::new("/x")).unwrap();
        let error = write(folder.path(), &name("b"), Path::new("/x")).unwrap_err();
        assert!(error.to_string().contains("not empty"), "{error}");
        assert!(fs::read_to_string(folder.path().join("midge.toml")).unwrap().contains("[modules.a]"));
    }

    #[test]
    fn a_name_that_rust_could_not_build_is_refused() {
        for bad in ["main", "match", "std", "test", "7up"] {
            assert!(check_name(&name(bad)).is_err(), "{bad}");
        }
        for good in ["greet", "word-count", "r2d2"] {
            check_name(&name(good)).unwrap();
        }
    }
}
