//! The module manifest: what `midge build` wrote next to the compiled modules, and server and hosts read.

mod capability;
mod enqueues;
pub mod given;
mod keep;
mod reach;
mod schedule;
mod size;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

pub use self::capability::{Capability, CapabilityChange, capability_changes};
pub use self::enqueues::NotDeclared;
pub use self::keep::Keep;
pub use self::reach::{
    Destination, HostPattern, InvalidDestination, Reach, Scheme, SecretSource, check_secrets,
};
pub use self::schedule::{InvalidSchedule, Missed, ScheduleEntry, WrongEntry};
pub use self::size::{InvalidSize, MachineSize, SIZES, Sold, check_region};
use crate::job::{AttemptLimits, RetryPolicy};
use crate::{ModuleName, QueueName, ScheduleName, SecretName, limits};

/// The version of the manifest's form that this release writes and reads. A manifest of another one is refused.
pub const FORMAT: u32 = 3;
/// The manifest's file name, in the folder that holds the compiled modules.
pub const FILE_NAME: &str = "manifest.json";

/// What an image holds: its modules, the policies of its queues, and the env that its Machines get. It is kept as
/// JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this form: [`FORMAT`].
    pub format: u32,
    /// The exact version of the wasmtime that compiled the modules. A host with another one refuses them.
    pub wasmtime: String,
    /// A hash of everything in wasmtime's configuration that a compiled module depends on. A host with another one
    /// refuses the modules.
    pub config_hash: String,
    /// The x86-64 level that the modules were compiled for, such as `x86-64-v2`. A host on a lower CPU refuses them.
    pub cpu: String,
    /// The modules, by the names that jobs call them.
    pub modules: BTreeMap<ModuleName, ModuleEntry>,
    /// What holds for all queues together.
    #[serde(default)]
    pub server: ServerPolicy,
    /// The queues that were declared. A queue that is not listed has the default policy.
    #[serde(default)]
    pub queues: BTreeMap<QueueName, QueuePolicy>,
    /// The schedules, which enqueue jobs by themselves.
    #[serde(default)]
    pub schedules: BTreeMap<ScheduleName, ScheduleEntry>,
    /// The env that every Machine is given. Guests see of it what their module names.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where a Machine finds the secrets that are put into requests of guests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretName, SecretSource>,
}

impl Manifest {
    /// Checks that every number in it is within its bounds, and that its env and folders can be given: whoever reads a
    /// manifest need not have built it.
    ///
    /// # Errors
    /// The first thing that is not as it should be, with its module or queue and what it may be.
    pub fn check(&self) -> Result<(), InvalidManifest> {
        given::check_env(&self.env).map_err(|(_, message)| InvalidManifest::Given(message))?;
        check_secrets(&self.secrets, &self.env).map_err(|(_, message)| InvalidManifest::Given(message))?;
        for (name, entry) in &self.modules {
            let ModuleEntry { limits: attempt, retry, env, dirs, .. } = entry;
            entry.reach().check(&self.secrets).map_err(|(key, message)| {
                InvalidManifest::Given(format!("`{key}` of module `{name}`: {message}"))
            })?;
            let mut folders = dirs.iter().flat_map(|(guest, folder)| [guest, &folder.path]);
            env.iter()
                .try_for_each(|name| given::check_env_name(name))
                .and_then(|()| folders.try_for_each(|path| given::check_folder(path)))
                .map_err(|message| InvalidManifest::Given(format!("module `{name}`: {message}")))?;
            let of = |what| format!("`{what}` of module `{name}`");
            let time_max = limits::TIME_LIMIT_MAX.as_millis() as u64;
            within(of("time_limit"), attempt.time_ms, 1..=time_max)?;
            within(
                of("memory_limit"),
                attempt.memory_bytes,
                limits::MEMORY_LIMIT_MIN..=limits::MEMORY_LIMIT_MAX,
            )?;
            retry.check().map_err(|error| OutOfBounds {
                what: format!("{} of module `{name}`", error.what),
                ..error
            })?;
        }
        for (name, policy) in &self.queues {
            let of = |what: &str| format!("`{what}` of queue `{name}`");
            let max_machines = policy.max_machines.into();
            within(of("max_machines"), max_machines, 0..=limits::MACHINES_MAX.into())?;
            within(of("warm_machines"), policy.warm_machines.into(), 0..=max_machines)?;
            within(of("ready_machines"), policy.ready_machines.into(), 0..=max_machines)?;
            within(of("jobs_per_machine"), policy.jobs_per_machine.into(), 1..=limits::PLACES_MAX.into())?;
            within(of("max_jobs"), policy.max_jobs, 0..=limits::QUEUE_JOBS_MAX)?;
            for (what, most) in
                [("max_running", policy.max_running), ("max_running_per_key", policy.max_running_per_key)]
            {
                within(of(what), most.unwrap_or(1).into(), 1..=u32::MAX.into())?;
            }
            for (what, rate) in [("rate", policy.rate), ("rate_per_key", policy.rate_per_key)] {
                rate.map_or(Ok(()), |rate| rate.check(|part| format!("`{part}` of {}", of(what))))?;
            }
            policy.keep.check(of)?;
            let given = |message| InvalidManifest::Given(format!("queue `{name}`: {message}"));
            if let Some(size) = &policy.size {
                size.check().map_err(|error| given(error.to_string()))?;
            }
            size::check_regions(&policy.regions).map_err(given)?;
            if let Wait::Millis(millis) = policy.wait {
                within(of("wait"), millis, 0..=limits::WAIT_MAX.as_millis() as u64)?;
            }
        }
        Ok(())
    }

