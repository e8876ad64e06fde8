//! A place: one thread on which attempts run, one after the other; or, for a process that runs only one, the thread
//! that it has. And waiting for an attempt to end, on the control thread.
//!
//! There is no ticker. Whoever waits in [`RunningAttempt::ended`] also keeps the deadline: on a deadline or a stop it sets the
//! attempt's flag, bumps the epoch (which stops a guest that loops) and wakes the thread, which drops the guest
//! (which stops one that sleeps). What can neither look up nor be dropped, such as a `memory.fill` over a gigabyte or a read
//! from a disk that hangs, is reported as ended and left to end by itself; its place is not free until it has.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use midge_protocol::exchange::{AttemptRef, Finished, FollowUp, Outcome};
use midge_protocol::job::{Cause, Usage};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::attempt::Attempt;
use crate::ending;
use crate::shared::{Control, Shared};
use crate::stop::Stop;
use crate::world::OwnWorld;

/// How long a stopped guest gets to be gone before it is left behind.
const STOP_GRACE: Duration = Duration::from_millis(50);
/// How often the epoch is bumped meanwhile: a bump that falls between a guest's look and its next deadline is lost.
const STOP_AGAIN: Duration = Duration::from_millis(5);

/// A thread on which attempts run, one after the other. It ends when the place is dropped and its attempts have
/// ended.
pub struct Place {
    sender: mpsc::Sender<(Work, oneshot::Sender<Finished>)>,
    /// Attempts that run here or wait to.
    ahead: Arc<AtomicUsize>,
    /// When the attempt that runs here was left behind; nothing where it was not.
    left_behind: Arc<Mutex<Option<Instant>>>,
}

/// An attempt on the thread that calls [`Here::run`]: for a process that runs only one.
pub struct Here {
    runtime: Runtime,
    work: Work,
    control: Control,
}

struct Work {
    attempt: Attempt,
    shared: Arc<Shared>,
    world: Option<Arc<OwnWorld>>,
    begun: Instant,
}

/// An attempt that was handed to a place. Somebody must wait in [`RunningAttempt::ended`]: that is what keeps the
/// deadline.
pub struct RunningAttempt {
    id: AttemptRef,
    control: Control,
    world: Option<Arc<OwnWorld>>,
    time_limit_ms: u64,
    begun: Instant,
    left_behind: Arc<Mutex<Option<Instant>>>,
    done: oneshot::Receiver<Finished>,
}

impl Place {
    /// Starts the thread, which is called `place-NUMBER`.
    ///
    /// # Errors
    /// Where the system gives no thread, or no timer to its runtime.
    pub fn start(number: usize) -> std::io::Result<Place> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let (sender, receiver) = mpsc::channel();
        let ahead = Arc::new(AtomicUsize::new(0));
        let thread_ahead = Arc::clone(&ahead);
        std::thread::Builder::new()
            .name(format!("place-{number}"))
            .spawn(move || work(&runtime, &receiver, &thread_ahead))?;
        Ok(Place { sender, ahead, left_behind: Arc::default() })
    }

    /// Returns whether an attempt could begin here at once.
    pub fn is_free(&self) -> bool {
        self.ahead.load(Ordering::Acquire) == 0
    }

    /// Returns since when this place is taken by a guest that was left behind; nothing where it is not.
    pub fn left_behind(&self) -> Option<Instant> {
        let since = *self.left_behind.lock().unwrap_or_else(PoisonError::into_inner);
        since.filter(|_| !self.is_free())
    }

    /// Begins an attempt. At a place that is not free it begins when the one before has ended; its time runs from
    /// this call.
    pub fn run(&self, attempt: Attempt) -> RunningAttempt {
        let time_limit_ms = attempt.limits.time_ms;
        let (done, receiver) = oneshot::channel();
        let shared = Arc::new(Shared::new(Arc::clone(&attempt.changed)));
        let (work, control) = begin(attempt, shared);
        let left_behind = Arc::clone(&self.left_behind);
        // Of an attempt before.
        *left_behind.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let (id, begun, world) = (work.attempt.id, work.begun, work.world.clone());
        let running =
            RunningAttempt { id, control, world, time_limit_ms, begun, left_behind, done: receiver };
        self.ahead.fetch_add(1, Ordering::AcqRel);
        // If the thread is gone, so is `done`, and the wait for the end says so.
        let _ = self.sender.send((work, done));
        running
    }
}

