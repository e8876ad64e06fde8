//! Text of guests, hosts, callers and remote APIs, made fit for a terminal, a log line or a page.
//!
//! What is stored and what is sent as JSON stays as it came. Whoever shows it to people calls [`line()`] or [`text`].

use std::borrow::Cow;

/// Stands where something was that does not belong into shown text.
const INSTEAD: char = char::REPLACEMENT_CHARACTER;
/// What a message quotes is cut to this: what was meant is seen by then, and there is room for several.
const QUOTED_BYTES_MAX: usize = 100;

/// Returns text of several lines as it may be shown: a line's end and a tab stay.
///
/// Characters that a terminal obeys, and those that are not seen, hide text or change its direction, become `\u{fffd}`.
/// What is left is what one sees. The end of a line that Windows writes, `\r\n`, is a line's end.
///
/// # Examples
/// ```
/// use midge_protocol::shown;
///
/// assert_eq!(shown::text("a\u{1b}[2Jb\r\nc"), "a\u{fffd}[2Jb\nc");
/// assert_eq!(shown::text("日本語 naïve"), "日本語 naïve");
/// ```
pub fn text(text: &str) -> Cow<'_, str> {
    text_after(None, text)
}

/// Returns text as [`text`] does, where it comes after a character that is shown.
fn text_after(before: Option<char>, text: &str) -> Cow<'_, str> {
    let mut last = before;
    if text.chars().all(|c| is_shown(c, last.replace(c))) {
        return Cow::Borrowed(text);
    }
    let mut last = before;
    let shown = text.replace("\r\n", "\n");
    let shown = shown.chars().map(|c| {
        let c = if is_shown(c, last) { c } else { INSTEAD };
        last = Some(c);
        c
    });
    Cow::Owned(shown.collect())
}

/// Returns text as it may be shown within a line: as [`text`] does, and the ends of its lines and tabs become spaces.
///
/// # Examples
/// ```
/// use midge_protocol::shown;
///
/// assert_eq!(shown::line("it failed\nINFO all is well"), "it failed INFO all is well");
/// ```
pub fn line(line: &str) -> Cow<'_, str> {
    match text(line) {
        shown if shown.contains(['\n', '\t']) => Cow::Owned(shown.replace(['\n', '\t'], " ")),
        shown => shown,
    }
}

/// Returns a URL, or what was meant to be one, as [`line()`] does, without the user and the password that may be in it. Where there is
/// no `@`, what stands for a port and is none may be a password whose host was forgotten: nothing is shown from there on.
///
/// # Examples
/// ```
/// use midge_protocol::shown;
///
/// assert_eq!(shown::url("http://me:pass@host:7433/"), "http://***@host:7433/");
/// assert_eq!(shown::url("http://me:pass"), "http://me:***");
/// assert_eq!(shown::url("http://host:7433/v1"), "http://host:7433/v1");
/// ```
pub fn url(url: &str) -> Cow<'_, str> {
    // The last `@`: a password may hold one, and whoever wrote it may have forgotten the scheme.
    let (scheme, rest) = url.split_at(url.find("://").map_or(0, |at| at + 3));
    if let Some((_, rest)) = rest.rsplit_once('@') {
        return Cow::Owned(format!("{}***@{}", line(scheme), line(rest)));
    }
    // The colons of an address stand between brackets.
    let host = rest.find(']').map_or(0, |at| at + 1);
    let port = rest[host..].find(':').map(|at| host + at + 1);
    let is_port = |port: &str| {
        let port = port.split(['/', '?', '#']).next().unwrap_or_default();
        port.bytes().all(|digit| digit.is_ascii_digit())
    };
    match port {
        Some(at) if !is_port(&rest[at..]) => Cow::Owned(format!("{}{}***", line(scheme), line(&rest[..at]))),
        _ => line(url),
    }
}

/// Returns the first character of a text that [`line()`] does not show as it is, and where it is, in bytes.
pub fn first_unseen(text: &str) -> Option<(usize, char)> {
    let mut last = None;
    text.char_indices().find(|(_, c)| !is_shown(*c, last.replace(*c)) || matches!(c, '\n' | '\t'))
}

/// Returns a text of somebody else's for a message to quote, such as what was given or a name that a module brings: as
/// [`line()`] does, cut after 100 bytes, with three dots where it was.
pub fn cut(text: &str) -> String {
    let kept = line(&text[..text.floor_char_boundary(QUOTED_BYTES_MAX)]).into_owned();
    if text.len() > QUOTED_BYTES_MAX { format!("{kept}...") } else { kept }
}

/// Returns bytes of text as [`text`] does. What is no UTF-8 becomes `\u{fffd}`, too.
pub fn bytes(bytes: &[u8]) -> String {
    text(&String::from_utf8_lossy(bytes)).into_owned()
}

