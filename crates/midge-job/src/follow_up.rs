//! Jobs that a job enqueues: they are there exactly if its attempt completes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::host::NotEnqueued;
use crate::{Error, Result, host};

/// Enqueues a job of a module, and returns its id. With more than args, begin with [`job`].
///
/// The job is there if this attempt completes, and then once; if it fails, is lost or has lost its right, it never was.
/// So a job can be run again without its follow-up jobs being doubled.
///
/// ```no_run
/// # fn photos() -> Vec<String> { Vec::new() }
/// # fn f() -> midge_job::Result<()> {
/// for photo in photos() {
///     midge_job::enqueue("resize", &photo)?; // the module's section in midge.toml says: enqueues = ["resize"]
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Where the args cannot be JSON, and where the host refuses the job: `enqueues` of this job's module does not name the other,
/// a field is wrong or too large, or it would be one of more than 10,000, or of more than 8 MiB of requests and inputs. By `?` all
/// but the last two discard this job: another attempt would be refused alike. What only the server can know, such as
/// that a queue is full, makes the attempt fail after its end, with the cause `not_enqueued`; and where no attempt could
/// do better, such as for a batch that is closed, with `never_enqueued`, which discards the job.
pub fn enqueue<T: Serialize + ?Sized>(module: &str, args: &T) -> Result<String> {
    job(module).args(args).enqueue()
}

/// Begins a job of a module, which [`FollowUp::enqueue`] enqueues.
///
/// ```no_run
/// # use std::time::Duration;
/// # fn f(pages: Vec<u32>) -> midge_job::Result<()> {
/// let mut ids = Vec::new();
/// for page in pages {
///     ids.push(midge_job::job("render").args(&page).key("customer-42").enqueue()?);
/// }
/// midge_job::job("bind").after(ids).delay(Duration::from_secs(5)).enqueue()?;
/// # Ok(())
/// # }
/// ```
pub fn job(module: &str) -> FollowUp {
    let follow_up = FollowUp { fields: BTreeMap::new(), after: Vec::new(), input: Vec::new(), wrong: None };
    follow_up.option("module", module)
}

/// A job that is to be enqueued: see [`job`].
#[must_use = "nothing is enqueued before `enqueue` is called"]
#[derive(Debug)]
pub struct FollowUp {
    /// The fields of a request, as the API has them.
    fields: BTreeMap<String, Box<RawValue>>,
    after: Vec<String>,
    input: Vec<u8>,
    /// What of it cannot be JSON.
    wrong: Option<Error>,
}

impl FollowUp {
    /// Gives the job args: any value that can be written as JSON, `null` where nothing is said.
    pub fn args<T: Serialize + ?Sized>(self, args: &T) -> FollowUp {
        self.option("args", args)
    }

