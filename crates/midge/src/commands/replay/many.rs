//! Replays each of many jobs, and says how many of them would complete.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use midge_cli::output::{bold, dim, note, say, say_json};
use midge_cli::{progress, words};
use midge_client::Client;
use midge_protocol::api::{JobFilter, PAGE_JOBS_MAX};
use midge_protocol::{AttemptNumber, JobId};
use midge_protocol::{job::JobView, shown};
use serde::Serialize;

use super::candidate::Candidate;
use super::verdict::{self, Verdict};
use crate::commands::jobs::none_of;
use crate::commands::pulled::Pulled;
use crate::connection::Answered;

/// How often a server that stops early is asked to go on.
const PAGES_MAX: usize = 1_000;
/// Ids that are said of each kind; `--json` has all.
const IDS_SAID: usize = 10;
/// The word for jobs that were not replayed for want of a module, or of a row that can be read.
const NOT_REPLAYED: &str = "not_replayed";

/// A job, and what became of it here.
#[derive(Debug, Serialize)]
struct Judged {
    id: JobId,
    /// Which of its attempts was replayed; nothing where none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<AttemptNumber>,
    module: String,
    /// Whether its recording has not all of what it was told.
    cut: bool,
    verdict: &'static str,
    then: String,
    now: String,
}

/// Replays jobs that fit a filter, and returns 0 where all of them would complete.
pub(super) async fn replay(
    client: &Client,
    filter: JobFilter,
    limit: u32,
    candidate: &Candidate,
    json: bool,
) -> Result<ExitCode> {
    let modules = client.modules().await.answered()?;
    let (jobs, more) = jobs(client, &filter, limit as usize).await?;
    if jobs.is_empty() {
        note(none_of(client, &filter).await?);
    }
    let bar = progress::bar(jobs.len() as u64, "jobs");
    let mut judged = Vec::with_capacity(jobs.len());
    for job in &jobs {
        bar.inc(1);
        judged.push(judge(client, job, &modules, candidate).await?);
    }
    bar.finish_and_clear();
    let all_complete = judged.iter().all(|judged| judged.verdict == "completes");
    if json {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        judged.iter().for_each(|judged| *counts.entry(judged.verdict).or_default() += 1);
        say_json(&serde_json::json!({ "counts": counts, "jobs": judged, "more": more }))?;
    } else {
        tell(&judged)?;
        let cut = judged.iter().filter(|judged| judged.cut).count();
        if cut > 0 {
            let recordings = words::count(cut, "recording");
            note(format_args!("of what was told there, {recordings} went over a bound and have not all"));
        }
        if more {
            note(dim(format_args!("there are more jobs than these: --limit says how many are replayed")));
        }
    }
    Ok(if all_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the jobs that fit, newest first, and whether there are more.
async fn jobs(client: &Client, filter: &JobFilter, limit: usize) -> Result<(Vec<JobView>, bool)> {
    let mut jobs: Vec<JobView> = Vec::new();
    let mut before = None;
    for _ in 0..PAGES_MAX {
        let wanted = limit.saturating_sub(jobs.len()).min(PAGE_JOBS_MAX as usize);
        let page = JobFilter { before, limit: u32::try_from(wanted).ok(), ..filter.clone() };
        let page = client.jobs(&page).await.answered()?;
        jobs.extend(page.jobs);
        before = page.next;
        if before.is_none() || jobs.len() >= limit {
            return Ok((jobs, before.is_some()));
        }
    }
    ensure!(
        !jobs.is_empty(),
        "the server looked at very many jobs and found none: say more of those that are meant"
    );
    Ok((jobs, true))
}

async fn judge(
    client: &Client,
    job: &JobView,
    modules: &midge_protocol::api::Modules,
    candidate: &Candidate,
) -> Result<Judged> {
    let judged = |verdict, then, now| Judged {
        id: job.id,
        attempt: None,
        cut: false,
        module: job.module.to_string(),
        verdict,
        then,
        now,
    };
    let not_replayed = |why: String| Ok(judged(NOT_REPLAYED, String::new(), why));
    if let Some(why) = &job.unreadable {
        return not_replayed(format!("its row cannot be read: {why}"));
    }
    if !candidate.has(&job.module) {
        return not_replayed(format!("there is no module `{}` here", job.module));
    }
    // One that is deleted meanwhile, or a server that went away, is not the end of the others.
    let pulled = match Pulled::ask(client, job.id, modules).await {
        Ok(pulled) => pulled,
        Err(error) => return not_replayed(format!("{error:#}")),
    };
    // What is wrong with one module or its secrets is not the end of the others either.
    let replayed = match candidate.replay(&pulled, |_| Ok(())).await {
        Ok(replayed) => replayed,
        Err(error) => return not_replayed(format!("{error:#}")),
    };
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
    let judged = judged(verdict.word(), verdict::then(&pulled), now);
    let cut = pulled.recording.as_ref().is_some_and(|recording| recording.cut);
    Ok(Judged { attempt: Some(pulled.about.attempt), cut, ..judged })
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
        for Judged { id, then, now, .. } in of_kind.iter().take(IDS_SAID) {
            let (then, now) = (shown::cut(then), shown::cut(now));
            let ended = match word {
                "fails_otherwise" => format!("{now}, and was {then}"),
                _ => now,
            };
            say(format_args!("       {id} {}", dim(shown::line(&ended))))?;
        }
        if of_kind.len() > IDS_SAID {
            say(dim(format_args!("       and {} more: --json has them all", of_kind.len() - IDS_SAID)))?;
        }
    }
    Ok(())
}
