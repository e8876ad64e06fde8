//! For unit tests of jobs: what a host would have given. Only on targets that are not WebAssembly.

pub mod http;
#[cfg(feature = "project")]
mod project;
mod reach;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::host::NotEnqueued;

/// What hosts keep at most, as `docs/abi.md` has it.
const SAVED_BYTES_MAX: usize = 64 * 1024;
/// How many jobs one attempt may enqueue, as `docs/abi.md` has it.
const ENQUEUED_MAX: usize = 10_000;
/// The bytes of their requests and inputs.
const ENQUEUED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a job under test finds: its input, the number of its attempt, its queue, its id, its deadline, the time, and who
/// answers its requests.
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
    saved: Option<Vec<u8>>,
    /// The modules whose jobs it may enqueue; of any where nobody says so.
    enqueues: Option<Vec<String>>,
    /// Where its requests may go; anywhere where nobody says so.
    reach: Option<reach::Reach>,
    /// Its secrets, and where they may go; any anywhere where nobody says so.
    secrets: Option<reach::Secrets>,
    deadline: Option<SystemTime>,
    /// How long it may run from where a run begins, where no deadline is given.
    time_limit: Option<Duration>,
    /// When that is over.
    ends: Option<SystemTime>,
    /// What it has enqueued, and the bytes of that.
    enqueued: (Vec<Enqueued>, usize),
    variables: HashMap<&'static str, String>,
    now: Option<SystemTime>,
    network: Option<http::Network>,
    /// Those that were made, to be looked at.
    requests: Vec<http::Request>,
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
        self.deadline = Some(deadline);
        self
    }

    /// Says which modules' jobs it may [enqueue](crate::enqueue), as `enqueues` of its module does in `midge.toml`. Where that is
    /// not said, it may enqueue any.
    #[must_use]
    pub fn enqueues<I: Into<String>>(mut self, modules: impl IntoIterator<Item = I>) -> Given {
        self.enqueues = Some(modules.into_iter().map(Into::into).collect());
        self
    }

    /// Says where its [requests](crate::http) may go, as `http` of its module does in `midge.toml`. Where that is not said, they may
    /// go anywhere. What a host refuses by the address that a name has is not known in a test.
    ///
    /// ```
    /// use midge_job::http::{self, Kind};
    /// use midge_job::testing::Given;
    /// use midge_job::testing::http::Answer;
    ///
    /// let given = Given::new().http(|_| Answer::status(204)).reaches(["https://api.example.com/v1/"]);
    /// given.run(|| {
    ///     assert!(http::get("https://api.example.com/v1/orders").send().is_ok());
    ///     let refused = http::get("https://api.example.com/v2/orders").send().unwrap_err();
    ///     assert_eq!(refused.kind(), Kind::NotAllowed);
    /// });
    /// ```
    ///
    /// # Panics
    /// Where one is no destination.
    #[must_use]
    pub fn reaches<I: AsRef<str>>(mut self, destinations: impl IntoIterator<Item = I>) -> Given {
        self.reach = Some(reach::Reach::read(destinations).unwrap_or_else(|wrong| panic!("{wrong}")));
        self
    }

    /// Says that it has a secret, and where that may go, as `secrets` of its module does in `midge.toml`. Where that is said of none,
    /// a request may name any. A test knows no values: what answers sees `{{NAME}}`.
    ///
    /// ```
    /// use midge_job::http::{self, Kind};
    /// use midge_job::testing::Given;
    /// use midge_job::testing::http::Answer;
    ///
    /// let given = Given::new().http(|_| Answer::status(204)).secret("STRIPE", ["https://api.stripe.com"]);
    /// given.run(|| {
    ///     assert!(http::get("https://api.stripe.com/v1/charges").bearer_secret("STRIPE").send().is_ok());
    ///     let refused = http::get("https://api.example.com/").bearer_secret("STRIPE").send().unwrap_err();
    ///     assert_eq!(refused.kind(), Kind::NotAllowed);
    /// });
    /// ```
    ///
    /// # Panics
    /// Where the name is none that a secret has, or one is no destination.
    #[must_use]
    pub fn secret<I: AsRef<str>>(mut self, name: &str, destinations: impl IntoIterator<Item = I>) -> Given {
        let secrets = self.secrets.get_or_insert_default();
        secrets.add(name, destinations).unwrap_or_else(|wrong| panic!("{wrong}"));
        self
    }

    /// Says of it what its module's section in a `midge.toml` does. What the section does not let it do is then refused as a host
    /// refuses it, with what to add.
    ///
    /// | of the section | in a test |
    /// |---|---|
    /// | `http` | its [requests](crate::http) go nowhere else; what a host refuses by the address that a name has is not known here |
    /// | `secrets` | a request names no other secret in `{{ }}`, and none to somewhere else; there is no value |
    /// | `enqueues` | it [enqueues](crate::enqueue) jobs of no other module |
    /// | `queue` | it is what [`queue`](crate::queue) returns, unless [`queue`](Given::queue) says another |
    /// | `time_limit` | [`deadline`](crate::deadline) and [`time_left`](crate::time_left) go by it, from where the run begins, unless [`deadline`](Given::deadline) says another; nothing ends a job that takes longer |
    /// | `env`, `dirs` | not kept: a test has the variables and the files of its own process |
    /// | `memory_limit` | not kept: a test has the memory of its process |
    /// | `max_attempts`, `backoff`, `retry_for` and the like | not kept: a run is one attempt. What an error asks for is [`Error::disposition`](crate::Error::disposition) |
    /// | `package`, `bin`, `wasm` | not kept: what is run is the function that the test names |
    ///
    /// A path is from where the test runs, which with cargo is the folder of its package. With the feature `project`, which is
    /// for tests alone and stays out of the module that is built:
    ///
    /// ```toml
    /// [dev-dependencies]
    /// midge-job = { path = "...", features = ["project"] }    # as under [dependencies]
    /// ```
    ///
    /// ```no_run
    /// use midge_job::http;
    /// use midge_job::testing::Given;
    /// use midge_job::testing::http::Answer;
    ///
    /// fn report() -> midge_job::Result<u16> {
    ///     Ok(http::get("https://api.example.com/v1/sales").bearer_secret("SALES").send()?.status().as_u16())
    /// }
    ///
    /// // A `#[test]`: it fails as long as [modules.report] does not have the destination and the secret.
    /// let given = Given::new().of_module("midge.toml", "report").http(|_| Answer::status(200));
    /// assert_eq!(given.run(report).unwrap(), 200);
    /// ```
    ///
    /// # Panics
    /// Where the file cannot be read, has no such module, or says of it what cannot be read. All else that is wrong with it is for
    /// `midge build` to say.
    #[cfg(feature = "project")]
    #[must_use]
    pub fn of_module(self, file: impl AsRef<std::path::Path>, module: &str) -> Given {
        project::give(self, file.as_ref(), module).unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    /// Gives what [`now`](crate::now) returns, and [`time_left`](crate::time_left) goes by. Time then stands still but for
    /// [`pass_time`].
    #[must_use]
    pub fn now(mut self, time: SystemTime) -> Given {
        self.now = Some(time);
        self
    }

    /// Gives what answers the [requests](crate::http) of the job. Without it each is refused, as there is no network in a
    /// test.
    ///
    /// ```
    /// use midge_job::http;
    /// use midge_job::testing::Given;
    /// use midge_job::testing::http::Answer;
    ///
    /// fn stars(of: &str) -> midge_job::Result<u64> {
    ///     #[derive(serde::Deserialize)]
    ///     struct Project {
    ///         stars: u64,
    ///     }
    ///     let url = format!("https://forge.example/{of}");
    ///     let project: Project = http::get(url).bearer_secret("FORGE").send()?.error_for_status()?.json()?;
    ///     Ok(project.stars)
    /// }
    ///
    /// let given = Given::new().http(|request| match request.url() {
    ///     "https://forge.example/midge" => Answer::status(200).json(&serde_json::json!({"stars": 5})),
    ///     _ => Answer::status(404),
    /// });
    /// let seen = given.clone().observe(|| stars("midge"));
    /// assert_eq!(seen.returned.as_ref().unwrap(), &5);
    /// assert_eq!(seen.requests()[0].header("authorization"), Some("Bearer {{FORGE}}"));
    ///
    /// let error = given.run(|| stars("mosquito")).unwrap_err();
    /// assert_eq!(error.to_string(), "GET forge.example: 404 Not Found");
    /// ```
    #[must_use]
    pub fn http(mut self, answer: impl FnMut(&http::Request) -> http::Answer + 'static) -> Given {
        self.network = Some(http::Network::new(answer));
        self
    }

    /// Calls `job` on this thread and returns what it returned.
    pub fn run<T>(self, job: impl FnOnce() -> T) -> T {
        self.observe(job).returned
    }

    /// Calls `job` on this thread, and returns what it returned together with what it did beside.
    ///
    /// ```
    /// use midge_job::testing::Given;
    ///
    /// let first = Given::new().observe(|| midge_job::step("count", || Ok::<_, midge_job::Error>(41)));
    /// assert_eq!(first.returned.as_ref().unwrap(), &41);
    /// // The next attempt finds that step done.
    /// let second = first.next_attempt().run(|| midge_job::step("count", || Ok::<_, midge_job::Error>(0)));
    /// assert_eq!(second.unwrap(), 41);
    /// ```
    pub fn observe<T>(mut self, job: impl FnOnce() -> T) -> Observed<T> {
        let now = self.now.unwrap_or_else(SystemTime::now);
        self.ends = self.time_limit.map(|limit| now + limit);
        let _back = Back(GIVEN.replace(self));
        let returned = job();
        Observed { returned, given: GIVEN.with_borrow(Given::clone) }
    }
}

