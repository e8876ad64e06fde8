//! What a module may reach by HTTP, and which secrets are put into its requests: how both are written, and their bounds.
//!
//! Invariant: whether a request may be made is not decided here but by `midge_core::reach`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::given;
use crate::{SecretName, limits, nearest, shown};

/// The longest destination, in bytes: a host's name has 253, and a path more is no prefix that somebody wrote.
const DESTINATION_BYTES_MAX: usize = 1_024;

/// Where requests may go: a scheme, a host or all hosts below one, a port, and the path under which they stay. It is written
/// as a URL, such as `https://api.example.com`, `https://*.example.com/v1/` or `http://app.internal:8080`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Destination {
    /// Whether it is spoken to in the clear.
    pub scheme: Scheme,
    /// The host, or the hosts.
    pub host: HostPattern,
    /// The port: 443 or 80, as the scheme has it, where none is written.
    pub port: u16,
    /// What a request's path begins with: `/` for all. `/v1/` is all below it, `/v1` that itself too.
    pub path: String,
}

/// What a module may reach: what its entry says of `http` and `secrets`.
#[derive(Debug, Clone, Copy)]
pub struct Reach<'a> {
    /// Where its guests' requests may go.
    pub http: &'a [Destination],
    /// The secrets that are put into its guests' requests, each with the destinations to which it may go.
    pub secrets: &'a BTreeMap<SecretName, Vec<Destination>>,
    /// The variables of the Machine's env that its guests see.
    pub env: &'a [String],
}

impl Reach<'_> {
    /// Checks that it is within its bounds, and that each of its secrets is declared and seen by no guest.
    ///
    /// # Errors
    /// The key of the module that is wrong, and what is wrong with it.
    pub fn check(&self, declared: &BTreeMap<SecretName, SecretSource>) -> Result<(), (&'static str, String)> {
        let max = limits::DESTINATIONS_MAX;
        let count = self.http.len() + self.secrets.values().map(Vec::len).sum::<usize>();
        if count > max {
            return Err((
                "http",
                format!("{count} destinations, with those of its secrets: {max} are the most"),
            ));
        }
        for name in self.secrets.keys() {
            let Some(SecretSource { env }) = declared.get(name) else {
                let hint = match nearest(name.as_str(), declared.keys().map(SecretName::as_str)) {
                    Some(nearest) => format!("did you mean `{nearest}`?"),
                    None => format!("add a section [secrets.{name}] with `env`, the variable that holds it"),
                };
                return Err(("secrets", format!("there is no secret `{name}`: {hint}")));
            };
            if self.env.contains(env) {
                return Err((
                    "env",
                    format!("`{env}` holds the secret `{name}`, which guests are not to see"),
                ));
            }
        }
        for (name, destinations) in self.secrets {
            let meets = |to: &&Destination| self.http.iter().any(|http| http.meets(to));
            if let Some(nowhere) = destinations.iter().find(|to| !meets(to)) {
                let message = format!(
                    "`{name}` may go to {nowhere}, where no request may: add that to `http`, which says what may be reached"
                );
                return Err(("secrets", message));
            }
        }
        Ok(())
    }
}

impl Destination {
    /// Returns whether there is a request that both cover.
    fn meets(&self, other: &Destination) -> bool {
        let paths = [&self.path, &other.path];
        let of_one_path = paths[0].starts_with(&**paths[1]) || paths[1].starts_with(&**paths[0]);
        self.scheme == other.scheme && self.port == other.port && self.host.meets(&other.host) && of_one_path
    }
}

impl HostPattern {
    fn meets(&self, other: &HostPattern) -> bool {
        use HostPattern::{Address, Below, Name};
        let is_below =
            |name: &str, domain: &str| name.strip_suffix(domain).is_some_and(|before| before.ends_with('.'));
        match (self, other) {
            (Name(ours), Name(theirs)) => ours == theirs,
            (Name(name), Below(domain)) | (Below(domain), Name(name)) => is_below(name, domain),
            (Below(ours), Below(theirs)) => {
                ours == theirs || is_below(ours, theirs) || is_below(theirs, ours)
            }
            (Address(ours), Address(theirs)) => ours == theirs,
            (Address(_), _) | (_, Address(_)) => false,
        }
    }
}

