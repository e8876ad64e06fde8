//! What `midge enqueue` takes of what ties a job to others.

use midge_client::EnqueueRequest;
use midge_protocol::job::AfterFailed;
use midge_protocol::{BatchId, JobId};

#[derive(Debug, clap::Args)]
pub(super) struct TiesArgs {
    /// Run it after this job has completed; may be repeated, or name several: ID,ID
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    after: Vec<JobId>,
    /// What becomes of it where such a job does not complete [default: cancel]
    #[arg(long, value_name = "cancel|go-on|wait", value_parser = parse_after_failed, requires = "after")]
    after_failed: Option<AfterFailed>,
}

#[derive(Debug, clap::Args)]
pub(super) struct BatchArgs {
    /// Make it one of this batch, which has to be open; with --jsonl each that names none
    #[arg(long, value_name = "ID")]
    pub(super) batch: Option<BatchId>,
}

impl TiesArgs {
    /// Writes what was said into a request.
    pub(super) fn fill(&self, request: &mut EnqueueRequest) {
        request.after = self.after.clone();
        request.after_failed = self.after_failed.unwrap_or_default();
    }
}

/// Reads the word as a command line has it, or as the API does.
fn parse_after_failed(word: &str) -> Result<AfterFailed, String> {
    let all = [AfterFailed::Cancel, AfterFailed::GoOn, AfterFailed::Wait];
    let found = all.into_iter().find(|after_failed| after_failed.as_str() == word.replace('-', "_"));
    found.ok_or_else(|| {
        let hint = match midge_protocol::nearest(word, ["cancel", "go-on", "wait"]) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => "use cancel, go-on or wait".to_owned(),
        };
        format!("a job cannot {word}: {hint}")
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Command};

    #[test]
    fn what_a_job_is_to_run_after_is_asked_for_as_it_is_said() {
        let ids = ["0190b3e4-7d5c-7c3a-9f00-0123456789ab", "0190b3e4-7d5c-7c3a-9f00-0123456789ac"];
        let both = ids.join(",");
        for after in [vec!["--after", ids[0], "--after", ids[1]], vec!["--after", &both]] {
            for go_on in ["go-on", "go_on"] {
                let line = [vec!["midge", "enqueue", "hello"], after.clone(), vec!["--after-failed", go_on]];
                let Command::Enqueue(args) = Cli::parse_from(line.concat()).command else {
                    panic!("not enqueue")
                };
                let request = serde_json::to_value(args.request().unwrap()).unwrap();
                assert_eq!((&request["after"], &request["after_failed"]), (&ids.into(), &"go_on".into()));
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_may() {
        let refused = |words: &[&str]| {
            let line = ["midge", "enqueue", "hello"].iter().chain(words);
            Cli::try_parse_from(line).unwrap_err().to_string()
        };
        let id = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";
        assert!(refused(&["--after", "x"]).contains("a UUID such as"));
        assert!(refused(&["--after", id, "--after-failed", "goon"]).contains("did you mean `go-on`?"));
        assert!(refused(&["--after-failed", "wait"]).contains("--after <ID>"));
        assert!(refused(&["--jsonl", "jobs.jsonl", "--after", id]).contains("cannot be used with"));
    }
}
