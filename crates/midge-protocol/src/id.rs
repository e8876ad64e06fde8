//! Ids and names. Each is a type of its own, checked where it is made.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize};
use uuid::{NoContext, Uuid};

use crate::{Timestamp, shown};

/// The latest time with which an id can begin: it has 48 bits for that.
const MILLIS_OF_ID_MAX: i64 = (1 << 48) - 1;
const UUID_RULE: &str = "a UUID such as 0190b3e4-7d5c-7c3a-9f00-0123456789ab";

/// A job's id: a UUID (RFC 9562), of version 7 where midge makes it. Whoever enqueues makes it, so that an enqueue
/// can be repeated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Uuid);

impl JobId {
    /// Makes a new id, of version 7, from the system's clock and randomness. Where that clock is before 1970, the id begins
    /// with the first time that one can.
    pub fn generate() -> JobId {
        JobId(version_7(SystemTime::now()))
    }

    /// Takes a UUID of any version as an id.
    pub const fn from_uuid(uuid: Uuid) -> JobId {
        JobId(uuid)
    }

    /// Returns the 16 bytes of the id, in the order that sorts as its text does.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Returns the time with which an id of version 7 begins: when it was made. Ids of other versions have none.
    pub fn time(&self) -> Option<Timestamp> {
        let [a, b, c, d, e, f, version, ..] = *self.as_bytes();
        let millis = i64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        (version >> 4 == 7).then(|| Timestamp::from_millis(millis))
    }

    /// Returns an id that sorts before all that begin with this time or a later one, and behind all of earlier times.
    pub fn first_at(time: Timestamp) -> JobId {
        let millis = time.as_millis().clamp(0, MILLIS_OF_ID_MAX);
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        JobId::from_bytes(bytes)
    }

    /// Makes an id from 16 bytes, as [`JobId::as_bytes`] returns them.
    pub const fn from_bytes(bytes: [u8; 16]) -> JobId {
        JobId(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for JobId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<JobId, InvalidName> {
        Uuid::parse_str(text).map(JobId).map_err(|_| InvalidName::new("job id", text, UUID_RULE))
    }
}

/// A batch's id: a UUID (RFC 9562), of version 7 where midge makes it. Whoever makes the batch makes it, so that this can be
/// repeated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BatchId(Uuid);

impl BatchId {
    /// Makes a new id as [`JobId::generate`] does.
    pub fn generate() -> BatchId {
        BatchId(version_7(SystemTime::now()))
    }

    /// Returns the 16 bytes of the id, in the order that sorts as its text does.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Makes an id from 16 bytes, as [`BatchId::as_bytes`] returns them.
    pub const fn from_bytes(bytes: [u8; 16]) -> BatchId {
        BatchId(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for BatchId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<BatchId, InvalidName> {
        Uuid::parse_str(text).map(BatchId).map_err(|_| InvalidName::new("batch id", text, UUID_RULE))
    }
}

/// Makes a UUID of version 7. `uuid` panics where the clock is before the time with which the first one begins.
fn version_7(now: SystemTime) -> Uuid {
    if now < SystemTime::UNIX_EPOCH {
        return Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, 0, 0));
    }
    // Reads the clock once more: ids of one process follow one another.
    Uuid::now_v7()
}

/// The number of one attempt at a job. Numbers start at 1, only rise, and are never used again; 0 means "not tried
/// yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptNumber(pub u32);

impl AttemptNumber {
    /// Returns the number of the attempt after this one.
    #[must_use]
    pub const fn next(self) -> AttemptNumber {
        AttemptNumber(self.0 + 1)
    }
}

/// Attempts of one job that follow one another, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRange {
    /// The first of them.
    pub first: AttemptNumber,
    /// The last of them, which may be the first.
    pub last: AttemptNumber,
}

impl AttemptRange {
    /// Returns whether an attempt is one of them.
    pub fn contains(self, attempt: AttemptNumber) -> bool {
        (self.first..=self.last).contains(&attempt)
    }
}

impl fmt::Display for AttemptRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{} to {}", self.first, self.last) }
    }
}

