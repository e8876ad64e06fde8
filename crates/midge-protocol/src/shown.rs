//! Names that somebody else chose, as messages show them.

/// Names are cut to this: a message has room for several.
const NAME_BYTES_MAX: usize = 100;

/// Returns a name that a module brings, such as that of an import, cut to what a message can hold and without control
/// characters.
pub fn shown_name(name: &str) -> String {
    let kept = &name[..name.floor_char_boundary(NAME_BYTES_MAX)];
    let kept: String = kept.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if name.len() > NAME_BYTES_MAX { format!("{kept}... ({} bytes)", name.len()) } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_as_it_is_but_for_what_a_message_cannot_hold() {
        assert_eq!(shown_name("fd_write"), "fd_write");
        assert_eq!(shown_name("a\u{1b}[31m\r\n"), "a\u{fffd}[31m\u{fffd}\u{fffd}");
        let long = "é".repeat(50_000);
        assert_eq!(shown_name(&long), format!("{}... (100000 bytes)", "é".repeat(50)));
    }
}
