//! Why an attempt did not end with a result.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Makes the enum, its words and the way back from one table: a new cause is one line here.
macro_rules! causes {
    ($($(#[$doc:meta])+ $cause:ident = $word:literal,)+) => {
        /// Why an attempt did not end with a result. What that costs the job is decided by the outcome that it is part of.
        ///
        /// In JSON and in an exchange it is its word. A word that this release does not know is kept as it came
        /// ([`Cause::Unknown`]): hosts and servers of two releases meet during a deploy.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Cause {
            $($(#[$doc])+ $cause,)+
            /// A cause of a newer host. It counts as a failure like [`Cause::Exit`].
            Unknown(UnknownCause),
        }

        impl Cause {
            /// All causes that this release knows, in the order in which its documents list them.
            pub const KNOWN: &[Cause] = &[$(Cause::$cause,)+];

            /// Returns the word used in API, CLI and dashboard.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Cause::$cause => $word,)+
                    Cause::Unknown(cause) => &cause.0,
                }
            }
        }

        impl From<&str> for Cause {
            /// Reads a word. One that is not known is kept, cut and cleaned to what a word may hold.
            fn from(word: &str) -> Cause {
                match word {
                    $($word => Cause::$cause,)+
                    other => Cause::Unknown(UnknownCause::new(other)),
                }
            }
        }
    };
}

causes! {
    /// The guest exited with a code that is not 0.
    Exit = "exit",
    /// The guest exited with 65 (EX_DATAERR): it asks not to be retried.
    Refused = "refused",
    /// The guest trapped: unreachable, out of bounds, division by zero and the like.
    Trap = "trap",
    /// The guest's stack overflowed.
    OverStack = "over_stack",
    /// The guest wanted more memory than its limit.
    OverMemory = "over_memory",
    /// The guest wanted larger tables than the limit.
    OverTable = "over_table",
    /// The guest ran past its time limit.
    OverTime = "over_time",
    /// The guest wrote more to stdout than a result may have.
    OverOutput = "over_output",
    /// The guest asked for more random bytes at once than the limit.
    OverRandom = "over_random",
    /// The guest wanted more files and folders open at once than the limit.
    OverFiles = "over_files",
    /// A job that the guest enqueued was refused by the server, such as for a queue that is full.
    NotEnqueued = "not_enqueued",
    /// A job that the guest enqueued was refused by the server, and would be in each attempt, such as for a batch that is
    /// closed. Not tried again.
    NeverEnqueued = "never_enqueued",
    /// The guest wanted more requests open at once than the limit.
    OverOpenRequests = "over_open_requests",
    /// The guest wanted to make more requests than the limit.
    OverRequests = "over_requests",
    /// The guest wanted to send more bytes in requests than the limit.
    OverSent = "over_sent",
    /// The guest wanted to receive more bytes in answers than the limit.
    OverReceived = "over_received",
    /// The module could not be loaded: missing, altered, or made for another host. Retried, as a deploy may mend it.
    NotLoadable = "not_loadable",
    /// Somebody asked for the job to be cancelled.
    Cancelled = "cancelled",
    /// The guest asked to be run again later. Not spent.
    Snoozed = "snoozed",
    /// The Machine was told to stop or lacks what the attempt takes, and handed it back. Not spent.
    HandedBack = "handed_back",
    /// The Machine stopped, or was not heard of for a lease. Not spent, but it may make the job a suspect: see
    /// [`crate::job::Suspicion`].
    MachineLost = "machine_lost",
    /// The job was not started by the time that it was to be. There was no attempt, so none is spent.
    Expired = "expired",
    /// What it was to run after did not happen: a job has not completed, or a batch ended otherwise. There was no attempt.
    Unmet = "unmet",
}

impl Cause {
    /// Returns the cause that is kept of a failure that a host reported.
    ///
    /// A failure is spent, and these words are midge's own for ends that are not: a failure that a host reports under
    /// one of them is kept as `host_` and the word, as what a newer host may have meant.
    #[must_use]
    pub fn of_a_failure(self) -> Cause {
        match self {
            Cause::Cancelled
            | Cause::Snoozed
            | Cause::HandedBack
            | Cause::MachineLost
            | Cause::Expired
            | Cause::Unmet => Cause::from(format!("host_{self}").as_str()),
            cause => cause,
        }
    }

    /// Returns whether another attempt would fail alike, so that there is none.
    pub const fn is_final(&self) -> bool {
        matches!(self, Cause::Refused | Cause::NeverEnqueued)
    }

    /// Reads the cause of a failure that may be followed by another attempt.
    ///
    /// # Errors
    /// [`NotTriedAgain`], with the nearest word that is one: for a word that is not known, and for causes that end a job
    /// or that no failure has.
    pub fn tried_again(word: &str) -> Result<Cause, NotTriedAgain> {
        let of_a_failure = |cause: &&Cause| (*cause).clone().of_a_failure() == **cause;
        let tried_again = || Cause::KNOWN.iter().filter(of_a_failure).filter(|cause| !cause.is_final());
        let found = tried_again().find(|cause| cause.as_str() == word);
        found.cloned().ok_or_else(|| {
            let hint = match crate::nearest(word, tried_again().map(Cause::as_str)) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => {
                    format!("use {}", tried_again().map(Cause::as_str).collect::<Vec<_>>().join(", "))
                }
            };
            NotTriedAgain { given: crate::shown::cut(word), hint }
        })
    }
}

