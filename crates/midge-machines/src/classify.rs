//! What an answer of the Machines API that is no success means, as a pure function.
//!
//! The status says little: a 409 alone has six meanings. The `status` word in the body is a contract, the text
//! is not, so every text that is not known falls to the careful side: a create to "cannot tell", anything else to
//! "ask again".

use std::fmt;
use std::time::Duration;

use midge_protocol::{MachineId, MachineName};

use crate::MachineError;
use crate::wire::ErrorBody;

/// The call that was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Call<'a> {
    Create(&'a MachineName),
    Start(&'a MachineId),
    Stop(&'a MachineId),
    Suspend(&'a MachineId),
    Destroy(&'a MachineId),
    Get(&'a MachineId),
    Wait(&'a MachineId),
    List,
    Regions,
}

impl Call<'_> {
    /// Returns the word for the action, for which there is one limit.
    pub(crate) fn action(&self) -> &'static str {
        match self {
            Call::Create(_) => "create",
            Call::Start(_) => "start",
            Call::Stop(_) => "stop",
            Call::Suspend(_) => "suspend",
            Call::Destroy(_) => "destroy",
            Call::Get(_) => "get",
            Call::Wait(_) => "wait",
            Call::List => "list",
            Call::Regions => "regions",
        }
    }

    /// Returns the id of the Machine that it is about; empty where it is about the app.
    pub(crate) fn id(&self) -> &str {
        match self {
            Call::Create(_) | Call::List | Call::Regions => "",
            Call::Start(id)
            | Call::Stop(id)
            | Call::Suspend(id)
            | Call::Destroy(id)
            | Call::Get(id)
            | Call::Wait(id) => id.as_str(),
        }
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = match self {
            Call::Create(name) => name.as_str(),
            other => other.id(),
        };
        f.write_str(self.action())?;
        if about.is_empty() { Ok(()) } else { write!(f, " {about}") }
    }
}

/// What the answer means.
#[derive(Debug)]
pub(crate) enum Classified {
    /// What was asked for is so already.
    Done,
    /// A Machine of that name is there; its id, where the answer tells.
    Adopt(Option<MachineId>),
    /// What was asked for was not done, or not surely.
    Failed(MachineError),
}

/// An answer that is no success.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ApiAnswer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a str,
    /// The header `Retry-After`.
    pub(crate) retry_after: Option<&'a str>,
}

/// How much of an answer's text goes into an error.
const TEXT_CHARS_MAX: usize = 300;

/// The right that every call takes, and how to get it.
const TOKEN_NEEDED: &str = "it takes a token that may make, start and destroy Machines in this app, such as \
                            `fly tokens create deploy -a APP` makes";

/// Says what an answer means.
pub(crate) fn classify(call: Call<'_>, answer: ApiAnswer<'_>) -> Classified {
    let (word, text) = read(answer.body);
    let said = format!("{}: {}", answer.status, text.chars().take(TEXT_CHARS_MAX).collect::<String>());
    let lower = text.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    // What may be had is a matter of room, not of rights, whatever the status.
    let asks_for_room = matches!(call, Call::Create(_) | Call::Start(_));
    let is_of_room = matches!(answer.status, 402 | 403 | 409 | 412 | 422);

    let error = match answer.status {
        403 if has(&["rate limit", "too many requests"]) => {
            MachineError::RateLimited { retry_after: answer.retry_after.and_then(seconds) }
        }
        _ if asks_for_room && is_of_room && is_limit(&lower) => MachineError::LimitReached(said),
        _ if asks_for_room && is_of_room && is_quota(&lower) => MachineError::NoCapacity(said),
        401 => MachineError::Denied(format!("{said}; the token is not known: {TOKEN_NEEDED}")),
        403 => MachineError::Denied(format!("{said}; the token lacks the right: {TOKEN_NEEDED}")),
        404 => return missing(call, said, &lower),
        408 if matches!(call, Call::Wait(_)) => MachineError::NotReady(said),
        408 => late(call, said),
        409 => return conflict(call, said, &word, &text),
        412 if is_capacity(&word, &lower) => MachineError::NoCapacity(said),
        412 => return wrong_state(call, said, &lower),
        422 if is_capacity(&word, &lower) => MachineError::NoCapacity(said),
        429 => MachineError::RateLimited { retry_after: answer.retry_after.and_then(seconds) },
        500.. => late(call, said),
        _ => MachineError::Invalid(said),
    };
    Classified::Failed(error)
}

/// Returns the word for programs and the text for people.
fn read(body: &str) -> (String, String) {
    match serde_json::from_str::<ErrorBody>(body) {
        Ok(read) if !read.error.is_empty() => (read.status, read.error),
        Ok(read) if !read.message.is_empty() => (read.status, read.message),
        _ => (String::new(), body.trim().to_owned()),
    }
}

/// There is no such Machine, or no such app, which would not be news about a Machine.
fn missing(call: Call<'_>, said: String, lower: &str) -> Classified {
    let no_app = lower.contains("app not found") || lower.contains("could not find app");
    match call {
        Call::Create(_) | Call::List | Call::Regions => {
            Classified::Failed(MachineError::NoApp(no_such_app(&said)))
        }
        _ if no_app => Classified::Failed(MachineError::NoApp(no_such_app(&said))),
        Call::Destroy(_) => Classified::Done,
        Call::Start(id) | Call::Stop(id) | Call::Suspend(id) | Call::Get(id) | Call::Wait(id) => {
            Classified::Failed(MachineError::Gone(id.clone()))
        }
    }
}

fn no_such_app(said: &str) -> String {
    format!("{said}; there is no such app, or the token is not good for it: {TOKEN_NEEDED}")
}

/// The API gave up, and for all one knows after it had done what was asked for.
fn late(call: Call<'_>, said: String) -> MachineError {
    match call {
        Call::Create(name) => MachineError::Ambiguous { name: name.clone(), source: said.into() },
        _ => MachineError::Unavailable(said.into()),
    }
}

fn conflict(call: Call<'_>, said: String, word: &str, text: &str) -> Classified {
    let lower = text.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    match call {
        Call::Create(_) if word == "name_taken" || lower.contains("unique machine name") => {
            Classified::Adopt(id_in(text))
        }
        Call::Start(_) if has(&["still attempting to start", "already start"]) => Classified::Done,
        _ if has(&["lease currently held"]) => Classified::Failed(MachineError::Conflict(said)),
        _ if is_capacity(word, &lower) => Classified::Failed(MachineError::NoCapacity(said)),
        _ if has(&["governor policy", "deploys to this host", "insufficient", "could not reserve"]) => {
            Classified::Failed(MachineError::NoCapacity(said))
        }
        _ => Classified::Failed(MachineError::Conflict(said)),
    }
}

/// The Machine is in a state in which this cannot be done. Most of them pass.
fn wrong_state(call: Call<'_>, said: String, lower: &str) -> Classified {
    let from =
        |state: &str| lower.contains(&format!("'{state}'")) || lower.contains(&format!("state: {state}"));
    match call {
        Call::Start(_) if from("started") || from("starting") => Classified::Done,
        Call::Stop(_) if from("stopped") || from("stopping") => Classified::Done,
        Call::Suspend(_) if from("suspended") || from("suspending") => Classified::Done,
        Call::Destroy(_) if from("destroyed") || from("destroying") => Classified::Done,
        Call::Start(id) | Call::Stop(id) | Call::Suspend(id) | Call::Wait(id)
            if from("destroyed") || from("destroying") =>
        {
            Classified::Failed(MachineError::Gone(id.clone()))
        }
        _ => Classified::Failed(MachineError::NotReady(said)),
    }
}

fn is_capacity(word: &str, lower: &str) -> bool {
    let texts = ["no capacity", "find capacity", "could not find a candidate host", "insufficient resources"];
    matches!(word, "insufficient_capacity" | "volume_placement_capacity")
        || texts.iter().any(|text| lower.contains(text))
}

/// What the organization may have, until a person has it raised.
fn is_limit(lower: &str) -> bool {
    ["machine limit", "payment method", "scaling limit"].iter().any(|text| lower.contains(text))
}

/// There is room for no more now, here or for this organization.
fn is_quota(lower: &str) -> bool {
    let texts =
        ["quota", "capacity", "resource_exhausted", "limit reached", "limit exceeded", "limit has been"];
    let reached =
        ["reached its", "reached the", "reached your", "exceeded its", "exceeded the", "exceeded your"];
    texts.iter().any(|text| lower.contains(text))
        || lower.contains("limit") && reached.iter().any(|text| lower.contains(text))
}

/// Returns the id in `... machine ID 148ed21fe74e89 already exists ...`.
fn id_in(text: &str) -> Option<MachineId> {
    let (_, rest) = text.split_once("machine ID ")?;
    let id: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
    MachineId::new(id).ok()
}

/// Reads the seconds of `Retry-After`. A date, which Fly does not send, is as good as none.
fn seconds(header: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(header.trim().parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: &str =
        r#"{"error":"aborted: machine ID 148e currently has a lease: lease currently held by tok"}"#;
    const LEASE_AS_MESSAGE: &str =
        r#"{"status":"error","message":"machine ID 148e lease currently held by t, expires at 2030"}"#;

    /// Says what an answer means in one word, for tables.
    fn word(call: &str, status: u16, body: &str) -> &'static str {
        let name = MachineName::new("m").unwrap();
        let id = MachineId::new("148e").unwrap();
        let call = match call {
            "create" => Call::Create(&name),
            "start" => Call::Start(&id),
            "stop" => Call::Stop(&id),
            "suspend" => Call::Suspend(&id),
            "destroy" => Call::Destroy(&id),
            "get" => Call::Get(&id),
            "wait" => Call::Wait(&id),
            "list" => Call::List,
            other => panic!("no call {other}"),
        };
        let error = match classify(call, ApiAnswer { status, body, retry_after: None }) {
            Classified::Done => return "done",
            Classified::Adopt(_) => return "adopt",
            Classified::Failed(error) => error,
        };
        match error {
            MachineError::NoCapacity(_) => "no capacity",
            MachineError::LimitReached(_) => "limit",
            MachineError::RateLimited { .. } => "rate",
            MachineError::Denied(_) => "denied",
            MachineError::NoApp(_) => "no app",
            MachineError::Gone(_) => "gone",
            MachineError::NotReady(_) => "not ready",
            MachineError::Conflict(_) => "conflict",
            MachineError::Ambiguous { .. } => "ambiguous",
            MachineError::Invalid(_) => "invalid",
            MachineError::Unavailable(_) => "unavailable",
        }
    }

    fn error(text: &str) -> String {
        serde_json::json!({ "error": text }).to_string()
    }

    #[test]
    fn every_known_answer_means_what_the_caller_does_next() {
        let table = [
            // Our own mistakes.
            ("create", 400, "invalid_argument: invalid config", "invalid"),
            ("get", 400, "invalid machine ID, 'x'", "invalid"),
            ("create", 422, "unsupported guest: 3 cpus", "invalid"),
            ("create", 413, "http: request body too large", "invalid"),
            ("list", 302, "", "invalid"),
            // The token, and the app.
            ("start", 401, "unauthenticated", "denied"),
            ("create", 403, "permission_denied", "denied"),
            ("start", 403, "permission_denied: token may only read", "denied"),
            // Room, said as if it were a right.
            ("create", 403, "permission_denied: CPU quota of region ams exceeded", "no capacity"),
            ("create", 403, "you have reached your limit of performance CPUs", "no capacity"),
            ("start", 403, "memory limit exceeded for this organization", "no capacity"),
            ("create", 412, "failed_precondition: quota exceeded", "no capacity"),
            ("create", 422, "quota for shared CPUs reached", "no capacity"),
            ("create", 409, "aborted: quota exceeded", "no capacity"),
            ("create", 403, "Your organization has reached its machine limit", "limit"),
            ("create", 402, "please add a payment method", "limit"),
            (
                "create",
                403,
                "organization shop is using 40960 MB of memory in iad which is over the allowed quota",
                "no capacity",
            ),
            (
                "start",
                403,
                "is using 40960 MB of memory in iad which is over the allowed quota",
                "no capacity",
            ),
            ("create", 403, "rate limit exceeded", "rate"),
            ("list", 403, "quota", "denied"),
            ("create", 404, "app not found", "no app"),
            ("list", 404, "not found", "no app"),
            ("get", 404, "not_found: App not found", "no app"),
            ("destroy", 404, "Could not find App", "no app"),
            // The Machine is not there.
            ("get", 404, "not_found: machine not found", "gone"),
            ("start", 404, "not_found: machine not found", "gone"),
            ("stop", 404, "", "gone"),
            ("wait", 404, "machine not found", "gone"),
            ("suspend", 404, "machine not found", "gone"),
            ("destroy", 404, "machine not found", "done"),
            // Time ran out.
            ("wait", 408, "deadline_exceeded: machine failed to reach desired state, started", "not ready"),
            ("wait", 408, "machine failed to reach desired state, stopped, currently replaced", "not ready"),
            ("create", 408, "deadline_exceeded", "ambiguous"),
            ("suspend", 408, "deadline_exceeded", "unavailable"),
            ("destroy", 408, "deadline_exceeded", "unavailable"),
            ("start", 408, "request timed out", "unavailable"),
            // 409, by its text.
            ("start", 409, "machine ID 148e lease currently held by tok, expires at 2030", "conflict"),
            (
                "create",
                409,
                "already_exists: unique machine name violation, machine ID 148e already",
                "adopt",
            ),
            ("start", 409, "aborted: machine still attempting to start", "done"),
            (
                "start",
                409,
                "aborted: could not reserve resource for machine: insufficient CPUs",
                "no capacity",
            ),
            ("start", 409, "could not reserve resource for machine: insufficient memory", "no capacity"),
            ("start", 409, "insufficient IPs available", "no capacity"),
            ("start", 409, "governor policy blocked start", "no capacity"),
            ("create", 409, "deploys to this host are temporarily disabled", "no capacity"),
            ("create", 409, "aborted: insufficient resources available to fulfill request", "no capacity"),
            ("create", 409, "aborted: no capacity", "no capacity"),
            ("stop", 409, "current_version does not match", "conflict"),
            ("stop", 409, "concurrent update", "conflict"),
            ("get", 409, "something new", "conflict"),
            // 412, by its text.
            ("start", 412, "failed_precondition: machine getting replaced, refusing to start", "not ready"),
            ("start", 412, "unable to start machine from current state: 'created'", "not ready"),
            ("start", 412, "unable to start machine from current state: 'started'", "done"),
            ("start", 412, "unable to start machine from current state: 'destroyed'", "gone"),
            ("stop", 412, "unable to stop machine from current state: 'stopped'", "done"),
            ("suspend", 412, "unable to suspend machine from current state: 'suspending'", "done"),
            ("suspend", 412, "unable to suspend machine from current state: 'starting'", "not ready"),
            ("suspend", 412, "unable to suspend machine from current state: 'destroyed'", "gone"),
            ("suspend", 400, "invalid_argument: unable to suspend machine: it has swap", "invalid"),
            ("create", 422, "could not find a candidate host: insufficient resources", "no capacity"),
            ("destroy", 412, "machine is in state: destroying", "done"),
            ("destroy", 412, "machine is still active", "not ready"),
            ("create", 412, "can't find capacity", "no capacity"),
            // 422.
            ("create", 422, "could not find a candidate host", "no capacity"),
            ("create", 422, "Your organization has reached its machine limit. Please contact us", "limit"),
            ("create", 422, "To create more than 1 machine per app please add a payment method", "limit"),
            // The API itself.
            ("create", 429, "resource_exhausted: rate limit exceeded", "rate"),
            ("start", 429, "", "rate"),
            ("create", 500, "internal", "ambiguous"),
            ("create", 503, "<html>upstream</html>", "ambiguous"),
            ("list", 502, "", "unavailable"),
            ("wait", 503, "", "unavailable"),
            ("destroy", 599, "", "unavailable"),
        ];
        for (call, status, text, expected) in table {
            assert_eq!(word(call, status, &error(text)), expected, "{call} {status} {text}");
            // What is no JSON is read as its text.
            assert_eq!(word(call, status, text), expected, "{call} {status} {text}, bare");
        }
    }

    #[test]
    fn the_word_in_the_body_counts_more_than_its_text() {
        let body = |status: &str| format!(r#"{{"error":"unknown: whatever","status":"{status}"}}"#);
        assert_eq!(word("create", 422, &body("insufficient_capacity")), "no capacity");
        assert_eq!(word("create", 412, &body("volume_placement_capacity")), "no capacity");
        assert_eq!(word("create", 409, &body("name_taken")), "adopt");
        assert_eq!(word("create", 422, &body("unknown")), "invalid");
    }

    #[test]
    fn a_lease_held_by_another_is_a_conflict_in_both_shapes() {
        assert_eq!(word("stop", 409, LEASE), "conflict");
        assert_eq!(word("start", 409, LEASE_AS_MESSAGE), "conflict");
    }

    #[test]
    fn the_id_of_the_machine_that_has_the_name_is_read_from_the_answer() {
        let name = MachineName::new("q-1").unwrap();
        let text = r#"already_exists: unique machine name violation, machine ID 148ed21fe74e89 already exists with name "q-1""#;
        let body = error(text);
        let answer = ApiAnswer { status: 409, body: &body, retry_after: None };
        let Classified::Adopt(Some(id)) = classify(Call::Create(&name), answer) else {
            panic!("not adopted")
        };
        assert_eq!(id.as_str(), "148ed21fe74e89");
    }

    #[test]
    fn a_lack_of_rights_says_which_right_is_lacking() {
        let name = MachineName::new("m").unwrap();
        for status in [401, 403, 404] {
            let answer = ApiAnswer { status, body: "no", retry_after: None };
            let Classified::Failed(error) = classify(Call::Create(&name), answer) else { panic!("done") };
            let text = error.to_string();
            assert!(
                text.contains("fly tokens create deploy") && text.contains("make, start and destroy"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_rate_limit_says_how_long_to_wait_where_the_answer_does() {
        let retry_after =
            |header| match classify(Call::List, ApiAnswer { status: 429, body: "", retry_after: header }) {
                Classified::Failed(MachineError::RateLimited { retry_after }) => retry_after,
                other => panic!("{other:?}"),
            };
        assert_eq!(retry_after(Some("2")), Some(Duration::from_secs(2)));
        assert_eq!(retry_after(Some("Wed, 21 Oct 2026 07:28:00 GMT")), None);
        assert_eq!(retry_after(Some("-1")), None);
        assert_eq!(retry_after(None), None);
    }

    #[test]
    fn an_error_carries_the_api_s_words_but_not_all_of_them() {
        let long = "x".repeat(10_000);
        let Classified::Failed(error) =
            classify(Call::List, ApiAnswer { status: 400, body: &long, retry_after: None })
        else {
            panic!("not failed")
        };
        assert!(error.to_string().len() < 400, "{}", error.to_string().len());
        assert!(error.to_string().contains("400: xxx"));
    }
}
