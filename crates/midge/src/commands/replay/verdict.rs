//! What it means how an attempt ended here, beside how it had ended there.

use std::borrow::Cow;
use std::collections::BTreeMap;

use midge_cli::words;
use midge_core::fingerprint;
use midge_protocol::ModuleName;
use midge_protocol::exchange::Outcome;
use midge_protocol::job::Failure;

use super::candidate::Replayed;
use super::compare;
use crate::commands::pulled::Pulled;

/// What a replay shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It completes. Where it had completed there too, and its result differs, it is said where.
    Completes(Option<String>),
    /// It completes on a part of what it asked for: it is said what it was not told.
    CompletesWithout(String),
    /// It fails as it had.
    Alike,
    /// It fails, and not as it had.
    Otherwise,
    /// It asked for something that the recording has no answer to.
    Unanswered,
    /// It makes requests, and was not recorded.
    NotRecorded,
}

impl Verdict {
    pub(super) fn of(pulled: &Pulled, replayed: &Replayed) -> Verdict {
        let made_any = replayed.requests.is_some_and(|(made, _)| made > 0);
        if pulled.recording.is_none() && made_any {
            return Verdict::NotRecorded;
        }
        let is_unanswered = matches!(replayed.outcome, Outcome::HandedBack { .. }) && made_any;
        if !replayed.differences.is_empty() || is_unanswered {
            return Verdict::Unanswered;
        }
        if let Some(what) = &replayed.went_without {
            return Verdict::CompletesWithout(what.clone());
        }
        match (&replayed.outcome, &pulled.about.failure) {
            (Outcome::Completed { result }, _) => {
                let then = pulled.result.as_deref();
                Verdict::Completes(then.and_then(|then| compare::difference(then, result)))
            }
            (Outcome::Failed(now), Some(then)) if is_alike(&pulled.about.module, then, now) => Verdict::Alike,
            _ => Verdict::Otherwise,
        }
    }

    /// Returns a word for programs.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Verdict::Completes(None) => "completes",
            Verdict::Completes(Some(_)) => "completes_otherwise",
            Verdict::CompletesWithout(_) => "completes_without",
            Verdict::Alike => "fails_alike",
            Verdict::Otherwise => "fails_otherwise",
            Verdict::Unanswered => "unanswered",
            Verdict::NotRecorded => "not_recorded",
        }
    }

    pub(super) fn sentence(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Verdict::CompletesWithout(what) => {
                return format!("it would complete, but without {what}").into();
            }
            Verdict::Completes(None) => "it would complete",
            Verdict::Completes(Some(_)) => "it would complete, with another result",
            Verdict::Alike => "it would fail as it did",
            Verdict::Otherwise => "it would not end as it did, and not complete",
            Verdict::Unanswered => "it asks for what the recording does not have: --live makes its requests",
            Verdict::NotRecorded => "it makes requests and was not recorded: --live makes them",
        })
    }

    /// Returns where its result differs from the one that it had there.
    pub(super) fn result_differs(&self) -> Option<&str> {
        match self {
            Verdict::Completes(differs) => differs.as_deref(),
            _ => None,
        }
    }
}

/// Returns whether two failures are alike: they would be in one group, and with the same exit code.
fn is_alike(module: &ModuleName, then: &Failure, now: &Failure) -> bool {
    then.exit_code == now.exit_code && fingerprint(module, then) == fingerprint(module, now)
}

/// Returns what to exit with after one job.
pub(super) fn exit_code(verdict: &Verdict, replayed: &Replayed) -> u8 {
    match (verdict, &replayed.outcome) {
        (Verdict::Completes(None), _) => 0,
        (Verdict::Alike | Verdict::Otherwise, Outcome::Failed(failure)) => {
            let code = failure.exit_code.and_then(|code| u8::try_from(code).ok());
            code.filter(|code| *code > 0).unwrap_or(1)
        }
        _ => 1,
    }
}

/// Says how an attempt had ended there.
pub(super) fn then(pulled: &Pulled) -> String {
    match &pulled.about.failure {
        Some(failure) => format!("{}: {}", failure.cause, failure.message),
        None if pulled.result.is_some() => "completed".to_owned(),
        None => "it is not known how it ended".to_owned(),
    }
}

/// Says how it ended here.
pub(super) fn now(replayed: &Replayed) -> String {
    match &replayed.outcome {
        Outcome::Completed { .. } => "completed".to_owned(),
        Outcome::Failed(failure) => format!("{}: {}", failure.cause, failure.message),
        Outcome::Snoozed { after_ms } => format!("snoozed for {} s", *after_ms as f64 / 1000.0),
        Outcome::Cancelled => "cancelled".to_owned(),
        Outcome::ModuleLacks { what } => format!("without {what}"),
        Outcome::HandedBack { lacks } => format!("without {}", lacks.as_deref().unwrap_or("a place")),
    }
}