    /// Returns the policy of a queue: the declared one, else the default.
    pub fn queue(&self, name: &QueueName) -> QueuePolicy {
        self.queues.get(name.as_str()).cloned().unwrap_or_default()
    }

    /// Returns whether a queue is declared or named by a module, or is `default`.
    pub fn knows_queue(&self, name: &QueueName) -> bool {
        self.queues.contains_key(name)
            || *name == QueueName::default_queue()
            || self.modules.values().any(|module| module.queue == *name)
    }

    /// Returns whether new jobs may only be put into the queues that it knows: where it says so, and where it declares
    /// any and does not say otherwise.
    pub fn only_declared_queues(&self) -> bool {
        self.server.only_declared_queues.unwrap_or(!self.queues.is_empty())
    }

    /// Returns the most Machines that all queues may have together: what it says, else as many as the declared queues
    /// may have, with their ready ones, and at least [`limits::SERVER_MACHINES_DEFAULT`]. It is never more than
    /// [`limits::SERVER_MACHINES_MAX`].
    pub fn max_machines(&self) -> u32 {
        let declared = self.queues.values().flat_map(|policy| [policy.max_machines, policy.ready_machines]);
        let declared = declared.fold(0, u32::saturating_add);
        let max = self.server.max_machines.unwrap_or(declared.max(limits::SERVER_MACHINES_DEFAULT));
        max.min(limits::SERVER_MACHINES_MAX)
    }
}

