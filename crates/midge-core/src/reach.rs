//! What a module's requests may reach: by its manifest before a name is looked up, and by the address after.
//!
//! A permit is for one target. Whoever follows a redirect asks again, and whoever connects asks about the very address.

mod address;

use core::net::IpAddr;
use std::fmt;

use midge_protocol::manifest::{Destination, HostPattern, Scheme};
use midge_protocol::{ModuleName, SecretName, shown};

/// Hosts that only a destination of that very name reaches, whatever they resolve to: they answer for the Machine, its
/// neighbours or the whole account.
const CONTROL_HOSTS: [&str; 3] = ["api.machines.dev", "api.fly.io", "metadata.goog"];
/// The same for each host below these.
const CONTROL_DOMAINS: [&str; 3] = ["internal", "flycast", "localhost"];

/// The longest name that a host has.
const HOST_BYTES_MAX: usize = 253;

/// Where a request goes, as a URL that was read has it: nothing is decoded here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Whether it is spoken to in the clear.
    pub scheme: Scheme,
    /// The host.
    pub host: Host<'a>,
    /// The port, also where the URL names none.
    pub port: u16,
    /// The path, from its first `/`, with what is percent-encoded in it.
    pub path: &'a str,
}

/// The host of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host<'a> {
    /// A name, which is looked up.
    Name(&'a str),
    /// An address.
    Address(IpAddr),
}

/// The right to make a request to one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Permit {
    names_the_host: bool,
}

impl Permit {
    /// Returns whether the request may be made to this address, which the target's name resolves to or which it names: a
    /// public one, or any where the module's list names that very host.
    pub fn may_connect(self, address: IpAddr) -> bool {
        self.names_the_host || address::is_public(address)
    }

    /// Returns whether the module's list names that very host, and not all hosts below a name. Connections that are kept are
    /// shared only among requests with the same answer.
    pub fn names_the_host(self) -> bool {
        self.names_the_host
    }
}

/// The error of a request that a module may not make. It says what was refused, and the line to add.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// No destination covers the target.
    #[error("`{module}` may not reach {origin}: add {}", to_http(.module, .origin, *.has_list))]
    Unlisted {
        /// The module.
        module: ModuleName,
        /// Scheme, host and port of the target.
        origin: String,
        /// Whether the module has a list of destinations.
        has_list: bool,
    },
    /// Destinations cover other paths of the host.
    #[error(
        "`{module}` may reach {origin} only below some paths, and `{}` is not there: add {}",
        shown::cut(.path), to_http(.module, &with_path(.origin, .path), true)
    )]
    OtherPath {
        /// The module.
        module: ModuleName,
        /// Scheme, host and port of the target.
        origin: String,
        /// The path that was asked for.
        path: String,
    },
    /// The path can be read as another one.
    #[error(
        "`{module}` may reach {origin} only below some paths, and a server may read `{}` as another one: write it \
         without `%2e`, `%2f`, `%5c`, `\\` and `..`, or add {}",
        shown::cut(.path), to_http(.module, .origin, true)
    )]
    OddPath {
        /// The module.
        module: ModuleName,
        /// Scheme, host and port of the target.
        origin: String,
        /// The path that was asked for.
        path: String,
    },
    /// A destination covers it by a `*`, and it is one of those that must be named.
    #[error(
        "{origin} is reached only where its very name is listed, and not by a `*`: add {}",
        to_http(.module, .origin, true)
    )]
    MustBeNamed {
        /// The module.
        module: ModuleName,
        /// Scheme, host and port of the target.
        origin: String,
    },
    /// Its name resolves to no address that everybody may reach.
    #[error(
        "{origin} is at {address}, which is no public address, and such are reached only where the very host is listed, \
         and not by a `*`: add {}",
        to_http(.module, .origin, true)
    )]
    NotPublic {
        /// The module.
        module: ModuleName,
        /// Scheme, host and port of the target.
        origin: String,
        /// The address.
        address: IpAddr,
    },
    /// The module has no such secret.
    #[error(
        "`{module}` has no secret `{secret}`: add {} of midge.toml, and a section [secrets.{secret}] where there is none",
        to_secrets(.module, .secret, .origin, *.has_others)
    )]
    NoSecret {
        /// The module.
        module: ModuleName,
        /// The secret's name.
        secret: SecretName,
        /// Scheme, host and port of the target.
        origin: String,
        /// Whether the module has other secrets.
        has_others: bool,
    },
    /// The secret goes elsewhere.
    #[error(
        "the secret `{secret}` may not go to {origin}: add `\"{origin}\"` to the list of `{secret}` in `secrets` of \
         [modules.{module}] of midge.toml"
    )]
    SecretElsewhere {
        /// The module.
        module: ModuleName,
        /// The secret's name.
        secret: SecretName,
        /// Scheme, host and port of the target.
        origin: String,
    },
}

impl NotAllowed {
    /// Returns the error of a target none of whose addresses may be connected to.
    pub fn not_public(module: &ModuleName, target: Target<'_>, address: IpAddr) -> NotAllowed {
        NotAllowed::NotPublic { module: module.clone(), origin: target.origin(), address }
    }
}

impl Target<'_> {
    /// Returns its scheme, its host and, where it is not the scheme's own, its port: `https://api.example.com`.
    pub fn origin(self) -> String {
        Origin(self).to_string()
    }
}

/// Returns scheme, host and port of a URL as somebody wrote it; nothing where they cannot be told, or are longer than any are.
/// Nothing else of it is returned: what stands before an `@` may be a password, and what follows the host may be one too.
pub fn written_origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host_and_port = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match host_and_port.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (host_and_port, "0"),
    };
    let is_address = host.starts_with('[') && host.ends_with(']');
    let is_of_host = |c: char| c.is_alphanumeric() || ".-_".contains(c) || (is_address && "[]:".contains(c));
    let is_host = !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.chars().all(is_of_host);
    let is_port = port.parse::<u16>().is_ok();
    (matches!(&*scheme, "http" | "https") && is_host && is_port)
        .then(|| format!("{scheme}://{}", host_and_port.to_lowercase()))
}