/// What a job under test returned, and what it did beside, by [`Given::observe`].
#[derive(Debug)]
pub struct Observed<T> {
    /// What the job returned.
    pub returned: T,
    given: Given,
}

impl<T> Observed<T> {
    /// Returns what the job [saved](crate::save) last, or found saved.
    ///
    /// # Panics
    /// Where it is not of the type.
    pub fn saved<S: DeserializeOwned>(&self) -> Option<S> {
        self.given.clone().run(|| crate::saved().expect("what was saved is of the type that is asked for"))
    }

    /// Returns the requests that the job made, in their order, those that had no answer too.
    pub fn requests(&self) -> &[http::Request] {
        &self.given.requests
    }

    /// Returns what the next attempt at the job finds: the same, with what this one saved, at the time that it is now.
    pub fn next_attempt(&self) -> Given {
        let number = self.given.clone().run(crate::attempt);
        let given = Given { requests: Vec::new(), enqueued: Default::default(), ..self.given.clone() };
        given.attempt(number + 1)
    }

    /// Returns the jobs that it [enqueued](crate::enqueue), in that order. They count only where it completed: of a job that
    /// returned an error, a host enqueues none.
    ///
    /// ```
    /// use midge_job::testing::Given;
    ///
    /// let seen = Given::new().enqueues(["resize"]).observe(|| midge_job::enqueue("resize", &[640, 480]));
    /// let [resize] = seen.enqueued() else { panic!("it is one job") };
    /// assert_eq!((resize.module.as_str(), resize.args::<[u32; 2]>()), ("resize", [640, 480]));
    /// ```
    pub fn enqueued(&self) -> &[Enqueued] {
        &self.given.enqueued.0
    }
}