/// What holds for all queues together. What a manifest leaves out has its default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerPolicy {
    /// The most Machines that there may be, stopped ones included; [`Manifest::max_machines`] has the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_machines: Option<u32>,
    /// Whether only queues that the manifest knows take new jobs; [`Manifest::only_declared_queues`] has the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_declared_queues: Option<bool>,
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidManifest {
    /// A number is out of its bounds.
    #[error(transparent)]
    OutOfBounds(#[from] OutOfBounds),
    /// Env or a folder cannot be given to a Machine or a guest; the text says which, and why.
    #[error("{0}")]
    Given(String),
}

/// The error of a number in a manifest that is not within its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {value}, and may be from {} to {}", .range.start(), .range.end())]
pub struct OutOfBounds {
    /// The key and its module or queue, in words for a message.
    pub what: String,
    /// The number. Durations are in milliseconds, sizes in bytes.
    pub value: u64,
    /// What it may be.
    pub range: RangeInclusive<u64>,
}

/// Returns an error where a number is not in its range.
pub(crate) fn within(what: String, value: u64, range: RangeInclusive<u64>) -> Result<(), OutOfBounds> {
    if range.contains(&value) { Ok(()) } else { Err(OutOfBounds { what, value, range }) }
}

/// What the manifest says of one compiled module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleEntry {
    /// The name of its file, in the manifest's folder: `NAME.cwasm`.
    pub file: String,
    /// The size of its file, in bytes.
    pub size: u64,
    /// SHA-256 of its file, in hex: checked by build, server start and CI.
    pub sha256: String,
    /// XXH3-64 of its file, as 16 hex digits: checked by the host at each load, where SHA-256 would cost more than
    /// the load.
    pub xxh3: String,
    /// SHA-256 of the `.wasm` that it was made from, in hex: an unchanged module is not compiled again.
    pub source_sha256: String,
    /// The queue of jobs that name none.
    pub queue: QueueName,
    /// How long each attempt may run, and how much memory its guest may have.
    pub limits: AttemptLimits,
    /// How often a failed job is tried again, and after how long.
    pub retry: RetryPolicy,
    /// Names of the Machine's env variables that the guest sees too. One that the Machine does not have is left out.
    #[serde(default)]
    pub env: Vec<String>,
    /// Folders of the Machine that the guest sees, by the path under which it sees them.
    #[serde(default)]
    pub dirs: BTreeMap<String, Folder>,
    /// The modules of the jobs that its guests may enqueue; itself only where it is named.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub enqueues: BTreeSet<ModuleName>,
    /// Where its guests' requests may go. Everywhere else is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<Destination>,
    /// The secrets that are put into its guests' requests, each with the destinations to which it may go.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretName, Vec<Destination>>,
}

impl ModuleEntry {
    /// Returns what its guests may reach.
    pub fn reach(&self) -> Reach<'_> {
        Reach { http: &self.http, secrets: &self.secrets, env: &self.env }
    }
}

/// A folder of the Machine that guests of a module see. In JSON it is its path, or `{"path": ..., "read_only": true}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "FolderForm", into = "FolderForm")]
pub struct Folder {
    /// The folder's path in the Machine, such as `/srv/data`.
    pub path: String,
    /// Whether the guest can only read there; else it can write, create and delete too.
    pub read_only: bool,
}

/// A [`Folder`] in JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum FolderForm {
    Path(String),
    Whole {
        path: String,
        #[serde(default)]
        read_only: bool,
    },
}

impl From<FolderForm> for Folder {
    fn from(form: FolderForm) -> Folder {
        match form {
            FolderForm::Path(path) => Folder { path, read_only: false },
            FolderForm::Whole { path, read_only } => Folder { path, read_only },
        }
    }
}

impl From<Folder> for FolderForm {
    fn from(folder: Folder) -> FolderForm {
        // As before there were others: a midge that knows none must not take them for writable.
        match folder {
            Folder { path, read_only: false } => FolderForm::Path(path),
            Folder { path, read_only } => FolderForm::Whole { path, read_only },
        }
    }
}

