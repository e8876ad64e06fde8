//! The module manifest: what `midge build` wrote next to the compiled modules, and server and hosts read.

mod budget;
mod capability;
mod enqueues;
pub mod given;
mod idle;
mod keep;
mod pool;
mod prices;
mod reach;
mod schedule;
pub mod settings;
mod size;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::budget::{AtBudget, Budget};
pub use self::capability::{Capability, CapabilityChange, capability_changes};
pub use self::enqueues::NotDeclared;
pub use self::idle::{Idle, contradiction};
pub use self::keep::Keep;
pub use self::pool::MACHINE_SETTINGS;
pub use self::prices::Prices;
pub use self::reach::{
    Destination, HostPattern, InvalidDestination, Reach, Scheme, SecretSource, check_secrets,
};
pub use self::schedule::{InvalidSchedule, Missed, ScheduleEntry, WrongEntry};
pub use self::size::{InvalidSize, MachineSize, SIZES, Sold};
use crate::job::{AttemptLimits, RetryPolicy};
use crate::{ModuleName, QueueName, RegionName, ScheduleName, SecretName, limits};

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
    /// What its Machines cost.
    #[serde(default, skip_serializing_if = "Prices::is_default")]
    pub prices: Prices,
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
        self.prices.check()?;
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
            policy.check(|what| format!("`{what}` of queue `{name}`"))?;
            if let Some(why) = contradiction(policy) {
                return Err(InvalidManifest::Contradiction(format!("queue `{name}`: {why}")));
            }
            if let Some(Err(error)) = policy.size.as_ref().map(MachineSize::check) {
                return Err(InvalidManifest::Given(format!("queue `{name}`: {error}")));
            }
            let regions = policy.regions.len() as u64;
            within(format!("`regions` of queue `{name}`"), regions, 0..=limits::REGIONS_MAX as u64)?;
        }
        self.wrong_pools().map_or(Ok(()), |why| Err(InvalidManifest::Contradiction(why)))
    }

    /// Returns the policy of a queue, or of a pool: the declared one, else the default.
    pub fn queue(&self, name: &QueueName) -> QueuePolicy {
        self.queues.get(name.as_str()).cloned().or_else(|| self.pool(name)).unwrap_or_default()
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
        self.max_machines_of(|queue| self.queue(queue))
    }

    /// Returns the same by other policies than the declared ones, of queues and pools.
    pub fn max_machines_of(&self, policy: impl Fn(&QueueName) -> QueuePolicy) -> u32 {
        // A pool counts once, however many queues it serves.
        let served: BTreeSet<&QueueName> = self.queues.keys().map(|queue| self.served_as(queue)).collect();
        let declared = served.into_iter().map(policy);
        let declared = declared.flat_map(|policy| [policy.max_machines, policy.ready_machines]);
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
    /// Settings of a queue contradict each other; the text says which, and what to do.
    #[error("{0}")]
    Contradiction(String),
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

/// How Machines serve a queue, or the queues of a pool. What a manifest leaves out has its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueuePolicy {
    /// The pool whose Machines serve it, beside others; its own do where this is missing. What follows about Machines is then
    /// the pool's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<QueueName>,
    /// The most Machines of this queue that run at once.
    pub max_machines: u32,
    /// How many Machines are kept running, waiting for work.
    pub warm_machines: u32,
    /// How many Machines are kept made but stopped, or suspended: they start faster than new ones are made.
    pub ready_machines: u32,
    /// How many jobs one Machine runs at once, 1 to [`limits::PLACES_MAX`]; with `single_use` it is one.
    pub jobs_per_machine: u32,
    /// How long a host waits for another job before it leaves.
    pub wait: Wait,
    /// What becomes of a Machine whose host has waited in vain.
    #[serde(skip_serializing_if = "Idle::is_as_usual")]
    pub idle: Idle,
    /// How long a Machine may take until its host phones home, in milliseconds, from when it is made or started.
    #[serde(skip_serializing_if = "is_boot_deadline_as_usual")]
    pub boot_deadline_ms: u64,
    /// How old a Machine becomes, in milliseconds, before another takes its place; as old as it will where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_ms: Option<u64>,
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
    /// What its Machines may cost in a month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// CPUs and memory of its Machines; where it is missing, those of the server's own Machine, or the default size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<MachineSize>,
    /// Where its Machines are made, in the order of preference, at most [`limits::REGIONS_MAX`]: names of regions, of
    /// parts of the world such as `eu`, or `any`. Where it is empty, as the server's Machines are in general.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<RegionName>,
}

impl Default for QueuePolicy {
    fn default() -> QueuePolicy {
        QueuePolicy {
            pool: None,
            max_machines: limits::MACHINES_DEFAULT,
            warm_machines: 0,
            ready_machines: 0,
            jobs_per_machine: limits::JOBS_PER_MACHINE_DEFAULT,
            wait: Wait::default(),
            idle: Idle::default(),
            boot_deadline_ms: limits::BOOT_DEADLINE_DEFAULT.as_millis() as u64,
            max_age_ms: None,
            single_use: false,
            max_jobs: limits::QUEUE_JOBS_MAX_DEFAULT,
            max_running: None,
            max_running_per_key: None,
            rate: None,
            rate_per_key: None,
            keep: Keep::default(),
            record: false,
            budget: None,
            size: None,
            regions: Vec::new(),
        }
    }
}

/// Whether a boot may take what it may where nobody says.
fn is_boot_deadline_as_usual(millis: &u64) -> bool {
    Duration::from_millis(*millis) == limits::BOOT_DEADLINE_DEFAULT
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
    /// Checks that every number in it is within its bounds. `of` names a setting for people.
    ///
    /// # Errors
    /// The first that is not, with what it may be.
    pub fn check(&self, of: impl Fn(&str) -> String + Copy) -> Result<(), OutOfBounds> {
        let max_machines = self.max_machines.into();
        within(of("max_machines"), max_machines, 0..=limits::MACHINES_MAX.into())?;
        within(of("warm_machines"), self.warm_machines.into(), 0..=max_machines)?;
        within(of("ready_machines"), self.ready_machines.into(), 0..=max_machines)?;
        within(of("jobs_per_machine"), self.jobs_per_machine.into(), 1..=limits::PLACES_MAX.into())?;
        within(of("max_jobs"), self.max_jobs, 0..=limits::QUEUE_JOBS_MAX)?;
        for (what, most) in
            [("max_running", self.max_running), ("max_running_per_key", self.max_running_per_key)]
        {
            within(of(what), most.unwrap_or(1).into(), 1..=u32::MAX.into())?;
        }
        for (what, rate) in [("rate", self.rate), ("rate_per_key", self.rate_per_key)] {
            rate.map_or(Ok(()), |rate| rate.check(|part| format!("`{part}` of {}", of(what))))?;
        }
        self.keep.check(of)?;
        self.budget.map_or(Ok(()), |budget| budget.check(of("budget")))?;
        if let Wait::Millis(millis) = self.wait {
            within(of("wait"), millis, 0..=limits::WAIT_MAX.as_millis() as u64)?;
        }
        let between = |least: Duration, most: Duration| least.as_millis() as u64..=most.as_millis() as u64;
        let boot = between(limits::BOOT_DEADLINE_MIN, limits::BOOT_DEADLINE_MAX);
        within(of("boot_deadline"), self.boot_deadline_ms, boot)?;
        let age = between(limits::MAX_AGE_MIN, limits::MAX_AGE_MAX);
        self.max_age_ms.map_or(Ok(()), |millis| within(of("max_age"), millis, age))
    }

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
mod tests;
