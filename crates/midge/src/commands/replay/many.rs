//! Replays each of many jobs, and says how many of them would complete.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::{Result, bail, ensure};
use futures_util::{StreamExt, stream};
use midge_cli::output::{bold, dim, note, say, say_json};
use midge_cli::{progress, words};
use midge_client::Client;
use midge_protocol::api::{JobFilter, Modules, PAGE_JOBS_MAX};
use midge_protocol::{AttemptNumber, JobId, ModuleName};
use midge_protocol::{job::JobView, shown};
use serde::Serialize;

use super::candidate::Candidate;
use super::places::Places;
use super::verdict::{self, Verdict};
use crate::commands::jobs::none_of;
use crate::commands::pulled::Pulled;
use crate::connection::{Answered, NoServer};

/// How often a server that stops early is asked to go on.
const PAGES_MAX: usize = 1_000;
/// Ids that are said of each kind; `--json` has all.
const IDS_SAID: usize = 10;
/// The word for jobs that were not replayed for want of a module, or of a row that can be read.
const NOT_REPLAYED: &str = "not_replayed";
/// A server that does not answer is waited for, for about half a minute: it may be restarted. What is left then is not replayed.
const PULL_TRIES: u32 = 20;
/// What the command exits with where no job fits.
const NONE_FOUND: u8 = 6;

/// A job, and what became of it here.
#[derive(Debug, Serialize)]
struct Judged {
    id: JobId,
    /// Which of its attempts was replayed; nothing where none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<AttemptNumber>,
    /// The last of its attempts, where that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_attempt: Option<AttemptNumber>,
    module: String,
    /// Whether its recording has not all of what it was told.
    cut: bool,
    verdict: &'static str,
    then: String,
    now: String,
    /// How its requests differ from those that were recorded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<String>,
    /// How many requests it made; nothing where they were made once more.
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<usize>,
    /// How many were recorded, in the same way.
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_requests: Option<usize>,
    /// How many jobs it would enqueue, by their module.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    enqueues: BTreeMap<String, usize>,
    /// What else is said of it to people.
    #[serde(skip)]
    besides: Vec<String>,
}

/// Jobs that fit a filter, newest first.
pub(super) struct Found {
    pub(super) jobs: Vec<JobView>,
    /// Whether there are more.
    pub(super) more: bool,
}

/// A sweep over jobs that were found.
struct Sweep<'a> {
    client: Client,
    modules: Modules,
    candidate: &'a Candidate,
    /// Why no server answers any more, once that is so.
    gone: OnceLock<String>,
}

