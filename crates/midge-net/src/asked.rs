//! What a guest asks for, read and checked: method, URL and headers.

use bytes::Bytes;
use hyper::Method;
use hyper::header::{CONTENT_LENGTH, HeaderName};
use midge_core::{Host, Target};
use midge_protocol::line::{Failed, Request, Why};
use midge_protocol::manifest::Scheme;
use midge_protocol::{SecretName, limits, shown};
use url::Url;

use crate::failure::failed;

/// Headers that say how a message is sent, which is not a guest's to say.
const NOT_GUESTS: [&str; 8] =
    ["host", "connection", "transfer-encoding", "te", "upgrade", "keep-alive", "expect", "trailer"];
/// And all that begin so.
const NOT_GUESTS_BEGIN: &str = "proxy-";
/// The longest name of a secret: no end of one is looked for behind it.
const NAME_BYTES_MAX: usize = 63;

/// A request that is one.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, Value)>,
}

/// A header's value, in its parts.
pub(crate) struct Value(pub(crate) Vec<Part>);

pub(crate) enum Part {
    Text(Bytes),
    /// `{{NAME}}`: the value of a secret comes in its place.
    Secret(SecretName),
}

impl Value {
    /// Returns the secrets that it asks for.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.0.iter().filter_map(|part| match part {
            Part::Secret(name) => Some(name),
            Part::Text(_) => None,
        })
    }
}

/// Where a request is sent: what kept connections are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    /// Without a dot at its end: that is for those who look names up, and part of no certificate.
    pub(crate) host: url::Host,
    pub(crate) port: u16,
}

impl Origin {
    /// Returns host and port where the port is not the scheme's own: as `host` has it.
    pub(crate) fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Returns host and port, for people.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", shown::cut(&self.host.to_string()), self.port)
    }

    /// Returns it with a path, as what a module may reach is judged by.
    pub(crate) fn target<'a>(&'a self, path: &'a str) -> Target<'a> {
        let host = match &self.host {
            url::Host::Domain(name) => Host::Name(name),
            url::Host::Ipv4(address) => Host::Address((*address).into()),
            url::Host::Ipv6(address) => Host::Address((*address).into()),
        };
        Target { scheme: self.scheme, host, port: self.port, path }
    }
}

/// Returns how long the body of a request is, where that is known.
pub(crate) fn length(request: &Request) -> Option<u64> {
    request.body_bytes.or_else(|| {
        let mut declared =
            request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str()));
        declared.next().and_then(|(_, value)| number(value))
    })
}

impl Asked {
    /// Reads a request.
    pub(crate) fn read(request: &Request) -> Result<Asked, Failed> {
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|_| invalid(format!("`{}` is no method", shown::cut(&request.method))))?;
        if [Method::CONNECT, Method::TRACE]
            .iter()
            .any(|not| method.as_str().eq_ignore_ascii_case(not.as_str()))
        {
            // The one makes a tunnel, the other gives back what was sent, with its secrets.
            return Err(invalid(format!("`{method}` is not made for guests")));
        }
        let count = request.headers.len();
        if count > limits::HTTP_HEADERS_MAX {
            let max = limits::HTTP_HEADERS_MAX;
            return Err(failed(Why::TooLarge, format!("{count} headers: {max} are the most")));
        }
        let lengths = request.headers.iter().map(|(name, value)| name.len() + value.len());
        within_head(request.url.len() + lengths.sum::<usize>())?;
        let mut headers = Vec::new();
        for (name, value) in &request.headers {
            let header = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| invalid(format!("`{}` is no name of a header", shown::cut(name))))?;
            if NOT_GUESTS.contains(&header.as_str()) || header.as_str().starts_with(NOT_GUESTS_BEGIN) {
                return Err(invalid(format!("the header `{header}` is not set by guests")));
            }
            if value.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
                return Err(invalid(format!("the value of the header `{header}` holds a control character")));
            }
            if header != CONTENT_LENGTH {
                headers.push((header, parts(value)));
            } else if number(value).is_none_or(|declared| length(request) != Some(declared)) {
                let value = shown::cut(&shown::bytes(value));
                return Err(invalid(format!("`content-length` is `{value}`, which the body has not")));
            }
        }
        Ok(Asked { method, url: read_url(&request.url)?, headers })
    }

    /// Returns where it is sent.
    pub(crate) fn origin(&self) -> Result<Origin, Failed> {
        origin(&self.url)
    }

    /// Returns what a server is asked for: the path and the query.
    pub(crate) fn path_and_query(&self) -> String {
        match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        }
    }
}

