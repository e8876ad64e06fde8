//! Puts stars in the place of secrets, wherever what comes back from a server holds one that was sent there.
//!
//! Upper and lower case are taken for the same, since a URL changes them in a host's name. So are the forms in which a URL, a
//! form or JSON has a value. Others, such as base64, are not found.

use bytes::Bytes;
use midge_protocol::line::BODY_FRAME_BYTES_MAX;

const STAR: u8 = b'*';
/// How often a URL is decoded to look for a value: as a server may that does so wherever it passes it on.
const DECODED_MAX: usize = 4;

/// The values that a request carried, at any of its redirects.
#[derive(Default)]
pub(crate) struct Stars {
    values: Vec<Bytes>,
}

impl Stars {
    pub(crate) fn add(&mut self, value: &Bytes) {
        for form in [value.clone()].into_iter().chain(forms(value)) {
            if !form.is_empty() && !self.values.contains(&form) {
                self.values.push(form);
            }
        }
    }

    /// Returns the length of the longest value.
    fn longest(&self) -> usize {
        self.values.iter().map(Bytes::len).max().unwrap_or_default()
    }

    /// Returns whether there is nothing to look for.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns whether one of the values is in a URL, however it is encoded there.
    pub(crate) fn are_in(&self, url: &str) -> bool {
        let mut bytes = url.as_bytes().to_vec();
        // What is encoded twice is decoded twice by some.
        for _ in 0..=DECODED_MAX {
            let mut hidden = bytes.clone();
            self.hide(&mut hidden);
            if hidden != bytes {
                return true;
            }
            bytes = decoded(&bytes);
        }
        false
    }

    /// Puts as many stars as it has bytes in the place of each value in a text.
    pub(crate) fn hide_in_text(&self, text: String) -> String {
        if self.is_empty() {
            return text;
        }
        let mut bytes = text.into_bytes();
        self.hide(&mut bytes);
        // A value may be a part of a character.
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// Puts as many stars as it has bytes in the place of each value.
    pub(crate) fn hide(&self, bytes: &mut [u8]) {
        let length = bytes.len();
        self.hide_begun(bytes, 0, length);
    }

    /// Does so for what begins before `end`, where the first `starred` bytes are of a value that began before. Returns how
    /// many bytes behind `end` are of one that began within.
    fn hide_begun(&self, bytes: &mut [u8], starred: usize, end: usize) -> usize {
        let mut hidden = starred;
        for at in 0..end {
            // Not only the first: one may be the beginning of another, or overlap with it.
            for value in self.values.iter().filter(|value| begins_with(&bytes[at..], value)) {
                hidden = hidden.max(at + value.len());
            }
            if at < hidden {
                // What is behind is still compared with, what is here is not.
                bytes[at] = STAR;
            }
        }
        hidden.saturating_sub(end)
    }

    /// Returns where in bytes a value may begin that goes on behind them: their length where none does.
    fn may_go_on(&self, bytes: &[u8]) -> usize {
        let from = bytes.len().saturating_sub(self.longest().saturating_sub(1));
        let goes_on = |rest: &[u8]| {
            self.values.iter().any(|value| value.len() > rest.len() && begins_with(value, rest))
        };
        (from..bytes.len()).find(|at| goes_on(&bytes[*at..])).unwrap_or(bytes.len())
    }
}

/// Returns the forms of a value that are not the value itself: as a URL has it in its path and in its query, wholly
/// percent-encoded, as a form has it, and as JSON has it. Those of most values are the same.
fn forms(value: &[u8]) -> Vec<Bytes> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    if value.iter().all(is_plain) {
        return Vec::new();
    }
    let form: String = url::form_urlencoded::byte_serialize(value).collect();
    let mut forms = vec![form.replace('+', "%20"), form];
    if let (Ok(text), Ok(mut url)) = (std::str::from_utf8(value), url::Url::parse("https://a.example/")) {
        url.set_query(Some(text));
        forms.extend(url.query().map(str::to_owned));
        url.set_path(text);
        forms.push(url.path().trim_start_matches('/').to_owned());
        forms.push(text.escape_debug().to_string());
        if let Ok(json) = serde_json::to_string(text) {
            let json = &json[1..json.len() - 1];
            forms.extend([json.to_owned(), json.replace('/', "\\/")]);
        }
    }
    forms.into_iter().map(Bytes::from).collect()
}

/// Returns bytes with what is percent-encoded in them as it is meant.
fn decoded(bytes: &[u8]) -> Vec<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high << 4 | low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

fn begins_with(bytes: &[u8], beginning: &[u8]) -> bool {
    bytes.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
}

/// A body in which values may lie across its pieces. What may be the beginning of one is held back until it is known.
///
/// How it is cut says nothing of the values: else a guest that has a server say back what it likes would read one letter by
/// letter, by where its guess is cut off. So it comes in frames of one length, as soon as so much is known whatever is held back,
/// and the rest at the end.
pub(crate) struct StarredBody<'a> {
    stars: &'a Stars,
    /// What is known and not yet shown.
    known: Vec<u8>,
    /// The bytes that came, and those that were shown.
    came: usize,
    shown: usize,
    held: Vec<u8>,
    /// How many of the bytes that are held are of a value that began before them.
    starred: usize,
}

