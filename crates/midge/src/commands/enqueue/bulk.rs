//! `midge enqueue --jsonl`: a job for each line of a file.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use midge_cli::output::{note, say, say_json};
use midge_cli::progress::{self, is_drawn};
use midge_cli::words;
use midge_client::{Client, EnqueueRequest};
use midge_protocol::api::BulkEnqueued;
use midge_protocol::{BatchId, limits};

use crate::connection::Answered;

/// Jobs in one transaction: enough to be quick, few enough that others do not wait for it.
const BULK_JOBS: usize = 1_000;
/// What a body may have, less room for what is added to each line.
const BULK_BYTES_MAX: usize = limits::ENQUEUE_BODY_BYTES_MAX - 1024 * 1024;

/// Enqueues the jobs in a file. Ids are printed, one to a line, as their bulk is there.
pub(super) async fn enqueue(
    client: &Client,
    file: &Path,
    batch_id: Option<BatchId>,
    json: bool,
) -> Result<ExitCode> {
    let mut lines = Lines::open(file)?;
    let bar = if is_drawn() { progress::spinner("enqueued 0 jobs") } else { ProgressBar::hidden() };
    let mut all = BulkEnqueued { jobs: Vec::new() };
    let mut last_line = 0;
    loop {
        let before = || match last_line {
            0 => format!("enqueued nothing of {}", name(file)),
            _ => format!("enqueued lines 1 to {last_line} of {}, and nothing after", name(file)),
        };
        let mut bulk = lines.next_bulk().with_context(before)?;
        let Some(line) = bulk.last_line else { break };
        for job in &mut bulk.jobs {
            job.batch = job.batch.or(batch_id);
        }
        let mut enqueued = client.enqueue_all(bulk.jobs).await.answered().with_context(before)?;
        last_line = line;
        if !json {
            enqueued.iter().try_for_each(|job| say(job.id))?;
        }
        all.jobs.append(&mut enqueued);
        bar.set_message(format!("enqueued {}", words::count(all.jobs.len(), "job")));
    }
    bar.finish_and_clear();
    let old = all.jobs.iter().filter(|job| !job.new).count();
    let jobs = words::count(all.jobs.len() - old, "job");
    note(match old {
        0 => format!("enqueued {jobs}"),
        _ => format!("enqueued {jobs}; {old} more were there already"),
    });
    if json {
        say_json(&all)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn name(file: &Path) -> String {
    if file == Path::new("-") { "stdin".to_owned() } else { file.display().to_string() }
}

/// The lines of a file, as jobs.
struct Lines {
    reader: Box<dyn BufRead>,
    /// How many were read.
    number: usize,
    /// Read, and too much for the bulk before: its line, its length, and the job.
    next: Option<(usize, usize, EnqueueRequest)>,
}

/// Jobs of one transaction.
#[derive(Default)]
struct Bulk {
    jobs: Vec<EnqueueRequest>,
    /// The line of the last of them; nothing at the end of the file.
    last_line: Option<usize>,
}

impl Lines {
    fn open(file: &Path) -> Result<Lines> {
        let reader: Box<dyn BufRead> = if file == Path::new("-") {
            Box::new(BufReader::new(std::io::stdin()))
        } else {
            let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
            Box::new(BufReader::new(opened))
        };
        Ok(Lines::of(reader))
    }

    fn of(reader: Box<dyn BufRead>) -> Lines {
        Lines { reader, number: 0, next: None }
    }

    /// Reads up to a bulk. None at all is the end.
    fn next_bulk(&mut self) -> Result<Bulk> {
        let mut bulk = Bulk::default();
        let mut bytes = 0;
        while bulk.jobs.len() < BULK_JOBS {
            let Some((line, len, job)) = self.next_job()? else { break };
            if bytes + len > BULK_BYTES_MAX && bytes > 0 {
                self.next = Some((line, len, job));
                break;
            }
            bytes += len;
            bulk.last_line = Some(line);
            bulk.jobs.push(job);
        }
        Ok(bulk)
    }

    /// Reads the next line that is not empty.
    fn next_job(&mut self) -> Result<Option<(usize, usize, EnqueueRequest)>> {
        if let Some(next) = self.next.take() {
            return Ok(Some(next));
        }
        while let Some(line) = self.next_line()? {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let job = midge_server::read_json(&line).map_err(anyhow::Error::msg).with_context(|| {
                format!("line {} is not a job such as {{\"module\": \"hello\"}}", self.number)
            })?;
            return Ok(Some((self.number, line.len(), job)));
        }
        Ok(None)
    }

    fn next_line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        // One byte more than there may be tells that there is too much, without reading all of it.
        let mut reader = self.reader.by_ref().take(BULK_BYTES_MAX as u64 + 1);
        let read = reader.read_until(b'\n', &mut line);
        if read.with_context(|| format!("cannot read line {}", self.number + 1))? == 0 {
            return Ok(None);
        }
        self.number += 1;
        ensure!(
            line.len() <= BULK_BYTES_MAX,
            "line {} is longer than {} MiB, which is the most for a job with its input",
            self.number,
            BULK_BYTES_MAX / (1024 * 1024)
        );
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: impl Into<Vec<u8>>) -> Lines {
        Lines::of(Box::new(std::io::Cursor::new(text.into())))
    }

    #[test]
    fn each_line_is_a_job_and_empty_lines_are_none() {
        let mut lines = lines("{\"module\": \"a\"}\n\n{\"module\": \"b\", \"args\": 1}\n\n");
        let bulk = lines.next_bulk().unwrap();
        assert_eq!(bulk.jobs.iter().map(|job| job.module.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(bulk.last_line, Some(3));
        assert_eq!(lines.next_bulk().unwrap().last_line, None);
    }

    #[test]
    fn a_bulk_holds_as_many_jobs_and_bytes_as_a_body_may() {
        let small = "{\"module\": \"a\"}\n".repeat(BULK_JOBS + 1);
        let large = format!("{{\"module\": \"a\", \"input\": \"{}\"}}\n", "AAAA".repeat(4 * 1024 * 1024));
        let mut lines = lines(small + &large.repeat(2));
        let mut next = || lines.next_bulk().unwrap().last_line;
        assert_eq!([next(), next(), next(), next()], [Some(1000), Some(1002), Some(1003), None]);
    }

    #[test]
    fn a_line_that_is_no_job_is_named_by_its_number() {
        let error = |text: &str| format!("{:#}", lines(text).next_bulk().err().unwrap());
        assert!(error("{\"module\": \"a\"}\nhello\n").starts_with("line 2 is not a job"));
        assert!(error("{\"module\": \"a\", \"arg\": 1}").contains("unknown field `arg`"));
    }

    #[test]
    fn a_line_that_does_not_end_is_refused() {
        let error = Lines::open(Path::new("/dev/zero")).unwrap().next_bulk().err().unwrap();
        assert!(error.to_string().starts_with("line 1 is longer than 31 MiB"), "{error}");
    }
}