impl fmt::Display for AttemptNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The right of one Machine to report on one attempt. It lasts while the Machine is heard of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// The Machine that may report. Reports of every other one are refused.
    pub machine: MachineName,
    /// The number of the attempt that it may report on.
    pub attempt: AttemptNumber,
}

/// The error of a name or an id that breaks the rule of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a {what}{}: use {rule}", has_bytes(*.too_long))]
pub struct InvalidName {
    /// What the text should have been, such as "module name".
    pub what: &'static str,
    /// The text, cut after 64 characters, with three dots where it was.
    pub given: String,
    /// The bytes of the text, where those are more than there may be.
    pub too_long: Option<usize>,
    /// The rule that it breaks, in words for a message.
    pub rule: &'static str,
}

impl InvalidName {
    /// Makes the error of a text that breaks a rule, whatever its length.
    pub(crate) fn new(what: &'static str, given: &str, rule: &'static str) -> InvalidName {
        // Cut, since it may come from the network and goes into messages.
        InvalidName { what, given: shown::cut(given), too_long: None, rule }
    }
}

fn has_bytes(too_long: Option<usize>) -> String {
    too_long.map(|bytes| format!(", since it has {bytes} bytes")).unwrap_or_default()
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Makes a name of a text.
            ///
            /// # Errors
            /// [`InvalidName`] where the text breaks the rule of this type, which the error tells.
            pub fn new(name: impl Into<String>) -> Result<$name, InvalidName> {
                let name = name.into();
                let valid: fn(&str) -> bool = $valid;
                if name.len() <= $max && valid(&name) {
                    return Ok($name(name));
                }
                let too_long = (name.len() > $max).then_some(name.len());
                Err(InvalidName { too_long, ..InvalidName::new($what, &name, $rule) })
            }

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(name: &str) -> Result<$name, InvalidName> {
                $name::new(name)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                $name::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

/// The longest module or queue name, in bytes: they go into file names, metadata values and index keys.
const NAME_LEN_MAX: usize = 63;

/// A module's name also names its file, so it can hold no separator, no dot and nothing that needs quoting.
fn is_plain_name(name: &str) -> bool {
    let ok = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
    name.bytes().next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit()) && name.bytes().all(ok)
}

name!(
    /// A module's name, such as `resize`: 1 to 63 of a-z, 0-9, `-` and `_`, beginning with a letter or digit. It
    /// names files, so that it can never be a path.
    ModuleName,
    "module name",
    NAME_LEN_MAX,
    "1 to 63 of a-z, 0-9, `-` and `_`, beginning with a letter or digit",
    is_plain_name
);
name!(
    /// A queue's name, such as `default`: 1 to 63 of a-z, 0-9, `-` and `_`, beginning with a letter or digit.
    QueueName,
    "queue name",
    NAME_LEN_MAX,
    "1 to 63 of a-z, 0-9, `-` and `_`, beginning with a letter or digit",
    is_plain_name
);
name!(
    /// A schedule's name, such as `nightly`: 1 to 63 of a-z, 0-9, `-` and `_`, beginning with a letter or digit.
    ScheduleName,
    "schedule name",
    NAME_LEN_MAX,
    "1 to 63 of a-z, 0-9, `-` and `_`, beginning with a letter or digit",
    is_plain_name
);
name!(
    /// The name of a region of the Machines API, such as `iad`, or of several, such as `eu` or `any`: 2 to 16 of a-z and 0-9.
    /// Fly's have three letters, and `africa` has six.
    RegionName,
    "region",
    16,
    "2 to 16 of a-z and 0-9, such as `ams`, `eu` or `any`",
    |name| name.len() >= 2 && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
);
name!(
    /// A secret's name, such as `STRIPE`: 1 to 63 of A-Z, 0-9 and `_`, beginning with a letter. In a header of a guest's
    /// request, `{{STRIPE}}` stands for its value.
    SecretName,
    "secret name",
    NAME_LEN_MAX,
    "1 to 63 of A-Z, 0-9 and `_`, beginning with a letter",
    |name| name.bytes().next().is_some_and(|c| c.is_ascii_uppercase())
        && name.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_')
);
name!(
    /// midge's own name for a Machine, made before the Machine is: 1 to 63 of a-z, 0-9, `-` and `_`, beginning with a
    /// letter or digit. It is unique at the Machines API, which calls it `name`.
    MachineName,
    "Machine name",
    NAME_LEN_MAX,
    "1 to 63 of a-z, 0-9, `-` and `_`, beginning with a letter or digit",
    is_plain_name
);
name!(
    /// The id that the Machines API gave a Machine, such as `148ed21fe74e89`: 1 to 63 letters and digits.
    MachineId,
    "Machine id",
    NAME_LEN_MAX,
    "1 to 63 of a-z, A-Z and 0-9",
    |id| !id.is_empty() && id.bytes().all(|c| c.is_ascii_alphanumeric())
);

name!(
    /// What jobs of a queue have in common that are limited together and take turns with others, such as a tenant: 1 to
    /// 128 bytes of text without control characters.
    JobKey,
    "key",
    KEY_LEN_MAX,
    "1 to 128 bytes of text without control characters",
    |key| !key.is_empty() && !key.chars().any(char::is_control)
);

/// The longest key, in bytes: one stands in the index of each job that waits with it.
const KEY_LEN_MAX: usize = 128;

impl JobKey {
    /// Checks that all of the key can be seen: it has no space at its ends either. What is enqueued anew must be; a key that
    /// an earlier release took stays one.
    ///
    /// # Errors
    /// [`UnseenCharacter`] says which character nobody sees, and where.
    pub fn check_seen(&self) -> Result<(), UnseenCharacter> {
        let JobKey(key) = self;
        if let Some((at, character)) = shown::first_unseen(key) {
            return Err(UnseenCharacter { at, character, is_space: false });
        }
        let first = key.char_indices().next();
        let at_an_end = first.into_iter().chain(key.char_indices().next_back());
        match at_an_end.into_iter().find(|(_, character)| character.is_whitespace()) {
            Some((at, character)) => Err(UnseenCharacter { at, character, is_space: true }),
            None => Ok(()),
        }
    }
}

/// The error of a text with a character that nobody sees, or that changes how others are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "holds U+{:04X} at byte {at}, {}: leave it out",
    u32::from(*.character),
    if *.is_space { "a space at its beginning or end" } else { "which nobody sees" }
)]
pub struct UnseenCharacter {
    /// Where it is, in bytes from 0.
    pub at: usize,
    /// The character.
    pub character: char,
    /// Whether it is a space that is seen only where something stands on both sides of it.
    pub is_space: bool,
}