/// Text that comes in pieces, which may end within a character: what is shown is the same wherever they end.
#[derive(Debug, Default)]
pub struct Pieces {
    /// The beginning of a character, or of a line's end, whose rest is still to come.
    rest: Vec<u8>,
    /// The character that was shown last.
    last: Option<char>,
}

impl Pieces {
    /// Takes a piece, and returns what may be shown of it and of what was kept back before, as [`bytes()`] does.
    pub fn take(&mut self, piece: &[u8]) -> String {
        self.rest.extend_from_slice(piece);
        let end = match std::str::from_utf8(&self.rest) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.rest.len(),
        };
        let end = if self.rest[..end].ends_with(b"\r") { end - 1 } else { end };
        let kept = self.rest.split_off(end);
        let piece = std::mem::replace(&mut self.rest, kept);
        self.show(&piece)
    }

    /// Returns what is left when there are no more pieces.
    pub fn end(&mut self) -> String {
        let rest = std::mem::take(&mut self.rest);
        self.show(&rest)
    }

    fn show(&mut self, bytes: &[u8]) -> String {
        let shown = text_after(self.last, &String::from_utf8_lossy(bytes)).into_owned();
        self.last = shown.chars().next_back().or(self.last);
        shown
    }
}

/// Returns whether a character may be shown after another one.
fn is_shown(c: char, before: Option<char>) -> bool {
    match c {
        '\n' | '\t' => true,
        // Joiners are letters of many scripts, from Arabic on, and make one emoji of several.
        '\u{200c}' | '\u{200d}' => before.is_some_and(|before| {
            before >= '\u{600}' && is_seen(before) || (c, before) == ('\u{200d}', '\u{fe0f}')
        }),
        // They say whether an emoji is drawn as text or as a picture. Digits, `#` and `*` become keycaps.
        '\u{fe0e}' | '\u{fe0f}' => before.is_some_and(|before| {
            before >= '\u{a9}' && is_seen(before) || matches!(before, '0'..='9' | '#' | '*')
        }),
        c => !is_hidden(c),
    }
}

/// Returns whether a character is seen as itself.
fn is_seen(c: char) -> bool {
    c != INSTEAD && !is_hidden(c)
}

