//! What a redirect asks for: another URL, and as browsers have it, sometimes another method and no body.

use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_TYPE, COOKIE, HeaderName,
    LOCATION,
};
use hyper::{HeaderMap, Method, StatusCode};
use midge_protocol::line::{Failed, Why};
use url::Url;

use crate::asked::{Asked, check_url};
use crate::failure::failed;
use crate::modules::Module;

/// Headers that are about a body.
const OF_A_BODY: [HeaderName; 4] = [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION];
/// Headers that say who asks, to one origin only.
const OF_AN_ORIGIN: [HeaderName; 2] = [AUTHORIZATION, COOKIE];

/// Where a redirect leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Redirect {
    pub(crate) url: Url,
    pub(crate) method: Method,
    /// Whether the body of the request is sent there as well.
    pub(crate) with_body: bool,
}

/// Returns where an answer leads, if it is a redirect.
pub(crate) fn of_answer(
    status: StatusCode,
    headers: &HeaderMap,
    url: &Url,
    method: &Method,
) -> Result<Option<Redirect>, Failed> {
    let becomes_get = match status {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => *method == Method::POST,
        StatusCode::SEE_OTHER => ![Method::GET, Method::HEAD].contains(method),
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => false,
        _ => return Ok(None),
    };
    let Some(location) = headers.get(LOCATION) else {
        return Ok(None);
    };
    let nowhere = |why: String| failed(Why::NotHttp, format!("a redirect of {} {why}", url.authority()));
    let location = std::str::from_utf8(location.as_bytes())
        .map_err(|_| nowhere("leads to what is no text".to_owned()))?;
    let joined = url.join(location).map_err(|error| nowhere(format!("leads to no URL: {error}")))?;
    let url = check_url(joined).map_err(|why| nowhere(format!("leads to a URL that {why}")))?;
    let method = if becomes_get { Method::GET } else { method.clone() };
    Ok(Some(Redirect { url, method, with_body: !becomes_get }))
}

/// Makes of a request what a redirect asks for. What is left out of it is left out for good, also where another redirect
/// leads back.
pub(crate) fn follow(asked: &mut Asked, redirect: Redirect, module: &Module) -> Result<(), Failed> {
    let before = asked.origin()?;
    let Redirect { url, method, with_body } = redirect;
    (asked.url, asked.method) = (url, method);
    let origin = asked.origin()?;
    let target = origin.target(asked.url.path());
    asked.headers.retain(|(name, value)| {
        let mut secrets = value.secrets().peekable();
        let may_go = match secrets.peek() {
            Some(_) => secrets.all(|secret| module.may_go(secret, target)),
            None => before == origin || !OF_AN_ORIGIN.contains(name),
        };
        may_go && (with_body || !OF_A_BODY.contains(name))
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirect(status: u16, method: &str, location: &str) -> Result<Option<Redirect>, Failed> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, location.parse().unwrap());
        let url = "https://a.example/x/y?z".parse().unwrap();
        of_answer(StatusCode::from_u16(status).unwrap(), &headers, &url, &method.parse().unwrap())
    }

    #[test]
    fn a_redirect_changes_the_method_as_browsers_do() {
        for (status, method, expected) in [
            (301, "POST", Some(("GET", false))),
            (302, "POST", Some(("GET", false))),
            (303, "POST", Some(("GET", false))),
            (307, "POST", Some(("POST", true))),
            (308, "POST", Some(("POST", true))),
            (301, "PUT", Some(("PUT", true))),
            (303, "PUT", Some(("GET", false))),
            (302, "GET", Some(("GET", true))),
            (303, "HEAD", Some(("HEAD", true))),
            (200, "GET", None),
            (300, "GET", None),
            (304, "GET", None),
            (305, "GET", None),
        ] {
            let redirect = redirect(status, method, "/b").unwrap();
            let actual = redirect.as_ref().map(|redirect| (redirect.method.as_str(), redirect.with_body));
            assert_eq!(actual, expected, "{status} {method}");
        }
    }

    #[test]
    fn a_redirect_leads_to_a_url_as_browsers_read_it() {
        for (location, expected) in [
            ("/b", "https://a.example/b"),
            ("b#part", "https://a.example/x/b"),
            ("//b.example", "https://b.example/"),
            ("http://127.1/", "http://127.0.0.1/"),
            ("?q", "https://a.example/x/y?q"),
        ] {
            assert_eq!(redirect(302, "GET", location).unwrap().unwrap().url.as_str(), expected, "{location}");
        }
        for (location, why) in [
            ("file:///etc/passwd", "neither `http` nor `https`"),
            ("https://me:pass@b.example/", "holds a user or a password"),
            ("https://", "leads to no URL"),
            ("https://[::1", "leads to no URL"),
        ] {
            let failed = redirect(302, "GET", location).unwrap_err();
            assert!(failed.why == Why::NotHttp && failed.message.contains(why), "{location}: {failed:?}");
        }
        let url: Url = "https://a.example/".parse().unwrap();
        assert_eq!(of_answer(StatusCode::FOUND, &HeaderMap::new(), &url, &Method::GET), Ok(None));
    }
}
