//! For unit tests of jobs: what a host would have given. Only on targets that are not WebAssembly.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a job under test finds: its input, the number of its attempt, its queue, its id and its deadline.
///
/// ```
/// fn double() -> midge_job::Result<Vec<u8>> {
///     Ok(midge_job::input()?.iter().map(|byte| byte * 2).collect())
/// }
///
/// let result = midge_job::testing::Given::new().input([1, 2, 3]).run(double);
/// assert_eq!(result.unwrap(), [2, 4, 6]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Given {
    input: Option<Arc<[u8]>>,
    variables: HashMap<&'static str, String>,
}

thread_local! {
    static GIVEN: RefCell<Given> = RefCell::default();
}

impl Given {
    /// Gives nothing: stdin is read, and the attempt is the first.
    pub fn new() -> Given {
        Given::default()
    }

    /// Gives what [`input`](crate::input) and [`input_reader`](crate::input_reader) read.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Given {
        self.input = Some(bytes.into().into());
        self
    }

    /// Gives what [`attempt`](crate::attempt) returns.
    #[must_use]
    pub fn attempt(mut self, number: u32) -> Given {
        self.variables.insert("MIDGE_ATTEMPT", number.to_string());
        self
    }

    /// Gives what [`queue`](crate::queue) returns.
    #[must_use]
    pub fn queue(mut self, name: &str) -> Given {
        self.variables.insert("MIDGE_QUEUE", name.to_owned());
        self
    }

    /// Gives what [`job_id`](crate::job_id) returns.
    #[must_use]
    pub fn job_id(mut self, id: &str) -> Given {
        self.variables.insert("MIDGE_JOB_ID", id.to_owned());
        self
    }

    /// Gives what [`deadline`](crate::deadline) and [`time_left`](crate::time_left) go by, to the millisecond.
    #[must_use]
    pub fn deadline(mut self, deadline: SystemTime) -> Given {
        let since_epoch = deadline.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.variables.insert("MIDGE_DEADLINE_MS", since_epoch.as_millis().to_string());
        self
    }

    /// Calls `job` on this thread and returns what it returned.
    pub fn run<T>(self, job: impl FnOnce() -> T) -> T {
        let _back = Back(GIVEN.replace(self));
        job()
    }
}

/// Puts back what was given before, also when the job panics.
struct Back(Given);

impl Drop for Back {
    fn drop(&mut self) {
        GIVEN.set(std::mem::take(&mut self.0));
    }
}

pub(crate) fn input() -> Option<Arc<[u8]>> {
    GIVEN.with_borrow(|given| given.input.clone())
}

pub(crate) fn variable(name: &str) -> Option<String> {
    GIVEN.with_borrow(|given| given.variables.get(name).cloned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_given_ends_with_the_run() {
        let inside = Given::new().attempt(3).queue("mail").job_id("an-id").input("hello").run(|| {
            assert_eq!(crate::queue(), "mail");
            assert_eq!(crate::job_id(), "an-id");
            assert_eq!(crate::input().unwrap(), b"hello");
            Given::new().attempt(4).run(crate::attempt) + crate::attempt()
        });
        assert_eq!(inside, 7);
        assert_eq!(crate::attempt(), 1);
        assert_eq!(crate::deadline(), None);
    }

    #[test]
    fn a_deadline_that_has_passed_leaves_no_time() {
        let past = UNIX_EPOCH + Duration::from_millis(1_500);
        let (deadline, left) = Given::new().deadline(past).run(|| (crate::deadline(), crate::time_left()));
        assert_eq!((deadline, left), (Some(past), Some(Duration::ZERO)));
    }
}
