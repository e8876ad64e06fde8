//! The block of the README that `midge bench boot` writes: a table, the picture, the sum, and where it was measured.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::phases::short;
use super::sum::{self, Sum};
use super::{Cache, Figures};
use crate::report::{Computer, or_dash};

/// The line before the block.
const BEGIN: &str = "<!-- midge bench boot -->";
/// The line after the block.
const END: &str = "<!-- /midge bench boot -->";
/// Where the picture goes if nothing else is said, from the README's folder.
const PICTURE: &str = "docs/boot.svg";

/// A Markdown file with the two lines in it.
#[derive(Debug)]
pub(super) struct Readme {
    path: PathBuf,
    /// What is before and after the block.
    around: (String, String),
}

impl Readme {
    /// Reads a Markdown file. Fails where it has not both lines that the block stands between.
    pub(super) fn read(path: &Path) -> Result<Readme> {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        let Some(around) = around(&text) else {
            bail!(
                "{} does not say where the figures go: put the lines `{BEGIN}` and `{END}` there",
                path.display()
            );
        };
        Ok(Readme { path: path.to_owned(), around })
    }

    /// Returns where the picture goes if nothing else is said.
    pub(super) fn picture(&self) -> PathBuf {
        self.folder().join(PICTURE)
    }

    /// Writes the file again, with a new block of these figures and a link to the picture.
    pub(super) fn write(
        &self,
        (rows, notes): (&[Figures], &[String]),
        sums: &[Sum],
        at: &Computer,
        picture: &Path,
    ) -> Result<()> {
        let link = picture.strip_prefix(self.folder()).unwrap_or(picture);
        let block = block(rows, notes, sums, at, link);
        let text = format!("{}{BEGIN}\n{block}{END}{}", self.around.0, self.around.1);
        std::fs::write(&self.path, text).with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

/// Returns what is before the block and what is after it.
fn around(text: &str) -> Option<(String, String)> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some((before.to_owned(), after.to_owned()))
}

fn block(rows: &[Figures], notes: &[String], sums: &[Sum], at: &Computer, picture: &Path) -> String {
    let mut text = String::new();
    let mut line = |cells: &[String]| {
        writeln!(text, "| {} |", cells.join(" | ")).expect("a String takes all that is written");
    };
    let heads =
        ["ms, p50", "first instruction", "x floor", "exit", "x floor", "cold: first instruction", "exit"];
    line(&heads.map(str::to_owned));
    line(&["---", "--:", "--:", "--:", "--:", "--:", "--:"].map(str::to_owned));
    for row in rows.iter().filter(|row| row.cache != Cache::Cold) {
        let cold = rows.iter().find(|cold| cold.cache == Cache::Cold && cold.program == row.program);
        line(&cells(row, cold));
    }
    write!(text, "\n![where the time goes, phase by phase]({})\n\n", picture.display())
        .expect("a String takes all that is written");
    let mut line = |cells: &[String]| {
        writeln!(text, "| {} |", cells.join(" | ")).expect("a String takes all that is written");
    };
    line(&sum::HEADS.map(|head| head.trim_start_matches('>').to_lowercase()));
    line(&sum::HEADS.map(|head| if head.starts_with('>') { "--:" } else { "---" }.to_owned()));
    sums.iter().for_each(|sum| line(&sum.cells()));
    text.push('\n');
    for note in notes {
        writeln!(text, "- {note}.").expect("a String takes all that is written");
    }
    writeln!(text, "\n{at}. Made by `midge bench boot --readme README.md`.")
        .expect("a String takes all that is written");
    text
}

fn cells(row: &Figures, cold: Option<&Figures>) -> [String; 7] {
    let millis = |micros: f64| format!("{:.*}", if micros < 100.0 { 3 } else { 2 }, micros / 1e3);
    let ratio = |ratio: f64| format!("{ratio:.2}");
    [
        format!("`{}`", short(&row.program)),
        or_dash(row.first.map(|first| first.p50_us), millis),
        or_dash(row.first_to_floor.map(|floors| floors.middle), ratio),
        or_dash(row.exit.map(|exit| exit.p50_us), millis),
        or_dash(row.exit_to_floor.map(|floors| floors.middle), ratio),
        or_dash(cold.and_then(|cold| cold.first).map(|first| first.p50_us), millis),
        or_dash(cold.and_then(|cold| cold.exit).map(|exit| exit.p50_us), millis),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::boot::floor;
    use crate::report::{Report, Spread};

    fn row(program: &str, cache: Cache, micros: u64) -> Figures {
        Figures {
            program: program.to_owned(),
            cache,
            module_bytes: None,
            first: Spread::of(vec![Duration::from_micros(micros)]),
            exit: Spread::of(vec![Duration::from_micros(2 * micros)]),
            first_to_floor: None,
            exit_to_floor: None,
        }
    }

    #[test]
    fn only_what_stands_between_the_two_lines_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("README.md");
        std::fs::write(&path, format!("# Before\n\n{BEGIN}\nwhat was here\n{END}\n\n# After\n")).unwrap();
        let rows = [row(floor::NAME, Cache::Warm, 400), row("midge-host run stamp", Cache::Warm, 700)];
        let at = Report::<Figures>::new("boot").computer;
        let write = || {
            let readme = Readme::read(&path).unwrap();
            readme.write((&rows, &["a note".to_owned()]), &[], &at, &readme.picture()).unwrap();
            std::fs::read_to_string(&path).unwrap()
        };
        let text = write();
        assert!(text.starts_with("# Before\n\n<!--") && text.ends_with("-->\n\n# After\n"), "{text}");
        assert!(!text.contains("what was here") && text.contains("- a note.\n"));
        assert!(text.contains("(docs/boot.svg)"), "the link is from the file's folder: {text}");
        assert_eq!(write(), text, "and again");
    }

    #[test]
    fn a_file_without_the_two_lines_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("README.md");
        for text in ["", BEGIN, END, "<!-- /midge bench boot --> <!-- midge bench boot -->"] {
            std::fs::write(&path, text).unwrap();
            assert!(format!("{:#}", Readme::read(&path).unwrap_err()).contains(BEGIN), "{text}");
        }
    }

    #[test]
    fn a_program_has_one_line_with_its_warm_and_cold_figures() {
        let (warm, cold) = (row("midge-host run stamp", Cache::Warm, 700), row("", Cache::Cold, 5_000));
        assert_eq!(cells(&warm, Some(&cold)).join(" "), "`stamp` 0.70 - 1.40 - 5.00 10.00",);
    }
}
