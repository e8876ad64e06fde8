//! How long the ended jobs of a queue are kept.

use serde::{Deserialize, Serialize};

use super::{OutOfBounds, within};
use crate::limits;

/// How long the ended jobs of a queue are kept before they are deleted with all that belongs to them, by how they ended.
/// Where it says nothing, they are kept as long as those of any queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Keep {
    /// The time for which completed jobs are kept, in milliseconds: [`limits::KEEP_MIN`] to [`limits::KEEP_MAX`], as the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_ms: Option<u64>,
    /// The time for which cancelled jobs are kept, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled_ms: Option<u64>,
    /// The time for which discarded jobs, the dead set, are kept, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discarded_ms: Option<u64>,
}

impl Keep {
    pub(super) fn is_as_usual(&self) -> bool {
        *self == Keep::default()
    }

    pub(super) fn check(&self, of: impl Fn(&str) -> String) -> Result<(), OutOfBounds> {
        let (least, most) = (limits::KEEP_MIN.as_millis() as u64, limits::KEEP_MAX.as_millis() as u64);
        for (what, kept) in [
            ("keep_completed", self.completed_ms),
            ("keep_cancelled", self.cancelled_ms),
            ("keep_discarded", self.discarded_ms),
        ] {
            within(of(what), kept.unwrap_or(least), least..=most)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_as_usual_and_what_is_has_bounds() {
        let of = |what: &str| format!("`{what}` of queue `a`");
        let read = |json: &str| serde_json::from_str::<Keep>(json).unwrap();
        assert!(read("{}").is_as_usual() && read("{}").check(of).is_ok());
        assert!(read(r#"{"completed_ms": 60000, "discarded_ms": 315360000000}"#).check(of).is_ok());
        for json in [
            r#"{"completed_ms": 59999}"#,
            r#"{"cancelled_ms": 0}"#,
            r#"{"discarded_ms": 18446744073709551615}"#,
        ] {
            let error = read(json).check(of).unwrap_err().to_string();
            assert!(
                error.contains("of queue `a` is ") && error.ends_with("60000 to 315360000000"),
                "{error}"
            );
        }
    }
}
