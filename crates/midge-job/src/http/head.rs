//! The heads of requests and answers as texts, which is how guest and host tell them to each other.

use ::http::{HeaderMap, HeaderName, HeaderValue, Method};

/// Returns the text of a request's head: `POST https://api.example.com/v1/charges`, then a line for each header.
///
/// A URL with a line's end in it would be a header: whoever calls has looked.
pub(crate) fn of_request(method: &Method, url: &str, headers: &HeaderMap) -> Vec<u8> {
    of(method.as_str(), url, headers)
}

/// Returns the text of a head.
pub(crate) fn of(first: &str, url: &str, headers: &HeaderMap) -> Vec<u8> {
    let mut head = format!("{first} {url}\n").into_bytes();
    for (name, value) in headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.push(b'\n');
    }
    head
}

/// Reads a head: what its first line begins with (a method or a status), the URL after it, and the headers. Nothing where it
/// is none.
pub(crate) fn read(head: &[u8]) -> Option<(&str, &str, HeaderMap)> {
    let mut lines = head.strip_suffix(b"\n").unwrap_or(head).split(|&byte| byte == b'\n');
    let (first, url) = std::str::from_utf8(lines.next()?).ok()?.split_once(' ')?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        headers.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
    Some((first, url, headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_is_written_is_read_again() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1: 2"));
        headers.append("x-b", HeaderValue::from_bytes(b"\xff").unwrap());
        headers.append("x-a", HeaderValue::from_static(""));
        let text = of_request(&Method::POST, "https://a.example/?q=1", &headers);
        assert!(text.starts_with(b"POST https://a.example/?q=1\nx-a: 1: 2\n"), "{text:?}");
        assert_eq!(read(&text), Some(("POST", "https://a.example/?q=1", headers)));
        assert_eq!(read(b"200 https://a.example/"), Some(("200", "https://a.example/", HeaderMap::new())));
    }

    #[test]
    fn what_is_no_head_is_not_read() {
        let texts: [&[u8]; 7] =
            [b"", b"200", b"\xff u", b"200 u\nname", b"200 u\nna me: x", b"200 u\n\n", b"200 u\na: \x01"];
        for text in texts {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