/// A job that a job under test enqueued, by [`Observed::enqueued`].
#[derive(Debug, Clone)]
pub struct Enqueued {
    /// Its id, as the job was told it.
    pub id: String,
    /// The module that it is to run.
    pub module: String,
    /// Its input; nothing where it has none.
    pub input: Option<Vec<u8>>,
    request: BTreeMap<String, Value>,
    args: Option<Box<RawValue>>,
}

impl Enqueued {
    /// Returns its args.
    ///
    /// # Panics
    /// Where they are not of the type.
    pub fn args<T: DeserializeOwned>(&self) -> T {
        let args = self.args.as_ref().map_or("null", |args| args.get());
        serde_json::from_str(args).expect("the args are of the type that is asked for")
    }

    /// Returns what was said of a field that `POST /v1/jobs` takes, such as `key` or `in_ms`; nothing where nothing was.
    pub fn option(&self, name: &str) -> Option<&Value> {
        self.request.get(name)
    }
}

/// Lets time pass for the job under test: [`now`](crate::now) is so much later. What answers requests may call it, and one
/// that took longer than its timeout then has timed out.
///
/// # Panics
/// Where no time was [given](Given::now).
pub fn pass_time(duration: Duration) {
    GIVEN.with_borrow_mut(|given| {
        let now =
            given.now.as_mut().expect("time passes by itself: give the job a time first, by `Given::now`");
        *now += duration;
    });
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

pub(crate) fn save(state: &[u8]) -> bool {
    let fits = state.len() <= SAVED_BYTES_MAX;
    if fits {
        GIVEN.with_borrow_mut(|given| given.saved = Some(state.to_vec()));
    }
    fits
}

pub(crate) fn saved(room: &mut [u8]) -> i32 {
    GIVEN.with_borrow(|given| given.saved.as_ref().map_or(-1, |saved| copy(saved, room)))
}

/// Copies as much as there is room for, and returns how long all of it is.
fn copy(bytes: &[u8], room: &mut [u8]) -> i32 {
    let length = bytes.len().min(room.len());
    room[..length].copy_from_slice(&bytes[..length]);
    i32::try_from(bytes.len()).expect("what a test gives is less than 2 GiB")
}

pub(crate) fn now() -> Option<SystemTime> {
    GIVEN.with_borrow(|given| given.now)
}

/// Says why a request may not be made; nothing where it may.
fn refuses(request: &http::Request) -> Option<String> {
    GIVEN.with_borrow(|given| {
        let not_there = given.reach.as_ref().and_then(|reach| reach.refuses(request.url()));
        not_there.or_else(|| given.secrets.as_ref()?.refuses(request.url(), request.headers()))
    })
}

/// Notes a request, and returns what answers it.
fn network(request: &http::Request) -> Option<http::Network> {
    GIVEN.with_borrow_mut(|given| {
        given.requests.push(request.clone());
        given.network.clone()
    })
}

pub(crate) fn enqueue(request: &str, input: &[u8]) -> Result<String, NotEnqueued> {
    let not_enqueued = |number, why: String| NotEnqueued { number, why };
    let read: Result<BTreeMap<String, Box<RawValue>>, _> = serde_json::from_str(request);
    let mut fields =
        read.map_err(|error| not_enqueued(1, format!("it is not a request for a job: {error}")))?;
    let args = fields.remove("args");
    let value = |json: Box<RawValue>| serde_json::from_str(json.get()).unwrap_or(Value::Null);
    let request_bytes = request.len();
    let request: BTreeMap<String, Value> =
        fields.into_iter().map(|(name, json)| (name, value(json))).collect();
    let module = request.get("module").and_then(Value::as_str).unwrap_or_default().to_owned();
    GIVEN.with_borrow_mut(|given| {
        let bytes = given.enqueued.1 + request_bytes + input.len();
        if given.enqueued.0.len() >= ENQUEUED_MAX || bytes > ENQUEUED_BYTES_MAX {
            let why = format!("an attempt may enqueue {ENQUEUED_MAX} jobs, of {ENQUEUED_BYTES_MAX} bytes in all");
            return Err(not_enqueued(NotEnqueued::TOO_MANY, why));
        }
        if given.enqueues.as_ref().is_some_and(|declared| !declared.contains(&module)) {
            let why = format!(
                "the job's module does not declare that it enqueues `{module}`: add it to its section in midge.toml, as \
                 enqueues = [\"{module}\"]"
            );
            return Err(not_enqueued(2, why));
        }
        let id = format!("00000000-0000-7000-8000-{:012x}", given.enqueued.0.len() + 1);
        let input = (!input.is_empty()).then(|| input.to_vec());
        given.enqueued.0.push(Enqueued { id: id.clone(), module, input, request, args });
        given.enqueued.1 = bytes;
        Ok(id)
    })
}

pub(crate) fn variable(name: &str) -> Option<String> {
    GIVEN.with_borrow(|given| match name {
        "MIDGE_DEADLINE_MS" => {
            let since_epoch = given.deadline.or(given.ends)?.duration_since(UNIX_EPOCH).unwrap_or_default();
            Some(since_epoch.as_millis().to_string())
        }
        name => given.variables.get(name).cloned(),
    })
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn time_that_is_given_passes_as_a_test_says_and_is_kept_for_the_next_attempt() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let left = || crate::time_left().unwrap().as_secs();
        let first = Given::new().now(at(100)).deadline(at(160)).observe(|| {
            let before = left();
            pass_time(Duration::from_secs(20));
            (before, left(), crate::now())
        });
        assert_eq!(first.returned, (60, 40, at(120)));
        assert_eq!(first.next_attempt().run(crate::now), at(120));
        assert!(crate::now() > at(1_000_000_000));
    }
}
