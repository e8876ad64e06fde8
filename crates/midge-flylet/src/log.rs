//! The last lines that a Machine's programs wrote.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;

/// What one looks at when a host did not come up. All else is in the jobs' own logs.
const LINES_MAX: usize = 200;
/// Longer lines are cut, so that a Machine's log is at most 400 KiB.
pub(crate) const LINE_BYTES_MAX: usize = 2 * 1024;

/// A ring of lines.
#[derive(Debug, Default)]
pub(crate) struct ProcessLog {
    lines: Mutex<VecDeque<String>>,
    pushed: Notify,
}

impl ProcessLog {
    pub(crate) fn push(&self, line: String) {
        let mut lines = self.lock();
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
        drop(lines);
        self.pushed.notify_waiters();
    }

    /// Waits until a line holds the text, and returns all lines.
    pub(crate) async fn with(&self, text: &str) -> Vec<String> {
        loop {
            let mut pushed = pin!(self.pushed.notified());
            // From here on no line is missed.
            pushed.as_mut().enable();
            let lines = self.lines();
            if lines.iter().any(|line| line.contains(text)) {
                return lines;
            }
            pushed.await;
        }
    }

    /// Forgets the oldest lines until the rest has so many bytes at most.
    pub(crate) fn shorten(&self, bytes_max: usize) {
        let mut lines = self.lock();
        let mut bytes = 0;
        let fits = |line: &&String| {
            bytes += line.len();
            bytes <= bytes_max
        };
        let kept = lines.iter().rev().take_while(fits).count();
        let forgotten = lines.len() - kept;
        lines.drain(..forgotten);
        lines.shrink_to_fit();
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lock().iter().cloned().collect()
    }

    pub(crate) fn last(&self) -> Option<String> {
        self.lock().back().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Cuts a stream of bytes into lines of bounded length.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
    cut: bool,
}

impl Lines {
    /// Takes more bytes, and gives each line that they end.
    pub(crate) fn take(&mut self, mut bytes: &[u8], mut give: impl FnMut(String)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end]);
            give(self.line());
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes);
    }

    /// Gives the last line, if it did not end.
    pub(crate) fn finish(mut self, mut give: impl FnMut(String)) {
        if !self.line.is_empty() {
            give(self.line());
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX - self.line.len();
        self.cut |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn line(&mut self) -> String {
        let mut line = String::from_utf8_lossy(&self.line).into_owned();
        if std::mem::take(&mut self.cut) {
            line.push_str(" [cut]");
        }
        self.line.clear();
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut found = Vec::new();
        let mut lines = Lines::default();
        for chunk in chunks {
            lines.take(chunk, |line| found.push(line));
        }
        lines.finish(|line| found.push(line));
        found
    }

    #[test]
    fn lines_are_the_same_wherever_the_pipe_cuts_them() {
        assert_eq!(lines(&[b"a\nb", b"c\n", b"\nd"]), ["a", "bc", "", "d"]);
        assert_eq!(lines(&[b"caf\xff\n"]), ["caf\u{fffd}"]);
    }

    #[test]
    fn an_endless_line_is_cut_and_marked_and_the_next_is_whole() {
        let long = vec![b'x'; LINE_BYTES_MAX];
        let found = lines(&[&long, &long, b"\nnext\n"]);
        assert_eq!(found, [format!("{} [cut]", "x".repeat(LINE_BYTES_MAX)), "next".to_owned()]);
    }

    #[test]
    fn a_log_is_shortened_to_its_last_words() {
        let log = ProcessLog::default();
        for line in ["aaaa", "bb", "cc"] {
            log.push(line.to_owned());
        }
        log.shorten(5);
        assert_eq!(log.lines(), ["bb", "cc"]);
    }

    #[test]
    fn a_log_keeps_the_newest_lines() {
        let log = ProcessLog::default();
        for number in 0..LINES_MAX + 3 {
            log.push(number.to_string());
        }
        assert_eq!((log.lines().len(), log.lines()[0].as_str()), (LINES_MAX, "3"));
        assert_eq!(log.last().as_deref(), Some("202"));
    }
}
