//! What failures that are alike have in common, as a number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::InvalidName;

/// The fingerprint of a failure: failures of one module that are alike have the same. It is shown as 16 digits of a
/// hexadecimal number, such as `0c3fa51b22d07e94`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:016x}", self.0))
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Fingerprint, InvalidName> {
        let is_one = text.len() == 16 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        let number = is_one.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        let rule = "16 of 0-9 and a-f, as `midge failures` shows them";
        number.map(Fingerprint).ok_or_else(|| InvalidName::new("fingerprint of a failure", text, rule))
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fingerprint, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fingerprint_is_read_back_from_what_is_shown() {
        for number in [0, 1, 0x0c3f_a51b_22d0_7e94, u64::MAX] {
            let shown = Fingerprint(number).to_string();
            assert_eq!(shown.len(), 16);
            assert_eq!(shown.parse(), Ok(Fingerprint(number)));
        }
        for wrong in
            ["", "0", "+c3fa51b22d07e94", "0C3FA51B22D07E94", "0c3fa51b22d07e941", &"f".repeat(100_000)]
        {
            assert!(wrong.parse::<Fingerprint>().unwrap_err().to_string().len() < 300, "{wrong:.20}");
        }
    }
}
