//! Where the requests of a job under test may go, and its secrets with them, as `http` and `secrets` of its module in `midge.toml`
//! have it.
//!
//! Invariant: no name is looked up, so that what hosts refuse by the address is not known here.

use std::collections::BTreeMap;

use ::http::{HeaderMap, Uri};

/// What hosts take for a secret's name at most, in bytes.
const SECRET_NAME_BYTES_MAX: usize = 63;
/// Hosts that only a destination of that very name reaches, as `docs/network.md` has them.
const CONTROL_HOSTS: [&str; 3] = ["api.machines.dev", "api.fly.io", "metadata.goog"];
/// The same for each host below these.
const CONTROL_DOMAINS: [&str; 3] = ["internal", "flycast", "localhost"];

/// The destinations of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reach(Vec<Destination>);

/// One of them, such as `https://api.example.com`, `https://*.example.com/v1/` or `http://app.internal:8080`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Destination {
    origin: Origin,
    /// Whether all hosts below it are meant, and not itself.
    is_below: bool,
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Reach {
    /// Reads a list, or says what is wrong with it.
    pub(super) fn read<I: AsRef<str>>(list: impl IntoIterator<Item = I>) -> Result<Reach, String> {
        list.into_iter().map(|text| Destination::read(text.as_ref())).collect::<Result<_, _>>().map(Reach)
    }

    /// Says why a request may not go to a URL; nothing where it may.
    pub(super) fn refuses(&self, url: &str) -> Option<String> {
        let Some((origin, path)) = parts(url) else {
            return Some(format!("`{url}` is no URL that a request may go to"));
        };
        let mut covering = self.0.iter().filter(|destination| destination.covers(&origin, &path)).peekable();
        let is_covered = covering.peek().is_some();
        if covering.any(|destination| !destination.is_below || !must_be_named(&origin.host)) {
            return None;
        }
        let why = if is_covered {
            "by a `*`, as its very name must be listed"
        } else {
            "by any of its destinations"
        };
        let origin = origin.text();
        Some(format!(
            "the job's module may not reach {origin}{path} {why}: add it to its section in midge.toml, as \
             http = [\"{origin}\"]"
        ))
    }

    fn covers(&self, origin: &Origin, path: &str) -> bool {
        self.0.iter().any(|destination| destination.covers(origin, path))
    }
}

/// The secrets of a module, each with where it may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Secrets(BTreeMap<String, Reach>);

impl Secrets {
    /// Adds a secret, or says what is wrong with it.
    pub(super) fn add<I: AsRef<str>>(
        &mut self,
        name: &str,
        destinations: impl IntoIterator<Item = I>,
    ) -> Result<(), String> {
        if !is_secret_name(name) {
            return Err(format!(
                "`{name}` is no name of a secret: use 1 to {SECRET_NAME_BYTES_MAX} of A-Z, 0-9 and `_`, beginning with a letter"
            ));
        }
        self.0.insert(name.to_owned(), Reach::read(destinations)?);
        Ok(())
    }

    /// Says why a request to a URL may not have the secrets that its headers name; nothing where it may.
    pub(super) fn refuses(&self, url: &str, headers: &HeaderMap) -> Option<String> {
        let (origin, path) = parts(url)?;
        let named = headers.values().flat_map(|value| names(value.as_bytes()));
        let refused = named.filter_map(|name| {
            let at = origin.text();
            match self.0.get(&name) {
                None => Some(format!(
                    "the job's module has no secret `{name}`: add it to its section in midge.toml, as \
                     secrets = {{ {name} = [\"{at}\"] }}, and a section [secrets.{name}] where there is none"
                )),
                Some(reach) if !reach.covers(&origin, &path) => Some(format!(
                    "the secret `{name}` may not go to {at}{path}: add \"{at}\" to its list in `secrets` of the job's \
                     module in midge.toml"
                )),
                Some(_) => None,
            }
        });
        refused.into_iter().next()
    }
}