/// Checks what is said about secrets, beside the env that all Machines are given.
///
/// # Errors
/// The secret that is wrong, and what is wrong with it.
pub fn check_secrets<'a>(
    secrets: &'a BTreeMap<SecretName, SecretSource>,
    env: &BTreeMap<String, String>,
) -> Result<(), (&'a SecretName, String)> {
    if let Some((name, _)) = secrets.iter().nth(limits::SECRETS_MAX) {
        return Err((name, format!("more than {} secrets", limits::SECRETS_MAX)));
    }
    for (name, SecretSource { env: variable }) in secrets {
        given::check_env_name(variable).map_err(|message| (name, message))?;
        if env.contains_key(variable) {
            let message = format!(
                "`{variable}` holds the secret `{name}` and is in [env], which everybody reads who has the image: set it \
                 where the Machines run, such as by `fly secrets set`"
            );
            return Err((name, message));
        }
    }
    Ok(())
}

/// How a host is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// By TLS.
    Https,
}

/// Which hosts a destination is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// The host of this name, in lower case and without a dot at its end.
    Name(String),
    /// All hosts whose names end with a dot and this: `*.example.com`. Not that host itself.
    Below(String),
    /// The host of this address.
    Address(IpAddr),
}

/// A secret that a Machine has and guests do not see: `[secrets.NAME]` of `midge.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretSource {
    /// The variable of the Machine's env that holds it, such as `STRIPE_KEY`.
    pub env: String,
}

impl Scheme {
    /// Returns the scheme as URLs have it: `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// Returns the port that is meant where none is written.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl Destination {
    /// Returns whether it names one host, and not all below one.
    pub fn names_a_host(&self) -> bool {
        !matches!(self.host, HostPattern::Below(_))
    }
}

/// The error of a text that is no destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{given}` {why}: write it as `https://api.example.com`, `https://*.example.com/v1/` or `http://app.internal:8080`"
)]
pub struct InvalidDestination {
    /// The text, cut, without a user and a password.
    pub given: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl FromStr for Destination {
    type Err = InvalidDestination;

    fn from_str(text: &str) -> Result<Destination, InvalidDestination> {
        read(text).map_err(|why| InvalidDestination { given: shown::cut(&shown::url(text)), why })
    }
}

/// One spelling for each destination: who reads a list of them is not to ask what a spelling means.
fn read(text: &str) -> Result<Destination, &'static str> {
    if text.len() > DESTINATION_BYTES_MAX {
        return Err("is longer than 1,024 bytes");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            "holds something else than visible characters of ASCII (a name of other letters is written as `xn--...`)",
        );
    }
    let (scheme, rest) = match text.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(("http", rest)) => (Scheme::Http, rest),
        _ => return Err("does not begin with `https://` or `http://`"),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("holds a user or a password, which belongs into `secrets`");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(address) => {
            let (address, port) = address.split_once(']').ok_or("has a `[` without a `]`")?;
            let address: Ipv6Addr = address.parse().map_err(|_| "has no IPv6 address between `[` and `]`")?;
            if address.to_ipv4_mapped().is_some() {
                return Err("is an IPv4 address in IPv6: write the IPv4 address");
            }
            (HostPattern::Address(address.into()), port)
        }
        None => {
            let (name, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            (host(name)?, port)
        }
    };
    let port = match port.strip_prefix(':') {
        Some(port) => {
            port.parse().ok().filter(|port| *port > 0).ok_or("has no port from 1 to 65535 behind its `:`")?
        }
        None if port.is_empty() => scheme.default_port(),
        None => return Err("goes on behind its `]`"),
    };
    Ok(Destination { scheme, host, port, path: check_path(path)? })
}

