//! One attempt: what it is given, and running its guest to the end on the thread that is its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use midge_protocol::QueueName;
use midge_protocol::exchange::{AttemptRef, FollowUp, Outcome};
use midge_protocol::job::{AttemptLimits, Cause};
use midge_protocol::recording::{Data, Recording};
use tokio::sync::Notify;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use crate::ending;
use crate::guest::Guest;
use crate::http::Requests;
use crate::imports::FollowUps;
use crate::lacks;
use crate::lines::Lines;
use crate::load::Loaded;
use crate::shared::Shared;
use crate::start::{self, StartPhase};
use crate::stream::{GuestStream, ResultSink};
use crate::world::{OwnWorld, World};

/// Names of the env that midge itself gives; nothing that is declared may take them, least of all a secret's.
const ENV_PREFIX: &str = "MIDGE_";

/// Describes one attempt at a job: the module, what its guest is given, and its bounds.
pub struct Attempt {
    /// The job, and the number of this attempt at it. The guest sees both, as `MIDGE_JOB_ID` and `MIDGE_ATTEMPT`.
    pub id: AttemptRef,
    /// The queue that the job waited in. The guest sees it as `MIDGE_QUEUE`.
    pub queue: QueueName,
    /// The module whose `_start` is called.
    pub module: Arc<Loaded>,
    /// The job's args as JSON text: the guest's `argv[1]`. It is not checked here.
    pub args: String,
    /// The bytes that the guest reads from stdin. Where there are none, it reads the args there.
    pub input: Option<Bytes>,
    /// What an attempt before this one saved last.
    pub saved: Option<Bytes>,
    /// More arguments behind the args, for somebody who runs a module by hand.
    pub guest_args: Vec<String>,
    /// The guest's environment beside midge's own variables. Names that begin with `MIDGE_` are left out.
    pub env: Vec<(String, String)>,
    /// The folders that the guest sees. It sees no others.
    pub dirs: Vec<Dir>,
    /// The way to the network. Where there is none, its guest's requests fail for want of one.
    pub lines: Option<Arc<Lines>>,
    /// Where it has its time and its randomness from, and whether what it is told is recorded.
    pub world: World,
    /// How long the attempt may run, and how much memory its guest may have.
    pub limits: AttemptLimits,
    /// Notified whenever an attempt at a [`crate::Place`] has more log or progress. Many attempts may share one.
    pub changed: Arc<Notify>,
}

/// A folder of the Machine that a guest sees under a path of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dir {
    /// The folder in the Machine. An attempt whose folder cannot be opened fails as not loadable, or is given back where the
    /// Machine lacks what that takes.
    pub host: PathBuf,
    /// The path under which the guest sees it, such as `/data`.
    pub guest: String,
    /// Whether the guest can only read there; else it can write, create and delete too.
    pub read_only: bool,
}

impl Attempt {
    /// Runs the guest to its end. Returns how it ended, and which jobs it enqueues.
    pub(crate) async fn run(
        self,
        shared: &Arc<Shared>,
        world: Option<Arc<OwnWorld>>,
    ) -> (Outcome, Vec<FollowUp>) {
        let result = Arc::new(ResultSink::default());
        let wasi = match self.wasi(shared, world.as_ref(), &result) {
            Ok(wasi) => wasi,
            Err(outcome) => return (outcome, Vec::new()),
        };
        let limits = self.limits;
        let pre = &self.module.pre;
        let deadline = Instant::now().checked_add(Duration::from_millis(limits.time_ms));
        let requests = Requests::new(self.lines, self.module.name.clone(), Arc::clone(shared), deadline)
            .recorded_in(world.clone());
        let mut guest = Guest::new(wasi, Arc::clone(shared), requests, limits.memory_bytes);
        guest.saved = self.saved;
        guest.follow_ups = FollowUps::of(&self.module);
        guest.world = world;
        let mut store = Store::new(pre.module().engine(), guest);
        store.limiter(|guest| guest);
        store.epoch_deadline_callback(|store| {
            // Somebody's deadline or cancel. If it is not ours, go on until the next one.
            store.data().shared.go_on()?;
            Ok(UpdateDeadline::Continue(1))
        });
        store.set_epoch_deadline(1);
        start::ended(StartPhase::Prepare);
        let ended = tokio::select! {
            // First, since a stop may have come before the epoch deadline was set.
            biased;
            () = shared.place_wakes.notified() => None,
            ended = async {
                let instance = pre.instantiate_async(&mut store).await?;
                let main = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
                start::ended(StartPhase::Instantiate);
                start::calls();
                main.call_async(&mut store, ()).await
            } => Some(ended),
        };
        let guest = store.data_mut();
        let outcome = ending::outcome(ended, shared.stop(), limits, guest, &result);
        // Whatever did not complete enqueues nothing, whoever tries it again.
        let completed = matches!(outcome, Outcome::Completed { .. });
        if completed && let Some(what) = guest.lacked.take() {
            let _ = shared.went_without.set(what);
        }
        (outcome, if completed { guest.follow_ups.take() } else { Vec::new() })
    }

