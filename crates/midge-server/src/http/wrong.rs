//! What is wrong with a request, in words: the field, what it is to be, and where it stands.
//!
//! Invariant: the words for a field are [`midge_protocol::wrong`]'s, which hosts have for their guests too.

use midge_protocol::wrong;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, SeqAccess, Visitor};

/// The field of a bulk enqueue that holds its jobs.
const JOBS: &str = "jobs";

/// What is wrong with a request.
#[derive(Debug)]
pub(super) struct Wrong {
    /// The field, what it is to be, and where it stands.
    pub(super) text: String,
    /// Whether a number or a time is one, and out of its bounds: the request has the right form.
    pub(super) is_out_of_bounds: bool,
}

/// What a body is called.
const BODY: &str = "the body";

/// Says why a body is not what it should be. It is read once more, with an eye on where: most bodies are right, and need it not.
pub(super) fn in_body<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> Wrong {
    let Err(wrong) = wrong::read::<T>(bytes, BODY) else {
        let told = error.to_string();
        return Wrong { is_out_of_bounds: wrong::is_out_of_bounds(&told), text: told };
    };
    let at = wrong.at.map(|(line, column)| format!(" at line {line} column {column}")).unwrap_or_default();
    let job = job_of(&wrong.path).and_then(|index| id_of_job(bytes, index));
    let job = job.map(|id| format!(", in job {id}")).unwrap_or_default();
    Wrong { text: format!("{}{at}{job}", wrong.text), is_out_of_bounds: wrong.is_out_of_bounds }
}

/// Says why there has to be a body, by what serde said of an empty object in its place.
pub(super) fn without_body(error: &serde_json::Error) -> String {
    let told = error.to_string();
    let told = told.split_once(" at line ").map_or(told.as_str(), |(told, _)| told);
    format!("the body is empty, and {}: send an object of JSON", wrong::field(".", told, BODY))
}

/// Says why a query is not what it should be, by what serde said of it, which begins with the parameter's name.
pub(super) fn in_query(query: &str, told: &str) -> Wrong {
    let (name, told) = told.split_once(": ").unwrap_or((".", told));
    let parameter = Parameter::all(query).find(|parameter| parameter.name == name);
    let at = parameter.as_ref().map(|parameter| format!(" at byte {}", parameter.at)).unwrap_or_default();
    let text = format!("{} in the query{at}", wrong::field(name, told, BODY));
    let is_integer = |text: &str| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_out_of_bounds = wrong::is_out_of_bounds(told)
        || wrong::is_no_number(told) && parameter.is_some_and(|parameter| is_integer(parameter.value));
    Wrong { text, is_out_of_bounds }
}

/// Says which parameter of a query holds bytes that are no text, if one does.
pub(super) fn no_text_in_query(query: &str) -> Option<String> {
    Parameter::all(query)
        .find(|parameter| !is_text(parameter.value) || !is_text(parameter.name))
        .map(|parameter| format!("`{}` must be UTF-8 in the query at byte {}", parameter.name, parameter.at))
}

/// A parameter of a query as it is written there.
struct Parameter<'a> {
    name: &'a str,
    value: &'a str,
    /// Where the value begins, in bytes from 0.
    at: usize,
}

impl Parameter<'_> {
    fn all(query: &str) -> impl Iterator<Item = Parameter<'_>> {
        let mut begin = 0;
        query.split('&').map(move |pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let at = begin + (name.len() + 1).min(pair.len());
            begin += pair.len() + 1;
            Parameter { name, value, at }
        })
    }
}

