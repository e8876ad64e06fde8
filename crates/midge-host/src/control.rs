//! The control thread: exchanges, timers, signals, and the ends of attempts, in one loop.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use midge_core::exchange::{self, Departure, HostSide, Next, Todo};
use midge_core::{ShareBegun, ShareClock};
use midge_engine::Stop;
use midge_protocol::exchange::{Answer, AttemptRef, Finished, Outcome, Request};
use midge_protocol::job::{Cause, Failure, Usage};
use midge_protocol::{BootId, Timestamp, exit, shown};
use tokio::task::JoinSet;

use crate::link::{Link, LinkError};
use crate::places::{NotBegun, Places};
use crate::process;
use crate::settings::{SECRET, SERVER_SECRETS, WorkSettings};
use crate::signals::{Leash, Signals};

/// The system's clock was put forward by so much: the Machine was suspended. Less is how clocks are corrected.
const CLOCK_JUMP: Duration = Duration::from_secs(5);

/// Works for a server until there is no more to do. Returns the exit code.
pub async fn work(settings: WorkSettings) -> anyhow::Result<i32> {
    process::raise_open_files(settings.places);
    // It has been read: nobody else who may look at this process is to.
    drop(process::take_variable(SECRET));
    // They are here where the Machine has the secrets of its server's app.
    SERVER_SECRETS.into_iter().for_each(|name| drop(process::take_variable(name)));
    let mut signals = Signals::listen()?;
    let mut leash = Leash::open(settings.leash_fd)?;
    let link = Link::new(settings.servers, &settings.machine, &settings.secret).context("MIDGE_SECRET")?;
    let clock = Clock(Instant::now());
    let mut offset = clock.offset();
    let mut host = Host {
        side: HostSide::new(boot_id()?, settings.wait, clock.now()),
        clock,
        places: Places::new(settings.modules, settings.places),
        link: std::sync::Arc::new(link),
        exchanges: JoinSet::new(),
        ends: JoinSet::new(),
        shares: ShareClock::default(),
        complained: false,
    };
    let changed = host.places.changed();
    let mut stopping = false;
    if let Err(code) = host.act() {
        return Ok(code);
    }
    // While the first exchange is on its way.
    tokio::task::yield_now().await;
    host.places.prepare().iter().for_each(|what| log(&format!("this Machine lacks {what}")));
    loop {
        // A Machine that is suspended may have a clock that stands still meanwhile, and another that is put right.
        let offset_now = clock.offset();
        if offset_now > std::mem::replace(&mut offset, offset_now) + CLOCK_JUMP {
            host.side.stood_still(clock.now());
        }
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
                let (begun, finished) = ended.context("a wait for an end panicked")?;
                host.ended(begun, finished);
            }
            () = changed.notified() => {
                host.side.has_news(host.places.take_progress());
                host.places.take_saving().into_iter().for_each(|(attempt, state)| host.side.save(attempt, state));
            }
            () = clock.sleep_until(wake_at) => {}
            () = signals.next() => {
                if std::mem::replace(&mut stopping, true) {
                    log("told to stop twice: exits at once");
                    return Ok(exit::KILLED);
                }
                log("told to stop: finishes what runs, or gives it back");
                host.side.stop(settings.grace, clock.now());
            }
            () = leash.ended() => {
                log("the leash ended: exits at once");
                return Ok(exit::LEASH);
            }
        }
    }
}

/// The time since the host began, which never runs backwards.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> Timestamp {
        Timestamp::default().after(self.0.elapsed())
    }

    /// Returns how far the system's clock is ahead of this one.
    fn offset(self) -> Duration {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        wall.saturating_sub(self.0.elapsed())
    }

    /// Sleeps until a time of this clock; for ever where there is none.
    async fn sleep_until(self, at: Option<Timestamp>) {
        match at {
            Some(at) => {
                let until = self.0 + Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(0));
                tokio::time::sleep_until(until.into()).await;
            }
            None => std::future::pending().await,
        }
    }
}

struct Host {
    side: HostSide,
    clock: Clock,
    places: Places,
    link: std::sync::Arc<Link>,
    exchanges: JoinSet<(u64, Result<Answer, LinkError>)>,
    /// The ends of attempts, each with where the clock of shares was when it began.
    ends: JoinSet<(ShareBegun, Finished)>,
    shares: ShareClock,
    /// Whether the log says already that the server cannot be reached.
    complained: bool,
}