    /// Begins its world, where that is not simply the real one.
    pub(crate) fn own_world(&self) -> Option<Arc<OwnWorld>> {
        let module = &self.module.entry;
        OwnWorld::begin(&self.world, |seed, began_at_ns| Recording {
            attempt: self.id.attempt,
            sha256: module.sha256.clone(),
            source_sha256: module.source_sha256.clone(),
            limits: self.limits,
            began_at_ns,
            seed,
            saved: self.saved.clone().map(Data),
            clock_ns: Vec::new(),
            requests: Vec::new(),
            cut: false,
        })
    }

    fn wasi(
        &self,
        shared: &Arc<Shared>,
        world: Option<&Arc<OwnWorld>>,
        result: &Arc<ResultSink>,
    ) -> Result<WasiP1Ctx, Outcome> {
        let mut wasi = WasiCtxBuilder::new();
        if let Some(world) = world {
            world.give_clocks(&mut wasi);
        }
        // On the guest's own thread: a call that does not return keeps its own place and no other, and leaves no thread
        // behind. What may sleep is `imports::files`' and not WASI's own.
        wasi.allow_blocking_current_thread(true);
        let stdin = self.input.clone().unwrap_or_else(|| Bytes::copy_from_slice(self.args.as_bytes()));
        wasi.stdin(MemoryInputPipe::new(stdin))
            .stdout(GuestStream(Arc::clone(result)))
            .stderr(GuestStream(Arc::clone(shared)))
            .arg(self.module.name.as_str())
            .arg(&self.args)
            .args(&self.guest_args)
            .env("MIDGE_JOB_ID", self.id.job.to_string())
            .env("MIDGE_ATTEMPT", self.id.attempt.to_string())
            .env("MIDGE_QUEUE", self.queue.as_str())
            .env("MIDGE_DEADLINE_MS", self.deadline_ms(world).to_string());
        for (name, value) in self.env.iter().filter(|(name, _)| !name.starts_with(ENV_PREFIX)) {
            wasi.env(name, value);
        }
        for Dir { host, guest, read_only } in &self.dirs {
            let perms = if *read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
            wasi.preopened_dir(host, guest, perms).map_err(|e| {
                let failed = format!("the folder {} cannot be opened: ", host.display());
                match lacks::of(e.as_ref()) {
                    Some(what) => Outcome::HandedBack { lacks: Some(failed + &what) },
                    None => ending::failed(Cause::NotLoadable, failed + &e.root_cause().to_string()),
                }
            })?;
        }
        Ok(wasi.build_p1())
    }

    /// Returns when the attempt is stopped, in milliseconds since the Unix epoch.
    fn deadline_ms(&self, world: Option<&Arc<OwnWorld>>) -> u64 {
        let now = match world {
            Some(world) => world.began_at(),
            None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        };
        u64::try_from(now.as_millis()).unwrap_or(u64::MAX).saturating_add(self.limits.time_ms)
    }
}