/// Replays jobs, and returns 0 where all of them would complete.
pub(super) async fn replay(
    client: &Client,
    Found { jobs, more }: Found,
    candidate: &Candidate,
    json: bool,
) -> Result<ExitCode> {
    let modules = client.modules().await.answered()?;
    let names: BTreeSet<&ModuleName> = jobs.iter().map(|job| &job.module).collect();
    names.into_iter().flat_map(|name| candidate.missing(name)).for_each(note);
    let client = client.clone().tries(PULL_TRIES);
    let sweep = Sweep { client, modules, candidate, gone: OnceLock::new() };
    let bar = progress::bar(jobs.len() as u64, "jobs");
    // In the order of the jobs, whichever ends first.
    let judged = stream::iter(&jobs).map(|job| sweep.judge(job)).buffered(Places::side_by_side());
    let judged: Vec<Judged> = judged.inspect(|_| bar.inc(1)).collect().await;
    bar.finish_and_clear();
    let all_complete = judged.iter().all(|judged| judged.verdict == "completes");
    if json {
        say_judged(&judged, more)?;
    } else {
        tell(&judged)?;
        let cut = judged.iter().filter(|judged| judged.cut).count();
        if cut > 0 {
            let recordings = words::count(cut, "recording");
            note(format_args!("of what was told there, {recordings} went over a bound and have not all"));
        }
        let fewer = judged.iter().filter(|judged| judged.asks_less()).count();
        if fewer > 0 {
            let jobs = words::count(fewer, "job");
            note(format_args!(
                "{jobs} made fewer requests than were recorded: see that what is left out is not missed"
            ));
        }
        if more {
            note(dim(format_args!("there are more jobs than these: --limit says how many are replayed")));
        }
    }
    Ok(if all_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says that no job fits, and returns what to exit with.
pub(super) async fn none(client: &Client, filter: &JobFilter, json: bool) -> Result<ExitCode> {
    note(none_of(client, filter).await?);
    if json {
        say_judged(&[], false)?;
    }
    Ok(ExitCode::from(NONE_FOUND))
}

fn say_judged(judged: &[Judged], more: bool) -> Result<()> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    judged.iter().for_each(|judged| *counts.entry(judged.verdict).or_default() += 1);
    say_json(&serde_json::json!({ "counts": counts, "jobs": judged, "more": more }))
}

/// Looks for jobs that fit.
pub(super) async fn find(client: &Client, filter: &JobFilter, limit: usize) -> Result<Found> {
    let mut jobs: Vec<JobView> = Vec::new();
    let mut before = None;
    for _ in 0..PAGES_MAX {
        let wanted = limit.saturating_sub(jobs.len()).min(PAGE_JOBS_MAX as usize);
        let page = JobFilter { before, limit: u32::try_from(wanted).ok(), ..filter.clone() };
        let page = client.jobs(&page).await.answered()?;
        jobs.extend(page.jobs);
        before = page.next;
        if before.is_none() || jobs.len() >= limit {
            return Ok(Found { jobs, more: before.is_some() });
        }
    }
    ensure!(
        !jobs.is_empty(),
        "the server looked at very many jobs and found none: say more of those that are meant"
    );
    Ok(Found { jobs, more: true })
}

impl Sweep<'_> {
    async fn judge(&self, job: &JobView) -> Judged {
        match self.replay(job).await {
            Ok(judged) => judged,
            // One that is deleted meanwhile, or is wrong with one module or its secrets, is not the end of the others.
            Err(error) => {
                if error.is::<NoServer>() {
                    let _ = self.gone.set(error.to_string());
                }
                Judged { verdict: NOT_REPLAYED, now: format!("{error:#}"), ..Judged::of(job) }
            }
        }
    }

    async fn replay(&self, job: &JobView) -> Result<Judged> {
        if let Some(why) = &job.unreadable {
            bail!("its row cannot be read: {why}");
        }
        if !self.candidate.has(&job.module) {
            bail!("there is no module `{}` here", job.module);
        }
        // It was waited for once.
        if let Some(gone) = self.gone.get() {
            bail!("{gone}");
        }
        let pulled = Pulled::ask(&self.client, job.id, &self.modules).await?;
        let replayed = self.candidate.replay(&pulled, |_| {}).await?;
        let verdict = Verdict::of(&pulled, &replayed);
        let now = match &verdict {
            Verdict::NotRecorded => verdict.sentence().into_owned(),
            Verdict::CompletesWithout(what) => format!("without {what}"),
            Verdict::Completes(Some(differs)) => differs.clone(),
            Verdict::Unanswered => match replayed.differences.first() {
                Some(difference) => difference.to_string(),
                None => verdict::now(&replayed),
            },
            _ => verdict::now(&replayed),
        };
        Ok(Judged {
            attempt: Some(pulled.about.attempt),
            last_attempt: pulled.about.last_attempt,
            cut: pulled.recording.as_ref().is_some_and(|recording| recording.cut),
            verdict: verdict.word(),
            then: verdict::then(&pulled),
            now,
            differences: replayed.differences.iter().map(ToString::to_string).collect(),
            requests: replayed.requests.map(|(made, _)| made),
            recorded_requests: replayed.requests.map(|(_, recorded)| recorded),
            besides: verdict::besides(&pulled, &replayed),
            enqueues: replayed.enqueues,
            ..Judged::of(job)
        })
    }
}

impl Judged {
    /// Makes one of which nothing is known yet.
    fn of(job: &JobView) -> Judged {
        Judged {
            id: job.id,
            attempt: None,
            last_attempt: None,
            module: job.module.to_string(),
            cut: false,
            verdict: NOT_REPLAYED,
            then: String::new(),
            now: String::new(),
            differences: Vec::new(),
            requests: None,
            recorded_requests: None,
            enqueues: BTreeMap::new(),
            besides: Vec::new(),
        }
    }

    /// Returns whether it completes, and without some of the requests of then.
    fn asks_less(&self) -> bool {
        self.verdict == Verdict::Completes(None).word() && self.requests < self.recorded_requests
    }

