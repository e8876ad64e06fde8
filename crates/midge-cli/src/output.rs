//! Writes to stdout and stderr, and styles what is written where it goes to a terminal.
//!
//! A line may be styled, so [`say`] and [`note`] write what they are given. Text that is not this program's own goes
//! through [`midge_protocol::shown`] first.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use midge_protocol::job::State;
use midge_protocol::shown;

use crate::table::Table;

/// Whether this program goes on where nobody reads what it writes. It is of the process, as stdout is.
static GOES_ON_UNREAD: AtomicBool = AtomicBool::new(false);

/// The error of output that nobody reads any more, as of a pipe whose other end was closed.
#[derive(Debug)]
pub struct Unread;

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads what is written to stdout")
    }
}

impl std::error::Error for Unread {}

/// Drops from now on what nobody reads, rather than to end with [`Unread`]: for a program that does or judges something, which
/// is to be finished whoever looks on.
pub fn go_on_unread() {
    GOES_ON_UNREAD.store(true, Ordering::Relaxed);
}

/// Says what came of writing to stdout.
fn written(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            if GOES_ON_UNREAD.load(Ordering::Relaxed) {
                Ok(())
            } else {
                Err(Unread.into())
            }
        }
        result => Ok(result?),
    }
}

/// Writes a line to stdout.
pub fn say(line: impl Display) -> Result<()> {
    written(writeln!(anstream::stdout(), "{line}"))
}

/// Writes a table to stdout: as wide as the terminal, or whole where there is none.
pub fn say_table(mut table: Table) -> Result<()> {
    if let Some((width, _)) = terminal_size::terminal_size_of(io::stdout()) {
        table.fit(width.0.into());
    }
    say(table)
}

/// Writes a guest's bytes to stdout: as they are, unless a person looks at them on a terminal, which would obey them.
pub fn write_bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let shown = match stdout.is_terminal() {
        true => stdout.write_all(shown::bytes(bytes).as_bytes()),
        false => stdout.write_all(bytes),
    };
    written(shown.and_then(|()| stdout.flush()))
}

/// Writes a job's result to stdout. On a terminal its last line ends, so that the prompt stands below it.
pub fn write_result(bytes: &[u8]) -> Result<()> {
    write_bytes(bytes)?;
    let is_open = bytes.last().is_some_and(|byte| *byte != b'\n');
    if is_open && io::stdout().is_terminal() { write_bytes(b"\n") } else { Ok(()) }
}

/// Writes a guest's bytes to stderr, under the same rule as [`write_bytes`].
pub fn note_bytes(bytes: &[u8]) {
    crate::progress::above(|| {
        let mut stderr = io::stderr().lock();
        // As in [`note`].
        let _ = match stderr.is_terminal() {
            true => stderr.write_all(shown::bytes(bytes).as_bytes()),
            false => stderr.write_all(bytes),
        };
    });
}

/// Writes a value to stdout as JSON, for programs.
pub fn say_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    written(writeln!(io::stdout(), "{text}"))
}

/// Writes a line to stderr, above any progress bars.
pub fn note(line: impl Display) {
    crate::progress::above(|| {
        // What cannot be said to a closed stderr cannot be said anywhere.
        let _ = writeln!(anstream::stderr(), "{line}");
    });
}

/// Writes an error and its causes to stderr.
pub fn show_error(error: &anyhow::Error) {
    show_head(&error.to_string());
    let mut above = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Some errors say in their own text what caused them.
        if !above.contains(&cause) {
            note(format_args!("  caused by: {}", shown::text(&cause)));
        }
        above = cause;
    }
}

/// Writes to stderr what is wrong with a command line, in the parser's words.
pub fn show_wrong(line: &str) {
    show_head(line.strip_prefix("error: ").unwrap_or(line));
}

fn show_head(error: &str) {
    // It may hold names of files and modules, what was typed, and what servers answered.
    let head = styled("error", AnsiColor::Red.on_default().bold());
    note(format_args!("{head}: {}", shown::text(error)));
}

/// Returns the path of a file or a folder as it may be shown.
pub fn path(path: &Path) -> String {
    shown::line(&path.display().to_string()).into_owned()
}

/// Returns a text in a style. The codes are removed again where they go to no terminal.
pub fn styled(text: impl Display, style: Style) -> String {
    format!("{style}{text}{style:#}")
}

/// Returns a text as one that is beside the point: dimmed.
pub fn dim(text: impl Display) -> String {
    styled(text, Style::new().dimmed())
}

/// Returns a text as one that matters: in bold.
pub fn bold(text: impl Display) -> String {
    styled(text, Style::new().bold())
}

/// Returns the name of a job's state, in the colour that stands for it.
pub fn state(state: State) -> String {
    let style = match state {
        State::Completed => AnsiColor::Green.on_default(),
        State::Discarded => AnsiColor::Red.on_default(),
        State::Retryable => AnsiColor::Yellow.on_default(),
        State::Running => AnsiColor::Cyan.on_default(),
        State::Cancelled => Style::new().dimmed(),
        State::Pending | State::Scheduled | State::Available => Style::new(),
    };
    styled(state, style)
}