/// Reads a URL as browsers do, which make addresses of odd spellings of them.
fn read_url(text: &str) -> Result<Url, Failed> {
    let url =
        Url::parse(text).map_err(|error| invalid(format!("`{}` is no URL: {error}", shown::cut(text))))?;
    check_url(url).map_err(|why| invalid(format!("`{}` {why}", shown::cut(text))))
}

/// Returns a URL without its fragment, where a request may have it.
pub(crate) fn check_url(mut url: Url) -> Result<Url, &'static str> {
    url.set_fragment(None);
    if !matches!(url.scheme(), "http" | "https") {
        return Err("is neither `http` nor `https`");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or a password: write a header `authorization`");
    }
    if url.as_str().len() > limits::HTTP_HEAD_BYTES_MAX {
        return Err("is longer than the head of a request may be");
    }
    origin(&url).map_err(|_| "has no host")?;
    Ok(url)
}

fn origin(url: &Url) -> Result<Origin, Failed> {
    let scheme = if url.scheme() == "https" { Scheme::Https } else { Scheme::Http };
    let host = match url.host() {
        Some(url::Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            Some(url::Host::Domain(name.to_owned())).filter(|_| !name.is_empty())
        }
        Some(address) => Some(address.to_owned()),
        None => None,
    };
    let host = host.ok_or_else(|| invalid("the URL has no host"))?;
    // Where there is an IPv4 address in an IPv6 one, that is what is connected to.
    let host = match host {
        url::Host::Ipv6(address) => address.to_ipv4_mapped().map_or(host, url::Host::Ipv4),
        other => other,
    };
    Ok(Origin { scheme, host, port: url.port().unwrap_or(scheme.default_port()) })
}

/// Checks the size of a head, a request's or an answer's.
pub(crate) fn within_head(bytes: usize) -> Result<(), Failed> {
    let max = limits::HTTP_HEAD_BYTES_MAX;
    if bytes <= max {
        return Ok(());
    }
    Err(failed(
        Why::TooLarge,
        format!("a head of {bytes} bytes, URL and headers together: {max} are the most"),
    ))
}

/// Finds the secrets in a value: what stands between `{{` and `}}` and is no name of a secret is text.
fn parts(value: &Bytes) -> Value {
    let mut parts = Vec::new();
    let mut rest = value.clone();
    let mut from = 0;
    while let Some(open) = find(&rest[from..], b"{{").map(|at| from + at) {
        let inside = open + 2;
        // No further than a name goes: what follows is looked through once, and not for each brace.
        let window = &rest[inside..rest.len().min(inside + NAME_BYTES_MAX + 2)];
        let name = find(window, b"}}").and_then(|length| {
            let name = std::str::from_utf8(&rest[inside..inside + length]).ok()?;
            Some((SecretName::new(name).ok()?, inside + length + 2))
        });
        match name {
            Some((name, end)) => {
                parts.push(Part::Text(rest.split_to(open)));
                parts.push(Part::Secret(name));
                rest = rest.split_off(end - open);
                from = 0;
            }
            // `{{{NAME}}` is a brace and a secret.
            None => from = open + 1,
        }
    }
    parts.push(Part::Text(rest));
    Value(parts)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn number(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|c| c.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok())
}

fn invalid(message: impl AsRef<str>) -> Failed {
    failed(Why::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_name_in_two_braces_and_all_else_is_text() {
        let read = |value: &'static str| -> String {
            let Value(parts) = parts(&Bytes::from_static(value.as_bytes()));
            let shown = parts.iter().map(|part| match part {
                Part::Text(text) => String::from_utf8_lossy(text).into_owned(),
                Part::Secret(name) => format!("<{name}>"),
            });
            shown.collect()
        };
        for (value, expected) in [
            ("Bearer {{KEY}}", "Bearer <KEY>"),
            ("{{A}}:{{B_2}}", "<A>:<B_2>"),
            ("{{{KEY}}}", "{<KEY>}"),
            ("{{key}} {{ KEY }} {{}} {{KEY", "{{key}} {{ KEY }} {{}} {{KEY"),
            ("{{\"a\":1}} {{KEY}}", "{{\"a\":1}} <KEY>"),
            ("", ""),
        ] {
            assert_eq!(read(value), expected);
        }
    }
}