/// Returns what is to be added for a destination: a line, or an entry where there is the line, since a second one is refused.
fn to_http(module: &ModuleName, destination: &str, has_list: bool) -> String {
    if has_list {
        format!("`\"{destination}\"` to `http` of [modules.{module}] of midge.toml")
    } else {
        format!("`http = [\"{destination}\"]` to [modules.{module}] of midge.toml")
    }
}

/// Returns what is to be added for a secret, as [`to_http`] does.
fn to_secrets(module: &ModuleName, secret: &SecretName, origin: &str, has_others: bool) -> String {
    if has_others {
        format!("`{secret} = [\"{origin}\"]` to `secrets` of [modules.{module}]")
    } else {
        format!("`secrets = {{ {secret} = [\"{origin}\"] }}` to [modules.{module}]")
    }
}

/// Returns the destination of a path, or of the origin where a destination cannot be written so.
fn with_path(origin: &str, path: &str) -> String {
    let text = format!("{origin}{path}");
    if text.parse::<Destination>().is_ok() { text } else { origin.to_owned() }
}

struct Origin<'a>(Target<'a>);

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { scheme, host, port, .. } = self.0;
        write!(f, "{}://", scheme.as_str())?;
        match host {
            Host::Name(name) => f.write_str(&plain(name))?,
            Host::Address(address) => match address.to_canonical() {
                IpAddr::V4(address) => write!(f, "{address}")?,
                IpAddr::V6(address) => write!(f, "[{address}]")?,
            },
        }
        if port != scheme.default_port() {
            write!(f, ":{port}")?;
        }
        Ok(())
    }
}

/// Judges a target by what a module may reach. A permit says which of its addresses may be connected to.
///
/// # Errors
/// [`NotAllowed`], which says what to add.
pub fn reach(module: &ModuleName, http: &[Destination], target: Target<'_>) -> Result<Permit, NotAllowed> {
    let origin = || target.origin();
    let of_host = || http.iter().filter(|destination| covers_host(destination, target));
    let covering = || of_host().filter(|destination| covers_path(&destination.path, target.path));
    if covering().any(Destination::names_a_host) {
        return Ok(Permit { names_the_host: true });
    }
    let module = module.clone();
    if covering().next().is_none() {
        let path = target.path.to_owned();
        return Err(if of_host().next().is_none() {
            NotAllowed::Unlisted { module, origin: origin(), has_list: !http.is_empty() }
        } else if is_odd(target.path) {
            NotAllowed::OddPath { module, origin: origin(), path }
        } else {
            NotAllowed::OtherPath { module, origin: origin(), path }
        });
    }
    match target.host {
        Host::Name(name) if must_be_named(&plain(name)) => {
            Err(NotAllowed::MustBeNamed { module, origin: origin() })
        }
        _ => Ok(Permit { names_the_host: false }),
    }
}

/// Returns whether a secret may go to a target: `destinations` are those that the module has for it. Whether the module may
/// reach the target at all is another question, which [`reach`] answers.
pub fn may_go(destinations: &[Destination], target: Target<'_>) -> bool {
    destinations
        .iter()
        .any(|destination| covers_host(destination, target) && covers_path(&destination.path, target.path))
}

fn covers_host(destination: &Destination, target: Target<'_>) -> bool {
    if destination.scheme != target.scheme || destination.port != target.port {
        return false;
    }
    match (&destination.host, target.host) {
        (HostPattern::Name(listed), Host::Name(name)) => *listed == plain(name),
        (HostPattern::Below(listed), Host::Name(name)) => {
            let name = plain(name);
            name.strip_suffix(listed.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        }
        (HostPattern::Address(listed), Host::Address(address)) => {
            listed.to_canonical() == address.to_canonical()
        }
        _ => false,
    }
}

/// Returns a name as lists have it: names mean the same in upper case and with a dot at the end.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn must_be_named(name: &str) -> bool {
    let below =
        |domain: &&str| name.strip_suffix(*domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    CONTROL_HOSTS.contains(&name) || CONTROL_DOMAINS.iter().any(below)
}

fn covers_path(listed: &str, path: &str) -> bool {
    if listed == "/" {
        return true;
    }
    let below = match path.strip_prefix(listed) {
        Some(rest) => listed.ends_with('/') || rest.is_empty() || rest.starts_with('/'),
        None => false,
    };
    below && !is_odd(path)
}

/// Returns whether a server that decodes more than it should, or drops what is behind a `;`, may take a path for another
/// one: it would leave the part of the server that is allowed.
fn is_odd(path: &str) -> bool {
    // A `%` that is encoded, once or more often, is one. In one pass: a guest writes the path, and its neighbours wait.
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(percent) = rest.find('%') {
        plain.push_str(&rest[..=percent]);
        rest = &rest[percent + 1..];
        while let Some(more) = rest.strip_prefix("25") {
            rest = more;
        }
    }
    plain.push_str(rest);
    plain.make_ascii_lowercase();
    // What is behind such a dot is dropped by some: `;`, and whatever is encoded, such as an end of a text.
    let climbs = |part: &str| matches!(part.split([';', '%']).next(), Some("." | ".."));
    let odd = ["%2e", "%2f", "%5c", "%c0", "%c1", "%%", "\\"];
    odd.iter().any(|odd| plain.contains(odd)) || plain.split('/').any(climbs)
}

#[cfg(test)]
mod tests;