impl Here {
    /// Prepares an attempt for this thread. `shown` is given its log piece by piece, on this thread.
    ///
    /// # Errors
    /// Where the system gives no timer to the runtime.
    pub fn new(attempt: Attempt, shown: impl Fn(&[u8]) + Send + Sync + 'static) -> std::io::Result<Here> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let shared = Arc::new(Shared::showing(Box::new(shown)));
        let (work, control) = begin(attempt, shared);
        Ok(Here { runtime, work, control })
    }

    /// Returns the handle that stops the attempt.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Runs it to its end.
    ///
    /// At its deadline a guest that sleeps is stopped. One that computes is on this very thread: somebody must call
    /// [`Control::interrupt`], such as a signal handler, and again until it has ended. Nobody is there to leave it behind:
    /// a `memory.fill` over a gigabyte is waited for, and so is a disk that hangs.
    pub fn run(self) -> Finished {
        let Here { runtime, work, control } = self;
        let deadline = deadline(work.begun, work.attempt.limits.time_ms);
        let at_deadline = async {
            deadline.await;
            control.stop(Stop::OverTime);
            std::future::pending().await
        };
        work.run(&runtime, at_deadline)
    }
}

/// Waits for the deadline of an attempt.
async fn deadline(begun: Instant, time_limit_ms: u64) {
    match begun.checked_add(Duration::from_millis(time_limit_ms)) {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        // A limit beyond the clock's end is none.
        None => std::future::pending().await,
    }
}

fn begin(attempt: Attempt, shared: Arc<Shared>) -> (Work, Control) {
    let engine = attempt.module.pre.module().engine().clone();
    let control = Control { shared: Arc::clone(&shared), engine };
    let world = attempt.own_world();
    (Work { attempt, shared, world, begun: Instant::now() }, control)
}

impl Work {
    /// Runs the attempt to its end; beside it something that only is looked at while the guest sleeps.
    fn run(self, runtime: &Runtime, beside: impl Future<Output = ()>) -> Finished {
        let Work { attempt, shared, world, begun } = self;
        let id = attempt.id;
        let cpu_before = thread_cpu();
        let run = async {
            tokio::select! {
                biased;
                ended = attempt.run(&shared, world.clone()) => ended,
                () = beside => unreachable!("it never returns"),
            }
        };
        // A panic in a host call is this attempt's end, not the neighbours'. What it leaves behind is dropped.
        let run = AssertUnwindSafe(|| runtime.block_on(run));
        let (outcome, jobs) = std::panic::catch_unwind(run).unwrap_or_else(panicked);
        let usage = usage(begun, thread_cpu().saturating_sub(cpu_before), &shared);
        finished(Finished { jobs, ..Finished::new(id, outcome, usage) }, world.as_deref())
    }
}

impl RunningAttempt {
    /// Returns the handle that stops the attempt and reads what it says.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Waits for the end of the attempt, and stops it at its deadline: nobody else does. A guest that does not stop
    /// is left behind, and its attempt is reported as ended.
    pub async fn ended(mut self) -> Finished {
        tokio::select! {
            biased;
            ended = &mut self.done => return self.or_lost(ended),
            () = deadline(self.begun, self.time_limit_ms) => self.control.stop(Stop::OverTime),
            () = self.control.shared.control_wakes.notified() => {}
        }
        let stopped = Instant::now();
        while stopped.elapsed() < STOP_GRACE {
            match tokio::time::timeout(STOP_AGAIN, &mut self.done).await {
                Ok(ended) => return self.or_lost(ended),
                Err(_) => self.control.engine.increment_epoch(),
            }
        }
        *self.left_behind.lock().unwrap_or_else(PoisonError::into_inner) = Some(stopped);
        let stop = self.control.shared.stop().unwrap_or(Stop::OverTime);
        self.finished(ending::stopped(stop, self.time_limit_ms))
    }