/// How Machines serve a queue. What a manifest leaves out has its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueuePolicy {
    /// The most Machines of this queue that run at once.
    pub max_machines: u32,
    /// How many Machines are kept running, waiting for work.
    pub warm_machines: u32,
    /// How many Machines are kept made but stopped: they start faster than new ones are made.
    pub ready_machines: u32,
    /// How many jobs one Machine runs at once, 1 to [`limits::PLACES_MAX`]; with `single_use` it is one.
    pub jobs_per_machine: u32,
    /// How long a host waits for another job before it leaves.
    pub wait: Wait,
    /// Whether a Machine runs one job only, alone, and is then destroyed.
    pub single_use: bool,
    /// How many jobs may wait in the queue. With so many, another enqueue is refused.
    pub max_jobs: u64,
    /// The most of its jobs that run at once, over all Machines; as many as there are places where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
    /// The most jobs of one key that run at once, over all Machines. Jobs without a key are not bound by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_running_per_key: Option<u32>,
    /// How many attempts may begin in a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// How many attempts at jobs of one key may begin in a while. Jobs without a key are not bound by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_key: Option<Rate>,
    /// How long its ended jobs are kept.
    #[serde(skip_serializing_if = "Keep::is_as_usual")]
    pub keep: Keep,
    /// Whether attempts at its jobs are recorded, so that those that failed can be replayed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub record: bool,
    /// CPUs and memory of its Machines; where it is missing, those of the server's own Machine, or the default size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<MachineSize>,
    /// Where its Machines are made, in the order of preference, at most [`limits::REGIONS_MAX`]: names of regions, of
    /// parts of the world such as `eu`, or `any`. Where it is empty, as the server's Machines are in general.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<String>,
}

impl Default for QueuePolicy {
    fn default() -> QueuePolicy {
        QueuePolicy {
            max_machines: limits::MACHINES_DEFAULT,
            warm_machines: 0,
            ready_machines: 0,
            jobs_per_machine: limits::JOBS_PER_MACHINE_DEFAULT,
            wait: Wait::default(),
            single_use: false,
            max_jobs: limits::QUEUE_JOBS_MAX_DEFAULT,
            max_running: None,
            max_running_per_key: None,
            rate: None,
            rate_per_key: None,
            keep: Keep::default(),
            record: false,
            size: None,
            regions: Vec::new(),
        }
    }
}

/// How many attempts may begin in a while: a token bucket, which holds up to `burst` and is filled evenly, with `jobs` in
/// each period. So at most `burst` and what the time brings begin, in whatever stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many may begin in a period, at least 1.
    pub jobs: u32,
    /// The period, in milliseconds: 1 to [`limits::RATE_PERIOD_MAX`].
    pub per_ms: u64,
    /// How many may begin at once after a while without any, 1 to [`limits::RATE_BURST_MAX`].
    pub burst: u32,
}

impl Rate {
    /// Makes a rate with the default burst: what comes in a second, and at least 1.
    pub fn new(jobs: u32, per_ms: u64) -> Rate {
        let a_second = u64::from(jobs).saturating_mul(1_000).div_ceil(per_ms.max(1));
        let burst = a_second.clamp(1, limits::RATE_BURST_MAX.into());
        Rate { jobs, per_ms, burst: u32::try_from(burst).unwrap_or(limits::RATE_BURST_MAX) }
    }

    fn check(self, of: impl Fn(&str) -> String) -> Result<(), OutOfBounds> {
        let per_max = limits::RATE_PERIOD_MAX.as_millis() as u64;
        within(of("per"), self.per_ms, 1..=per_max)?;
        // More would be none: a token comes once in a microsecond at most.
        let jobs_max = self.per_ms.saturating_mul(1_000).min(u32::MAX.into());
        within(of("jobs"), self.jobs.into(), 1..=jobs_max)?;
        within(of("burst"), self.burst.into(), 1..=limits::RATE_BURST_MAX.into())
    }
}

impl QueuePolicy {
    /// Returns whether anything bounds the jobs of a key.
    pub fn limits_keys(&self) -> bool {
        self.max_running_per_key.is_some() || self.rate_per_key.is_some()
    }

    /// Returns how many places a Machine has, each of which runs one job: one where a Machine is used once.
    pub fn places(&self) -> u32 {
        if self.single_use { 1 } else { self.jobs_per_machine.clamp(1, limits::PLACES_MAX) }
    }
}

/// How long a host waits for another job before it leaves. As text: seconds from 0 to 86400, or `forever`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// So many milliseconds.
    Millis(u64),
    /// Until it is told to drain.
    Forever,
}

impl Default for Wait {
    fn default() -> Wait {
        Wait::Millis(limits::WAIT_DEFAULT.as_millis() as u64)
    }
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wait::Millis(millis) => write!(f, "{}", *millis as f64 / 1000.0),
            Wait::Forever => f.write_str("forever"),
        }
    }
}

