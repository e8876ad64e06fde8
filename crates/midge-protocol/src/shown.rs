//! Text of guests, hosts, callers and remote APIs, made fit for a terminal, a log line or a page.
//!
//! What is stored and what is sent as JSON stays as it came. Whoever shows it to people calls [`line()`] or [`text`].

use std::borrow::Cow;

/// Stands where something was that does not belong into shown text.
const INSTEAD: char = char::REPLACEMENT_CHARACTER;
/// Names are cut to this: a message has room for several.
const NAME_BYTES_MAX: usize = 100;

/// Returns text of several lines as it may be shown: a line's end and a tab stay.
///
/// Characters that a terminal obeys, and those that hide text or change its direction, become `\u{fffd}`. What is left is
/// what one sees. The end of a line that Windows writes, `\r\n`, is a line's end.
///
/// # Examples
/// ```
/// use midge_protocol::shown;
///
/// assert_eq!(shown::text("a\u{1b}[2Jb\r\nc"), "a\u{fffd}[2Jb\nc");
/// assert_eq!(shown::text("日本語 naïve"), "日本語 naïve");
/// ```
pub fn text(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| is_obeyed(c) && c != '\n' && c != '\t';
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace("\r\n", "\n").replace(obeyed, INSTEAD.encode_utf8(&mut [0; 4])))
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

/// Returns a name that a module brings, such as that of an import, as [`line()`] does, cut to what a message can hold.
pub fn name(name: &str) -> String {
    let kept = line(&name[..name.floor_char_boundary(NAME_BYTES_MAX)]).into_owned();
    if name.len() > NAME_BYTES_MAX { format!("{kept}... ({} bytes)", name.len()) } else { kept }
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
        bytes(&std::mem::replace(&mut self.rest, kept))
    }

    /// Returns what is left when there are no more pieces.
    pub fn end(&mut self) -> String {
        bytes(&std::mem::take(&mut self.rest))
    }
}

/// Returns whether a terminal or a browser does something with a character instead of showing it. Joiners within words
/// and emoji (U+200C, U+200D) are letters of their languages.
fn is_obeyed(c: char) -> bool {
    matches!(
        c,
        // C0, DEL and C1: movement, colours, titles, the keyboard.
        '\0'..='\x1f' | '\x7f'..='\u{9f}'
        // The soft hyphen, and marks, overrides and isolates of direction.
        | '\u{ad}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
        // Spaces, joiners and operators of no width; the byte order mark.
        | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{feff}'
        // Ends of lines and paragraphs that are not looked for.
        | '\u{2028}' | '\u{2029}'
        // Annotations and tags: text that is not shown at all.
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_as_it_is_but_for_what_a_message_cannot_hold() {
        assert_eq!(name("fd_write"), "fd_write");
        assert_eq!(name("a\u{1b}[31m\r\n"), "a\u{fffd}[31m ");
        let long = "é".repeat(50_000);
        assert_eq!(name(&long), format!("{}... (100000 bytes)", "é".repeat(50)));
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
                      \u{2066}\u{2067}\u{2068}\u{2069}\u{feff}\u{e0041}";
        for c in hidden.chars() {
            assert_eq!(line(&format!("a{c}b")), "a\u{fffd}b", "{c:?}");
        }
    }

    #[test]
    fn text_of_any_language_stays_and_is_not_copied() {
        for kept in
            ["", "plain", "naïve café", "日本語", "שלום", "می\u{200c}خواهم", "👩\u{200d}🚀 ❤️", "a\u{fffd}b"]
        {
            assert!(matches!(line(kept), Cow::Borrowed(same) if same == kept), "{kept:?}");
        }
        assert!(matches!(text("two\n\tlines\n"), Cow::Borrowed("two\n\tlines\n")));
    }

    #[test]
    fn a_line_has_one_line() {
        assert_eq!(line("one\r\ntwo\n\tthree"), "one two  three");
        assert_eq!(text("one\r\ntwo\rthree\n"), "one\ntwo\u{fffd}three\n");
    }

    #[test]
    fn pieces_show_the_same_wherever_they_end() {
        let whole = "é日👩\u{200d}🚀\r\n\u{202e}\rx\u{9b}y\r".as_bytes();
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
