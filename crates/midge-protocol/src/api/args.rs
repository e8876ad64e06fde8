//! What args must be beside JSON, so that every guest and every caller can read them.

use crate::limits;

/// The error of args that are JSON and yet cannot be read by everybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidArgs {
    /// They hold half of a pair of escapes, which stands for no character.
    #[error(
        "the args hold `{escape}` at byte {at}, which is half of a pair and no character: leave it out, or write both halves"
    )]
    NotUnicode {
        /// The escape as it is written, such as `\ud800`.
        escape: String,
        /// Where in the args it begins, in bytes from 0.
        at: usize,
    },
    /// They are nested deeper than [`limits::ARGS_DEPTH_MAX`].
    #[error(
        "the args are nested deeper than {max} at byte {at}: pass such a value as the job's input",
        max = limits::ARGS_DEPTH_MAX
    )]
    TooDeep {
        /// Where in the args the first level that is too deep begins, in bytes from 0.
        at: usize,
    },
}

/// Checks args, which are JSON already: that each text in them is Unicode, and that they are not nested too deep.
///
/// # Errors
/// [`InvalidArgs`] says what is wrong and where.
pub fn check_args(json: &str) -> Result<(), InvalidArgs> {
    let bytes = json.as_bytes();
    let (mut at, mut depth, mut in_text) = (0, 0_usize, false);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                if depth > limits::ARGS_DEPTH_MAX {
                    return Err(InvalidArgs::TooDeep { at });
                }
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            b'\\' => match unit(bytes, at) {
                // A high half is followed by a low one, and nothing else is half of a pair.
                Some(0xd800..=0xdbff) if matches!(unit(bytes, at + 6), Some(0xdc00..=0xdfff)) => at += 11,
                Some(0xd800..=0xdfff) => {
                    return Err(InvalidArgs::NotUnicode { escape: json[at..at + 6].to_owned(), at });
                }
                Some(_) => at += 5,
                None => at += 1,
            },
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Returns the UTF-16 unit that an escape stands for, such as `\u00e9`, if one begins there.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_pair_is_refused_with_its_position() {
        for (json, at) in [
            (r#""\ud800""#, 1),
            (r#""\udc00""#, 1),
            (r#"{"a": "é\uD800"}"#, 9),
            (r#"{"\udfff": 1}"#, 2),
            (r#"["\ud83d\ud83d\ude00"]"#, 2),
            (r#"["\ud83dx\ude00"]"#, 2),
            (r#"["\ud83d\u0041"]"#, 2),
            (r#"["\\\ud800"]"#, 4),
            (r#"["\ude00\ud83d"]"#, 2),
        ] {
            let escape = json[at..at + 6].to_owned();
            assert_eq!(check_args(json), Err(InvalidArgs::NotUnicode { escape, at }), "{json}");
        }
    }

    #[test]
    fn every_other_text_is_taken() {
        for json in [
            r#""\ud83d\ude00 \uDBFF\uDFFF \u0000 \uffff""#,
            r#""\\ud800""#,
            r#"["\"\\", {"[": "]{"}, 1e400, -0.0, null]"#,
            "\"😀\u{10ffff}\"",
            "9007199254740993",
        ] {
            assert_eq!(check_args(json), Ok(()), "{json}");
        }
    }

    #[test]
    fn args_that_serde_would_refuse_for_their_text_are_refused_here() {
        // What a guest in Rust does with them, attempt after attempt.
        for json in [r#""\ud800""#, r#"["\ud83d\u0041"]"#, r#""\ud83d\ude00""#, r#""\\ud800""#] {
            let read = serde_json::from_str::<serde_json::Value>(json);
            assert_eq!(read.is_ok(), check_args(json).is_ok(), "{json}");
        }
    }

    #[test]
    fn args_are_nested_as_deep_as_all_can_read_and_no_deeper() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let most = nested(limits::ARGS_DEPTH_MAX);
        assert_eq!(check_args(&most), Ok(()));
        assert!(serde_json::from_str::<serde_json::Value>(&most).is_ok());
        let at = limits::ARGS_DEPTH_MAX;
        assert_eq!(check_args(&nested(at + 1)), Err(InvalidArgs::TooDeep { at }));
        assert_eq!(
            check_args(&format!("[{}]", ["[]"; 1_000].join(","))),
            Ok(()),
            "one after the other is not deep"
        );
    }
}
