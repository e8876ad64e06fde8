//! The client for the server that was named, and its errors with what to do next.

use std::fmt;

use anyhow::{Context, Result, anyhow, ensure};
use midge_client::{Client, ClientError};
use midge_protocol::{nearest, shown};

use crate::arguments::{ServerArgs, given};

impl ServerArgs {
    /// Returns a client that tells at once when no server answers: somebody waits for it.
    pub(crate) fn client(&self) -> Result<Client> {
        let told = shown::url(&self.server);
        // What is not shown is not advised either.
        let host = if told == self.server { &told } else { "HOST:PORT" };
        ensure!(
            self.server.contains("://"),
            "the server `{told}` has no `http://` before it: use http://{host}"
        );
        let client = Client::new(&self.server)?.tries(1);
        Ok(match given(self.token.as_ref(), "MIDGE_TOKEN")? {
            Some(token) => client.token(&token)?,
            None => client,
        })
    }
}

/// Returns the end of a message that says that nothing has a name, with the nearest that something has.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(name, known).map(|nearest| format!(": did you mean `{nearest}`?")).unwrap_or_default()
}

/// Returns the error of a name that nothing of a kind has: with the nearest that something has, or else with the command that
/// lists them.
pub(crate) fn no_such<'a>(
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'a str>,
    listed_by: &str,
) -> anyhow::Error {
    match did_you_mean(name, known) {
        hint if hint.is_empty() => {
            anyhow!("there is no {what} `{name}`: `{listed_by}` lists those that there are")
        }
        hint => anyhow!("there is no {what} `{name}`{hint}"),
    }
}

/// The error that says what to do where no server answers.
#[derive(Debug)]
pub(crate) struct NoServer {
    url: String,
}

impl fmt::Display for NoServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no midge server answers at {}: start one with `midge serve` or `midge dev`, or name another with --server or \
             MIDGE_SERVER",
            self.url
        )
    }
}

/// Turns an error of a client into one that says to a person what to do.
pub(crate) trait Answered<T> {
    /// Returns the answer, or the error; where no server answers it says how to start or name one.
    fn answered(self) -> Result<T>;
}

impl<T> Answered<T> for Result<T, ClientError> {
    fn answered(self) -> Result<T> {
        match self {
            Err(ClientError::Unreachable { url, source }) => {
                // Of the causes only the first is about the network; the others are about the client's parts.
                let mut root: &(dyn std::error::Error + 'static) = &*source;
                while let Some(cause) = root.source() {
                    root = cause;
                }
                Err(anyhow!("{root}")).context(NoServer { url })
            }
            other => Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_no_server_answers_is_known_by_its_kind_and_no_other_error_is() {
        let gone = ClientError::Unreachable { url: "http://a.example".to_owned(), source: "refused".into() };
        let error = Err::<(), _>(gone).answered().unwrap_err();
        assert!(error.is::<NoServer>());
        assert!(
            error.to_string().starts_with("no midge server answers at http://a.example: start one"),
            "{error}"
        );
        assert_eq!(error.root_cause().to_string(), "refused");
        let other = Err::<(), _>(ClientError::Invalid("no".to_owned())).answered().unwrap_err();
        assert!(!other.is::<NoServer>());
    }

    #[test]
    fn what_may_be_a_password_is_neither_shown_nor_advised() {
        let told = |server: &str| {
            let args = ServerArgs { server: server.to_owned(), token: None };
            args.client().unwrap_err().to_string()
        };
        assert!(told("127.0.0.1:9").ends_with("use http://127.0.0.1:9"));
        assert!(told("me:hunter").ends_with("use http://HOST:PORT") && !told("me:hunter").contains("hunter"));
    }

    #[test]
    fn a_name_that_nothing_has_is_told_with_the_nearest_or_where_they_are_listed() {
        let told = |name| no_such("queue", name, ["mail"].into_iter(), "midge queues").to_string();
        assert_eq!(told("mial"), "there is no queue `mial`: did you mean `mail`?");
        assert_eq!(told("nope"), "there is no queue `nope`: `midge queues` lists those that there are");
    }
}
