//! What `midge.toml` says about a job's module, for tests of the job.
//!
//! Invariant: only what such a test goes by is read. Whether the file is right is for `midge build` to say.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::Given;
use super::reach::{Reach, Secrets};

/// How long an attempt may run where its module does not say, as servers have it.
const TIME_LIMIT_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// The units of a duration in `midge.toml`, in milliseconds.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

#[derive(Deserialize)]
struct Project {
    #[serde(default)]
    modules: BTreeMap<String, Module>,
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    http: Vec<String>,
    #[serde(default)]
    secrets: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    enqueues: Vec<String>,
    queue: Option<String>,
    time_limit: Option<String>,
}

/// Gives a job what its module's section says.
pub(super) fn give(given: Given, file: &Path, module: &str) -> Result<Given, String> {
    let at = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {at}: {error}"))?;
    let project: Project = toml::from_str(&text).map_err(|error| format!("{at}: {error}"))?;
    let names = || project.modules.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let found = project.modules.get(module);
    let found = found.ok_or_else(|| format!("{at} has no [modules.{module}]: it has {}", names()))?;
    let wrong = |key: &str, error: String| format!("{at}: `{key}` of {module}: {error}");
    let reach = Reach::read(&found.http).map_err(|error| wrong("http", error))?;
    let mut secrets = Secrets::default();
    for (name, destinations) in &found.secrets {
        secrets.add(name, destinations).map_err(|error| wrong("secrets", error))?;
    }
    let time_limit = match &found.time_limit {
        Some(text) => duration(text).map_err(|error| wrong("time_limit", error))?,
        None => TIME_LIMIT_DEFAULT,
    };
    let mut variables = given.variables;
    if let Some(queue) = &found.queue {
        variables.entry("MIDGE_QUEUE").or_insert_with(|| queue.clone());
    }
    Ok(Given {
        reach: Some(reach),
        secrets: Some(secrets),
        enqueues: Some(found.enqueues.clone()),
        time_limit: Some(time_limit),
        variables,
        ..given
    })
}

/// Reads a number with its unit, such as `30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let read = || {
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
        let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
        number.parse::<u64>().ok()?.checked_mul(*millis).map(Duration::from_millis)
    };
    read().ok_or_else(|| format!("`{text}` is no duration: write one such as 30s"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::UNIX_EPOCH;

    use super::super::http::Answer;
    use super::super::pass_time;
    use super::*;
    use crate::http::{self, Kind};

    fn file() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/project/midge.toml")
    }

    #[test]
    fn a_job_may_under_test_what_its_section_of_the_project_says() {
        let given = Given::new().http(|_| Answer::status(204)).of_module(file(), "report");
        let seen = given.observe(|| {
            assert_eq!(http::get("https://api.example.com/v1/x").send().unwrap().status(), 204);
            let error = http::get("https://third.example.com/").send().unwrap_err();
            assert_eq!(error.kind(), Kind::NotAllowed);
            assert!(error.to_string().contains("http = [\"https://third.example.com\"]"), "{error}");
            crate::enqueue("mail", &()).unwrap();
            assert!(crate::enqueue("report", &()).is_err());
        });
        assert_eq!((seen.requests().len(), seen.enqueued().len()), (2, 1));
        Given::new().http(|_| Answer::status(204)).of_module(file(), "mail").run(|| {
            assert_eq!(
                http::get("https://api.example.com/v1/x").send().unwrap_err().kind(),
                Kind::NotAllowed
            );
            assert!(crate::enqueue("mail", &()).is_err(), "what is not said, it may not");
        });
    }

    #[test]
    fn a_job_has_under_test_the_secrets_of_its_section_and_they_go_nowhere_else() {
        let given = |module: &str| Given::new().http(|_| Answer::status(204)).of_module(file(), module);
        let send = |url: &str, secret: &str| http::post(url).bearer_secret(secret).send().map(|_| ());
        given("report").run(|| {
            send("https://api.example.com/v1/x", "MAIL").unwrap();
            for (url, secret, told) in [
                ("https://api.example.com/v1/x", "STRIPE", "has no secret `STRIPE`"),
                (
                    "https://other.example.com/",
                    "MAIL",
                    "the secret `MAIL` may not go to https://other.example.com/",
                ),
                ("https://third.example.com/", "MAIL", "may not reach https://third.example.com/"),
            ] {
                let error = send(url, secret).unwrap_err();
                assert_eq!(error.kind(), Kind::NotAllowed);
                assert!(error.to_string().contains(told), "{error}");
            }
            assert!(http::get("https://other.example.com/").send().is_ok(), "without a secret it may");
        });
        given("plain").run(|| {
            let error = send("https://api.example.com/", "MAIL").unwrap_err();
            assert!(
                error.to_string().contains("secrets = { MAIL = [\"https://api.example.com\"] }"),
                "{error}"
            );
        });
    }

    #[test]
    fn a_job_is_under_test_in_the_queue_of_its_section_and_has_as_much_time() {
        let start = UNIX_EPOCH + Duration::from_secs(1_900_000_000);
        let given = Given::new().now(start).of_module(file(), "report");
        let seen = given.clone().observe(|| {
            assert_eq!(
                (crate::queue(), crate::time_left()),
                ("slow".to_owned(), Some(Duration::from_secs(30)))
            );
            pass_time(Duration::from_secs(20));
            assert_eq!(crate::time_left(), Some(Duration::from_secs(10)));
        });
        let next = seen.next_attempt().run(|| (crate::deadline(), crate::attempt()));
        assert_eq!(next, (Some(start + Duration::from_secs(50)), 2), "each attempt has all of it");
        let said = given.queue("mine").deadline(start).run(|| (crate::queue(), crate::deadline()));
        assert_eq!(said, ("mine".to_owned(), Some(start)), "what the test says goes before");
        let plain = Given::new().now(start).of_module(file(), "plain");
        let of_plain = plain.run(|| (crate::queue(), crate::time_left()));
        assert_eq!(of_plain, ("default".to_owned(), Some(TIME_LIMIT_DEFAULT)));
        assert_eq!(Given::new().run(crate::deadline), None);
    }

    #[test]
    fn what_is_wrong_with_a_project_is_told() {
        let told = |file: &Path, module| give(Given::new(), file, module).unwrap_err();
        assert!(told(Path::new("nowhere.toml"), "report").starts_with("cannot read nowhere.toml: "));
        assert!(
            told(&file(), "reports")
                .ends_with("has no [modules.reports]: it has late, mail, odd, plain, report")
        );
        assert!(told(&file(), "odd").ends_with(
            "`http` of odd: `api.example.com` is no destination: write one such as https://api.example.com"
        ));
        assert!(
            told(&file(), "late")
                .ends_with("`time_limit` of late: `soon` is no duration: write one such as 30s")
        );
    }
}
