//! Arguments that several subcommands take, and how their values are read.

use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use midge_cli::words;
use midge_protocol::{Secret, limits};
use serde_json::value::RawValue;

/// The flags that name the server to call.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerArgs {
    /// The server's URL
    // What it is set to is not shown in the help: a password may be in it.
    #[arg(
        long,
        value_name = "URL",
        env = "MIDGE_SERVER",
        hide_env_values = true,
        default_value = "http://127.0.0.1:7433"
    )]
    pub(crate) server: String,
    /// The server's token, where it asks for one
    #[arg(long, env = "MIDGE_TOKEN", hide_env_values = true, value_parser = secret)]
    pub(crate) token: Option<Secret>,
}

/// The flags for what a guest is given: args and input.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ContentArgs {
    /// JSON for the guest, or @FILE for what is in a file
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) args: Option<String>,
    /// A file for the guest's stdin; `-` is our own stdin
    #[arg(long, value_name = "FILE|-")]
    pub(crate) input: Option<PathBuf>,
}

impl ContentArgs {
    /// Returns the args as JSON: `null` where there are none. Fails where they are not JSON.
    pub(crate) fn args(&self) -> Result<Box<RawValue>> {
        let (text, from) = match self.args.as_deref() {
            None => ("null".to_owned(), "--args".to_owned()),
            Some(text) => match text.strip_prefix('@') {
                None => (text.to_owned(), "--args".to_owned()),
                Some(file) => (read_args(file)?, file.to_owned()),
            },
        };
        RawValue::from_string(text.trim().to_owned()).with_context(|| {
            format!("{from} is not JSON: text needs quotes of its own, as in --args '{{\"name\": \"you\"}}' or --args '\"text\"'")
        })
    }

    /// Returns the bytes of the input, where there is one. Fails where it is larger than a job's input may be.
    pub(crate) fn input(&self) -> Result<Option<Bytes>> {
        self.input.as_deref().map(read_input).transpose()
    }
}

fn read_args(file: &str) -> Result<String> {
    let read = std::fs::File::open(file).and_then(|file| at_most(file, limits::ARGS_BYTES_MAX));
    let cannot = || format!("cannot read the args from {file}");
    let Some(bytes) = read.with_context(cannot)? else {
        bail!("the args in {file} are larger than 64 KiB, which is the most: give what is larger as --input");
    };
    String::from_utf8(bytes).with_context(cannot)
}

fn read_input(path: &Path) -> Result<Bytes> {
    let read = if path == Path::new("-") {
        at_most(std::io::stdin().lock(), limits::INPUT_BYTES_MAX)
    } else {
        std::fs::File::open(path).and_then(|file| at_most(file, limits::INPUT_BYTES_MAX))
    };
    match read.with_context(|| format!("cannot read the input from {}", path.display()))? {
        Some(bytes) => Ok(bytes.into()),
        None => bail!(
            "the input in {} is larger than 16 MiB, which is the most: put it where the job can get it in pieces",
            path.display()
        ),
    }
}

/// Reads to the end; returns nothing where there is more than so much, which is then not read.
fn at_most(from: impl Read, most: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    from.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= most).then_some(bytes))
}

/// Reads a secret. It may be empty: see [`given`].
pub(crate) fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text.trim()))
}

/// Returns a secret, where there is one: a variable that is set to nothing is as good as unset. The error names the
/// variable, and does not show the secret, as one of clap's would.
pub(crate) fn given(secret: Option<&Secret>, variable: &str) -> Result<Option<Secret>> {
    let secret = secret.filter(|secret| !secret.expose().is_empty());
    ensure!(
        secret.is_none_or(Secret::is_token),
        "the token in {variable} or its flag holds a line break or another character that no HTTP header can carry: use \
         visible characters of ASCII, as `openssl rand -hex 32` makes them"
    );
    Ok(secret.cloned())
}

/// Reads an address to listen on.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "use an IP address and a port, such as 127.0.0.1:7433 or [::]:7433".to_owned())
}

/// Reads the time that an attempt may take.
pub(crate) fn time_limit(text: &str) -> Result<Duration, String> {
    let limit = words::parse_duration(text)?;
    let fits = limit >= Duration::from_millis(1) && limit <= limits::TIME_LIMIT_MAX;
    if fits { Ok(limit) } else { Err("an attempt may take from 1ms to 24h".to_owned()) }
}