name!(
    /// A word by which jobs are found, such as `customer:42`: 1 to 64 bytes of text that can be seen, with no space at
    /// its ends.
    Tag,
    "tag",
    crate::limits::TAG_BYTES_MAX,
    "1 to 64 bytes of text that can be seen, with no space at its ends",
    |tag| {
        !tag.is_empty()
            && tag.trim() == tag
            && shown::first_unseen(tag).is_none()
    }
);

impl QueueName {
    /// Returns `default`, the queue of jobs and modules that name none.
    pub fn default_queue() -> QueueName {
        QueueName("default".to_owned())
    }
}

/// One start of a host: a random number, made anew each time the program starts, so that two starts in one Machine
/// are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub u64);

/// A secret: a Machine's own, or the API token. Its `Debug` does not show it, so that it cannot get into a log by
/// accident.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a text as a secret. Every text is taken.
    pub fn new(secret: impl Into<String>) -> Secret {
        Secret(secret.into())
    }

    /// Returns the secret's text, for whoever sends it or compares it. It must not get into a log.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns whether this can be a token, which is sent in a header of HTTP: it consists of visible characters of ASCII,
    /// and perhaps of spaces between them.
    pub fn is_token(&self) -> bool {
        let Secret(text) = self;
        !text.is_empty() && text.trim() == text && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_a_header_can_carry() {
        for good in ["s", "a1b2", "FlyV1 fm2_a,fm2_b==", "~!\""] {
            assert!(Secret::new(good).is_token(), "{good:?}");
        }
        for bad in ["", " ", "a\nb", "a\r", " a", "a ", "\u{1b}[2J", "é", "a\0", "a\tb"] {
            assert!(!Secret::new(bad).is_token(), "{bad:?}");
        }
    }

    #[test]
    fn a_module_name_can_never_be_a_path() {
        for bad in ["", "../x", "a/b", "a.b", "A", "-a", "a b", "é", &"a".repeat(64)] {
            assert!(ModuleName::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "resize", "word-count_2", &"a".repeat(63)] {
            assert!(ModuleName::new(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_new_key_has_no_space_at_its_ends() {
        let seen = |key: &str| JobKey::new(key).unwrap().check_seen().map_err(|error| error.to_string());
        for (key, says) in [
            (" ", "holds U+0020 at byte 0, a space at its beginning or end: leave it out"),
            ("\u{a0}", "holds U+00A0 at byte 0, a space"),
            ("acme ", "holds U+0020 at byte 4, a space"),
            ("é\u{3000}", "holds U+3000 at byte 2, a space"),
            ("\u{2003}acme", "holds U+2003 at byte 0, a space"),
            ("a\u{200b}", "holds U+200B at byte 1, which nobody sees: leave it out"),
        ] {
            let error = seen(key).unwrap_err();
            assert!(error.starts_with(says), "{key:?}: {error}");
        }
        for key in ["a", "acme corp", "a\u{a0}b"] {
            assert_eq!(seen(key), Ok(()), "{key:?}");
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_said_to_be() {
        let tag = Tag::new("x".repeat(65)).unwrap_err().to_string();
        assert!(tag.contains("x` is not a tag, since it has 65 bytes: use 1 to 64"), "{tag}");
        // Few characters may be many bytes.
        let tag = Tag::new("é".repeat(33)).unwrap_err().to_string();
        assert!(tag.contains("é` is not a tag, since it has 66 bytes"), "{tag}");
        let key = JobKey::new("k".repeat(129)).unwrap_err().to_string();
        assert!(key.contains("...` is not a key, since it has 129 bytes: use 1 to 128"), "{key}");
        let queue = QueueName::new("q".repeat(64)).unwrap_err().to_string();
        assert!(queue.contains("is not a queue name, since it has 64 bytes: use 1 to 63"), "{queue}");
        let queue = QueueName::new("A").unwrap_err().to_string();
        assert!(queue.starts_with("`A` is not a queue name: use 1 to 63"), "{queue}");
    }

    #[test]
    fn ids_of_version_7_are_found_between_times() {
        let id: JobId = "0190b3e4-7d5c-7c3a-9f00-0123456789ab".parse().unwrap();
        let time = id.time().unwrap();
        assert_eq!(time.as_millis(), 0x0190_b3e4_7d5c);
        let later = Timestamp::from_millis(time.as_millis() + 1);
        assert!(JobId::first_at(time) <= id && id < JobId::first_at(later));
        assert_eq!("0190b3e4-7d5c-4c3a-9f00-0123456789ab".parse::<JobId>().unwrap().time(), None);
        assert_eq!(JobId::first_at(Timestamp::EARLIEST), JobId::from_bytes([0; 16]));
        assert!(JobId::first_at(Timestamp::LATEST) > id);
    }

    #[test]
    fn a_clock_before_1970_makes_ids_that_begin_with_1970() {
        let before = SystemTime::UNIX_EPOCH - std::time::Duration::from_secs(86_400);
        let [one, other] = [version_7(before), version_7(before)].map(JobId);
        assert_eq!(one.time(), Some(Timestamp::from_millis(0)));
        assert_ne!(one, other);
        assert!(one < JobId::generate());
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(..)");
    }
}
