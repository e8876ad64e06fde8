//! A value in all the ways in which a URL, a form or JSON may spell it, letter by letter.

use bytes::Bytes;

/// How often a letter may be percent-encoded over, as `%252F` is, and be escaped over, as in JSON within JSON.
const OVER_MAX: usize = 2;
/// The backslashes before a letter that is escaped once and over: each time, their number doubles, and there is one more.
const BACKSLASHES_MAX: usize = (1 << OVER_MAX) - 1;
/// The longest spelling of a byte: `\\\u0041`.
const SPELLING_BYTES_MAX: usize = BACKSLASHES_MAX + "u0041".len();
/// Ends that are followed at once. A value has several only behind letters that are also signs of an encoding, such as `%`.
const ENDS_MAX: usize = 8;

/// A value that is looked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Spelled {
    value: Bytes,
    /// Where each character begins, where it is text; else each byte is one.
    letters: Vec<Letter>,
}

#[derive(Debug, PartialEq, Eq)]
struct Letter {
    /// Its bytes, the first of which is small where it is a letter of ASCII.
    bytes: ([u8; 4], u8),
    /// What it is, where the value is text.
    character: Option<char>,
}

impl Letter {
    fn bytes(&self) -> &[u8] {
        &self.bytes.0[..usize::from(self.bytes.1)]
    }
}

/// The ends of what a text begins with, each once.
#[derive(Default)]
struct Ends {
    ends: [usize; ENDS_MAX],
    count: usize,
}

impl Ends {
    fn push(&mut self, end: usize) {
        if self.count < ENDS_MAX && !self.all().contains(&end) {
            self.ends[self.count] = end;
            self.count += 1;
        }
    }

    fn all(&self) -> &[usize] {
        &self.ends[..self.count]
    }
}

impl Spelled {
    pub(crate) fn new(value: &Bytes) -> Spelled {
        let value = Bytes::from(value.to_ascii_lowercase());
        let letters = match std::str::from_utf8(&value) {
            Ok(text) => text
                .chars()
                .map(|character| {
                    let mut bytes = [0; 4];
                    let length = character.encode_utf8(&mut bytes).len();
                    Letter { bytes: (bytes, length as u8), character: Some(character) }
                })
                .collect(),
            Err(_) => {
                value.iter().map(|byte| Letter { bytes: ([*byte, 0, 0, 0], 1), character: None }).collect()
            }
        };
        Spelled { value, letters }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.value.is_empty()
    }

    /// Returns the length of the longest text that spells it.
    pub(crate) fn longest(&self) -> usize {
        self.value.len() * SPELLING_BYTES_MAX
    }

    /// Returns the bytes that a text may begin with which spells it.
    pub(crate) fn beginnings(&self) -> impl Iterator<Item = u8> {
        let first = self.value.first().copied();
        let plus = first.filter(|byte| *byte == b' ').map(|_| b'+');
        let cases = first.into_iter().flat_map(|byte| [byte, byte.to_ascii_uppercase()]);
        cases.chain(plus).chain([b'%', b'\\'])
    }

    /// Returns the length of the longest text that spells it and that another one begins with.
    pub(crate) fn begins(&self, text: &[u8]) -> Option<usize> {
        // As far as letters of ASCII are themselves, there is one end, and nothing to weigh.
        let is_itself = |(value, said): &(&u8, &u8)| {
            value.is_ascii() && said.eq_ignore_ascii_case(value) && !matches!(said, b'%' | b'\\')
        };
        let themselves = self.value.iter().zip(text).take_while(is_itself).count();
        let mut ends = Ends::default();
        ends.push(themselves);
        for letter in &self.letters[themselves..] {
            let mut next = Ends::default();
            for end in ends.all() {
                let rest = &text[*end..];
                spelled(letter, rest, |length| next.push(end + length));
            }
            if next.count == 0 {
                return None;
            }
            ends = next;
        }
        ends.all().iter().copied().max()
    }
}

/// Tells how long each spelling of a letter is that a text begins with.
fn spelled(letter: &Letter, text: &[u8], mut found: impl FnMut(usize)) {
    if let [byte] = letter.bytes() {
        if let Some(first) = text.first() {
            // Most are found, or not, by this alone.
            if first.eq_ignore_ascii_case(byte) || (*byte == b' ' && *first == b'+') {
                found(1);
            }
        }
        percent(*byte, text, &mut found);
    } else {
        let mut length = 0;
        let all = letter.bytes().iter().all(|byte| {
            let rest = &text[length..];
            let mut one = (rest.first() == Some(byte)).then_some(1);
            percent(*byte, rest, |length| one = Some(length));
            length += one.unwrap_or(0);
            one.is_some()
        });
        if all {
            found(length);
        }
    }
    if let Some(character) = letter.character.filter(|_| text.first() == Some(&b'\\')) {
        escaped(character, text, found);
    }
}

