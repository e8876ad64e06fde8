//! Puts stars in the place of secrets, wherever what comes back from a server holds one that was sent there.
//!
//! What it looks at is compared as it is meant: letter by letter as itself, percent-encoded as in a URL or a form, or escaped as in
//! JSON, however these are mixed. Upper and lower case are taken for the same, since a URL changes them in a host's name. What changes
//! more than single letters, such as base64, is not found.

use bytes::Bytes;
use midge_protocol::line::BODY_FRAME_BYTES_MAX;

use crate::spelled::Spelled;

const STAR: u8 = b'*';
/// How often a URL is decoded to look for a value: as a server may that does so wherever it passes it on.
const DECODED_MAX: usize = 4;

/// The values that a request carried, at any of its redirects.
pub(crate) struct Stars {
    values: Vec<Spelled>,
    /// The bytes with which one of them may begin, however it is written: most bytes are none, and are not looked at again.
    beginnings: [bool; 256],
}

impl Default for Stars {
    fn default() -> Stars {
        Stars { values: Vec::new(), beginnings: [false; 256] }
    }
}

impl Stars {
    pub(crate) fn add(&mut self, value: &Bytes) {
        let value = Spelled::new(value);
        if value.is_empty() || self.values.contains(&value) {
            return;
        }
        value.beginnings().for_each(|byte| self.beginnings[usize::from(byte)] = true);
        self.values.push(value);
    }

    /// Returns the length of the longest text in which one of the values may be written.
    fn longest(&self) -> usize {
        self.values.iter().map(Spelled::longest).max().unwrap_or_default()
    }

    /// Returns whether there is nothing to look for.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns whether one of the values is in a URL, however it is encoded there.
    pub(crate) fn are_in(&self, url: &str) -> bool {
        let mut bytes = url.as_bytes().to_vec();
        // What is encoded often is decoded often by some.
        for _ in 0..=DECODED_MAX {
            if (0..bytes.len()).any(|at| self.begun_at(&bytes[at..]).is_some()) {
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
        let (mut hidden, mut at) = (starred, 0);
        while at < end {
            if at >= hidden {
                let next = bytes[at..end].iter().position(|byte| self.beginnings[usize::from(*byte)]);
                let Some(next) = next else { break };
                at += next;
            }
            if let Some(length) = self.begun_at(&bytes[at..]) {
                hidden = hidden.max(at + length);
            }
            if at < hidden {
                // What is behind is still compared with, what is here is not.
                bytes[at] = STAR;
            }
            at += 1;
        }
        hidden.saturating_sub(end)
    }

    /// Returns the length of the longest value that bytes begin with.
    fn begun_at(&self, bytes: &[u8]) -> Option<usize> {
        if !self.beginnings[usize::from(*bytes.first()?)] {
            return None;
        }
        // Not only the first: one may be the beginning of another.
        self.values.iter().filter_map(|value| value.begins(bytes)).max()
    }
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

/// A body in which values may lie across its pieces.
///
/// How it is cut says nothing of the values: else a guest that has a server say back what it likes would read one letter by
/// letter, by where its guess is cut off. So it comes in frames of one length, each once so much has come behind it as the longest
/// text of a value has, and the rest at the end. Small pieces cost no more than large ones: nothing is looked at before.
pub(crate) struct StarredBody<'a> {
    stars: &'a Stars,
    longest: usize,
    /// What came and was not shown.
    held: Vec<u8>,
    /// How many of the bytes that are held are of a value that began before them.
    starred: usize,
}

impl<'a> StarredBody<'a> {
    pub(crate) fn new(stars: &'a Stars) -> StarredBody<'a> {
        StarredBody { stars, longest: stars.longest(), held: Vec::new(), starred: 0 }
    }

    /// Returns what may be shown after another piece.
    pub(crate) fn piece(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let sure = self.held.len().saturating_sub(self.longest);
        self.show(sure - sure % BODY_FRAME_BYTES_MAX)
    }

    /// Returns what was held back, once there is no more.
    pub(crate) fn end(&mut self) -> Vec<u8> {
        self.show(self.held.len())
    }

    fn show(&mut self, end: usize) -> Vec<u8> {
        if end == 0 {
            return Vec::new();
        }
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
            // As Python quotes it, as a browser does, and as nobody should.
            "k/y%2B%20%22q%22%3D%3D",
            "k%2Fy%2B%20%22q%22%3D%3d",
            "%6B/y+%20\"q%22=\\u003D",
            "k\\/y\\u002b \\\\\\\"q\\u0022==",
            "k%252Fy%252B%2520%2522q%2522%253D%253D",
        ] {
            let hidden = stars.hide_in_text(format!("<{form}>"));
            assert_eq!(hidden, format!("<{}>", "*".repeat(form.len())), "{form}");
        }
    }

    #[test]
    fn characters_beyond_ascii_are_found_as_bytes_and_as_json_has_them() {
        let stars = stars(&["caf\u{e9}\u{1f511}=%41"]);
        for form in [
            "caf\u{e9}\u{1f511}=%41",
            "caf%C3%a9%F0%9f%94%91%3d%2541",
            "caf\\u00e9\\ud83d\\uDD11=%41",
            "CAF\\u00E9%f0%9f%94%91=\\u002541",
        ] {
            let hidden = stars.hide_in_text(format!("<{form}>"));
            assert_eq!(hidden, format!("<{}>", "*".repeat(form.len())), "{form}");
        }
        for other in
            ["caf\\u00e8\u{1f511}=%41", "caf%C3\u{1f511}=%41", "caf\u{e9}\\ud83d=%41", "caf\u{e9}\u{1f511}=A"]
        {
            assert_eq!(stars.hide_in_text(other.to_owned()), other);
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
        let texts = [
            "the secret-1x is secre",
            "aabcdbcabcd",
            "aaaabaab",
            "abcabcabdabcabx",
            "SeCrEtsecretse",
            "%73ecre\\u0074-1 s%65",
            "%61b\\u0063abc%",
        ];
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
        // The third frame is not sure before the end: a spelling of the value may be longer than what is behind it.
        assert_eq!(right.iter().filter(|cut| **cut > 0).count(), 3);
        assert!(right.iter().rev().skip(1).all(|cut| cut % BODY_FRAME_BYTES_MAX == 0), "{right:?}");
        assert_eq!(cuts("secret", "secre"), cuts("secret", "sicre"));
    }
}
