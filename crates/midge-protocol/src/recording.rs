//! What the world told an attempt that failed: its clock, its randomness, and the answers to its requests. With that it can be
//! run again elsewhere.
//!
//! It is what the guest said and was told: where a secret goes, it has the secret's name as the guest wrote it.

mod check;

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::check::InvalidRecording;
use crate::job::AttemptLimits;
use crate::line::Failed;
use crate::object::objects;
use crate::{AttemptNumber, limits};

/// What counts for a recording itself, beside what is in it.
const RECORDING_BYTES: usize = 512;
/// What counts for a request, or for an answer, beside its texts: the names of its fields, and its numbers.
const REQUEST_BYTES: usize = 256;
/// What counts for a header, beside its name and value.
const HEADER_BYTES: usize = 32;
/// What counts for why a request has no answer, beside its message.
const FAILED_BYTES: usize = 48;

/// What an attempt was told by the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Recording {
    /// The number of the attempt.
    pub attempt: AttemptNumber,
    /// SHA-256 of the compiled module that ran, in hex.
    pub sha256: String,
    /// SHA-256 of the `.wasm` that it was made from, in hex.
    pub source_sha256: String,
    /// The time and memory that the attempt might use.
    pub limits: AttemptLimits,
    /// The wall clock when the attempt began, in nanoseconds since the Unix epoch.
    pub began_at_ns: u64,
    /// From what its random bytes were made.
    pub seed: Seed,
    /// What it was given that an attempt before it had saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<Data>,
    /// What its clock showed each time it was looked at, in nanoseconds since the attempt began.
    #[serde(default)]
    pub clock_ns: Vec<u64>,
    /// Its requests, in the order in which they began.
    #[serde(default)]
    pub requests: Vec<RecordedRequest>,
    /// Whether something is left out that went over a bound: requests, readings of the clock, or a part of a body.
    #[serde(default)]
    pub cut: bool,
}

impl Recording {
    /// Returns how many bytes count for it: about what it is as JSON, as it is kept and shown, and never less; nor less than
    /// what it is in an exchange.
    pub fn counted_bytes(&self) -> usize {
        let requests: usize = self.requests.iter().map(RecordedRequest::counted_bytes).sum();
        let readings: usize = self.clock_ns.iter().copied().map(reading_bytes).sum();
        self.head_bytes() + readings + requests
    }

    /// Returns how many bytes there is room for, where so many count already.
    pub fn room(&self) -> usize {
        limits::RECORDING_BYTES_MAX.saturating_sub(self.counted_bytes())
    }

    fn head_bytes(&self) -> usize {
        let saved = self.saved.as_ref().map_or(0, |saved| data_bytes(&saved.0));
        RECORDING_BYTES + text_bytes(&self.sha256) + text_bytes(&self.source_sha256) + saved
    }
}

/// Returns how many bytes count for a reading of the clock.
pub fn reading_bytes(nanos: u64) -> usize {
    // Its digits and a comma, and what a number takes at most in an exchange.
    (nanos.checked_ilog10().unwrap_or(0) as usize + 2).max(9)
}

/// Returns how many bytes count for bytes that are [`Data`]: no less than for a text with its escapes, nor for base64. For two
/// pieces together that is no more than for each.
pub fn data_bytes(bytes: &[u8]) -> usize {
    let escapes = bytes.iter().filter(|byte| is_escaped(**byte)).count();
    bytes.len() + escapes.max(bytes.len().div_ceil(3))
}

/// Returns how many of the first bytes count for no more than there is room for.
pub fn fitting(bytes: &[u8], room: usize) -> usize {
    let mut escapes = 0;
    let fits = |(at, byte): (usize, &u8)| {
        escapes += usize::from(is_escaped(*byte));
        let length = at + 1;
        length + usize::max(escapes, length.div_ceil(3)) <= room
    };
    bytes.iter().enumerate().map(fits).take_while(|fits| *fits).count()
}

/// Returns whether a byte that is seen is written as two in JSON.
const fn is_escaped(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | b'\n' | b'\r' | b'\t')
}

/// Returns how many bytes a text has in JSON, without its quotes.
fn text_bytes(text: &str) -> usize {
    let bytes = text.bytes().map(|byte| match byte {
        byte if is_escaped(byte) => 2,
        // `\u001b`, at most.
        0..0x20 => 6,
        _ => 1,
    });
    bytes.sum()
}

/// A request of a guest, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct RecordedRequest {
    /// The method, as the guest wrote it.
    pub method: String,
    /// The URL, as the guest wrote it.
    pub url: String,
    /// The headers in their order, as the guest wrote them: `{{NAME}}` stands for a secret.
    #[serde(default)]
    pub headers: Vec<(String, Data)>,
    /// The first [`limits::RECORDED_BODY_BYTES_MAX`] of its body, or fewer where there was no more room.
    #[serde(default)]
    pub body: Data,
    /// The bytes that its body had.
    #[serde(default)]
    pub body_bytes: u64,
    /// How many redirects would have been followed.
    #[serde(default)]
    pub redirects: u32,
    /// When it began, in microseconds since the attempt did.
    pub began_us: u64,
    /// When its answer had been read, or was given up, in microseconds since the attempt began; nothing where it was still
    /// under way when the attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_us: Option<u64>,
    /// Its answer, as far as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<RecordedAnswer>,
    /// Why it has no answer, or not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failed>,
}

