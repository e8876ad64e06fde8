//! What the value of a module's secret may be: whoever takes one from somewhere asks here, and so do all that are given it.

use crate::limits::{SECRET_BYTES_MAX, SECRET_BYTES_MIN};

/// The error of a secret that has no value which it can have. Its words go on behind the name of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// The variable is not there.
    #[error("is not set")]
    NotSet,
    /// The variable is there, and holds nothing.
    #[error("is empty")]
    Empty,
    /// The value is too short to be looked for, or too long to be sent.
    #[error("holds {bytes} bytes{}, and a secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}", beside(*.white))]
    Length {
        /// Its bytes, without what is white at its ends.
        bytes: usize,
        /// The bytes that are white at its ends.
        white: usize,
    },
    /// The value has a byte that cannot be in a header.
    #[error("has a line's end or another control character within, which no header can hold")]
    ControlCharacter,
}

fn beside(white: usize) -> String {
    if white == 0 { String::new() } else { format!(" beside {white} of white space at its ends") }
}

/// Returns the value of a secret as it is sent: without what is white at its ends, which servers drop from a header and say
/// back without.
///
/// # Errors
/// [`InvalidSecret`] where it can be none.
pub fn secret_value(value: Option<&[u8]>) -> Result<&[u8], InvalidSecret> {
    let whole = value.ok_or(InvalidSecret::NotSet)?;
    if whole.is_empty() {
        return Err(InvalidSecret::Empty);
    }
    let value = whole.trim_ascii();
    let bytes = value.len();
    if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes) {
        return Err(InvalidSecret::Length { bytes, white: whole.len() - bytes });
    }
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(InvalidSecret::ControlCharacter);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_judged_without_what_is_white_at_its_ends() {
        let longest = "x".repeat(SECRET_BYTES_MAX);
        for (value, sent) in [
            ("four", "four"),
            (" four\r\n", "four"),
            ("a b\tc", "a b\tc"),
            ("gr\u{fc}n", "gr\u{fc}n"),
            (&*format!(" {longest} "), &*longest),
        ] {
            assert_eq!(secret_value(Some(value.as_bytes())), Ok(sent.as_bytes()));
        }
    }

    #[test]
    fn a_secret_that_is_none_says_why() {
        let too_long = "x".repeat(SECRET_BYTES_MAX + 1);
        for (value, says) in [
            (None, "is not set"),
            (Some(""), "is empty"),
            (Some("abc"), "holds 3 bytes, and a secret has 4 to 8192"),
            (Some("    "), "holds 0 bytes beside 4 of white space at its ends, and a secret has 4 to 8192"),
            (Some(" abc\n"), "holds 3 bytes beside 2 of white space at its ends, and a secret has 4 to 8192"),
            (Some(&*too_long), "holds 8193 bytes, and a secret has 4 to 8192"),
            (
                Some("abc\ndef"),
                "has a line's end or another control character within, which no header can hold",
            ),
            (
                Some("abc\0def"),
                "has a line's end or another control character within, which no header can hold",
            ),
        ] {
            assert_eq!(secret_value(value.map(str::as_bytes)).unwrap_err().to_string(), says);
        }
    }
}
