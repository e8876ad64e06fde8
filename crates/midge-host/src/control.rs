//! The control thread: exchanges, timers, signals, and the ends of attempts, in one loop.

use std::time::Instant;

use anyhow::Context;
use midge_engine::{Ended, Stop};
use midge_protocol::BootId;
use midge_protocol::exchange::{Answer, AttemptRef, Outcome, Request};
use midge_protocol::job::{Cause, Failure, Usage};
use tokio::task::JoinSet;

use crate::link::{Link, LinkError};
use crate::places::{NotBegun, Places};
use crate::settings::WorkSettings;
use crate::signals::{Leash, Signals};
use crate::work::{Exit, Next, Todo, Work};

const EXIT_LEFT: i32 = 0;
const EXIT_GONE: i32 = 3;
const EXIT_OTHER_PROTOCOL: i32 = 4;
const EXIT_LOST: i32 = 5;
const EXIT_LEASH: i32 = 6;
/// As a shell reports a process that SIGTERM ended.
const EXIT_KILLED: i32 = 143;

/// Works for a server until there is no more to do. Returns the exit code.
pub async fn work(settings: WorkSettings) -> anyhow::Result<i32> {
    let mut signals = Signals::listen()?;
    let mut leash = Leash::open(settings.leash_fd)?;
    let link = Link::new(settings.server, &settings.machine, &settings.secret).context("MIDGE_SECRET")?;
    let mut host = Host {
        work: Work::new(boot_id()?, settings.wait, Instant::now()),
        places: Places::new(settings.modules, settings.places),
        link: std::sync::Arc::new(link),
        exchanges: JoinSet::new(),
        ends: JoinSet::new(),
        complained: false,
    };
    let changed = host.places.changed();
    let mut stopping = false;
    loop {
        let wake_at = match host.act() {
            Ok(wake_at) => wake_at,
            Err(code) => return Ok(code),
        };
        tokio::select! {
            Some(exchanged) = host.exchanges.join_next() => {
                let (seq, answer) = exchanged.context("an exchange panicked")?;
                if let Some(code) = host.exchanged(seq, answer) {
                    return Ok(code);
                }
            }
            Some(ended) = host.ends.join_next() => {
                let (attempt, Ended { outcome, usage }) = ended.context("a wait for an end panicked")?;
                host.work.ended(attempt, outcome, usage, Instant::now());
            }
            () = changed.notified() => host.work.has_news(host.places.take_progress()),
            () = sleep_until(wake_at) => {}
            () = signals.next() => {
                if std::mem::replace(&mut stopping, true) {
                    log("told to stop twice: exits at once");
                    return Ok(EXIT_KILLED);
                }
                log("told to stop: finishes what runs, or gives it back");
                host.work.stop(settings.grace, Instant::now());
            }
            () = leash.ended() => {
                log("the leash ended: exits at once");
                return Ok(EXIT_LEASH);
            }
        }
    }
}

struct Host {
    work: Work,
    places: Places,
    link: std::sync::Arc<Link>,
    exchanges: JoinSet<(u64, Result<Answer, LinkError>)>,
    ends: JoinSet<(AttemptRef, Ended)>,
    /// Whether the log says already that the server cannot be reached.
    complained: bool,
}

impl Host {
    /// Does what is to be done, and returns when to look again; or the exit code.
    fn act(&mut self) -> Result<Option<Instant>, i32> {
        loop {
            let room = self.places.room(self.work.running());
            let places = &self.places;
            let log_of = |attempt, offset, bytes_max| places.log(attempt, offset, bytes_max);
            match self.work.next(Instant::now(), room, &log_of) {
                Next::Send(request) => self.send(*request),
                Next::HandBack(attempts) => {
                    attempts.into_iter().for_each(|attempt| self.places.stop(attempt, Stop::HandedBack));
                }
                Next::Wait(at) => return Ok(at),
                Next::Exit(Exit::Left) => return Err(EXIT_LEFT),
                Next::Exit(Exit::Lost) => {
                    log("the server could not be reached for too long: exits");
                    return Err(EXIT_LOST);
                }
            }
        }
    }

    fn send(&mut self, request: Request) {
        let link = std::sync::Arc::clone(&self.link);
        self.exchanges.spawn(async move { (request.seq, link.exchange(&request).await) });
    }

    /// Takes the end of an exchange. Returns the exit code, where it is the end of the host too.
    fn exchanged(&mut self, seq: u64, answer: Result<Answer, LinkError>) -> Option<i32> {
        match answer {
            Ok(answer) => {
                if std::mem::take(&mut self.complained) {
                    log("the server is back");
                }
                for todo in self.work.answered(seq, answer, Instant::now()) {
                    self.todo(todo);
                }
                None
            }
            Err(error @ (LinkError::Gone(_) | LinkError::OtherProtocol(_))) => {
                self.places.stop_all();
                log(&format!("{error}: exits"));
                Some(if matches!(error, LinkError::Gone(_)) { EXIT_GONE } else { EXIT_OTHER_PROTOCOL })
            }
            Err(LinkError::Stale) => {
                self.work.failed(seq, true, Instant::now());
                None
            }
            Err(LinkError::Unavailable(why)) => {
                // Once, not with every retry.
                if !std::mem::replace(&mut self.complained, true) {
                    log(&format!("{why}: goes on, and tries again"));
                }
                self.work.failed(seq, false, Instant::now());
                None
            }
        }
    }

    fn todo(&mut self, todo: Todo) {
        match todo {
            Todo::Cancel(attempt) => self.places.stop(attempt, Stop::Cancelled),
            Todo::Forget(attempt) => self.places.forget(attempt),
            Todo::Begin(grant) => {
                let attempt = grant.attempt;
                match self.places.begin(*grant) {
                    Ok(running) => {
                        self.ends.spawn(async move { (attempt, running.ended().await) });
                    }
                    Err(NotBegun::NotLoadable(why)) => {
                        log(&format!("job {} attempt {}: {why}", attempt.job, attempt.attempt));
                        let outcome = Outcome::Failed(Failure::new(Cause::NotLoadable, why));
                        self.work.ended(attempt, outcome, Usage::default(), Instant::now());
                    }
                    Err(NotBegun::NoRoom(why)) => {
                        log(&format!("job {} attempt {}: given back, {why}", attempt.job, attempt.attempt));
                        self.work.could_not_begin(attempt);
                    }
                }
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn boot_id() -> anyhow::Result<BootId> {
    Ok(BootId(getrandom::u64().context("this Machine has no randomness")?))
}

/// One line for whoever reads the Machine's log.
fn log(line: &str) {
    eprintln!("midge-host: {line}");
}
