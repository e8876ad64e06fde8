//! What is wrong with JSON that was to be of a type, in words: the field, and what it is to be.
//!
//! serde finds it, and says it in words for who writes Rust. They are turned here into those of the API, for whoever reads what
//! others wrote: a server for its callers, a host for its guests.

use std::borrow::Cow;

use serde::de::{DeserializeOwned, IgnoredAny};

use crate::api::PAGE_JOBS_MAX;
use crate::{InvalidTime, Timestamp, limits, nearest};

/// What an id must be.
const UUID: &str = "a UUID such as \"0190b3e4-7d5c-7c3a-9f00-0123456789ab\"";

/// The error of JSON that is none, or is not of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Wrong {
    /// The field and what it is to be, or why it is no JSON.
    pub text: String,
    /// Where it stands in what was read: line and column from 1; nothing where that is plain.
    pub at: Option<(usize, usize)>,
    /// The field that it is about, such as `jobs[1].module`; `.` for what was read itself.
    pub path: String,
    /// Whether a number or a time is one, and out of its bounds: the form is right.
    pub is_out_of_bounds: bool,
}

/// Reads JSON of a type; `whole` is what the JSON itself is called, such as `the body`.
///
/// It knows where it is as it reads, which costs a little: who reads much that is right has serde_json read it, and this only say what
/// is wrong.
///
/// # Errors
/// [`Wrong`] names the field, and says what it must be.
pub fn read<T: DeserializeOwned>(json: &[u8], whole: &str) -> Result<T, Wrong> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let (path, error) = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Ok(value) => match reader.end() {
            Ok(()) => return Ok(value),
            Err(error) => (".".to_owned(), error),
        },
        Err(error) => (error.path().to_string(), error.into_inner()),
    };
    let at = (error.column() > 0 || path != ".").then(|| (error.line(), error.column()));
    let told = error.to_string();
    let told =
        told.strip_suffix(&format!(" at line {} column {}", error.line(), error.column())).unwrap_or(&told);
    let is_out_of_bounds = is_out_of_bounds(told);
    // serde_json tells some of what is JSON, and is not what was asked for, as if it were none.
    if !error.is_data() && serde_json::from_slice::<IgnoredAny>(json).is_err() {
        let (text, at) =
            (format!("{whole} is not JSON: {}", syntax(told)), Some((error.line(), error.column())));
        return Err(Wrong { text, at, path: ".".to_owned(), is_out_of_bounds });
    }
    let text = match half_of_a_pair(json, &error) {
        Some(escape) => format!(
            "{} holds `{escape}`, which is half of a pair and no character: leave it out, or write both halves,",
            named(&path, whole)
        ),
        None => field(&path, told, whole),
    };
    Err(Wrong { text, at, path, is_out_of_bounds })
}

/// Returns whether what serde said is about a number or a time that is one, and out of its bounds.
pub fn is_out_of_bounds(told: &str) -> bool {
    let integer =
        told.strip_prefix("invalid value: integer ").and_then(|rest| rest.rsplit_once(", expected "));
    integer.is_some_and(|(_, expected)| is_whole(expected)) || InvalidTime::is_out_of_bounds(told)
}

/// Returns the escape that stands for no character, where an error is about one.
fn half_of_a_pair<'a>(bytes: &'a [u8], error: &serde_json::Error) -> Option<&'a str> {
    if !error.is_syntax() || !error.to_string().contains("hex escape") {
        return None;
    }
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').take(error.line() - 1);
    let at: usize = lines.map(<[u8]>::len).sum::<usize>() + error.column();
    // It is found where it ends, or at what stands behind it and is not its other half.
    let before = std::str::from_utf8(&bytes[..at.min(bytes.len())]).ok()?;
    let is_half = |start: usize| {
        let unit = bytes.get(start + 2..start + 6).and_then(|digits| std::str::from_utf8(digits).ok());
        let unit = unit.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        unit.is_some_and(|unit| (0xd800..0xe000).contains(&unit))
    };
    let start = before.rmatch_indices("\\u").map(|(start, _)| start).find(|start| is_half(*start))?;
    std::str::from_utf8(&bytes[start..start + 6]).ok()
}

/// Returns whether a text of a query was to be a number and is none, or none of the type.
pub fn is_no_number(told: &str) -> bool {
    ["invalid digit", "cannot parse integer", "number too large"].iter().any(|words| told.starts_with(words))
}

/// Calls the field at a path by its name; what is read itself is at `.`, and is called `whole`.
fn named(path: &str, whole: &str) -> String {
    if matches!(path, "." | "?") { whole.to_owned() } else { format!("`{path}`") }
}

