//! A whole attempt, from args to exit code: what the `fn main` of a job does.

use std::io::Write;
use std::panic::{self, PanicHookInfo};
use std::process::ExitCode;

use serde::de::DeserializeOwned;

use crate::error::{Disposition, Error};
use crate::host;

/// `EX_DATAERR` of `sysexits.h`: do not retry.
const EXIT_REFUSED: u8 = 65;
/// `EX_TEMPFAIL` of `sysexits.h`: retry.
const EXIT_FAILED: u8 = 75;

/// Runs a job and writes its result to stdout, or says why there is none. Returns the code to exit with.
pub fn run(job: impl FnOnce() -> Result<Vec<u8>, Error>) -> ExitCode {
    report_panics();
    match job().and_then(|result| write_result(&result)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(report(&error)),
    }
}

/// What can be the args of a job: every [`Deserialize`](serde::Deserialize) type that owns what it holds.
///
/// There is nothing to implement: derive `serde::Deserialize`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the args of a job",
    label = "args are read from JSON",
    note = "derive `serde::Deserialize` for `{Self}`, and let it own what it holds (`String` for `&str`)"
)]
pub trait Args: Sized {
    /// Reads the job's args from `argv[1]`. Without any they are `null`.
    #[doc(hidden)]
    fn read() -> Result<Self, Error>;
}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> Args for T {
    fn read() -> Result<T, Error> {
        match std::env::args_os().nth(1) {
            Some(argument) => match argument.to_str() {
                Some(text) => parse_args(text),
                None => Err(Error::refuse("the args are not UTF-8")),
            },
            None => parse_args("null").map_err(|error| Error::refuse(format!("there are no args: {error}"))),
        }
    }
}

/// Reads the args of a job. A function, so that a type that cannot be read is complained about once.
pub fn read_args<T: Args>() -> Result<T, Error> {
    T::read()
}

fn parse_args<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    let not_json = |error: &serde_json::Error| Error::refuse(format!("the args are not JSON: {error}"));
    let args = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        if !error.inner().is_data() {
            return not_json(error.inner());
        }
        let at = match error.path().to_string().as_str() {
            // The root, or something that serde cannot name.
            "." => String::new(),
            path => format!(" at `{path}`"),
        };
        Error::refuse(format!("the args do not fit this job{at}: {}", error.inner()))
    })?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(args)
}

fn write_result(result: &[u8]) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(result)
        .and_then(|()| stdout.flush())
        .map_err(|error| Error::new(format!("cannot write the result: {error}")))
}

/// Says what went wrong, in the log and to the host, and returns the code to exit with.
fn report(error: &Error) -> u8 {
    if let Disposition::Snooze(wait) = error.disposition() {
        eprintln!("{error}");
        host::snooze(wait);
        return EXIT_FAILED;
    }
    let chain = error.chain();
    eprintln!("error: {}", chain.join("\n  caused by: "));
    host::error(&chain.join(": "));
    match error.disposition() {
        Disposition::Refuse => EXIT_REFUSED,
        Disposition::Retry { after: None } => EXIT_FAILED,
        Disposition::Retry { after: Some(wait) } | Disposition::Snooze(wait) => {
            host::retry_after(wait);
            EXIT_FAILED
        }
    }
}

/// Tells the host about a panic too, which it would else know as a trap only.
fn report_panics() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
        print(panic);
        let at = panic.location().map(|location| format!(" at {location}")).unwrap_or_default();
        host::error(&format!("panicked{at}: {}", message(panic)));
    }));
}

fn message<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = panic.payload();
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "of something that is not text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Resize {
        width: u32,
        #[serde(default)]
        crops: Vec<(u32, u32)>,
    }

    #[test]
    fn args_that_fit_are_read() {
        let args: Resize = parse_args(r#" {"width": 320} "#).unwrap();
        assert_eq!(args, Resize { width: 320, crops: vec![] });
    }

    #[test]
    fn args_that_do_not_fit_are_refused_with_their_path() {
        let cases = [
            (r#"{}"#, "the args do not fit this job: missing field `width` at line 1 column 2"),
            (
                r#"{"width": "wide"}"#,
                "the args do not fit this job at `width`: invalid type: string \"wide\", expected u32 at line 1 column 16",
            ),
            (
                r#"{"width": 1, "crops": [[1, 2], [3, -4]]}"#,
                "the args do not fit this job at `crops[1][1]`: invalid value: integer `-4`, expected u32 at line 1 column 37",
            ),
            (r#"{"width": "#, "the args are not JSON: EOF while parsing a value at line 1 column 10"),
            (r#"{"width": 1} 2"#, "the args are not JSON: trailing characters at line 1 column 14"),
        ];
        for (text, message) in cases {
            let error = parse_args::<Resize>(text).unwrap_err();
            assert_eq!(error.to_string(), message);
            assert_eq!(error.disposition(), Disposition::Refuse);
        }
    }
}