/// Returns whether what a part of a query stands for is UTF-8.
fn is_text(written: &str) -> bool {
    let mut bytes = Vec::with_capacity(written.len());
    let mut rest = written.as_bytes();
    while let [first, behind @ ..] = rest {
        let escaped = behind.first_chunk::<2>().filter(|_| *first == b'%');
        let escaped = escaped.and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    std::str::from_utf8(&bytes).is_ok()
}

/// Returns which job of a bulk enqueue a path leads into, from 0.
fn job_of(path: &str) -> Option<usize> {
    path.strip_prefix(JOBS)?.strip_prefix('[')?.split(']').next()?.parse().ok()
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
        in_body::<T>(body.as_bytes(), &serde_json::from_str::<T>(body).unwrap_err()).text
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
            (
                r#""in_ms": -5"#,
                "`in_ms` must be a whole number of milliseconds, 0 or more, that leads to no later time than \
                 9999-12-30T22:00:00.000Z, not -5 at",
            ),
            (
                r#""time_limit_ms": 1.5"#,
                "`time_limit_ms` must be a whole number from 1 to 86400000, not 1.5 at",
            ),
            (
                r#""backoff": 5"#,
                "`backoff` must be one of \"sidekiq\", \"exponential\", \"fixed\", \"list\", \"none\", not 5 at line 1",
            ),
            (r#""backoff": {}"#, "not an empty object at line 1"),
            (r#""backoff": "fixed""#, "`backoff` must be {\"fixed\": ...}, not \"fixed\" at"),
            (r#""backoff": {"sidekiq": null}"#, "`backoff` must be \"sidekiq\" alone, not an object at"),
            (r#""backoff": {"fixed": [5]}"#, "`backoff.fixed` must be an object, not a list at"),
            (
                r#""backoff": {"list": {"waits_ms": [-1]}}"#,
                "`backoff.list.waits_ms[0]` must be a whole number from 1 to 2592000000, not -1",
            ),
            (r#""unique": {"on_conflict": 5}"#, "`unique.on_conflict` must be one of \"keep\", "),
            (
                r#""key": "a\ud800""#,
                r"`key` holds `\ud800`, which is half of a pair and no character: leave it out, or write both halves, at line 1",
            ),
            (r#""tags": ["ok", "\udc00"]"#, r"`tags[1]` holds `\udc00`, which is half"),
            (r#""meta": {"by": "\ud83dx"}"#, r"`meta.by` holds `\ud83d`, which is half"),
            (r#""unique": {"text": "\n\ud83d\ud83d"}"#, r"`unique.text` holds `\ud83d`, which is half"),
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
            (r#"{"module": "a", "key": "\u12"}"#, "the body is not JSON: "),
            (r#"{"module": "a"} x"#, "the body is not JSON: there is more after its end at line 1 column 17"),
            ("{module: 1}", "the body is not JSON: a key is not in quotes at line 1 column 2"),
        ] {
            assert!(
                said::<EnqueueRequest>(body).starts_with(says),
                "{body}: {}",
                said::<EnqueueRequest>(body)
            );
        }
    }

    #[test]
    fn a_body_that_has_to_be_there_is_said_to_be_empty() {
        let error = serde_json::from_str::<EnqueueRequest>("{}").unwrap_err();
        assert_eq!(
            without_body(&error),
            "the body is empty, and `module` is missing: send an object of JSON"
        );
    }

    #[test]
    fn a_parameter_is_named_with_what_it_must_be() {
        for (told, says) in [
            (
                "limit: invalid digit found in string",
                "`limit` must be a whole number from 1 to 1000 in the query at byte 10",
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
            let said = in_query("a=1&limit=x&state=running", told).text;
            assert!(said.starts_with(says), "{said}");
        }
        assert_eq!(no_text_in_query("text=caf%c3%a9&key=a%zz%"), None);
        assert_eq!(
            no_text_in_query("a=1&text=a%ff"),
            Some("`text` must be UTF-8 in the query at byte 9".to_owned())
        );
    }

    #[test]
    fn a_number_or_a_time_that_is_one_and_cannot_be_has_the_right_form() {
        let of = |body: &str| {
            in_body::<EnqueueRequest>(
                body.as_bytes(),
                &serde_json::from_str::<EnqueueRequest>(body).unwrap_err(),
            )
        };
        for (more, is_out_of_bounds) in [
            (r#""priority": 128"#, true),
            (r#""max_attempts": -1"#, true),
            (r#""max_attempts": 4294967296"#, true),
            (r#""max_attempts": 1.5"#, false),
            (r#""max_attempts": "5""#, false),
            (r#""scheduled_at": "9999-12-31T23:59:59Z""#, true),
            (r#""scheduled_at": "noon""#, false),
        ] {
            let wrong = of(&format!(r#"{{"module": "hello", {more}}}"#));
            assert_eq!(wrong.is_out_of_bounds, is_out_of_bounds, "{wrong:?}");
        }
        for (value, is_out_of_bounds) in
            [("-1", true), ("99999999999", true), ("x", false), ("1e3", false), ("", false)]
        {
            let wrong = in_query(&format!("limit={value}"), "limit: invalid digit found in string");
            assert_eq!(wrong.is_out_of_bounds, is_out_of_bounds, "{value}: {wrong:?}");
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