/// Returns the secrets that a header's value asks for: what stands between `{{` and `}}` and is no name of a secret is text.
fn names(value: &[u8]) -> Vec<String> {
    // Such a value is not looked into by hosts either, beyond the names, which are ASCII.
    let text = String::from_utf8_lossy(value);
    let mut names = Vec::new();
    let mut rest = &*text;
    while let Some(open) = rest.find("{{") {
        let inside = &rest[open + 2..];
        let name = inside.find("}}").map(|end| &inside[..end]).filter(|name| is_secret_name(name));
        rest = match name {
            Some(name) => &inside[name.len() + 2..],
            // `{{{NAME}}` is a brace and a secret.
            None => &rest[open + 1..],
        };
        names.extend(name.map(str::to_owned));
    }
    names
}

fn is_secret_name(name: &str) -> bool {
    let is_of_name = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_';
    name.len() <= SECRET_NAME_BYTES_MAX
        && name.bytes().next().is_some_and(|c| c.is_ascii_uppercase())
        && name.bytes().all(is_of_name)
}

fn must_be_named(host: &str) -> bool {
    let is_below =
        |domain: &&str| host.strip_suffix(*domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    CONTROL_HOSTS.contains(&host) || CONTROL_DOMAINS.iter().any(is_below)
}

impl Origin {
    /// Returns it as one writes it: `https://api.example.com`.
    fn text(&self) -> String {
        let Origin { scheme, host, port } = self;
        let port = if *port == default_port(scheme) { String::new() } else { format!(":{port}") };
        format!("{scheme}://{host}{port}")
    }
}

impl Destination {
    fn read(text: &str) -> Result<Destination, String> {
        let wrong = || format!("`{text}` is no destination: write one such as https://api.example.com");
        let is_below = text.contains("://*.");
        let (origin, path) = parts(&text.replacen("://*.", "://", 1)).ok_or_else(wrong)?;
        if origin.host.contains('*') || text.contains(['?', '#']) {
            return Err(wrong());
        }
        Ok(Destination { origin, is_below, path })
    }

    fn covers(&self, to: &Origin, path: &str) -> bool {
        let Origin { scheme, host, port } = &self.origin;
        let is_host = if self.is_below {
            to.host.strip_suffix(host.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            to.host == *host
        };
        (&to.scheme, to.port) == (scheme, *port) && is_host && self.covers_path(path)
    }

    fn covers_path(&self, path: &str) -> bool {
        if self.path == "/" {
            return true;
        }
        let rest = path.strip_prefix(self.path.as_str());
        let is_below =
            rest.is_some_and(|rest| self.path.ends_with('/') || rest.is_empty() || rest.starts_with('/'));
        is_below && !is_odd(path)
    }
}

/// Returns where a URL leads, and its path; nothing where it is none that a request may have.
fn parts(url: &str) -> Option<(Origin, String)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let authority = uri.authority()?;
    if !matches!(&*scheme, "http" | "https") || authority.as_str().contains('@') {
        return None;
    }
    let host = authority.host().to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host).to_owned();
    let port = authority.port_u16().unwrap_or_else(|| default_port(&scheme));
    (!host.is_empty()).then(|| (Origin { scheme, host, port }, uri.path().to_owned()))
}

