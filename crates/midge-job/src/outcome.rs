//! What a job may return, and how it becomes the bytes of a result.

use std::fmt::Display;
use std::marker::PhantomData;

use serde::Serialize;

use crate::Error;

/// A result that is written as it is, not as JSON: an image, a CSV file, text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes(bytes)
    }
}

impl From<String> for Bytes {
    fn from(text: String) -> Bytes {
        Bytes(text.into_bytes())
    }
}

/// What can be the result of a job: every [`Serialize`] type, as JSON, and [`Bytes`].
///
/// There is nothing to implement: derive `serde::Serialize`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a job",
    label = "a result is written as JSON",
    note = "derive `serde::Serialize` for `{Self}`, or return `midge_job::Bytes`"
)]
pub trait Output {
    /// Returns the bytes to write. Fails where the value cannot be JSON, such as a map whose keys are not strings.
    #[doc(hidden)]
    fn into_bytes(self) -> Result<Vec<u8>, Error>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize> Output for T {
    fn into_bytes(self) -> Result<Vec<u8>, Error> {
        // It would not be JSON on the next attempt either.
        serde_json::to_vec(&self).map_err(Error::refuse)
    }
}

// Bytes has no `Serialize`, on purpose: that is what keeps these two apart.
impl Output for Bytes {
    fn into_bytes(self) -> Result<Vec<u8>, Error> {
        Ok(self.0)
    }
}

/// Stands for the type that a job returned, so that the compiler can choose what to do with it.
///
/// A `Result` is `Serialize` too, so a trait alone cannot tell it from a plain value. Method lookup can: it takes the
/// first of the traits below that fits, because each is implemented for one reference less than the one before.
pub struct Returned<R>(PhantomData<R>);

impl<R> Returned<R> {
    /// Makes it for a value that was returned.
    pub fn of(_: &R) -> Returned<R> {
        Returned(PhantomData)
    }
}

/// First: a `Result` whose error converts to [`Error`], as every standard error does, with its causes.
pub trait IsFallible {
    /// Returns what to do with it.
    fn kind(&self) -> Fallible {
        Fallible
    }
}
impl<T, E: Into<Error>> IsFallible for &&Returned<Result<T, E>> {}

/// Second: any other `Result`. Its error can at least be shown.
pub trait IsShowable {
    /// Returns what to do with it.
    fn kind(&self) -> Showable {
        Showable
    }
}
impl<T, E> IsShowable for &Returned<Result<T, E>> {}

/// Last: not a `Result`.
pub trait IsPlain {
    /// Returns what to do with it.
    fn kind(&self) -> Plain {
        Plain
    }
}
impl<R> IsPlain for Returned<R> {}

/// See [`IsFallible`].
pub struct Fallible;

impl Fallible {
    /// Returns the bytes of the result.
    pub fn settle<T: Output, E: Into<Error>>(self, returned: Result<T, E>) -> Result<Vec<u8>, Error> {
        returned.map_err(Into::into)?.into_bytes()
    }
}

/// See [`IsShowable`].
pub struct Showable;

impl Showable {
    /// Returns the bytes of the result.
    pub fn settle<T: Output, E: Shown>(self, returned: Result<T, E>) -> Result<Vec<u8>, Error> {
        returned.map_err(Shown::into_error)?.into_bytes()
    }
}

/// An error that can at least be shown: every [`Display`] type. There is nothing to implement.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a job",
    label = "an error is shown to people",
    note = "implement `std::error::Error` or `std::fmt::Display` for `{Self}`, or return `midge_job::Error`"
)]
pub trait Shown {
    /// Returns it as what a job fails with.
    fn into_error(self) -> Error;
}

#[diagnostic::do_not_recommend]
impl<E: Display> Shown for E {
    fn into_error(self) -> Error {
        // With `#`, error types that hide their causes (anyhow's) show them.
        Error::new(format!("{self:#}"))
    }
}

/// See [`IsPlain`].
pub struct Plain;

impl Plain {
    /// Returns the bytes of the result.
    pub fn settle<T: Output>(self, returned: T) -> Result<Vec<u8>, Error> {
        returned.into_bytes()
    }
}
