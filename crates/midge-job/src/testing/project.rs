//! What `midge.toml` says about a job's module, for tests of the job.
//!
//! Invariant: only what such a test goes by is read. Whether the file is right is for `midge build` to say.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::Given;
use super::reach::Reach;

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
    enqueues: Vec<String>,
}

/// Gives a job what its module's section says.
pub(super) fn give(given: Given, file: &Path, module: &str) -> Result<Given, String> {
    let at = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {at}: {error}"))?;
    let project: Project = toml::from_str(&text).map_err(|error| format!("{at}: {error}"))?;
    let names = || project.modules.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let found = project.modules.get(module);
    let Module { http, enqueues } =
        found.ok_or_else(|| format!("{at} has no [modules.{module}]: it has {}", names()))?;
    let reach = Reach::read(http).map_err(|error| format!("{at}: `http` of {module}: {error}"))?;
    Ok(Given { reach: Some(reach), enqueues: Some(enqueues.clone()), ..given })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::http::Answer;
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
            let error = http::get("https://other.example.com/").send().unwrap_err();
            assert_eq!(error.kind(), Kind::NotAllowed);
            assert!(error.to_string().contains("http = [\"https://other.example.com\"]"), "{error}");
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
    fn what_is_wrong_with_a_project_is_told() {
        let told = |file: &Path, module| give(Given::new(), file, module).unwrap_err();
        assert!(told(Path::new("nowhere.toml"), "report").starts_with("cannot read nowhere.toml: "));
        assert!(told(&file(), "reports").ends_with("has no [modules.reports]: it has mail, odd, report"));
        assert!(told(&file(), "odd").ends_with(
            "`http` of odd: `api.example.com` is no destination: write one such as https://api.example.com"
        ));
    }
}