/// Reads the priority of a job.
pub(crate) fn priority(text: &str) -> Result<i8, String> {
    let (first, last) = limits::PRIORITIES.into_inner();
    words::whole(first.into()..=last.into())(text)
}

/// Reads a pair that is written `KEY=VALUE`.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("use KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(args: Option<&str>, input: Option<&Path>) -> ContentArgs {
        ContentArgs { args: args.map(str::to_owned), input: input.map(Path::to_owned) }
    }

    #[test]
    fn args_are_json_given_or_in_a_file() {
        assert_eq!(content(None, None).args().unwrap().get(), "null");
        assert_eq!(content(Some(r#" {"a": 1} "#), None).args().unwrap().get(), r#"{"a": 1}"#);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[1, 2]\n").unwrap();
        let at = format!("@{}", file.path().display());
        assert_eq!(content(Some(&at), None).args().unwrap().get(), "[1, 2]");
    }

    #[test]
    fn args_that_are_not_json_are_refused_with_an_example() {
        for text in ["you", "{name: 1}", "", "1 2"] {
            let error = content(Some(text), None).args().unwrap_err();
            assert!(error.to_string().starts_with("--args is not JSON"), "{error}");
        }
        let error = content(Some("@/no/such/file"), None).args().unwrap_err();
        assert_eq!(error.to_string(), "cannot read the args from /no/such/file");
    }

    #[test]
    fn args_over_the_limit_are_refused_and_not_read_to_their_end() {
        let error = content(Some("@/dev/zero"), None).args().unwrap_err();
        assert!(error.to_string().starts_with("the args in /dev/zero are larger than 64 KiB"), "{error}");
        let error = content(None, Some(Path::new("/dev/zero"))).input().unwrap_err();
        assert!(error.to_string().starts_with("the input in /dev/zero is larger than 16 MiB"), "{error}");
    }

    #[test]
    fn an_input_over_the_limit_is_refused_before_it_is_sent() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(limits::INPUT_BYTES_MAX as u64).unwrap();
        let largest = content(None, Some(file.path())).input().unwrap().unwrap();
        assert_eq!(largest.len(), limits::INPUT_BYTES_MAX);
        file.as_file().set_len(limits::INPUT_BYTES_MAX as u64 + 1).unwrap();
        let error = content(None, Some(file.path())).input().unwrap_err();
        assert!(error.to_string().contains("larger than 16 MiB"), "{error}");
    }

    #[test]
    fn a_secret_that_is_empty_is_none() {
        let given = |text: &str| given(secret(text).ok().as_ref(), "MIDGE_TOKEN").unwrap();
        assert_eq!(given(" "), None);
        assert_eq!(given(" s\n"), Some(Secret::new("s")));
        assert_eq!(super::given(None, "MIDGE_TOKEN").unwrap(), None);
    }

    #[test]
    fn a_secret_that_no_header_can_carry_is_refused_and_not_shown() {
        for text in ["mine\nand yours", "mine\r\nX-Evil: 1", "mine\u{7f}", "miné"] {
            let error = given(secret(text).ok().as_ref(), "MIDGE_TOKEN").unwrap_err().to_string();
            assert!(error.starts_with("the token in MIDGE_TOKEN") && !error.contains("min\u{e9}"), "{error}");
            assert!(!error.contains("mine"), "{error}");
        }
    }

    #[test]
    fn what_is_no_address_and_no_time_is_refused_with_what_may() {
        assert!(listen_address("localhost:7433").unwrap_err().contains("such as 127.0.0.1:7433"));
        assert!(listen_address("[::]:0").is_ok());
        assert!(time_limit("0s").is_err() && time_limit("25h").is_err());
        assert_eq!(time_limit("24h"), Ok(limits::TIME_LIMIT_MAX));
    }

    #[test]
    fn a_priority_is_one_that_a_job_can_have() {
        assert_eq!((priority("-100"), priority("100")), (Ok(-100), Ok(100)));
        for text in ["-101", "101", "x"] {
            assert_eq!(priority(text).unwrap_err(), "use a whole number from -100 to 100");
        }
    }

    #[test]
    fn a_pair_needs_a_key() {
        assert_eq!(key_value("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(key_value("A="), Ok(("A".to_owned(), String::new())));
        assert!(key_value("=b").is_err() && key_value("A").is_err());
    }
}