/// Says what is wrong with the field at a path, by what serde said of it; what is read itself is at `.`, and is called `whole`.
pub fn field(path: &str, told: &str, whole: &str) -> String {
    let what = named(path, whole);
    for words in ["invalid type: ", "invalid value: "] {
        if let Some((given, expected)) =
            told.strip_prefix(words).and_then(|rest| rest.rsplit_once(", expected "))
        {
            let wanted =
                whole_of(path).filter(|_| is_whole(expected)).map_or_else(|| wanted(expected), Cow::from);
            return format!("{what} must be {wanted}, not {}", found(given));
        }
    }
    let of = |name: &str| match path.trim_end_matches('.') {
        "" | "?" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    if let Some(name) = in_ticks(told, "missing field `") {
        return format!("`{}` is missing", of(name));
    }
    if let Some(name) = in_ticks(told, "duplicate field `") {
        return format!("`{name}` is there twice");
    }
    if let Some(name) = in_ticks(told, "unknown field `") {
        return format!("unknown field `{name}`{}", meant(name, told));
    }
    if let Some(name) = in_ticks(told, "unknown variant `") {
        return format!("{what} cannot be `{name}`{}", meant(name, told));
    }
    if told.starts_with("UUID parsing failed") {
        return format!("{what} must be {UUID}");
    }
    if is_no_number(told) {
        let wanted =
            whole_of(path).unwrap_or_else(|| "a whole number, 0 or more, and not too large".to_owned());
        return format!("{what} must be {wanted}");
    }
    match what.as_str() {
        what if what == whole => told.to_owned(),
        // Some say themselves what they are about.
        what if told.starts_with(what) => told.to_owned(),
        what => format!("{what}: {told}"),
    }
}

/// Returns what a whole number must be whose field has bounds of its own, narrower than those of its type.
fn whole_of(path: &str) -> Option<String> {
    let field = path.rsplit('.').next()?;
    let millis = |longest: std::time::Duration| (1, longest.as_millis() as i64);
    let (least, most) = match field.split('[').next()? {
        "max_attempts" => (1, i64::from(limits::ATTEMPTS_MAX)),
        "priority" => (i64::from(*limits::PRIORITIES.start()), i64::from(*limits::PRIORITIES.end())),
        "jitter_percent" => (0, i64::from(limits::JITTER_PERCENT_MAX)),
        "limit" => (1, i64::from(PAGE_JOBS_MAX)),
        "time_limit_ms" => millis(limits::TIME_LIMIT_MAX),
        "base_ms" | "cap_ms" | "wait_ms" | "waits_ms" => millis(limits::BACKOFF_WAIT_MAX),
        "in_ms" | "expires_in_ms" | "retry_for_ms" | "for_ms" => {
            let least = if field == "in_ms" { 0 } else { 1 };
            return Some(format!(
                "a whole number of milliseconds, {least} or more, that leads to no later time than {}",
                Timestamp::LATEST
            ));
        }
        _ => return None,
    };
    Some(format!("a whole number from {least} to {most}"))
}

/// Returns whether serde expected a whole number.
fn is_whole(expected: &str) -> bool {
    matches!(expected, "u8" | "u16" | "u32" | "u64" | "i8")
}

fn in_ticks<'a>(told: &'a str, before: &str) -> Option<&'a str> {
    told.strip_prefix(before)?.split('`').next()
}

/// Says of a name that is not known which was likely meant, or which there are.
fn meant(name: &str, told: &str) -> String {
    // What follows is the name, and then those that are known, each in backticks.
    let known: Vec<&str> = told.split('`').skip(3).step_by(2).collect();
    let ends = |known: &&&str| known.rsplit('_').next() == name.rsplit('_').next();
    let near = nearest(name, known.iter().copied()).or_else(|| known.iter().find(ends).copied());
    match (near, known.as_slice()) {
        (Some(near), _) => format!(": did you mean `{near}`?"),
        (None, [only]) => format!(": use `{only}`"),
        (None, _) => format!(": use one of {}", known.join(", ")),
    }
}

/// What was to be there, as it is called in JSON.
fn wanted(expected: &str) -> Cow<'_, str> {
    let whole = |least: &str, most: &str| Cow::from(format!("a whole number from {least} to {most}"));
    match expected {
        "u8" => whole("0", "255"),
        "u16" => whole("0", &u16::MAX.to_string()),
        "u32" => whole("0", &u32::MAX.to_string()),
        "u64" => whole("0", &u64::MAX.to_string()),
        "i8" => whole("-128", "127"),
        "a map" | "map" => "an object".into(),
        "a sequence" => "a list".into(),
        "a formatted UUID string" => UUID.into(),
        "a boolean" => "true or false".into(),
        "unit" => "null".into(),
        "a borrowed string" | "string" => "a string".into(),
        // A request.
        expected if expected.starts_with("struct ") => "an object".into(),
        expected => expected.into(),
    }
}

/// What was there instead.
fn found(given: &str) -> Cow<'_, str> {
    match given {
        "map" => "an object".into(),
        "sequence" => "a list".into(),
        "unit value" | "null" => "null".into(),
        given => {
            let kinds = ["boolean ", "integer ", "floating point ", "string "];
            kinds.iter().find_map(|kind| given.strip_prefix(kind)).unwrap_or(given).replace('`', "").into()
        }
    }
}

/// What is wrong with text that is not JSON.
fn syntax(told: &str) -> &str {
    match told {
        told if told.starts_with("EOF") => "it ends too early,",
        "expected value" | "expected ident" => "there is no value",
        "trailing characters" => "there is more after its end",
        "key must be a string" => "a key is not in quotes",
        told => told,
    }
}
