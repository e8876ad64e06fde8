//! What survives an attempt: a state that the next one finds, and steps that are done once.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Error, Result, attempt, host};

/// All that is saved of a job: one text, at most 64 KiB.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checkpoint {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    steps: BTreeMap<String, Box<RawValue>>,
}

/// Saves how far the job is, over what was saved before. When it returns, the next attempt finds it by [`saved`], whatever
/// becomes of this one: after a failure, a deploy, a lost Machine.
///
/// It waits for the server's disk, which takes some milliseconds: save what would be dear to do again, and not every line.
/// While the server is away it waits until that is back, or the attempt is over.
///
/// ```no_run
/// # fn import(_: usize) -> midge_job::Result<()> { Ok(()) }
/// # fn f() -> midge_job::Result<()> {
/// for file in midge_job::saved()?.unwrap_or(0)..1_000 {
///     import(file)?;
///     if file % 10 == 9 {
///         midge_job::save(&(file + 1))?;
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Where it cannot be JSON, or is larger than 64 KiB together with the results of [`step`]s.
pub fn save<T: Serialize + ?Sized>(state: &T) -> Result<()> {
    let mut checkpoint = Checkpoint::read()?;
    checkpoint.state = Some(to_raw("the state", state)?);
    checkpoint.write()
}

/// Returns what this attempt or one before it saved last; nothing where none did.
///
/// # Errors
/// Where what was saved is not of the type: a deploy may have changed it.
pub fn saved<T: DeserializeOwned>() -> Result<Option<T>> {
    let state = Checkpoint::read()?.state;
    state.map(|state| from_raw("the saved state", &state)).transpose()
}

/// Does a step of a job, unless an attempt before this one did: then it returns what that one got.
///
/// ```no_run
/// # fn charge(_: &str) -> midge_job::Result<String> { Ok(String::new()) }
/// # fn send(_: &str) -> midge_job::Result<()> { Ok(()) }
/// # fn f() -> midge_job::Result<()> {
/// let receipt = midge_job::step("charge", || charge(&midge_job::step_key("charge")))?;
/// midge_job::step("mail", || send(&receipt))?; // should it fail, the next attempt does not charge again
/// # Ok(())
/// # }
/// ```
///
/// The result is saved when the step is done. If the Machine is lost between the two, the step is done again: a step is
/// done at least once, and once where what it calls knows a call again by [`step_key`].
///
/// # Errors
/// The step's own, with nothing saved; those of [`save`]; and where the result of before is not of the type.
pub fn step<T, E>(name: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T>
where
    T: Serialize + DeserializeOwned,
    E: Into<Error>,
{
    let mut checkpoint = Checkpoint::read()?;
    if let Some(result) = checkpoint.steps.get(name) {
        return from_raw(&format!("the result of step `{name}`"), result);
    }
    let result = work().map_err(Into::into)?;
    // The step may have saved something itself.
    checkpoint = Checkpoint::read()?;
    checkpoint.steps.insert(name.to_owned(), to_raw(&format!("the result of step `{name}`"), &result)?);
    checkpoint.write()?;
    Ok(result)
}

/// Returns a text that is the same in every attempt at this job, and no other job's or step's: what payment services and
/// others take as an idempotency key.
pub fn step_key(name: &str) -> String {
    format!("{}/{name}", attempt::job_id())
}

impl Checkpoint {
    fn read() -> Result<Checkpoint> {
        let Some(saved) = host::saved() else { return Ok(Checkpoint::default()) };
        serde_json::from_slice(&saved)
            .map_err(|error| Error::new(format!("what was saved was not saved by midge_job: {error}")))
    }

    fn write(&self) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(Error::refuse)?;
        if host::save(&text) {
            return Ok(());
        }
        let bytes = text.len();
        Err(Error::new(format!(
            "{bytes} bytes are to be saved, and at most 65536 are kept: save where it is, and not all of it"
        )))
    }
}

fn to_raw<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<Box<RawValue>> {
    serde_json::value::to_raw_value(value)
        .map_err(|error| Error::refuse(format!("{what} cannot be JSON: {error}")))
}

fn from_raw<T: DeserializeOwned>(what: &str, json: &RawValue) -> Result<T> {
    serde_json::from_str(json.get())
        .map_err(|error| Error::new(format!("{what} is of another type than is asked for: {error}")))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::testing::Given;

    #[test]
    fn a_step_that_was_done_is_not_done_again_and_one_that_failed_is() {
        let (charged, mailed) = (Cell::new(0), Cell::new(0));
        let job = |mail_works: bool| -> Result<String> {
            let receipt = step("charge", || -> Result<String> {
                charged.set(charged.get() + 1);
                Ok(format!("receipt {}", charged.get()))
            })?;
            step("mail", || {
                mailed.set(mailed.get() + 1);
                if mail_works { Ok(()) } else { Err(Error::new("no mail today")) }
            })?;
            Ok(receipt)
        };
        let first = Given::new().observe(|| job(false));
        assert_eq!(first.returned.as_ref().unwrap_err().to_string(), "no mail today");
        let second = first.next_attempt().observe(|| job(true));
        assert_eq!(second.returned.unwrap(), "receipt 1");
        assert_eq!((charged.get(), mailed.get()), (1, 2));
    }

    #[test]
    fn a_state_and_steps_do_not_overwrite_each_other() {
        let seen = Given::new().observe(|| -> Result<Option<u64>> {
            save(&u64::MAX)?;
            step("nested", || save(&7_u64))?;
            step("second", || Ok::<_, Error>(1.5))?;
            saved()
        });
        assert_eq!(seen.returned.as_ref().unwrap(), &Some(7));
        let again = seen.next_attempt().run(|| -> Result<_> {
            let wrong = saved::<String>().unwrap_err().to_string();
            Ok((saved::<u64>()?, step("second", || Ok::<f64, Error>(0.0))?, wrong))
        });
        let (state, second, wrong) = again.unwrap();
        assert_eq!((state, second), (Some(7), 1.5));
        assert!(wrong.contains("the saved state is of another type"), "{wrong}");
    }

    #[test]
    fn what_is_too_large_is_not_saved_and_what_was_before_stays() {
        let seen = Given::new().observe(|| {
            save("small").unwrap();
            save(&"x".repeat(65_536)).unwrap_err().to_string()
        });
        assert!(seen.returned.contains("65548 bytes are to be saved"), "{}", seen.returned);
        assert_eq!(seen.saved::<String>().as_deref(), Some("small"));
    }

    #[test]
    fn a_key_of_a_step_is_the_job_s_own() {
        let key = |id| Given::new().job_id(id).attempt(3).run(|| step_key("charge"));
        assert_eq!((key("a").as_str(), key("b").as_str()), ("a/charge", "b/charge"));
    }
}