impl<'a> StarredBody<'a> {
    pub(crate) fn new(stars: &'a Stars) -> StarredBody<'a> {
        StarredBody { stars, known: Vec::new(), came: 0, shown: 0, held: Vec::new(), starred: 0 }
    }

    /// Returns what may be shown after another piece.
    pub(crate) fn piece(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let end = self.stars.may_go_on(&self.held);
        let more = self.show(end);
        self.known.extend(more);
        self.came += piece.len();
        // No more than this is ever held back.
        let sure = self.came.saturating_sub(self.stars.longest());
        let until = sure - sure % BODY_FRAME_BYTES_MAX;
        let rest = self.known.split_off(until.saturating_sub(self.shown));
        self.shown = self.shown.max(until);
        std::mem::replace(&mut self.known, rest)
    }

    /// Returns what was held back, once there is no more.
    pub(crate) fn end(&mut self) -> Vec<u8> {
        let end = self.held.len();
        let rest = self.show(end);
        let mut last = std::mem::take(&mut self.known);
        last.extend(rest);
        last
    }

    fn show(&mut self, end: usize) -> Vec<u8> {
        self.starred = self.stars.hide_begun(&mut self.held, self.starred, end);
        let rest = self.held.split_off(end);
        std::mem::replace(&mut self.held, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stars(values: &[&str]) -> Stars {
        let mut stars = Stars::default();
        for value in values {
            stars.add(&Bytes::copy_from_slice(value.as_bytes()));
        }
        stars
    }

    #[test]
    fn a_value_is_stars_wherever_it_is_and_whatever_its_case() {
        let text = |values: &[&str], text: &str| stars(values).hide_in_text(text.to_owned());
        assert_eq!(text(&["key"], "a key, a Key, a KEY"), "a ***, a ***, a ***");
        assert_eq!(text(&["abc", "bcd"], "xabcdx abd"), "x****x abd", "they overlap");
        assert_eq!(text(&["abc", "abcdef"], "abcdef abcde"), "****** ***de", "one begins the other");
        assert_eq!(text(&["aa"], "aaa"), "***");
        assert_eq!(text(&["", "k"], "key"), "*ey", "an empty one is none");
        assert_eq!(text(&[], "key"), "key");
        assert_eq!(text(&["\u{e9}"], "caf\u{e9}"), "caf**");
    }

    #[test]
    fn a_value_is_found_in_the_forms_that_urls_forms_and_json_give_it() {
        let stars = stars(&["k/y+ \"q\"=="]);
        for form in [
            "k%2Fy%2B%20%22q%22%3D%3D",
            "k%2fy%2b+%22q%22%3d%3d",
            "k/y+%20%22q%22==",
            "k/y+ \\\"q\\\"==",
            "k\\/y+ \\\"q\\\"==",
        ] {
            let hidden = stars.hide_in_text(format!("<{form}>"));
            assert_eq!(hidden, format!("<{}>", "*".repeat(form.len())), "{form}");
        }
    }

    #[test]
    fn a_value_is_found_in_a_url_however_much_of_it_is_encoded() {
        let stars = stars(&["sk_live_1"]);
        for url in ["https://a/?sk_live_1", "https://a/%73k_LIVE%5f1", "https://a/%2573k_live_%31"] {
            assert!(stars.are_in(url), "{url}");
        }
        assert!(!stars.are_in("https://a/%73k_live%5f2?%zz%"));
    }

    #[test]
    fn a_value_across_pieces_is_found_and_nothing_is_held_back_for_good() {
        let values: [&[&str]; 5] =
            [&["secret"], &["abc", "bcd"], &["aab"], &["abcabd", "abc"], &["secret-1", "ret-1x"]];
        let texts =
            ["the secret-1x is secre", "aabcdbcabcd", "aaaabaab", "abcabcabdabcabx", "SeCrEtsecretse"];
        for values in values {
            let stars = stars(values);
            for text in texts {
                let expected = stars.hide_in_text(text.to_owned()).into_bytes();
                for first in 0..=text.len() {
                    for second in first..=text.len() {
                        let mut body = StarredBody::new(&stars);
                        let bytes = text.as_bytes();
                        let mut shown = body.piece(&bytes[..first]);
                        shown.extend(body.piece(&bytes[first..second]));
                        shown.extend(body.piece(&bytes[second..]));
                        shown.extend(body.end());
                        assert_eq!(shown, expected, "{values:?} {text} {first} {second}");
                    }
                }
            }
        }
    }

    #[test]
    fn how_a_body_is_cut_says_nothing_of_a_value() {
        let cuts = |value: &str, last: &str| -> Vec<usize> {
            let stars = stars(&[value]);
            let mut body = StarredBody::new(&stars);
            let mut text = vec![b'-'; 3 * BODY_FRAME_BYTES_MAX + 7];
            text.extend_from_slice(last.as_bytes());
            let mut cuts: Vec<usize> = text.chunks(1_000).map(|piece| body.piece(piece).len()).collect();
            cuts.push(body.end().len());
            cuts
        };
        let right = cuts("secret", "s");
        assert_eq!(right, cuts("secret", "x"));
        assert_eq!(right.iter().filter(|cut| **cut > 0).count(), 4);
        assert!(right.iter().rev().skip(1).all(|cut| cut % BODY_FRAME_BYTES_MAX == 0), "{right:?}");
        assert_eq!(cuts("secret", "secre"), cuts("secret", "sicre"));
    }
}