    fn or_lost(&self, ended: Result<Finished, oneshot::error::RecvError>) -> Finished {
        ended
            .unwrap_or_else(|_| self.finished(ending::failed(Cause::Trap, "the thread of its place is gone")))
    }

    /// Makes the report of an attempt whose thread gives none. The CPU time that it used is not known, and 0.
    fn finished(&self, outcome: Outcome) -> Finished {
        let usage = usage(self.begun, Duration::ZERO, &self.control.shared);
        finished(Finished::new(self.id, outcome, usage), self.world.as_deref())
    }
}

/// Returns the report of an attempt, with what was recorded of it where it has failed.
fn finished(finished: Finished, world: Option<&OwnWorld>) -> Finished {
    let recording = match finished.outcome {
        Outcome::Failed(_) => {
            world.and_then(|world| world.recorded(|recorder| Box::new(recorder.recording())))
        }
        _ => None,
    };
    Finished { recording, ..finished }
}

/// The thread of a place.
fn work(
    runtime: &Runtime,
    receiver: &mpsc::Receiver<(Work, oneshot::Sender<Finished>)>,
    ahead: &AtomicUsize,
) {
    while let Ok((work, done)) = receiver.recv() {
        // The deadline is the control thread's.
        let ended = work.run(runtime, std::future::pending());
        ahead.fetch_sub(1, Ordering::AcqRel);
        // Nobody may wait any more, if the guest was left behind.
        let _ = done.send(ended);
    }
}

fn panicked(panic: Box<dyn Any + Send>) -> (Outcome, Vec<FollowUp>) {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    let message = format!("a call into the host panicked, which is a bug in midge: {text}");
    (ending::failed(Cause::Trap, message), Vec::new())
}

fn usage(begun: Instant, cpu: Duration, shared: &Shared) -> Usage {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    Usage {
        ran_us: micros(begun.elapsed()),
        cpu_us: micros(cpu),
        memory_peak_bytes: shared.memory_peak_bytes(),
        // Whoever runs several side by side knows it.
        share_us: 0,
    }
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use midge_protocol::exchange::AttemptRef;
    use midge_protocol::{JobId, QueueName};
    use wasmtime::{Engine, Module};

    use super::*;
    use crate::load::Loaded;

    fn attempt(module: Arc<Loaded>) -> Attempt {
        Attempt {
            id: AttemptRef::new(JobId::generate(), midge_protocol::AttemptNumber(1)),
            queue: QueueName::default_queue(),
            module,
            args: "null".to_owned(),
            input: None,
            saved: None,
            guest_args: Vec::new(),
            env: Vec::new(),
            dirs: Vec::new(),
            lines: None,
            world: Default::default(),
            limits: Default::default(),
            changed: Arc::default(),
        }
    }

    #[test]
    fn a_panic_in_a_host_call_ends_its_attempt_and_not_its_place() {
        let engine = Engine::new(&crate::config()).unwrap();
        let mut linker = crate::imports::whole_linker(&engine).unwrap();
        linker.func_wrap("test", "panic", |go: i32| assert!(go == 0, "on purpose")).unwrap();
        let load = |go: i32| {
            let text = format!(
                r#"(module (import "test" "panic" (func $panic (param i32)))
                    (func (export "_start") (call $panic (i32.const {go}))))"#
            );
            let module = Module::new(&engine, wat::parse_str(text).unwrap()).unwrap();
            Arc::new(Loaded::for_test("guest", linker.instantiate_pre(&module).unwrap()))
        };
        let place = Place::start(0).unwrap();
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let run = |go| runtime.block_on(place.run(attempt(load(go))).ended()).outcome;
        match run(1) {
            Outcome::Failed(failure) => {
                assert!(failure.message.contains("on purpose"), "{}", failure.message)
            }
            other => panic!("it should have failed: {other:?}"),
        }
        assert!(matches!(run(0), Outcome::Completed { .. }));
    }
}
