//! The jobs of the demo: what each is given, and how it should end.

use anyhow::Result;
use bytes::Bytes;
use midge_client::EnqueueRequest;
use midge_protocol::api::JobDetail;
use midge_protocol::job::{Cause, State};
use midge_protocol::{JobId, ModuleName, shown};
use serde_json::{Value, json};

use super::{sales, site};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const JPEG: &[u8] = b"\xff\xd8\xff";

/// A job of the demo: what it is given, and how it should end.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) module: ModuleName,
    pub(super) id: JobId,
    args: Value,
    input: Input,
    ends: Ends,
}

/// What a job reads from stdin.
#[derive(Debug)]
enum Input {
    None,
    Bytes(Bytes),
    /// The result of the job of this module.
    ResultOf(&'static str),
}

/// How a job should end.
#[derive(Debug)]
enum Ends {
    Completed {
        /// Where its result is put.
        file: &'static str,
        /// How many attempts that takes.
        spent: u32,
        /// Returns whether the result is what it should be.
        is_right: fn(&[u8]) -> bool,
    },
    Discarded(Cause),
}

/// Returns the jobs of the demo, whose server has this URL. One that reads another's result comes after it.
pub(super) fn cast(site: &str) -> Vec<Part> {
    let completed = |file, is_right| Ends::Completed { file, spent: 1, is_right };
    let part = |module: &str, args, input, ends| Part {
        module: ModuleName::new(module).expect("the examples have good names"),
        id: JobId::generate(),
        args,
        input,
        ends,
    };
    let unruly = |module, cause| part(module, json!({}), Input::None, Ends::Discarded(cause));
    let text = "It was the best of times, it was the worst of times.\n".repeat(1_000);
    vec![
        part(
            "hello",
            json!({"name": "demo"}),
            Input::None,
            completed("hello.json", |result| json_of(result)["greeting"] == "Hello, demo!"),
        ),
        part(
            "render",
            json!({"width": 2400, "height": 1600, "iterations": 1500}),
            Input::None,
            completed("fractal.png", |result| result.starts_with(PNG)),
        ),
        part(
            "report",
            json!({"group_by": "city", "value": "sales"}),
            Input::Bytes(sales::csv().into()),
            completed("report.json", |result| json_of(result)["rows"] == sales::ROWS),
        ),
        part(
            "flaky",
            json!({"failures": 2}),
            Input::None,
            Ends::Completed {
                file: "flaky.json",
                spent: 3,
                is_right: |result| json_of(result)["attempt"] == 3,
            },
        ),
        part(
            "plain",
            json!({"any": ["json", 1]}),
            Input::Bytes("four".into()),
            completed("plain.json", |result| json_of(result)["input_bytes"] == 4),
        ),
        part(
            "stages",
            json!({"stages": 3}),
            Input::None,
            completed("stages.json", |result| json_of(result)[2]["attempt"] == 1),
        ),
        part(
            "fan-out",
            json!({"jobs": 5}),
            Input::None,
            completed("fan-out.json", |result| {
                json_of(result)["jobs"].as_array().is_some_and(|jobs| jobs.len() == 5)
            }),
        ),
        part(
            "wordcount",
            json!(null),
            Input::Bytes(text.into()),
            completed("wordcount.json", |result| json_of(result)["words"] == 12_000),
        ),
        part(
            "webhook",
            json!({"url": format!("{site}/hook"), "event": {"order": 7}}),
            Input::None,
            completed("webhook.json", |result| json_of(result)["status"] == 200),
        ),
        part(
            "download",
            json!({"url": format!("{site}/file")}),
            Input::None,
            completed("download.json", |result| json_of(result)["bytes"] == site::FILE_BYTES),
        ),
        part(
            "fetch",
            json!(format!("{site}/page")),
            Input::None,
            completed("page.txt", |result| result == site::PAGE.as_bytes()),
        ),
        unruly("spin", Cause::OverTime),
        unruly("sleep", Cause::OverTime),
        unruly("hog", Cause::OverMemory),
        unruly("flood", Cause::OverOutput),
        part(
            "resize",
            json!({"width": 640, "format": "jpeg"}),
            Input::ResultOf("render"),
            completed("fractal-small.jpg", |result| result.starts_with(JPEG)),
        ),
    ]
}

fn json_of(result: &[u8]) -> Value {
    serde_json::from_slice(result).unwrap_or_default()
}

impl Part {
    /// Returns the module whose result this job reads.
    pub(super) fn after(&self) -> Option<&'static str> {
        match self.input {
            Input::ResultOf(module) => Some(module),
            _ => None,
        }
    }