    /// Gives the job bytes to read from stdin. No bytes at all are no input: it reads its args there.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> FollowUp {
        self.input = bytes.into();
        self
    }

    /// Has the job run no sooner than so long after this attempt has completed.
    pub fn delay(self, delay: Duration) -> FollowUp {
        self.option("in_ms", &millis(delay))
    }

    /// Has the job discarded if it was not started so long after this attempt has completed.
    pub fn expires_in(self, within: Duration) -> FollowUp {
        self.option("expires_in_ms", &millis(within))
    }

    /// Puts the job into another queue than its module's.
    pub fn queue(self, name: &str) -> FollowUp {
        self.option("queue", name)
    }

    /// Gives the job a key, such as a tenant: jobs of one key are limited together and take turns with those of others.
    pub fn key(self, key: &str) -> FollowUp {
        self.option("key", key)
    }

    /// Has the job run sooner (less than 0) or later than others of its queue and key.
    pub fn priority(self, priority: i8) -> FollowUp {
        self.option("priority", &priority)
    }

    /// Has the job enqueued only if no other of its module with the same args waits or runs. If one does, the returned id is
    /// no job's; what is to run [after](FollowUp::after) it runs after that one.
    pub fn unique(self) -> FollowUp {
        self.option("unique", &BTreeMap::<&str, &str>::new())
    }

    /// Has the job enqueued only if no other with this text waits or runs, as [`FollowUp::unique`].
    pub fn unique_as(self, text: &str) -> FollowUp {
        self.option("unique", &BTreeMap::from([("text", text)]))
    }

    /// Has the job run after others have completed: ids that `enqueue` returned before, or of other jobs.
    pub fn after<I: Into<String>>(mut self, jobs: impl IntoIterator<Item = I>) -> FollowUp {
        self.after.extend(jobs.into_iter().map(Into::into));
        self
    }

    /// Makes the job one of a batch, by its id.
    pub fn batch(self, id: &str) -> FollowUp {
        self.option("batch", id)
    }

    /// Sets any field that `POST /v1/jobs` takes, by its name there, such as `tags` or `max_attempts`.
    pub fn option<T: Serialize + ?Sized>(mut self, name: &str, value: &T) -> FollowUp {
        match serde_json::value::to_raw_value(value) {
            Ok(value) => {
                self.fields.insert(name.to_owned(), value);
            }
            Err(error) => {
                let error = Error::refuse(format!("`{name}` of a job cannot be JSON: {error}"));
                self.wrong.get_or_insert(error);
            }
        }
        self
    }

    /// Enqueues the job, should this attempt complete, and returns its id.
    ///
    /// # Errors
    /// Those of [`enqueue`].
    pub fn enqueue(self) -> Result<String> {
        let request = if self.after.is_empty() {
            self
        } else {
            let after = self.after.clone();
            self.option("after", &after)
        };
        if let Some(wrong) = request.wrong {
            return Err(wrong);
        }
        let text = serde_json::to_string(&request.fields).map_err(Error::refuse)?;
        host::enqueue(&text, &request.input).map_err(|NotEnqueued { number, why }| {
            let said = format!("a job is not enqueued: {why}");
            // The same module with the same args asks the same the next time, but perhaps not for as many.
            if number == NotEnqueued::TOO_MANY { Error::new(said) } else { Error::refuse(said) }
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::Disposition;
    use crate::testing::{Enqueued, Given};

    #[test]
    fn what_is_enqueued_is_what_the_api_would_have_been_asked() {
        let seen = Given::new().observe(|| -> Result<[String; 2]> {
            let first =
                job("resize").args(&u64::MAX).input([0, 255]).delay(Duration::from_secs(2)).enqueue()?;
            let whole = job("bind").queue("slow").key("acme").priority(-5).unique_as("one").after([&first]);
            let whole = whole.batch("b").expires_in(Duration::from_millis(7)).option("tags", &["a"]);
            Ok([first, whole.enqueue()?])
        });
        let [first, second] = seen.returned.as_ref().unwrap();
        let [resize, bind] = seen.enqueued() else { panic!("{seen:?}") };
        assert_eq!((&resize.id, &bind.id), (first, second));
        assert_eq!((resize.args::<u64>(), resize.input.as_deref()), (u64::MAX, Some(&[0, 255][..])));
        assert_eq!((resize.module.as_str(), resize.option("in_ms")), ("resize", Some(&json!(2_000))));
        let says = |name: &str| bind.option(name).cloned().unwrap();
        let said =
            ["queue", "key", "priority", "unique", "after", "batch", "expires_in_ms", "tags"].map(says);
        let expected = [
            json!("slow"),
            json!("acme"),
            json!(-5),
            json!({"text": "one"}),
            json!([first]),
            json!("b"),
            json!(7),
            json!(["a"]),
        ];
        assert_eq!((said, bind.args::<()>(), &bind.input), (expected, (), &None));
    }

    #[test]
    fn a_job_of_a_module_that_is_not_declared_is_refused_with_the_line_to_add() {
        let seen = Given::new().enqueues(["resize"]).observe(|| {
            enqueue("resize", &1).unwrap();
            let refused = enqueue("delete", &1).unwrap_err();
            assert_eq!(refused.disposition(), Disposition::Refuse, "it is not declared the next time either");
            (refused.to_string(), job("resize").unique().enqueue().is_ok())
        });
        assert!(seen.returned.0.contains("enqueues = [\"delete\"]") && seen.returned.1, "{seen:?}");
        assert_eq!(seen.enqueued().iter().map(|job| job.module.as_str()).collect::<Vec<_>>(), ["resize"; 2]);
    }

    #[test]
    fn what_cannot_be_json_is_said_and_too_much_is_refused() {
        let keys = BTreeMap::from([([1, 2], 3)]);
        let seen = Given::new().observe(|| {
            let wrong = enqueue("resize", &keys).unwrap_err();
            let large = job("resize").input(vec![0; 8 << 20]).enqueue().unwrap_err();
            (0..10_000).for_each(|n| drop(enqueue("resize", &n).unwrap()));
            let many = enqueue("resize", &0).unwrap_err();
            assert_eq!(many.disposition(), Disposition::Retry { after: None });
            [wrong, large, many].map(|error| error.to_string())
        });
        let [wrong, large, many] = &seen.returned;
        assert!(wrong.starts_with("`args` of a job cannot be JSON"), "{wrong}");
        assert!(large.contains("8388608") && many.contains("10000"), "{large} {many}");
        assert_eq!((seen.enqueued().len(), seen.next_attempt().observe(|| ()).enqueued().len()), (10_000, 0));
        let ids: std::collections::BTreeSet<_> =
            seen.enqueued().iter().map(|Enqueued { id, .. }| id).collect();
        assert_eq!(ids.len(), 10_000);
    }
}
