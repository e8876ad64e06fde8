//! How a job says that it failed, and what should come of it.

use std::any::Any;
use std::fmt;
use std::time::Duration;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a job returns when it can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an attempt gives no result, and what should come of the job.
///
/// Every standard error becomes one by `?`, and is retried as the module's retry policy has it, but for those of requests,
/// which [say more](crate::http::Error). The other ways:
///
/// ```
/// # use std::time::Duration;
/// # use midge_job::{Error, Result};
/// # fn decode(_: &[u8]) -> std::io::Result<()> { Ok(()) }
/// # fn f(photo: &[u8], busy: bool, early: bool) -> Result<()> {
/// decode(photo).map_err(Error::refuse)?; // never retried: the photo will not get better
/// if busy {
///     return Err(Error::new("the printer is busy").retry_after(Duration::from_secs(90)));
/// }
/// if early {
///     return Err(Error::snooze(Duration::from_secs(3600))); // not a failure: not spent
/// }
/// # Ok(())
/// # }
/// ```
///
/// It is no `std::error::Error` itself, as nothing could then convert into it by `?` (`anyhow::Error` has it so too).
pub struct Error {
    disposition: Disposition,
    cause: BoxError,
}

/// What should come of a job whose attempt gave no result. The host tells the server, whose rules have the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Another attempt, if the retry policy has one left.
    Retry {
        /// How long to wait before it. The retry policy says where the job does not.
        after: Option<Duration>,
    },
    /// No other attempt: it could only end in the same way.
    Refuse,
    /// Another attempt after so long. This one is not spent.
    Snooze(Duration),
}

impl Error {
    /// Makes an error from a message or another error. The job is retried as its retry policy has it.
    pub fn new(cause: impl Into<BoxError>) -> Error {
        Error { disposition: Disposition::Retry { after: None }, cause: cause.into() }
    }

    /// Makes an error from a message or another error after which the job is not retried.
    pub fn refuse(cause: impl Into<BoxError>) -> Error {
        Error { disposition: Disposition::Refuse, cause: cause.into() }
    }

    /// Asks for the job to be run again after `wait`. The attempt is not a failure and is not spent.
    pub fn snooze(wait: Duration) -> Error {
        Error { disposition: Disposition::Snooze(wait), cause: format!("snoozed for {wait:?}").into() }
    }

    /// Asks for the next attempt to come after `wait`, rather than when the retry policy has it.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Error {
        self.disposition = Disposition::Retry { after: Some(wait) };
        self
    }

    /// Returns what should come of the job.
    pub fn disposition(&self) -> Disposition {
        self.disposition
    }

    /// Returns the error and its causes, outermost first. One that only repeats what its wrapper said is left out.
    pub(crate) fn chain(&self) -> Vec<String> {
        let mut said = vec![self.cause.to_string()];
        let mut source = self.cause.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !said.last().is_some_and(|wrapper| wrapper.ends_with(&text)) {
                said.push(text);
            }
            source = cause.source();
        }
        said
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Error {
        // The compiler knows whether it is one, so that jobs without requests have nothing of this in them.
        let disposition = match (&error as &dyn Any).downcast_ref::<crate::http::Error>() {
            Some(error) => error.disposition(),
            None => Disposition::Retry { after: None },
        };
        Error { disposition, cause: error.into() }
    }
}

impl fmt::Display for Error {
    /// Writes the error and its causes in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain().join(": "))
    }
}

impl fmt::Debug for Error {
    /// Writes what a person wants to see where an `unwrap` fails in a test.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?})", self.disposition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Wrapper {
        says: &'static str,
        inner: std::io::Error,
    }

    impl fmt::Display for Wrapper {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.says)
        }
    }

    impl std::error::Error for Wrapper {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.inner)
        }
    }

    #[test]
    fn every_cause_is_told_once() {
        let wrapped = |says| Error::from(Wrapper { says, inner: std::io::Error::other("disk on fire") });
        assert_eq!(wrapped("cannot read the photo").to_string(), "cannot read the photo: disk on fire");
        assert_eq!(wrapped("cannot read: disk on fire").to_string(), "cannot read: disk on fire");
    }

    #[test]
    fn an_error_is_retried_unless_it_says_otherwise() {
        let wait = Duration::from_secs(90);
        assert_eq!(Error::from(std::io::Error::other("x")).disposition(), Disposition::Retry { after: None });
        assert_eq!(
            Error::new("busy").retry_after(wait).disposition(),
            Disposition::Retry { after: Some(wait) }
        );
        assert_eq!(Error::refuse("no").disposition(), Disposition::Refuse);
        assert_eq!(Error::snooze(wait).disposition(), Disposition::Snooze(wait));
    }
}