/// Tells how long the percent-encoded bytes are that a text begins with and that are the one.
fn percent(byte: u8, text: &[u8], mut found: impl FnMut(usize)) {
    let Some(mut rest) = text.strip_prefix(b"%") else { return };
    for _ in 0..=OVER_MAX {
        let coded = rest.get(..2).and_then(hex).and_then(|coded| u8::try_from(coded).ok());
        if coded.is_some_and(|coded| coded.eq_ignore_ascii_case(&byte)) {
            found(text.len() - rest.len() + 2);
        }
        // The percent sign of what is encoded over.
        let Some(over) = rest.strip_prefix(b"25") else { return };
        rest = over;
    }
}

/// Tells how long the escapes are that a text begins with and that are of a character.
fn escaped(character: char, text: &[u8], mut found: impl FnMut(usize)) {
    for run in 1..=BACKSLASHES_MAX {
        if text.get(run - 1) != Some(&b'\\') {
            return;
        }
        let rest = &text[run..];
        let short = match character {
            '\t' => Some(b't'),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c as u8),
            _ => None,
        };
        if short.is_some() && rest.first().copied() == short {
            found(run + 1);
        }
        let mut units = [0; 2];
        let mut length = run;
        let all = character.encode_utf16(&mut units).iter().enumerate().all(|(at, unit)| {
            // The second half of a pair has as many backslashes as the first.
            if at > 0 {
                let again = text.get(length..length + run);
                if again.is_none_or(|again| again.iter().any(|byte| *byte != b'\\')) {
                    return false;
                }
                length += run;
            }
            let digits = text.get(length..length + 5).and_then(|escape| escape.strip_prefix(b"u"));
            length += 5;
            digits.and_then(hex).is_some_and(|coded| is_unit(coded, *unit))
        });
        if all {
            found(length);
        }
    }
}

/// Returns whether a code unit is meant, where upper and lower case of ASCII are the same.
fn is_unit(coded: u32, unit: u16) -> bool {
    match (u8::try_from(coded), u8::try_from(unit)) {
        (Ok(coded), Ok(unit)) => coded.eq_ignore_ascii_case(&unit),
        _ => coded == u32::from(unit),
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begins(value: &str, text: &str) -> Option<usize> {
        Spelled::new(&Bytes::copy_from_slice(value.as_bytes())).begins(text.as_bytes())
    }

    #[test]
    fn a_letter_is_itself_or_percent_encoded_or_escaped_and_once_over() {
        for (value, text) in [
            ("a", "A"),
            ("a", "%61"),
            ("a", "%41"),
            ("a", "%2561"),
            ("a", "%252561"),
            ("a", "\\u0061"),
            ("a", "\\\\\\u0041"),
            ("/", "\\/"),
            ("/", "%2f"),
            ("/", "%2F"),
            (" ", "+"),
            (" ", "%20"),
            ("\"", "\\\\\\\""),
            ("\t", "\\t"),
            ("%", "%"),
            ("%", "%25"),
            ("%", "%2525"),
            ("\\", "\\"),
            ("\\", "\\\\"),
            ("+", "+"),
            ("+", "%2B"),
            ("\u{e9}", "%C3%A9"),
            ("\u{e9}", "\\u00E9"),
            ("\u{1f511}", "\\ud83d\\udd11"),
        ] {
            assert_eq!(begins(value, text), Some(text.len()), "{value} as {text}");
            assert!(text.len() <= value.len() * SPELLING_BYTES_MAX);
        }
        for (value, text) in [
            ("a", "%6"),
            ("a", "%62"),
            ("a", "%25252561"),
            ("a", "\\u006"),
            ("a", "\\a"),
            ("t", "\\t"),
            ("\u{e9}", "%C3"),
            ("\u{1f511}", "\\ud83d"),
            ("\u{1f511}", "\\ud83d\\\\\\udd11"),
            ("a", ""),
            ("a", "\\"),
            ("a", "%"),
        ] {
            assert_eq!(begins(value, text), None, "{value} as {text}");
        }
    }

    #[test]
    fn a_value_that_looks_encoded_itself_is_found_as_it_is_and_encoded() {
        for text in ["a%41b", "a%2541b", "a%25%34%31b", "%61%2541%62"] {
            assert_eq!(begins("a%41b", text), Some(text.len()), "{text}");
        }
        assert_eq!(begins("a%41b", "aAb"), None);
        assert_eq!(begins("%%%%", "%25%%2525%"), Some(10));
        assert_eq!(begins(r"\\\", r"\\\\\\"), Some(6), "the longest");
    }

    #[test]
    fn bytes_that_are_no_text_are_found_too() {
        let value = Spelled::new(&Bytes::from_static(b"a\xff/"));
        assert_eq!(value.begins(b"a\xff/"), Some(3));
        assert_eq!(value.begins(b"%61%FF%2f"), Some(9));
    }
}