impl RecordedRequest {
    /// Returns how many bytes count for it.
    pub fn counted_bytes(&self) -> usize {
        let texts = text_bytes(&self.method) + text_bytes(&self.url) + headers_bytes(&self.headers);
        let texts = texts + data_bytes(&self.body.0);
        let answer = self.answer.as_ref().map_or(0, RecordedAnswer::counted_bytes);
        REQUEST_BYTES + texts + answer + self.failed.as_ref().map_or(0, failed_bytes)
    }

    /// Returns whether all of its body is kept.
    pub fn is_whole(&self) -> bool {
        self.body.0.len() as u64 == self.body_bytes
    }
}

/// Returns how many bytes count for why a request has no answer.
pub fn failed_bytes(failed: &Failed) -> usize {
    FAILED_BYTES + text_bytes(&failed.message)
}

/// An answer to a request, as the guest was told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct RecordedAnswer {
    /// The status, such as 200.
    pub status: u16,
    /// The URL that answered.
    pub url: String,
    /// The headers in their order, as they came.
    #[serde(default)]
    pub headers: Vec<(String, Data)>,
    /// The first [`limits::RECORDED_BODY_BYTES_MAX`] of what the guest read of its body, or fewer where there was no more room.
    #[serde(default)]
    pub body: Data,
    /// The bytes that the guest read of its body.
    #[serde(default)]
    pub body_bytes: u64,
    /// Whether the guest read it to its end.
    #[serde(default)]
    pub ended: bool,
}

impl RecordedAnswer {
    /// Returns how many bytes count for it.
    pub fn counted_bytes(&self) -> usize {
        REQUEST_BYTES + text_bytes(&self.url) + headers_bytes(&self.headers) + data_bytes(&self.body.0)
    }

    /// Returns whether all of its body is kept.
    pub fn is_whole(&self) -> bool {
        self.ended && self.body.0.len() as u64 == self.body_bytes
    }
}

fn headers_bytes(headers: &[(String, Data)]) -> usize {
    headers.iter().map(|(name, value)| HEADER_BYTES + text_bytes(name) + data_bytes(&value.0)).sum()
}

objects!(Recording, RecordedRequest, RecordedAnswer);

/// Bytes of a request or of its answer. In JSON they are a text where they can be read as one, and else
/// `{"base64": "..."}`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Data(pub Bytes);

impl Data {
    /// Returns the text that it is; nothing where it holds bytes that are none, or characters that nobody sees.
    pub fn text(&self) -> Option<&str> {
        let is_seen = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
        std::str::from_utf8(&self.0).ok().filter(|text| text.chars().all(is_seen))
    }
}

/// [`Data`] in JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum DataForm<'a> {
    #[serde(borrow)]
    Text(std::borrow::Cow<'a, str>),
    Bytes {
        base64: std::borrow::Cow<'a, str>,
    },
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        match self.text() {
            Some(text) => serializer.serialize_str(text),
            None => DataForm::Bytes { base64: BASE64_STANDARD.encode(&self.0).into() }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Data, D::Error> {
        if !deserializer.is_human_readable() {
            return Bytes::deserialize(deserializer).map(Data);
        }
        match DataForm::deserialize(deserializer)? {
            DataForm::Text(text) => Ok(Data(text.into_owned().into())),
            DataForm::Bytes { base64 } => {
                let bytes = BASE64_STANDARD.decode(&*base64);
                bytes
                    .map(|bytes| Data(bytes.into()))
                    .map_err(|error| serde::de::Error::custom(format!("`base64` is none: {error}")))
            }
        }
    }
}

/// From what all random bytes of an attempt are made. As text it is 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Seed(pub [u8; 32]);

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seed({self})")
    }
}

impl From<Seed> for String {
    fn from(seed: Seed) -> String {
        seed.to_string()
    }
}

