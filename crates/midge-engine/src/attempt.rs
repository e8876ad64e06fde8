//! One attempt: what it is given, and running its guest to the end on the thread that is its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use midge_protocol::QueueName;
use midge_protocol::exchange::{AttemptRef, Outcome};
use midge_protocol::job::{AttemptLimits, Cause};
use tokio::sync::Notify;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use crate::ending;
use crate::guest::Guest;
use crate::load::Loaded;
use crate::shared::Shared;
use crate::start::{self, StartPhase};
use crate::stream::{GuestStream, ResultSink};

/// Names of the env that midge itself gives; nothing that is declared may take them, least of all a secret's.
const ENV_PREFIX: &str = "MIDGE_";

/// What one attempt is given.
pub struct Attempt {
    /// Which job and which attempt.
    pub id: AttemptRef,
    /// The queue that the job waited in.
    pub queue: QueueName,
    /// The module to run.
    pub module: Arc<Loaded>,
    /// JSON text.
    pub args: String,
    /// Bytes for stdin. Where there are none, stdin is the args.
    pub input: Option<Bytes>,
    /// More arguments behind the args, for somebody who runs a module by hand.
    pub guest_args: Vec<String>,
    /// Env beside midge's own. Names that begin with `MIDGE_` are left out.
    pub env: Vec<(String, String)>,
    /// Folders that the guest sees.
    pub dirs: Vec<Dir>,
    /// Its bounds.
    pub limits: AttemptLimits,
    /// Told whenever there is more log or progress, by an attempt at a [`crate::Place`]. One for all attempts, if the
    /// caller likes.
    pub changed: Arc<Notify>,
}

/// A folder that a guest sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dir {
    /// Where it is in the Machine.
    pub host: PathBuf,
    /// Where the guest sees it.
    pub guest: String,
}

impl Attempt {
    /// Runs the guest to its end.
    pub(crate) async fn run(self, shared: &Arc<Shared>) -> Outcome {
        let result = Arc::new(ResultSink::default());
        let wasi = match self.wasi(shared, &result) {
            Ok(wasi) => wasi,
            Err(outcome) => return outcome,
        };
        let limits = self.limits;
        let pre = &self.module.pre;
        let guest = Guest::new(wasi, Arc::clone(shared), limits.memory_bytes);
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
        ending::outcome(ended, shared.stop(), limits, store.data_mut(), &result)
    }

    fn wasi(&self, shared: &Arc<Shared>, result: &Arc<ResultSink>) -> Result<WasiP1Ctx, Outcome> {
        let mut wasi = WasiCtxBuilder::new();
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
            .env("MIDGE_DEADLINE_MS", self.deadline_ms().to_string());
        for (name, value) in self.env.iter().filter(|(name, _)| !name.starts_with(ENV_PREFIX)) {
            wasi.env(name, value);
        }
        for Dir { host, guest } in &self.dirs {
            wasi.preopened_dir(host, guest, FsPerms::ReadWrite).map_err(|e| {
                let message = format!("the folder {} cannot be opened: {}", host.display(), e.root_cause());
                ending::failed(Cause::NotLoadable, message)
            })?;
        }
        Ok(wasi.build_p1())
    }

    /// Returns when the attempt is stopped, in milliseconds since the Unix epoch.
    fn deadline_ms(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.as_millis()).unwrap_or(u64::MAX).saturating_add(self.limits.time_ms)
    }
}
