//! What is wrong with a request, in words: the field, what it is to be, and where it stands.
//!
//! serde finds it, and says it in words for who writes Rust. They are turned here into those of the API.

use std::borrow::Cow;

use midge_protocol::{limits, nearest};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_path_to_error::{Path, Segment};

/// The field of a bulk enqueue that holds its jobs.
const JOBS: &str = "jobs";
/// What an id must be.
const UUID: &str = "a UUID such as \"0190b3e4-7d5c-7c3a-9f00-0123456789ab\"";

/// Says why a body is not what it should be.
pub(super) fn in_body<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> String {
    let at = format!("at line {} column {}", error.line(), error.column());
    let told = error.to_string();
    let told = told.strip_suffix(&format!(" {at}")).unwrap_or(&told);
    if !error.is_data() {
        return format!("the body is not JSON: {} {at}", syntax(told));
    }
    // Read once more, with an eye on where: most bodies are right, and need it not.
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut reader) else { return told.to_owned() };
    let path = error.path();
    match job_of(path).and_then(|index| id_of_job(bytes, index)) {
        Some(id) => format!("{} {at}, in job {id}", field(&path.to_string(), told)),
        // Of the body as a whole it is plain where it stands.
        None if path.iter().next().is_none() && error.inner().column() == 0 => field(".", told),
        None => format!("{} {at}", field(&path.to_string(), told)),
    }
}

/// Says why a query is not what it should be, by what serde said of it, which begins with the parameter's name.
pub(super) fn in_query(told: &str) -> String {
    let (name, told) = told.split_once(": ").unwrap_or((".", told));
    format!("{} in the query", field(name, told))
}

/// Says what is wrong with the field at a path; the body itself is at `.`.
fn field(path: &str, told: &str) -> String {
    let what = if matches!(path, "." | "?") { "the body".to_owned() } else { format!("`{path}`") };
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
    let not_a_number = ["invalid digit", "cannot parse integer", "number too large"];
    if not_a_number.iter().any(|words| told.starts_with(words)) {
        return format!("{what} must be a whole number, 0 or more, and not too large");
    }
    match what.as_str() {
        "the body" => told.to_owned(),
        // Some say themselves what they are about.
        what if told.starts_with(what) => told.to_owned(),
        what => format!("{what}: {told}"),
    }
}

/// Returns what a whole number must be whose field has bounds of its own, narrower than those of its type.
fn whole_of(path: &str) -> Option<String> {
    let (least, most) = match path.rsplit('.').next()? {
        "max_attempts" => (1, i64::from(limits::ATTEMPTS_MAX)),
        "priority" => (i64::from(*limits::PRIORITIES.start()), i64::from(*limits::PRIORITIES.end())),
        "jitter_percent" => (0, 100),
        _ => return None,
    };
    Some(format!("a whole number from {least} to {most}"))
}

/// Returns whether serde expected a whole number.
fn is_whole(expected: &str) -> bool {
    matches!(expected, "u8" | "u32" | "u64" | "i8")
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

/// Returns which job of a bulk enqueue a path leads into, from 0.
fn job_of(path: &Path) -> Option<usize> {
    let mut path = path.iter();
    match (path.next()?, path.next()?) {
        (Segment::Map { key }, Segment::Seq { index }) if key == JOBS => Some(*index),
        _ => None,
    }
}

/// Returns the id of a job in the body of a bulk enqueue, if it has one. The others are passed over.
fn id_of_job(bytes: &[u8], index: usize) -> Option<String> {
    #[derive(Deserialize)]
    struct Job {
        id: String,
    }
    struct Jobs<'a>(usize, &'a mut Option<String>);
    impl<'de> Visitor<'de> for Jobs<'_> {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of jobs")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
            for _ in 0..self.0 {
                list.next_element::<IgnoredAny>()?;
            }
            *self.1 = list.next_element::<Job>()?.map(|job| job.id);
            Ok(())
        }
    }
    let mut id = None;
    // The list is the only value of the only field.
    let after = bytes.iter().position(|byte| *byte == b'[')?;
    // That it goes on is no error here.
    let _ = serde_json::Deserializer::from_slice(&bytes[after..]).deserialize_seq(Jobs(index, &mut id));
    id
}

#[cfg(test)]
mod tests {
    use midge_protocol::api::{BulkRequest, EnqueueRequest, PauseRequest};

    use super::*;

    fn said<T: DeserializeOwned + std::fmt::Debug>(body: &str) -> String {
        in_body::<T>(body.as_bytes(), &serde_json::from_str::<T>(body).unwrap_err())
    }