fn host(text: &str) -> Result<HostPattern, &'static str> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(HostPattern::Address(address));
    }
    let below = text.strip_prefix("*.");
    let name = below.unwrap_or(text);
    let is_label = |label: &str| {
        let ok = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(ok)
    };
    if name.contains('*') {
        return Err("has a `*` that is not the first label of its host, as in `*.example.com`");
    }
    if name.is_empty() || name.len() > 253 || !name.split('.').all(is_label) {
        return Err("has no host of a-z, 0-9, `-`, `_` and dots (in lower case, without a dot at its end)");
    }
    // A name whose last label is a number is an address to those who read URLs, in whatever odd spelling.
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|c| c.is_ascii_digit()) || last.starts_with("0x") {
        return Err("has an address that is not four numbers from 0 to 255");
    }
    match below {
        Some(_) if !name.contains('.') => Err("allows all of a top-level domain"),
        Some(name) => Ok(HostPattern::Below(name.to_owned())),
        None => Ok(HostPattern::Name(name.to_owned())),
    }
}

fn check_path(path: &str) -> Result<String, &'static str> {
    if path.contains(['?', '#', '\\', '%', '*']) {
        return Err("has a `?`, `#`, `\\`, `%` or `*` in its path, which is a plain beginning");
    }
    if path.split('/').any(|part| part == "." || part == "..") || path.contains("//") {
        return Err("has `.`, `..` or `//` in its path");
    }
    Ok(if path.is_empty() { "/".to_owned() } else { path.to_owned() })
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.as_str())?;
        match &self.host {
            HostPattern::Name(name) => f.write_str(name)?,
            HostPattern::Below(name) => write!(f, "*.{name}")?,
            HostPattern::Address(IpAddr::V4(address)) => write!(f, "{address}")?,
            HostPattern::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
        }
        if self.port != self.scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        if self.path != "/" {
            f.write_str(&self.path)?;
        }
        Ok(())
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> String {
        destination.to_string()
    }
}

impl TryFrom<String> for Destination {
    type Error = InvalidDestination;

    fn try_from(text: String) -> Result<Destination, InvalidDestination> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_read_back_as_it_is_written() {
        for text in [
            "https://api.example.com",
            "https://*.example.com/v1/",
            "http://app.internal:8080",
            "http://127.0.0.1:9000/hooks",
            "http://[fdaa::3]",
            "https://xn--bcher-kva.example:8443/a/b",
        ] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
        }
        for (long, short) in [
            ("https://a.example:443", "https://a.example"),
            ("http://a.example:80/", "http://a.example"),
            ("http://[0:0::1]:80/", "http://[::1]"),
        ] {
            assert_eq!(long.parse::<Destination>().unwrap().to_string(), short);
        }
    }

    #[test]
    fn what_could_mean_something_else_is_no_destination() {
        for (text, why) in [
            ("", "does not begin with"),
            ("api.example.com", "does not begin with"),
            ("ftp://a.example", "does not begin with"),
            ("HTTPS://a.example", "does not begin with"),
            ("https://", "has no host"),
            ("https:///v1", "has no host"),
            ("https://A.example", "in lower case"),
            ("https://a.example.", "without a dot"),
            ("https://a..example", "has no host"),
            ("https://*.com", "top-level"),
            ("https://*", "has a `*`"),
            ("https://a.*.example", "has a `*`"),
            ("https://me@a.example", "belongs into `secrets`"),
            ("https://a.example:0", "has no port"),
            ("https://a.example:65536", "has no port"),
            ("https://a.example:", "has no port"),
            ("http://[::1", "without a `]`"),
            ("http://[::1]x", "goes on"),
            ("http://[::ffff:127.0.0.1]", "write the IPv4 address"),
            ("http://0x7f.1", "four numbers"),
            ("http://127.1", "four numbers"),
            ("http://2130706433", "four numbers"),
            ("https://a.example/v1?x", "plain beginning"),
            ("https://a.example/%2e", "plain beginning"),
            ("https://a.example/../x", "has `.`"),
            ("https://a.example//x", "has `.`"),
            ("https://bücher.example", "xn--"),
            ("https://a.example/a b", "visible"),
        ] {
            let error = text.parse::<Destination>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(format!("https://a.example/{}", "x".repeat(1_024)).parse::<Destination>().is_err());
    }
}
