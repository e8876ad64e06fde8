//! Follows a job: writes its log as it comes, and says what becomes of its attempts meanwhile.

use std::io::{self, IsTerminal};

use anyhow::{Result, bail};
use midge_cli::output::{dim, note, note_bytes, write_bytes};
use midge_cli::progress::is_drawn;
use midge_client::{Client, JobNews, Position};
use midge_protocol::job::{AttemptView, JobView, State};
use midge_protocol::{JobId, shown};

use super::enqueue::failed;
use crate::connection::Answered;

/// Where a log goes: stdout, where it is what was asked for, else beside a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogTo {
    Stdout,
    Stderr,
}

/// Writes a job's log from a position on, as it comes, until the job has ended. Returns it as it is then.
pub(super) async fn follow(client: &Client, id: JobId, from: Position, to: LogTo) -> Result<JobView> {
    let mut follow = client.follow(id, from);
    let mut teller = Teller { to, line_is_open: false, ended: None };
    while let Some(news) = follow.next().await.answered()? {
        match news {
            JobNews::Log(piece) => teller.log(&piece.bytes)?,
            JobNews::Attempt(attempt) => teller.ended = Some(attempt),
            JobNews::State(job) => teller.state(&job)?,
            JobNews::Progress(news) => {
                let total =
                    if news.progress.total > 0 { format!("/{}", news.progress.total) } else { String::new() };
                let message = shown::line(&news.progress.message);
                teller.detail(format_args!("{}{total} {message}", news.progress.done))?;
            }
            JobNews::Ended(job) => {
                teller.end_line()?;
                return Ok(*job);
            }
            JobNews::Deleted(_) => break,
        }
    }
    teller.end_line()?;
    bail!("job {id} was deleted while it was followed")
}

struct Teller {
    to: LogTo,
    /// Whether the log's last line has not ended.
    line_is_open: bool,
    /// An attempt that ended; what becomes of its job is told next.
    ended: Option<Box<AttemptView>>,
}

impl Teller {
    fn log(&mut self, bytes: &[u8]) -> Result<()> {
        match self.to {
            LogTo::Stdout => write_bytes(bytes)?,
            LogTo::Stderr => note_bytes(bytes),
        }
        self.line_is_open = bytes.last().is_some_and(|byte| *byte != b'\n');
        Ok(())
    }

    /// Ends the log's last line, where people see that and what is said below it in one place.
    fn end_line(&mut self) -> Result<()> {
        let is_seen = match self.to {
            LogTo::Stdout => io::stdout().is_terminal(),
            LogTo::Stderr => true,
        };
        if std::mem::take(&mut self.line_is_open) && is_seen {
            self.log(b"\n")?;
        }
        Ok(())
    }

    /// Says what only a person who looks on wants to know.
    fn detail(&mut self, text: std::fmt::Arguments<'_>) -> Result<()> {
        if is_drawn() {
            self.end_line()?;
            note(dim(text));
        }
        Ok(())
    }

    fn state(&mut self, job: &JobView) -> Result<()> {
        if let Some(attempt) = self.ended.take()
            && let Some(failure) = &attempt.failure
        {
            self.end_line()?;
            note(failed(&attempt, failure, job));
        }
        match (job.state, &job.machine) {
            (State::Running, Some(machine)) => {
                self.detail(format_args!("attempt {} runs in Machine {machine}", job.attempt))
            }
            (state, _) => {
                let waits = job.waits.as_ref().map(|waits| format!(": {}", waits.text)).unwrap_or_default();
                self.detail(format_args!("{} is {state}{waits}", job.module))
            }
        }
    }
}
