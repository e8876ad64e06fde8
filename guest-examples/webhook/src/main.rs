//! Tells a service of an event, with a key that the job never sees, and once, however many attempts it takes.

use std::time::Duration;

use midge_job::{Error, Result, http};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A service that takes longer is asked again by the next attempt, which it knows for the same by its key.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Args {
    /// Where the service takes events.
    url: String,
    event: Value,
}

/// How the service took the event.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Taken {
    status: u16,
    /// The attempt that told it.
    attempt: u32,
}

#[midge_job::main]
fn webhook(args: Args) -> Result<Taken> {
    // Where the Machine is lost after the service took the event and before that is known here, the next attempt tells it
    // again: the same key lets the service know.
    midge_job::step("tell", || tell(&args))
}

fn tell(args: &Args) -> Result<Taken> {
    let answer = http::post(&args.url)
        .secret_header("x-webhook-key", "WEBHOOK")
        .idempotency_key(&midge_job::step_key("tell"))
        .json(&args.event)
        .timeout(TIMEOUT)
        .send()?;
    let status = answer.status();
    match answer.error_for_status() {
        Ok(_) => Ok(Taken { status: status.as_u16(), attempt: midge_job::attempt() }),
        // 429 and 503 are tried again, when the service says; an event that is wrong stays so.
        Err(error) if is_final(status) => Err(Error::refuse(error)),
        Err(error) => Err(error.into()),
    }
}

fn is_final(status: http::StatusCode) -> bool {
    [400, 404, 410, 413, 422].contains(&status.as_u16())
}

#[cfg(test)]
mod tests {
    use midge_job::Disposition;
    use midge_job::http::Kind;
    use midge_job::testing::Given;
    use midge_job::testing::http::Answer;
    use serde_json::json;

    use super::*;

    fn job() -> Result<Taken> {
        webhook(Args { url: "https://hooks.example.com/in".to_owned(), event: json!({"paid": 5}) })
    }

    fn given(answer: Answer) -> Given {
        Given::new().job_id("a-job").http(move |_| answer.clone())
    }

    #[test]
    fn an_event_is_told_with_the_secret_and_a_key_of_the_job() {
        let seen = given(Answer::status(202)).observe(job);
        assert_eq!(seen.returned.as_ref().unwrap(), &Taken { status: 202, attempt: 1 });
        let [told] = seen.requests() else { panic!("{:?}", seen.requests()) };
        assert_eq!((told.method().as_str(), told.url()), ("POST", "https://hooks.example.com/in"));
        assert_eq!(told.header("x-webhook-key"), Some("{{WEBHOOK}}"));
        assert_eq!(told.header("idempotency-key"), Some("a-job/tell"));
        assert_eq!(told.json::<Value>(), json!({"paid": 5}));
    }

    #[test]
    fn an_event_that_was_taken_is_not_told_again() {
        let first = given(Answer::status(200)).observe(job);
        let second = first.next_attempt().observe(job);
        assert_eq!(second.returned.as_ref().unwrap(), &Taken { status: 200, attempt: 1 });
        assert!(second.requests().is_empty());
    }

    #[test]
    fn an_event_that_may_have_been_taken_is_told_again_under_the_same_key() {
        let first = given(Answer::fails(Kind::Reset)).observe(job);
        let second = first.next_attempt().http(|_| Answer::status(200)).observe(job);
        assert_eq!(second.returned.as_ref().unwrap(), &Taken { status: 200, attempt: 2 });
        let key = |requests: &[midge_job::testing::http::Request]| {
            requests[0].header("idempotency-key").map(str::to_owned)
        };
        assert_eq!(key(first.requests()), key(second.requests()));
    }

    #[test]
    fn a_service_that_is_busy_is_told_later_and_one_that_does_not_take_it_is_not_told_again() {
        let disposition = |answer| given(answer).run(job).unwrap_err().disposition();
        let after = Some(Duration::from_secs(90));
        assert_eq!(
            disposition(Answer::status(429).header("retry-after", "90")),
            Disposition::Retry { after }
        );
        assert_eq!(disposition(Answer::status(500)), Disposition::Retry { after: None });
        assert_eq!(disposition(Answer::status(422)), Disposition::Refuse);
    }
}