fn default_port(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

/// Returns whether a server may take a path for another one, as hosts judge it where a list names a path.
fn is_odd(path: &str) -> bool {
    let mut plain = path.to_ascii_lowercase();
    // A `%` that is encoded, once or more often, is one.
    while plain.contains("%25") {
        plain = plain.replace("%25", "%");
    }
    let climbs = |part: &str| matches!(part.split([';', '%']).next(), Some("." | ".."));
    let odd = ["%2e", "%2f", "%5c", "%c0", "%c1", "%%", "\\"];
    odd.iter().any(|odd| plain.contains(odd)) || plain.split('/').any(climbs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_where_a_destination_of_the_list_covers_it_and_nowhere_else() {
        let list = [
            "https://api.example.com",
            "https://*.example.org/v1/",
            "http://app.internal:8080",
            "http://[fdaa::3]/x",
        ];
        let reach = Reach::read(list).unwrap();
        for (url, may) in [
            ("https://api.example.com", true),
            ("https://API.example.com.:443/any?key=value#part", true),
            ("http://api.example.com/", false),
            ("https://api.example.com:8443/", false),
            ("https://api.example.com.evil.org/", false),
            ("https://evilapi.example.com/", false),
            ("https://a.example.org/v1/x", true),
            ("https://a.b.example.org/v1/", true),
            ("https://example.org/v1/", false),
            ("https://.example.org/v1/", false),
            ("https://a.example.org/v1", false),
            ("https://a.example.org/v2/", false),
            ("https://a.example.org/v1/../v2/", false),
            ("https://a.example.org/v1/%252e%252e/v2", false),
            ("https://a.example.org/v1/..;/v2", false),
            ("http://app.internal:8080/..", true),
            ("http://app.internal/", false),
            ("http://[fdaa::3]/x/y", true),
            ("http://[fdaa::3]/xy", false),
            ("https://user@api.example.com/", false),
            ("ftp://api.example.com/", false),
            ("https://", false),
        ] {
            assert_eq!(reach.refuses(url).is_none(), may, "{url}");
        }
        let told = reach.refuses("https://other.example.com:8443/a").unwrap();
        assert!(
            told.contains("https://other.example.com:8443/a by any of its destinations: add it"),
            "{told}"
        );
        assert!(told.ends_with("as http = [\"https://other.example.com:8443\"]"), "{told}");
    }

    #[test]
    fn what_answers_for_a_machine_or_an_account_must_be_named() {
        let reach = Reach::read(["http://*.internal", "https://*.fly.io", "http://app.flycast"]).unwrap();
        for url in ["http://app.internal/", "http://_api.internal/x", "https://api.fly.io/"] {
            let told = reach.refuses(url).unwrap();
            assert!(told.contains("by a `*`, as its very name must be listed"), "{told}");
        }
        for url in ["https://other.fly.io/", "http://app.flycast/"] {
            assert_eq!(reach.refuses(url), None);
        }
    }

    #[test]
    fn a_secret_goes_where_its_list_says_and_no_other_is_there() {
        let mut secrets = Secrets::default();
        secrets.add("STRIPE", ["https://api.stripe.com/v1/"]).unwrap();
        let refuses = |url: &str, value: &str| {
            let headers: HeaderMap =
                [(::http::header::AUTHORIZATION, value.parse().unwrap())].into_iter().collect();
            secrets.refuses(url, &headers)
        };
        let to = "https://api.stripe.com/v1/charges";
        for text in
            ["Bearer {{STRIPE}}", "{{{STRIPE}}", "{{stripe}} {{ STRIPE }} {{}} {{STRIPE", "{{\"a\":1}}"]
        {
            assert_eq!(refuses(to, text), None, "{text}");
        }
        for value in ["{{OTHER}}", "{{STRIPE}}:{{OTHER}}", "{{{{OTHER}}", "{{a}} {{OTHER}}"] {
            let told = refuses(to, value).unwrap();
            assert!(told.contains("has no secret `OTHER`"), "{value}: {told}");
            assert!(told.contains("secrets = { OTHER = [\"https://api.stripe.com\"] }"), "{told}");
        }
        for url in ["https://api.stripe.com/v2/", "https://evil.example/v1/", "http://api.stripe.com/v1/"] {
            let told = refuses(url, "{{STRIPE}}").unwrap();
            assert!(told.starts_with("the secret `STRIPE` may not go to "), "{url}: {told}");
        }
        assert!(secrets.add("stripe", ["https://a.example"]).unwrap_err().contains("is no name of a secret"));
        assert!(secrets.add("A", ["a.example"]).unwrap_err().contains("is no destination"));
    }

    #[test]
    fn what_is_no_destination_is_told() {
        for text in
            ["api.example.com", "https://", "ftp://a", "https://a.*.b", "https://a?b", "https://*.*.a"]
        {
            let told = Reach::read([text]).unwrap_err();
            assert!(told.starts_with(&format!("`{text}` is no destination")), "{told}");
        }
    }
}