/// The error of a word that is no cause after which a job may be tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no cause after which a job is tried again: {hint}")]
pub struct NotTriedAgain {
    /// The word, cut after 64 characters.
    pub given: String,
    /// What may have been meant.
    pub hint: String,
}

/// The word of a cause that this release does not know: 1 to 64 of `a-z`, `0-9` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnknownCause(Arc<str>);

impl UnknownCause {
    const BYTES_MAX: usize = 64;

    fn new(word: &str) -> UnknownCause {
        let clean = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '_' };
        let word: String = word.chars().take(UnknownCause::BYTES_MAX).map(clean).collect();
        UnknownCause(if word.is_empty() { "unknown".into() } else { word.into() })
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Cause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cause, D::Error> {
        let word = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Cause::from(&*word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_cause_is_read_back_from_its_word() {
        for cause in Cause::KNOWN {
            assert_eq!(Cause::from(cause.as_str()), *cause);
        }
    }

    #[test]
    fn a_cause_of_a_newer_release_is_carried_as_it_came() {
        let cause: Cause = serde_json::from_str("\"over_sockets\"").unwrap();
        assert_eq!(cause.as_str(), "over_sockets");
        assert_eq!(serde_json::to_string(&cause).unwrap(), "\"over_sockets\"");
    }

    #[test]
    fn a_failure_cannot_have_a_cause_that_says_it_was_none() {
        let kept = |word: &str| Cause::from(word).of_a_failure().to_string();
        for word in ["snoozed", "handed_back", "machine_lost", "cancelled", "expired"] {
            assert_eq!(kept(word), format!("host_{word}"));
        }
        for word in ["exit", "refused", "not_loadable", "over_sockets", "host_snoozed"] {
            assert_eq!(kept(word), word);
        }
    }

    #[test]
    fn only_failures_that_do_not_end_a_job_are_tried_again() {
        assert_eq!(Cause::tried_again("over_time"), Ok(Cause::OverTime));
        let says = |word: &str| Cause::tried_again(word).unwrap_err().to_string();
        assert!(says("over_tiem").ends_with("did you mean `over_time`?"));
        assert!(says("A B").starts_with("`A B` is no cause"), "{}", says("A B"));
        assert!(says(&"x".repeat(500)).contains(&format!("`{}...` is", "x".repeat(100))));
        for word in ["refused", "snoozed", "handed_back", "machine_lost", "cancelled", "expired", "", "error"]
        {
            assert!(says(word).contains("use exit, trap, "), "{}", says(word));
        }
    }

    #[test]
    fn a_word_that_is_none_is_cleaned_and_cut() {
        assert_eq!(Cause::from("").as_str(), "unknown");
        assert_eq!(Cause::from("\u{1b}[31mX").as_str(), "__31m_");
        assert_eq!(Cause::from("x".repeat(1_000_000).as_str()).as_str().len(), UnknownCause::BYTES_MAX);
    }
}