    /// Says how it ended here, to the end, since that may be what is to be done; how it had ended is cut.
    fn says(&self) -> String {
        let ended = match self.verdict {
            word if word == Verdict::Otherwise.word() => {
                format!("{}, and was {}", self.now, shown::cut(&self.then))
            }
            _ => self.now.clone(),
        };
        std::iter::once(ended).chain(self.besides.iter().cloned()).collect::<Vec<_>>().join("; ")
    }

    /// Says which attempt was replayed, where that was not the last: a filter goes by how that one failed.
    fn which(&self) -> String {
        let which = self.attempt.zip(self.last_attempt);
        which.map_or_else(String::new, |(attempt, last)| format!(" attempt {attempt} (the last was {last})"))
    }
}

fn tell(judged: &[Judged]) -> Result<()> {
    let kinds = [
        (Verdict::Completes(None).word(), "would complete"),
        (Verdict::Completes(Some(String::new())).word(), "would complete, with another result"),
        (
            Verdict::CompletesWithout(String::new()).word(),
            "would complete on a part of an answer: nobody knows how they would on all of it",
        ),
        (Verdict::Alike.word(), "fail as they did"),
        (Verdict::Otherwise.word(), "fail otherwise"),
        (
            Verdict::Unanswered.word(),
            "ask for what their recording does not have: --live makes their requests",
        ),
        (Verdict::NotRecorded.word(), "not replayed: make requests and were not recorded: --live makes them"),
        (NOT_REPLAYED, "not replayed"),
    ];
    say(words::count(judged.len(), "job"))?;
    for (word, says) in kinds {
        let of_kind: Vec<&Judged> = judged.iter().filter(|judged| judged.verdict == word).collect();
        if of_kind.is_empty() {
            continue;
        }
        say(format_args!("{} {says}", bold(format_args!("{:>6}", of_kind.len()))))?;
        let mut above = String::new();
        for judged in of_kind.iter().take(IDS_SAID) {
            let says = judged.says();
            // It is long where it ends with what to do, and many fail of one thing.
            let told = if says == above { "as the one above" } else { &says };
            say(format_args!("       {}{} {}", judged.id, judged.which(), dim(shown::line(told))))?;
            above = says;
        }
        if of_kind.len() > IDS_SAID {
            say(dim(format_args!("       and {} more: --json has them all", of_kind.len() - IDS_SAID)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_attempt_was_replayed_is_said_where_it_is_not_the_last() {
        let job = serde_json::json!({
            "id": JobId::generate(), "module": "report", "queue": "default", "state": "discarded", "attempt": 4,
            "spent": 4, "max_attempts": 4, "enqueued_at": "2030-01-01T00:00:00Z",
            "scheduled_at": "2030-01-01T00:00:00Z",
        });
        let not_replayed = Judged::of(&serde_json::from_value(job).unwrap());
        assert_eq!(not_replayed.which(), "");
        let last = Judged { attempt: Some(AttemptNumber(4)), ..not_replayed };
        assert_eq!(last.which(), "");
        let before = Judged { attempt: Some(AttemptNumber(2)), last_attempt: Some(AttemptNumber(4)), ..last };
        assert_eq!(before.which(), " attempt 2 (the last was 4)");
    }

    #[test]
    fn what_is_to_be_done_stands_at_the_end_and_is_not_cut() {
        let job = serde_json::json!({
            "id": JobId::generate(), "module": "report", "queue": "default", "state": "discarded", "attempt": 1,
            "spent": 1, "max_attempts": 1, "enqueued_at": "2030-01-01T00:00:00Z",
            "scheduled_at": "2030-01-01T00:00:00Z",
        });
        let long = "it may not reach what it asks for, ".repeat(20);
        let judged = Judged {
            verdict: Verdict::Otherwise.word(),
            now: format!("exit: {long}add `http = [...]`"),
            then: format!("exit: {long}"),
            besides: vec!["it would enqueue 1 job: 1 of mail".to_owned()],
            ..Judged::of(&serde_json::from_value(job).unwrap())
        };
        let says = judged.says();
        assert!(
            says.starts_with(&judged.now) && says.ends_with("...; it would enqueue 1 job: 1 of mail"),
            "{says}"
        );
    }
}
