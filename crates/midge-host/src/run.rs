//! `midge-host run`: one attempt by hand, without a server. stdin is the input, stdout the result, stderr the log.
//!
//! Invariant: there is one thread. Another one, to keep the deadline, would cost as
//! much as loading the module; a timer of the kernel does it. SIGINT and SIGTERM end the process as they end any.

use std::io::{IsTerminal, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use midge_engine::start::{self, Start};
use midge_engine::{Attempt, Here, Modules, World};
use midge_protocol::exchange::{AttemptRef, Finished, FollowUp, Outcome};
use midge_protocol::{AttemptNumber, JobId, limits, shown};

use crate::network::{self, Secrets};
use crate::settings::{RunSettings, dirs, guest_env};
use crate::{errors, process, signals};

const EXIT_FAILED: i32 = 1;
/// Jobs that a guest enqueued and that are shown: as many as a terminal has lines for.
const JOBS_SHOWN_MAX: usize = 20;

/// Runs one attempt. Returns the exit code.
pub fn run(settings: RunSettings) -> anyhow::Result<i32> {
    process::end_when_asked();
    let modules = Modules::open(&settings.modules).map_err(|e| anyhow::anyhow!(errors::whole(&e)))?;
    let module = modules.load(&settings.module).map_err(|e| anyhow::anyhow!(errors::whole(&e)))?;
    let secrets = Secrets::take(modules.manifest());
    if let Some(what) = secrets.lacked_by(&module.entry) {
        bail!("{what}; set it where this is started");
    }
    let mut limits = module.entry.limits;
    if let Some(time) = settings.time_limit {
        limits.time_ms = time.as_millis() as u64;
    }
    limits.memory_bytes = settings.memory_limit.unwrap_or(limits.memory_bytes);
    let mut env = guest_env(&module.entry.env);
    env.extend(settings.env);
    let attempt = Attempt {
        id: AttemptRef::new(JobId::generate(), AttemptNumber(1)),
        queue: module.entry.queue.clone(),
        args: settings.args,
        input: input()?,
        guest_args: settings.guest_args,
        saved: None,
        env,
        dirs: dirs(&module).into_iter().chain(settings.dirs).collect(),
        lines: Some(network::lines(&settings.modules, &secrets)),
        world: World::Real,
        limits,
        changed: Arc::default(),
        module,
    };
    let time_limit = Duration::from_millis(attempt.limits.time_ms);
    let pieces = Arc::new(Mutex::new(shown::Pieces::default()));
    let said = Arc::clone(&pieces);
    let here = Here::new(attempt, move |log| show(log, &said)).context("cannot prepare to run")?;
    signals::interrupt_after(time_limit, here.control());
    let Finished { outcome, jobs, .. } = here.run();
    let rest = pieces.lock().unwrap_or_else(PoisonError::into_inner).end();
    if !rest.is_empty() {
        eprint!("{rest}");
    }
    let code = finish(outcome)?;
    show_jobs(&jobs);
    if settings.timings {
        show_timings();
    }
    Ok(code)
}

/// Shows what is added to the log: as it is, unless a person looks at it on a terminal, which would obey it. If nobody
/// reads it, it is not the guest's fault.
fn show(log: &[u8], pieces: &Mutex<shown::Pieces>) {
    let mut stderr = std::io::stderr();
    let _ = if stderr.is_terminal() {
        let mut pieces = pieces.lock().unwrap_or_else(PoisonError::into_inner);
        stderr.write_all(pieces.take(log).as_bytes())
    } else {
        stderr.write_all(log)
    };
}

/// Says what would have been enqueued: by hand, there is nobody to take it.
fn show_jobs(jobs: &[FollowUp]) {
    for FollowUp { request, input, .. } in jobs.iter().take(JOBS_SHOWN_MAX) {
        let input =
            input.as_ref().map_or(String::new(), |input| format!(" with an input of {} bytes", input.len()));
        eprintln!("midge-host: a server would enqueue{input}: {}", shown::line(request));
    }
    if let Some(more) = jobs.len().checked_sub(JOBS_SHOWN_MAX).filter(|more| *more > 0) {
        eprintln!("midge-host: and {more} more");
    }
}

/// Shows where the time of the start went.
fn show_timings() {
    let Start { main_at, booted, spent } = start::start();
    let spent: serde_json::Map<_, _> =
        spent.into_iter().map(|(phase, spent)| (phase.as_str().to_owned(), spent.into())).collect();
    eprintln!("{}", serde_json::json!({"main_at": main_at, "booted": booted, "spent": spent}));
}

/// Returns stdin, where something is connected to it.
fn input() -> anyhow::Result<Option<Bytes>> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Ok(None);
    }
    let mut input = Vec::new();
    // One more than there may be, to notice it.
    stdin
        .lock()
        .take(limits::INPUT_BYTES_MAX as u64 + 1)
        .read_to_end(&mut input)
        .context("cannot read stdin")?;
    if input.len() > limits::INPUT_BYTES_MAX {
        bail!("stdin holds more than {} bytes, which is the most an input may have", limits::INPUT_BYTES_MAX);
    }
    // An empty stdin is what a job without an input has: it sees its args there.
    Ok((!input.is_empty()).then(|| input.into()))
}

fn finish(outcome: Outcome) -> anyhow::Result<i32> {
    match outcome {
        Outcome::Completed { result } if std::io::stdout().is_terminal() => {
            print(shown::bytes(&result).as_bytes())
        }
        Outcome::Completed { result } => print(&result),
        Outcome::Failed(failure) => {
            eprintln!("midge-host: {}: {}", failure.cause, shown::text(&failure.message));
            Ok(failure.exit_code.filter(|code| (1..256).contains(code)).unwrap_or(EXIT_FAILED))
        }
        Outcome::Snoozed { after_ms } => {
            eprintln!("midge-host: snoozed: asks to be run again after {} s", after_ms as f64 / 1000.0);
            Ok(EXIT_FAILED)
        }
        Outcome::Cancelled => {
            eprintln!("midge-host: cancelled");
            Ok(EXIT_FAILED)
        }
        Outcome::ModuleLacks { what } => {
            eprintln!("midge-host: not run, for want of {what}");
            Ok(EXIT_FAILED)
        }
        Outcome::HandedBack { lacks } => {
            eprintln!("midge-host: not finished, for want of {}", lacks.unwrap_or_default());
            Ok(EXIT_FAILED)
        }
    }
}

/// Writes to stdout. Returns the exit code: a reader that went away is not an error.
pub fn print(bytes: &[u8]) -> anyhow::Result<i32> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e).context("cannot write to stdout"),
        _ => Ok(0),
    }
}
