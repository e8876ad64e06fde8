//! What `midge enqueue` takes of jobs of which there is to be one at a time.

use std::time::Duration;

use clap::ValueEnum;
use midge_cli::words;
use midge_protocol::api::{OnConflict, Unique, UniqueBy, UniqueState, UniqueStates};

use super::millis;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("is_unique").args(["unique", "unique_text"]).multiple(true))]
pub(super) struct UniqueArgs {
    /// Enqueue it only if there is no other like it: by what they have in common [without a value: module,args]
    #[arg(long, value_name = "BY", value_enum, value_delimiter = ',', num_args = 0..=1, require_equals = true)]
    unique: Option<Vec<By>>,
    /// The same by a text of one's own, beside what --unique says
    #[arg(long, value_name = "TEXT")]
    unique_text: Option<String>,
    /// The states in which the other one counts [default: waiting,running; only waiting where it is to be changed]
    #[arg(long, value_name = "STATE", value_enum, value_delimiter = ',', requires = "is_unique")]
    unique_while: Vec<While>,
    /// How long after its enqueue the other one counts at most
    #[arg(long, value_name = "DURATION", value_parser = words::parse_some_duration, requires = "is_unique")]
    unique_for: Option<Duration>,
    /// What is done to the other one, if it waits [default: keep]
    #[arg(long, value_name = "WHAT", value_enum, requires = "is_unique")]
    on_conflict: Option<Doing>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    Module,
    Args,
    Queue,
    Key,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum While {
    Waiting,
    Running,
    Completed,
    Cancelled,
    Discarded,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Doing {
    /// Nothing
    Keep,
    /// It gets this one's args and input
    Replace,
    /// It is not run before this one would be
    PushBack,
    /// Both
    ReplaceAndPushBack,
}

impl UniqueArgs {
    /// Returns what a request says; nothing where it is not to be unique.
    pub(super) fn unique(&self) -> Option<Unique> {
        let on_conflict = match self.on_conflict.unwrap_or(Doing::Keep) {
            Doing::Keep => OnConflict::Keep,
            Doing::Replace => OnConflict::Replace,
            Doing::PushBack => OnConflict::PushBack,
            Doing::ReplaceAndPushBack => OnConflict::ReplaceAndPushBack,
        };
        let said = self.unique.is_some() || self.unique_text.is_some();
        let by = self.unique.as_ref().filter(|by| !by.is_empty());
        let states = self.unique_while.iter().map(|state| match state {
            While::Waiting => UniqueState::Waiting,
            While::Running => UniqueState::Running,
            While::Completed => UniqueState::Completed,
            While::Cancelled => UniqueState::Cancelled,
            While::Discarded => UniqueState::Discarded,
        });
        said.then(|| Unique {
            by: by.map(|by| by.iter().map(|by| by.part()).collect()),
            text: self.unique_text.clone(),
            states: (!self.unique_while.is_empty()).then(|| UniqueStates(states.collect())),
            for_ms: self.unique_for.map(millis),
            on_conflict,
        })
    }
}

impl By {
    fn part(self) -> UniqueBy {
        match self {
            By::Module => UniqueBy::Module,
            By::Args => UniqueBy::Args,
            By::Queue => UniqueBy::Queue,
            By::Key => UniqueBy::Key,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Command};

    fn unique(line: &str) -> serde_json::Value {
        let line = format!("midge enqueue hello {line}");
        let Command::Enqueue(args) = Cli::parse_from(line.split_whitespace()).command else { panic!() };
        let unique = args.request().unwrap().unique;
        serde_json::to_value(unique).unwrap()
    }

    #[test]
    fn what_is_said_of_unique_jobs_is_what_is_asked_for() {
        use serde_json::json;
        assert_eq!(unique("--queue q"), json!(null));
        assert_eq!(unique("--unique"), json!({"on_conflict": "keep"}));
        assert_eq!(
            unique(
                "--unique=module,key --unique-while waiting,completed --unique-for 1h --on-conflict replace"
            ),
            json!({"by": ["module", "key"], "states": ["waiting", "completed"], "for_ms": 3_600_000, "on_conflict": "replace"})
        );
        assert_eq!(
            unique("--unique-text nightly --on-conflict replace-and-push-back"),
            json!({"text": "nightly", "on_conflict": "replace_and_push_back"})
        );
    }

    #[test]
    fn what_is_said_of_the_other_one_needs_what_makes_it_unique() {
        for more in
            ["--on-conflict push-back", "--on-conflict keep", "--unique-for 1h", "--unique-while waiting"]
        {
            let line = format!("midge enqueue hello {more}");
            let error = Cli::try_parse_from(line.split_whitespace()).unwrap_err().to_string();
            assert!(error.contains("--unique[=<BY>]|--unique-text <TEXT>"), "{error}");
        }
    }
}