    /// Returns the request that enqueues the job, with the result that it reads from stdin.
    pub(super) fn request(&self, result: Option<Bytes>) -> Result<EnqueueRequest> {
        let input = match &self.input {
            Input::None => None,
            Input::Bytes(bytes) => Some(bytes.clone()),
            Input::ResultOf(_) => result,
        };
        let request = EnqueueRequest { id: self.id, input, ..EnqueueRequest::new(self.module.clone()) };
        Ok(request.args(&self.args)?)
    }

    /// Returns the name of the file for the result, where there should be one.
    pub(super) fn file(&self) -> Option<&'static str> {
        match self.ends {
            Ends::Completed { file, .. } => Some(file),
            Ends::Discarded(_) => None,
        }
    }

    /// Returns what is wrong with how the job ended, if anything is.
    pub(super) fn fault(&self, detail: &JobDetail, result: Option<&Bytes>) -> Option<String> {
        let job = &detail.job;
        let cause = job.failure.as_ref().map(|failure| &failure.cause);
        match &self.ends {
            Ends::Completed { .. } if job.state != State::Completed => {
                let why = job
                    .failure
                    .as_ref()
                    .map(|failure| format!(" ({}: {})", failure.cause, shown::line(&failure.message)));
                Some(format!("should have completed, and was {}{}", job.state, why.unwrap_or_default()))
            }
            Ends::Completed { spent, .. } if job.spent != *spent => {
                Some(format!("should have spent {spent} attempts, and spent {}", job.spent))
            }
            Ends::Completed { is_right, .. } if !result.is_some_and(|result| is_right(result)) => {
                Some("its result is not what it should be".to_owned())
            }
            Ends::Completed { .. } => None,
            Ends::Discarded(wanted) if job.state == State::Discarded && cause == Some(wanted) => None,
            Ends::Discarded(wanted) => {
                let cause = cause.map(|cause| format!(" with {cause}")).unwrap_or_default();
                Some(format!("should have been discarded with {wanted}, and was {}{cause}", job.state))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(part: &Part, state: &str, spent: u32, cause: Option<&str>) -> JobDetail {
        let mut job = json!({
            "id": part.id, "module": part.module, "queue": "default", "state": state, "attempt": spent,
            "spent": spent, "max_attempts": 25, "enqueued_at": "2030-01-01T00:00:00Z",
            "scheduled_at": "2030-01-01T00:00:00Z", "args": null, "attempts": [],
        });
        if let Some(cause) = cause {
            job["failure"] = json!({"cause": cause, "message": "why"});
        }
        serde_json::from_value(job).unwrap()
    }

    fn part(module: &str) -> Part {
        cast("http://127.0.0.1:1").into_iter().find(|part| part.module.as_str() == module).unwrap()
    }

    #[test]
    fn a_job_whose_input_is_a_result_comes_after_the_one_that_gives_it() {
        let cast = cast("http://127.0.0.1:1");
        for (index, part) in cast.iter().enumerate() {
            if let Some(after) = part.after() {
                assert!(
                    cast[..index].iter().any(|before| before.module.as_str() == after),
                    "{}",
                    part.module
                );
            }
        }
    }

    #[test]
    fn every_example_is_in_the_cast() {
        let project =
            midge_build::Project::read(&midge_cli::checkout::Checkout::find().unwrap().guest_examples());
        let modules: Vec<ModuleName> = project.unwrap().modules.into_keys().collect();
        let mut cast: Vec<ModuleName> =
            cast("http://127.0.0.1:1").into_iter().map(|part| part.module).collect();
        cast.sort();
        assert_eq!(cast, modules);
    }

    #[test]
    fn an_unruly_job_must_fail_for_its_own_reason() {
        let hog = part("hog");
        assert_eq!(hog.fault(&detail(&hog, "discarded", 1, Some("over_memory")), None), None);
        let fault = hog.fault(&detail(&hog, "discarded", 1, Some("trap")), None).unwrap();
        assert_eq!(fault, "should have been discarded with over_memory, and was discarded with trap");
        assert!(hog.fault(&detail(&hog, "completed", 1, None), None).is_some());
    }

    #[test]
    fn a_good_job_must_give_the_right_result_in_the_right_number_of_attempts() {
        let hello = part("hello");
        let result = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let done = detail(&hello, "completed", 1, None);
        assert_eq!(hello.fault(&done, result(r#"{"greeting": "Hello, demo!"}"#).as_ref()), None);
        assert!(hello.fault(&done, result("Hello, demo!").as_ref()).is_some());
        assert!(hello.fault(&done, None).is_some());
        let flaky = part("flaky");
        let result = result(r#"{"attempt": 3}"#);
        assert_eq!(flaky.fault(&detail(&flaky, "completed", 3, Some("exit")), result.as_ref()), None);
        assert!(flaky.fault(&detail(&flaky, "completed", 1, None), result.as_ref()).is_some());
    }
}