impl std::str::FromStr for Wait {
    type Err = String;

    fn from_str(text: &str) -> Result<Wait, String> {
        if text == "forever" {
            return Ok(Wait::Forever);
        }
        match text.parse::<f64>() {
            // A day is longer than any Machine should wait that does not wait for ever.
            Ok(seconds) if (0.0..=limits::WAIT_MAX.as_secs_f64()).contains(&seconds) => {
                Ok(Wait::Millis((seconds * 1000.0) as u64))
            }
            _ => Err(format!(
                "`{}` is not a wait: use seconds, from 0 to 86400, or `forever`",
                crate::shown::cut(text)
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Backoff;

    fn manifest(limits: AttemptLimits, retry: RetryPolicy, policy: QueuePolicy) -> Manifest {
        let entry = ModuleEntry {
            file: "a.cwasm".to_owned(),
            size: 0,
            sha256: String::new(),
            xxh3: String::new(),
            source_sha256: String::new(),
            queue: QueueName::default_queue(),
            limits,
            retry,
            env: Vec::new(),
            dirs: BTreeMap::new(),
            enqueues: BTreeSet::new(),
            http: Vec::new(),
            secrets: BTreeMap::new(),
        };
        Manifest {
            format: FORMAT,
            wasmtime: String::new(),
            config_hash: String::new(),
            cpu: String::new(),
            modules: [(ModuleName::new("a").unwrap(), entry)].into(),
            server: ServerPolicy::default(),
            queues: [(QueueName::default_queue(), policy)].into(),
            schedules: BTreeMap::new(),
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
        }
    }

    fn declaring(declared: &[(&str, u32)], server: ServerPolicy) -> Manifest {
        let policy = |max_machines| QueuePolicy { max_machines, ..QueuePolicy::default() };
        let declared = declared.iter().map(|(name, max)| (QueueName::new(*name).unwrap(), policy(*max)));
        let good = manifest(AttemptLimits::default(), RetryPolicy::default(), QueuePolicy::default());
        Manifest { modules: BTreeMap::new(), server, queues: declared.collect(), ..good }
    }

    #[test]
    fn a_manifest_with_a_number_out_of_bounds_says_which_and_what_it_may_be() {
        let good = || (AttemptLimits::default(), RetryPolicy::default(), QueuePolicy::default());
        let says =
            |(limits, retry, policy)| manifest(limits, retry, policy).check().map_err(|e| e.to_string());
        assert_eq!(says(good()), Ok(()));
        let (limits, retry, policy) = good();
        let error = says((limits, RetryPolicy { max_attempts: u32::MAX, ..retry.clone() }, policy.clone()))
            .unwrap_err();
        assert_eq!(error, "`max_attempts` of module `a` is 4294967295, and may be from 1 to 1000");
        let error =
            says((AttemptLimits { time_ms: u64::MAX, ..limits }, retry.clone(), policy.clone())).unwrap_err();
        assert!(error.contains("from 1 to 86400000"), "{error}");
        let backoff = Backoff::Fixed { wait_ms: u64::MAX };
        let error = says((limits, RetryPolicy { backoff, ..retry.clone() }, policy.clone())).unwrap_err();
        assert!(error.starts_with("`wait_ms` of `backoff` of module `a` is "), "{error}");
        for policy in [
            QueuePolicy { max_machines: 1_001, ..policy.clone() },
            QueuePolicy { warm_machines: 5, ..policy.clone() },
            QueuePolicy { jobs_per_machine: 0, ..policy.clone() },
            QueuePolicy { max_jobs: u64::MAX, ..policy.clone() },
            QueuePolicy { wait: Wait::Millis(u64::MAX), ..policy },
        ] {
            assert!(
                says((limits, retry.clone(), policy.clone())).unwrap_err().contains("queue `default`"),
                "{policy:?}"
            );
        }
    }

    #[test]
    fn a_manifest_whose_env_or_folders_cannot_be_given_says_which() {
        let good = manifest(AttemptLimits::default(), RetryPolicy::default(), QueuePolicy::default());
        let says = |change: &dyn Fn(&mut Manifest, &mut ModuleEntry)| {
            let mut bad = good.clone();
            let (name, mut entry) = bad.modules.pop_first().unwrap();
            change(&mut bad, &mut entry);
            bad.modules.insert(name, entry);
            bad.check().map_err(|error| error.to_string())
        };
        assert_eq!(says(&|_, _| ()), Ok(()));
        let large = || "x".repeat(limits::ENV_BYTES_MAX);
        assert!(says(&|bad, _| drop(bad.env.insert("A".into(), large()))).unwrap_err().contains("`A`"));
        let folder = |path: &str| Folder { path: path.into(), read_only: false };
        for (guest, path) in [("d", "/d"), ("/d/", "/d"), ("/d", "/d/.."), ("/d\0", "/d"), ("/d", "/\u{1b}d")]
        {
            let error = says(&|_, entry| drop(entry.dirs.insert(guest.into(), folder(path)))).unwrap_err();
            assert!(error.starts_with("module `a`: `/") || error.starts_with("module `a`: `d`"), "{error}");
        }
        let error = says(&|_, entry| entry.env.push("MIDGE_SECRET".into())).unwrap_err();
        assert!(error.starts_with("module `a`: `MIDGE_SECRET`"), "{error}");
    }

    #[test]
    fn a_folder_reads_as_it_is_written_and_one_that_can_be_written_is_its_path() {
        let read = |json: &str| serde_json::from_str::<Folder>(json).unwrap();
        for (json, read_only) in
            [(r#""/srv/data""#, false), (r#"{"path":"/srv/data","read_only":true}"#, true)]
        {
            let folder = read(json);
            assert_eq!(folder, Folder { path: "/srv/data".into(), read_only });
            assert_eq!(serde_json::to_string(&folder).unwrap(), json);
        }
        assert!(!read(r#"{"path":"/srv/data"}"#).read_only);
        assert!(serde_json::from_str::<Folder>(r#"{"read_only":true}"#).is_err());
    }

    #[test]
    fn a_server_has_twenty_machines_or_what_its_queues_were_given_or_what_it_is_told() {
        let max = |declared: &[(&str, u32)], told| {
            let server = ServerPolicy { max_machines: told, ..ServerPolicy::default() };
            declaring(declared, server).max_machines()
        };
        assert_eq!(max(&[], None), 20);
        assert_eq!(max(&[("a", 4), ("b", 4)], None), 20);
        assert_eq!(max(&[("a", 40), ("b", 4)], None), 44, "nobody declares a number to be given less");
        assert_eq!(max(&[("a", 40)], Some(3)), 3);
        assert_eq!(max(&[], Some(u32::MAX)), limits::SERVER_MACHINES_MAX);
    }

    #[test]
    fn a_manifest_that_declares_queues_is_meant_to_have_declared_all() {
        let only = |declared: &[(&str, u32)], told| {
            let server = ServerPolicy { only_declared_queues: told, ..ServerPolicy::default() };
            declaring(declared, server).only_declared_queues()
        };
        assert!(only(&[("a", 1)], None) && only(&[], Some(true)));
        assert!(!only(&[], None) && !only(&[("a", 1)], Some(false)));
        let declares = declaring(&[("a", 1)], ServerPolicy::default());
        let knows = |name| declares.knows_queue(&QueueName::new(name).unwrap());
        assert!(knows("a") && knows("default") && !knows("b"));
    }

    #[test]
    fn a_wait_reads_as_it_is_written() {
        for text in ["forever", "600", "0.5", "0"] {
            assert_eq!(text.parse::<Wait>().unwrap().to_string(), text);
        }
        assert!("-1".parse::<Wait>().is_err());
        assert!("soon".parse::<Wait>().is_err());
        assert!("NaN".parse::<Wait>().is_err());
    }
}