/// Returns whether a terminal or a browser does something with a character instead of showing it, or shows nothing, or
/// what nobody knows: in Unicode 16.0, those of `Default_Ignorable_Code_Point` in `DerivedCoreProperties.txt` and of the
/// categories Cc, Cf, Co, Zl and Zp in `DerivedGeneralCategory.txt`, the noncharacters, and the empty braille pattern.
fn is_hidden(c: char) -> bool {
    matches!(
        c,
        // Cc: movement, colours, titles, the keyboard.
        '\0'..='\x1f' | '\x7f'..='\u{9f}'
        // The soft hyphen and the joiner of graphemes.
        | '\u{ad}' | '\u{34f}'
        // Signs and marks around Arabic and Syriac, one of direction among them.
        | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
        // Fillers of Hangul, vowels of Khmer that are not written, selectors of Mongolian.
        | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}' | '\u{ffa0}'
        // Spaces and joiners of no width, marks of direction, ends of lines and paragraphs, overrides and isolates.
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        // The braille pattern without a dot.
        | '\u{2800}'
        // Private use.
        | '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}'
        // Noncharacters, selectors of variants, the byte order mark, annotations.
        | '\u{fdd0}'..='\u{fdef}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
        // Signs of Kaithi, controls of hieroglyphs, of shorthand and of music.
        | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        // Tags and more selectors: text that is not shown at all.
        | '\u{e0000}'..='\u{e0fff}'
    ) || u32::from(c) & 0xfffe == 0xfffe // the last two of each plane: noncharacters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_message_quotes_is_a_line_and_is_seen_to_be_cut() {
        assert_eq!(cut("fd_write"), "fd_write");
        assert_eq!(cut("a\u{1b}[31m\r\n"), "a\u{fffd}[31m ");
        assert_eq!(cut(&"é".repeat(50)), "é".repeat(50));
        assert_eq!(cut(&"é".repeat(51)), format!("{}...", "é".repeat(50)));
        assert_eq!(cut(&format!("a{}", "é".repeat(50_000))), format!("a{}...", "é".repeat(49)));
    }

    #[test]
    fn no_control_character_is_shown() {
        for c in ('\0'..=char::MAX).filter(|c| c.is_control()) {
            let shown = line(&format!("a{c}b")).into_owned();
            assert!(shown == "a b" || shown == "a\u{fffd}b", "{c:?}: {shown:?}");
            let shown = text(&format!("a{c}b")).into_owned();
            assert_eq!(shown.contains(c), c == '\n' || c == '\t', "{c:?}: {shown:?}");
        }
    }

    #[test]
    fn nothing_that_hides_text_or_turns_it_around_is_shown() {
        let hidden = "\u{61c}\u{200b}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2028}\u{2029}\u{2060}\
                      \u{2066}\u{2067}\u{2068}\u{2069}\u{206a}\u{206f}\u{feff}\u{fff9}\u{e0041}";
        for c in hidden.chars() {
            assert_eq!(line(&format!("a{c}b")), "a\u{fffd}b", "{c:?}");
        }
    }

    #[test]
    fn nothing_is_shown_that_is_not_seen_or_that_nobody_knows() {
        let unseen = "\u{ad}\u{34f}\u{115f}\u{1160}\u{17b4}\u{180b}\u{180e}\u{2800}\u{3164}\u{ffa0}\u{fe00}\u{fe0d}\u{fff0}\
                      \u{600}\u{6dd}\u{110bd}\u{13430}\u{1343f}\u{1bca0}\u{1bca3}\u{1d173}\u{1d17a}\u{e0100}\u{e01ef}\u{e0fff}";
        let unknown =
            "\u{e000}\u{f8ff}\u{f0000}\u{10fffd}\u{fdd0}\u{fdef}\u{fffe}\u{ffff}\u{1fffe}\u{10ffff}";
        for c in unseen.chars().chain(unknown.chars()) {
            assert_eq!(line(&format!("日{c}本")), "日\u{fffd}本", "{c:?}");
        }
    }

    #[test]
    fn joiners_and_selectors_are_shown_only_where_they_do_something() {
        for c in ['\u{200c}', '\u{200d}', '\u{fe0e}', '\u{fe0f}'] {
            let lonely = [format!("{c}"), format!("pass{c}word"), format!("é \n{c}")];
            for text in lonely {
                assert!(!self::text(&text).contains(c), "{text:?}");
            }
            assert_eq!(line(&format!("日{c}{c}{c}")), format!("日{c}\u{fffd}\u{fffd}"), "{c:?}");
            assert_eq!(line(&format!("a\u{ad}{c}\u{fffd}{c}")), "a\u{fffd}\u{fffd}\u{fffd}\u{fffd}", "{c:?}");
        }
    }

    #[test]
    fn text_of_any_language_stays_and_is_not_copied() {
        for kept in [
            "",
            "plain",
            "naïve café",
            "日本語",
            "שלום",
            "می\u{200c}خواهم",
            "ශ්\u{200d}රී",
            "👩\u{200d}🚀 👩🏽\u{200d}🚀 ❤️ ❤️\u{200d}🔥 ☺\u{fe0e} 1️⃣ ©️",
            "a\u{fffd}b",
        ] {
            assert!(matches!(line(kept), Cow::Borrowed(same) if same == kept), "{kept:?}");
        }
        assert!(matches!(text("two\n\tlines\n"), Cow::Borrowed("two\n\tlines\n")));
    }

    #[test]
    fn the_first_character_that_a_line_does_not_show_is_found() {
        for text in ["", "naïve 👩\u{200d}🚀 می\u{200c}خواهم", "a\u{fffd}b"] {
            assert_eq!(first_unseen(text), None, "{text:?}");
        }
        for (text, at, character) in [
            ("é\u{202e}\u{0}", 2, '\u{202e}'),
            ("a\tb", 1, '\t'),
            ("\n", 0, '\n'),
            ("ab\u{200d}", 2, '\u{200d}'),
        ] {
            assert_eq!(first_unseen(text), Some((at, character)), "{text:?}");
        }
    }

    #[test]
    fn a_line_has_one_line() {
        assert_eq!(line("one\r\ntwo\n\tthree"), "one two  three");
        assert_eq!(text("one\r\ntwo\rthree\n"), "one\ntwo\u{fffd}three\n");
    }

    #[test]
    fn pieces_show_the_same_wherever_they_end() {
        let whole = "é日👩\u{200d}🚀1️⃣a\u{200d}\u{200d}\r\n\u{202e}\rx\u{9b}y\r".as_bytes();
        for size in 1..=whole.len() {
            let mut pieces = Pieces::default();
            let mut shown: String = whole.chunks(size).map(|piece| pieces.take(piece)).collect();
            shown.push_str(&pieces.end());
            assert_eq!(shown, bytes(whole), "in pieces of {size}");
        }
        assert_eq!(Pieces::default().take(b"caf\xff!"), "caf\u{fffd}!");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_such() {
        assert_eq!(bytes(b"caf\xff\x1b[0m"), "caf\u{fffd}\u{fffd}[0m");
    }
}
