//! Where the requests of a job under test may go, as `http` of its module in `midge.toml` has it.
//!
//! Invariant: no name is looked up, so that what hosts refuse by the address is not known here.

use ::http::Uri;

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
        if self.0.iter().any(|destination| destination.covers(&origin, &path)) {
            return None;
        }
        let Origin { scheme, host, port } = origin;
        let port = if port == default_port(&scheme) { String::new() } else { format!(":{port}") };
        let origin = format!("{scheme}://{host}{port}");
        Some(format!(
            "the job's module may not reach {origin}{path}: add it to its section in midge.toml, as http = [\"{origin}\"]"
        ))
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
        assert!(told.contains("https://other.example.com:8443/a: add it"), "{told}");
        assert!(told.ends_with("as http = [\"https://other.example.com:8443\"]"), "{told}");
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