/// Says what else is to be known of it, however it ends: requests of then that it does not make, or others that it makes, and jobs
/// that it would enqueue.
pub(super) fn besides(pulled: &Pulled, replayed: &Replayed) -> Vec<String> {
    let other = replayed.requests.filter(|(made, recorded)| pulled.recording.is_some() && made != recorded);
    let requests = other.map(|(made, recorded)| format!("requests: {made}, and {recorded} were recorded"));
    requests.into_iter().chain(would_enqueue(&replayed.enqueues)).collect()
}

fn would_enqueue(enqueues: &BTreeMap<String, usize>) -> Option<String> {
    let all = words::count(enqueues.values().sum(), "job");
    let of = |(module, number): (&String, &usize)| format!("{number} of {module}");
    let modules: Vec<String> = enqueues.iter().map(of).collect();
    (!modules.is_empty()).then(|| format!("it would enqueue {all}: {}", modules.join(", ")))
}

#[cfg(test)]
mod tests {
    use midge_engine::Difference;
    use midge_protocol::job::Cause;

    use super::*;

    fn replayed() -> Replayed {
        Replayed {
            outcome: Outcome::Completed { result: "done".into() },
            differences: Vec::new(),
            requests: Some((1, 1)),
            went_without: None,
            enqueues: BTreeMap::new(),
        }
    }

    fn pulled() -> Pulled {
        let about = serde_json::json!({
            "id": midge_protocol::JobId::generate(), "module": "report", "queue": "default", "state": "discarded",
            "attempt": 1, "failure": {"cause": "exit", "message": "no"}, "limits": {"time_ms": 1, "memory_bytes": 1},
        });
        let recording = serde_json::json!({
            "attempt": 1, "sha256": "", "source_sha256": "", "limits": {"time_ms": 1, "memory_bytes": 1},
            "began_at_ns": 0, "seed": "0".repeat(64),
        });
        Pulled {
            about: serde_json::from_value(about).unwrap(),
            args: "null".to_owned(),
            input: None,
            saved: None,
            result: None,
            recording: Some(serde_json::from_value(recording).unwrap()),
        }
    }

    #[test]
    fn what_completes_on_a_part_of_an_answer_is_no_job_that_would_complete() {
        assert_eq!(Verdict::of(&pulled(), &replayed()), Verdict::Completes(None));
        let what = "the rest of the answer to request 1: the recording has 3 bytes of 9";
        let part = Replayed { went_without: Some(what.to_owned()), ..replayed() };
        let verdict = Verdict::of(&pulled(), &part);
        assert_eq!((verdict.word(), exit_code(&verdict, &part)), ("completes_without", 1));
        assert_eq!(verdict.sentence(), format!("it would complete, but without {what}"));
        // It asked for something else besides, and that is what is to be known first.
        let difference = Difference { number: 1, words: "is new".to_owned() };
        let other = Replayed { differences: vec![difference], ..part };
        assert_eq!(Verdict::of(&pulled(), &other), Verdict::Unanswered);
    }

    #[test]
    fn what_it_would_not_ask_and_what_it_would_enqueue_is_said() {
        assert_eq!(besides(&pulled(), &replayed()), Vec::<String>::new());
        let enqueues = [("invoice".to_owned(), 2), ("mail".to_owned(), 1)].into();
        let less = Replayed { requests: Some((1, 3)), enqueues, ..replayed() };
        let said = ["requests: 1, and 3 were recorded", "it would enqueue 3 jobs: 2 of invoice, 1 of mail"];
        assert_eq!(besides(&pulled(), &less), said);
        let live = Replayed { requests: None, enqueues: BTreeMap::new(), ..less };
        assert_eq!(besides(&pulled(), &live), Vec::<String>::new(), "nothing was to be answered");
    }

    #[test]
    fn failures_are_alike_but_for_numbers() {
        let is_alike =
            |then: &Failure, now: &Failure| is_alike(&ModuleName::new("report").unwrap(), then, now);
        let failure =
            |code, message: &str| Failure { exit_code: Some(code), ..Failure::new(Cause::Exit, message) };
        assert!(is_alike(&failure(1, "no user 42"), &failure(1, "no user 7")));
        assert!(!is_alike(&failure(1, "no user 42"), &failure(1, "no mail 42")));
        assert!(!is_alike(&failure(1, "no user 42"), &failure(2, "no user 42")));
        assert!(!is_alike(
            &failure(1, "no"),
            &Failure { exit_code: Some(1), ..Failure::new(Cause::Trap, "no") }
        ));
    }
}