    #[test]
    fn a_field_is_named_with_what_it_must_be_and_where() {
        for (more, says) in [
            (r#""key": {}"#, "`key` must be a string, not an object at line 1 column 27"),
            (r#""queue": ["q"]"#, "`queue` must be a string, not a list at line 1 column 29"),
            (r#""id": 5"#, "`id` must be a UUID such as \"0190b3e4-7d5c-7c3a-9f00-0123456789ab\", not 5 at"),
            (
                r#""max_attempts": -1"#,
                "`max_attempts` must be a whole number from 1 to 1000, not -1 at line 1",
            ),
            (r#""in_ms": 1.5"#, "`in_ms` must be a whole number from 0 to 18446744073709551615, not 1.5 at"),
            (r#""in_ms": "5""#, "not \"5\" at line 1"),
            (r#""priority": 1000"#, "`priority` must be a whole number from -100 to 100, not 1000 at"),
            (r#""queue": true"#, "`queue` must be a string, not true at"),
            (r#""queue": "A b""#, "`queue`: `A b` is not a queue name: use 1 to 63"),
            (r#""scheduled_at": "noon""#, "`scheduled_at`: `noon`"),
            (r#""in_ms": 1, "in_ms": 2"#, "`in_ms` is there twice at line 1"),
            (r#""arg": 1"#, "unknown field `arg`: did you mean `args`? at line 1"),
        ] {
            let error = said::<EnqueueRequest>(&format!(r#"{{"module": "hello", {more}}}"#));
            assert!(error.contains(says), "{more}: {error}");
        }
        assert_eq!(said::<EnqueueRequest>("{}"), "`module` is missing at line 1 column 2");
        assert_eq!(said::<EnqueueRequest>("[]"), "the body must be an object, not a list");
        assert_eq!(said::<PauseRequest>("5"), "the body must be an object, not 5 at line 1 column 1");
    }

    #[test]
    fn a_job_of_many_is_named_by_its_index_and_its_id() {
        let body = |job: &str| {
            format!(r#"{{"jobs": [{{"module": "a", "args": [[1]]}}, {job}, {{"module": "c"}}]}}"#)
        };
        let error = said::<BulkRequest>(&body(r#"{"module": 5}"#));
        assert_eq!(error, "`jobs[1].module` must be a string, not 5 at line 1 column 54");
        let error = said::<BulkRequest>(&body(r#"{"id": "x", "in_ms": []}"#));
        assert!(error.starts_with("`jobs[1].id` must be a UUID such as "), "{error}");
        let id = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";
        let error = said::<BulkRequest>(&body(&format!(r#"{{"in_ms": [], "id": "{id}"}}"#)));
        assert!(error.starts_with("`jobs[1].in_ms` must be a whole number"), "{error}");
        assert!(error.ends_with(&format!(", in job {id}")), "{error}");
        assert_eq!(said::<BulkRequest>(&body("{}")), "`jobs[1].module` is missing at line 1 column 44");
        assert!(said::<BulkRequest>(r#"{"jobs": 5}"#).starts_with("`jobs` must be a list of jobs, not 5 at"));
        assert!(
            said::<BulkRequest>(r#"{"job": []}"#).starts_with("unknown field `job`: did you mean `jobs`?")
        );
    }

    #[test]
    fn what_is_not_json_is_said_to_be_none() {
        for (body, says) in [
            ("", "the body is not JSON: it ends too early, at line 1 column 0"),
            ("hello", "the body is not JSON: there is no value at line 1 column 1"),
            (r#"{"module": "a""#, "the body is not JSON: it ends too early, at line 1 column 14"),
            (r#"{"module": "a"} x"#, "the body is not JSON: there is more after its end at line 1 column 17"),
            ("{module: 1}", "the body is not JSON: a key is not in quotes at line 1 column 2"),
        ] {
            assert_eq!(said::<EnqueueRequest>(body), says, "{body}");
        }
    }

    #[test]
    fn a_parameter_is_named_with_what_it_must_be() {
        for (told, says) in [
            (
                "limit: invalid digit found in string",
                "`limit` must be a whole number, 0 or more, and not too large in",
            ),
            (
                "state: unknown variant `runing`, expected one of `running`, `completed`",
                "`state` cannot be `runing`: did you mean `running`? in the query",
            ),
            (
                "sate: unknown field `sate`, expected `state` or `queue`",
                "unknown field `sate`: did you mean `state`?",
            ),
            ("queue: `A` is not a queue name: use a", "`queue`: `A` is not a queue name: use a in the query"),
        ] {
            let said = in_query(told);
            assert!(said.starts_with(says), "{said}");
        }
    }

    #[test]
    fn a_name_that_is_not_known_is_told_with_the_nearest() {
        let body = |field: &str| said::<EnqueueRequest>(&format!(r#"{{"module": "hello", "{field}": 1}}"#));
        for (field, meant) in [
            ("attempts_max", "max_attempts"),
            ("arg", "args"),
            ("ms_in", "in_ms"),
            ("time_limit", "time_limit_ms"),
            ("at", "scheduled_at"),
            ("due_at", "scheduled_at"),
        ] {
            assert!(body(field).contains(&format!("`{field}`: did you mean `{meant}`?")), "{}", body(field));
        }
        assert!(body("colour").starts_with("unknown field `colour`: use one of id, module, args, input"));
    }
}