impl TryFrom<String> for Seed {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Seed, &'static str> {
        const WRONG: &str = "a seed is 64 hex digits";
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(WRONG);
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut seed = [0; 32];
        for (byte, pair) in seed.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0]).zip(digit(pair[1])).map(|(high, low)| high << 4 | low).ok_or(WRONG)?;
        }
        Ok(Seed(seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{decode, encode};
    use crate::line::Why;

    pub(super) fn data(bytes: &'static [u8]) -> Data {
        Data(Bytes::from_static(bytes))
    }

    pub(super) fn recording() -> Recording {
        Recording {
            attempt: AttemptNumber(3),
            sha256: "a".repeat(64),
            source_sha256: "b".repeat(64),
            limits: AttemptLimits::default(),
            began_at_ns: u64::MAX,
            seed: Seed([0xf0; 32]),
            saved: Some(data(b"so far")),
            clock_ns: vec![0, u64::MAX],
            requests: vec![RecordedRequest {
                method: "POST".to_owned(),
                url: "https://api.example.com/".to_owned(),
                headers: vec![("authorization".to_owned(), data(b"Bearer {{KEY}}"))],
                body: data(b"{\"a\": 1}\n"),
                body_bytes: 9,
                redirects: 2,
                began_us: 5,
                ended_us: Some(7),
                answer: Some(RecordedAnswer {
                    status: 200,
                    url: "https://api.example.com/".to_owned(),
                    headers: vec![("odd".to_owned(), data(b"\xff"))],
                    body: data(b"\0\x1b[31m"),
                    body_bytes: 100,
                    ended: true,
                }),
                failed: Some(Failed { why: Why::Reset, message: "gone".to_owned() }),
            }],
            cut: true,
        }
    }

    #[test]
    fn a_recording_is_read_back_as_it_was_written_in_an_exchange_and_as_json() {
        let recording = recording();
        assert_eq!(decode::<Recording>(&encode(&recording)).unwrap(), recording);
        let json = serde_json::to_string(&recording).unwrap();
        assert_eq!(serde_json::from_str::<Recording>(&json).unwrap(), recording);
        assert!(json.contains(r#""body":"{\"a\": 1}\n""#), "a text is one: {json}");
        assert!(json.contains(r#"["odd",{"base64":"/w=="}]"#), "{json}");
        assert!(!json.contains("u001b"), "what nobody sees is no text: {json}");
        assert!(rmp_serde::from_slice::<Recording>(&rmp_serde::to_vec(&recording).unwrap()).is_err());
    }

    #[test]
    fn what_counts_for_a_recording_is_no_less_than_what_it_is() {
        let whole = recording();
        let request = &whole.requests[0];
        let bare = RecordedRequest { answer: None, failed: None, headers: Vec::new(), ..request.clone() };
        for recording in [
            Recording { requests: Vec::new(), clock_ns: Vec::new(), ..whole.clone() },
            Recording { clock_ns: vec![u64::MAX; 1_000], ..whole.clone() },
            Recording { requests: vec![bare; 100], ..whole.clone() },
            Recording { requests: vec![request.clone(); 100], ..whole.clone() },
            whole.clone(),
        ] {
            let json = serde_json::to_vec(&recording).unwrap().len();
            let (counted, encoded) = (recording.counted_bytes(), encode(&recording).len());
            assert!((json.max(encoded)..3 * json).contains(&counted), "{counted} for {json} and {encoded}");
        }
    }

    #[test]
    fn whatever_its_bytes_are_a_recording_is_no_longer_as_json_than_what_counts_for_it() {
        let whole = recording();
        for text in ["\u{1}", "\n", "\"", "\\", "a", "é", "\u{2028}", "\u{7f}", "a\n\u{1}"] {
            let (long, data) = (text.repeat(1_000), Data(text.repeat(1_000).into()));
            let mut request = whole.requests[0].clone();
            (request.method, request.url, request.body) = (long.clone(), long.clone(), data.clone());
            request.headers = vec![(long.clone(), data.clone()); 3];
            let answer = request.answer.as_mut().unwrap();
            (answer.url, answer.headers, answer.body) = (long.clone(), request.headers.clone(), data.clone());
            (answer.body_bytes, request.body_bytes) = (u64::MAX, u64::MAX);
            (request.began_us, request.ended_us, request.redirects) = (u64::MAX, Some(u64::MAX), u32::MAX);
            request.failed = Some(Failed { why: Why::TooManyRedirects, message: long.clone() });
            let recording = Recording {
                saved: Some(data),
                clock_ns: vec![u64::MAX, 0, 1_000_000_000],
                requests: vec![request; 2],
                ..whole.clone()
            };
            let (json, counted) = (serde_json::to_vec(&recording).unwrap().len(), recording.counted_bytes());
            assert!(json <= counted, "{text:?}: {counted} for {json}");
        }
    }

    #[test]
    fn what_fits_is_counted_byte_by_byte() {
        for text in ["", "aaaa", "\n\n\n", "a\nb\"c\\", "ééé"] {
            for room in 0..20 {
                let fits = fitting(text.as_bytes(), room);
                assert!(fits == 0 || data_bytes(&text.as_bytes()[..fits]) <= room, "{text:?} {room}");
                let more = text.as_bytes().get(..=fits);
                assert!(more.is_none_or(|more| data_bytes(more) > room), "{text:?} {room}");
            }
        }
    }

    #[test]
    fn a_seed_is_64_hex_digits() {
        let seed = Seed(std::array::from_fn(|at| at as u8 * 8 + 1));
        assert_eq!(Seed::try_from(seed.to_string()), Ok(seed));
        for wrong in ["", "0", &"0".repeat(63), &"g".repeat(64), &"é".repeat(32)] {
            assert!(Seed::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
