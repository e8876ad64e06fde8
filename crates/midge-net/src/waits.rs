//! What a request waits for, to be told where its time is over.

use std::sync::{Mutex, PoisonError};

/// What a request waits for just now.
#[derive(Default)]
pub(crate) struct Waits(Mutex<Now>);

#[derive(Default)]
struct Now {
    step: Step,
    /// Host and port that it goes to.
    place: String,
}

/// The steps of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Step {
    /// The guest is to write the body, or its beginning.
    #[default]
    Body,
    /// The host's name is looked up.
    Address,
    /// A connection is made.
    Connection,
    /// The two ends of a connection agree on TLS.
    Tls,
    /// The server is to take the request and answer.
    Head,
    /// The server is to send the rest of its answer.
    Rest,
    /// The guest is to read what has come.
    Reader,
}

impl Waits {
    /// Takes note of where the request goes next.
    pub(crate) fn at(&self, place: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).place = place;
    }

    /// Takes note of what it waits for from now on.
    pub(crate) fn now(&self, step: Step) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).step = step;
    }

    /// Returns what it waits for, in words.
    pub(crate) fn words(&self) -> String {
        let now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = &now.place;
        match now.step {
            Step::Body => "its guest to write the body".to_owned(),
            Step::Address => format!("the address of {place}"),
            Step::Connection => format!("a connection to {place}"),
            Step::Tls => format!("{place} to agree on TLS"),
            Step::Head => format!("{place} to take it and answer"),
            Step::Rest => format!("the rest of what {place} answers"),
            Step::Reader => "its guest to read the answer".to_owned(),
        }
    }
}