impl Host {
    /// Does what is to be done, and returns when to look again; or the exit code.
    fn act(&mut self) -> Result<Option<Timestamp>, i32> {
        loop {
            let look_again = match self.places.hangs() {
                Ok(soon) => soon.map(|soon| self.clock.now().after(soon)),
                Err(lacks) => {
                    self.lacks(&lacks);
                    None
                }
            };
            let room = self.places.room(self.side.running());
            let places = &self.places;
            let log_of = |attempt, offset, bytes_max| places.log(attempt, offset, bytes_max);
            match self.side.next(self.clock.now(), room, &log_of) {
                Next::Send(request) => self.send(*request),
                Next::HandBack(attempts) => {
                    attempts.into_iter().for_each(|attempt| self.places.stop(attempt, Stop::HandedBack));
                }
                Next::Reconnect => {
                    log("this Machine stood still: says again what it runs");
                    // Their answers may never come.
                    self.exchanges = JoinSet::new();
                    self.link.forget();
                }
                Next::Wait(at) => return Ok(at.into_iter().chain(look_again).min()),
                Next::Exit(Departure::Left) => return Err(exit::LEFT),
                Next::Exit(Departure::Lost) => {
                    log("the server could not be reached for too long: exits");
                    return Err(exit::LOST);
                }
            }
        }
    }

    /// Takes the end of an attempt, and says what its share of the Machine's time was.
    fn ended(&mut self, begun: ShareBegun, mut finished: Finished) {
        let share = self.shares.end(begun, self.clock.0.elapsed());
        finished.usage.share_us = u64::try_from(share.as_micros()).unwrap_or(u64::MAX);
        if let Outcome::HandedBack { lacks: Some(what) } = &finished.outcome {
            log_given_back(finished.attempt, what);
        }
        self.side.ended(finished, self.clock.now());
    }

    /// Takes note that the Machine lacks something, and says so once.
    fn lacks(&mut self, what: &str) {
        if self.side.lacks(what.to_owned()) {
            log(&format!("this Machine lacks {what}: takes no more jobs, and leaves"));
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
                for todo in self.side.answered(seq, answer, self.clock.now()) {
                    self.todo(todo);
                }
                None
            }
            Err(error @ (LinkError::Gone(_) | LinkError::OtherProtocol(_))) => {
                self.places.stop_all();
                log(&format!("{error}: exits"));
                Some(if matches!(error, LinkError::Gone(_)) { exit::GONE } else { exit::OTHER_PROTOCOL })
            }
            Err(LinkError::Stale) => {
                self.side.failed(seq, true, self.clock.now());
                None
            }
            Err(LinkError::Unavailable(why)) => {
                // Once, not with every retry.
                if !std::mem::replace(&mut self.complained, true) {
                    log(&format!("{why}: goes on, and tries again"));
                }
                self.side.failed(seq, false, self.clock.now());
                None
            }
        }
    }

    fn todo(&mut self, todo: Todo) {
        match todo {
            Todo::Cancel(attempt) => self.places.stop(attempt, Stop::Cancelled),
            Todo::Forget(attempt) => self.places.forget(attempt),
            Todo::Saved(attempt) => self.places.saved(attempt),
            Todo::Begin(grant) => {
                let attempt = grant.attempt;
                // Before it begins: no share ends up smaller than what the attempt ran alone.
                let begun = self.shares.begin(self.clock.0.elapsed());
                match self.places.begin(*grant) {
                    Ok(running) => {
                        self.ends.spawn(async move { (begun, running.ended().await) });
                    }
                    Err(why) => {
                        self.shares.end(begun, self.clock.0.elapsed());
                        self.not_begun(attempt, why);
                    }
                }
            }
        }
    }

    /// Takes it that an attempt could not begin.
    fn not_begun(&mut self, attempt: AttemptRef, why: NotBegun) {
        match why {
            NotBegun::NotLoadable(why) => {
                log(&format!("job {} attempt {}: {why}", attempt.job, attempt.attempt));
                let outcome = Outcome::Failed(Failure::new(Cause::NotLoadable, why));
                let finished = Finished::new(attempt, outcome, Usage::default());
                self.side.ended(finished, self.clock.now());
            }
            NotBegun::Lacks(what) => {
                log_given_back(attempt, &what);
                self.side.could_not_begin(attempt, exchange::NotBegun::Lacks(what), self.clock.now());
            }
            NotBegun::ModuleLacks(what) => {
                let AttemptRef { job, attempt: number, .. } = attempt;
                log(&format!("job {job} attempt {number}: given back, this Machine lacks {what}"));
                self.side.could_not_begin(attempt, exchange::NotBegun::ModuleLacks(what), self.clock.now());
            }
            NotBegun::NoRoom => {
                let AttemptRef { job, attempt: number, .. } = attempt;
                log(&format!("job {job} attempt {number}: given back, every place is taken"));
                self.side.could_not_begin(attempt, exchange::NotBegun::NoRoom, self.clock.now());
            }
        }
    }
}

fn boot_id() -> anyhow::Result<BootId> {
    Ok(BootId(getrandom::u64().context("this Machine has no randomness")?))
}

fn log_given_back(attempt: AttemptRef, lacks: &str) {
    let AttemptRef { job, attempt, .. } = attempt;
    log(&format!(
        "job {job} attempt {attempt}: given back, this Machine lacks {lacks}: takes no more jobs, and leaves"
    ));
}

/// One line for whoever reads the Machine's log.
fn log(line: &str) {
    eprintln!("midge-host: {}", shown::line(line));
}
