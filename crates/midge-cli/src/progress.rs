//! Progress bars on a terminal, and plain lines elsewhere. All on stderr: stdout is for results.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use midge_build::Event;
use midge_protocol::shown;

use crate::output::{bold, dim, note};
use crate::words;

/// Every bar of the process is drawn by this one, so that lines can be written above them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);
const TICK: Duration = Duration::from_millis(100);

/// Returns whether bars are drawn: stderr is a terminal.
pub fn is_drawn() -> bool {
    io::stderr().is_terminal()
}

/// Runs a function that writes to stderr, while the bars are out of its way, and returns what it returns.
pub fn above<T>(write: impl FnOnce() -> T) -> T {
    BARS.suspend(write)
}

/// Begins a bar that counts to `total`, in a unit such as `jobs`.
pub fn bar(total: u64, unit: &str) -> ProgressBar {
    let template = format!("{{prefix}} {{bar:30}} {{pos}}/{{len}} {unit} {{msg}}");
    let bar = BARS.add(ProgressBar::new(total));
    bar.set_style(style(&template));
    bar
}

/// Begins a line with a spinner before a text.
pub fn spinner(text: impl Into<String>) -> ProgressBar {
    let spinner = BARS.add(ProgressBar::new_spinner());
    spinner.set_style(style("{spinner} {wide_msg}"));
    spinner.set_message(text.into());
    spinner.enable_steady_tick(TICK);
    spinner
}

/// Returns the style of a bar by a template, in the language of [`ProgressStyle::with_template`].
pub fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("our own templates are well formed");
    style.progress_chars("━╸ ")
}

/// Shows what a build does: a spinner or bar for the step, and a line for each module.
#[derive(Debug, Default)]
pub struct BuildProgress {
    /// The step that goes on, and what it is called.
    step: RefCell<Option<(ProgressBar, String)>>,
}

impl BuildProgress {
    /// Shows an event of a build.
    pub fn event(&self, event: Event<'_>) {
        match event {
            Event::Step(text) => self.begin(text),
            Event::Bytes { done, total } => self.bytes(done, total),
            Event::CargoLine(line) => {
                if let Some((bar, text)) = &*self.step.borrow() {
                    bar.set_message(format!("{text}  {}", dim(shown::line(line.trim()))));
                }
            }
            Event::Compiled { module, size, took } => {
                let (size, took) = (words::bytes(size), words::duration(took));
                note(format_args!("  compiled {} {}", bold(module), dim(format_args!("{size} in {took}"))));
            }
            // The table at the end says so. Later kinds are for nobody yet.
            _ => {}
        }
    }

    fn begin(&self, text: &str) {
        self.end();
        let text = &*shown::line(text);
        if is_drawn() {
            *self.step.borrow_mut() = Some((spinner(text), text.to_owned()));
        } else if !text.starts_with("compiling ") {
            // Elsewhere than on a terminal the line that says it was compiled is enough.
            note(format_args!("  {text}"));
        }
    }

    fn bytes(&self, done: u64, total: u64) {
        if let Some((bar, _)) = &*self.step.borrow() {
            if bar.length().is_none() {
                bar.set_style(style("{spinner} {msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}"));
            }
            bar.set_length(total);
            bar.set_position(done);
        }
    }

    fn end(&self) {
        if let Some((bar, _)) = self.step.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for BuildProgress {
    fn drop(&mut self) {
        self.end();
    }
}

/// Writes log lines above the bars.
#[derive(Debug, Clone, Copy)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        above(|| anstream::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
