//! Chaos: a server, a flylet and its hosts that are killed at moments which a seed chooses, and started again.

use std::time::{Duration, Instant};

use midge_protocol::MachineName;
use midge_protocol::manifest::Manifest;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};

use super::modules::Modules;
use super::server::{Flylet, Server};
use super::usage::descendants;
use super::wait::eventually;

/// The longest quiet between two kills, and the longest that something stays dead.
const QUIET_MAX: Duration = Duration::from_millis(900);
const DEAD_MAX: Duration = Duration::from_millis(700);

/// What was killed how often.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kills {
    /// Hosts, one at a time.
    pub hosts: u32,
    /// The flylet, and with it all hosts.
    pub flylets: u32,
    /// The server.
    pub servers: u32,
}

/// Kills what it is given, as a seed says.
pub struct Chaos {
    rng: StdRng,
    deck: Vec<Victim>,
    kills: Kills,
}

/// What a strike hits.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Host,
    Server,
    Flylet,
    /// The whole computer, so to say.
    ServerAndFlylet,
}

/// The victims of ten strikes, in the order that the seed shuffles them to: none is left out by chance.
const DECK: [Victim; 10] = [
    Victim::Host,
    Victim::Host,
    Victim::Host,
    Victim::Host,
    Victim::Host,
    Victim::Host,
    Victim::Server,
    Victim::Server,
    Victim::Flylet,
    Victim::ServerAndFlylet,
];

impl Chaos {
    /// Makes one that chooses the same victims and the same waits under the same seed.
    pub fn new(seed: u64) -> Chaos {
        Chaos { rng: StdRng::seed_from_u64(seed), deck: Vec::new(), kills: Kills::default() }
    }

    /// Returns what was killed so far.
    pub fn kills(&self) -> Kills {
        self.kills
    }

    /// Waits for a while, then kills something. All is up again at the end, but for hosts.
    pub fn strike(&mut self, server: &mut Server, flylet: &mut Flylet) {
        self.pause(QUIET_MAX);
        let (hits_server, hits_flylet) = match self.deal() {
            Victim::Host => return self.kill_host(flylet),
            Victim::Server => (true, false),
            Victim::Flylet => (false, true),
            Victim::ServerAndFlylet => (true, true),
        };
        if hits_server {
            self.kills.servers += 1;
            server.kill();
        }
        if hits_flylet {
            self.kills.flylets += 1;
            flylet.kill();
        }
        self.pause(DEAD_MAX);
        if hits_server {
            server.start_again();
        }
        if hits_flylet {
            self.pause(DEAD_MAX);
            flylet.start_again();
        }
    }

    fn deal(&mut self) -> Victim {
        if self.deck.is_empty() {
            self.deck = DECK.to_vec();
            self.deck.shuffle(&mut self.rng);
        }
        self.deck.pop().expect("it was filled")
    }

    fn kill_host(&mut self, flylet: &Flylet) {
        let hosts = descendants(flylet.pid(), "midge-host");
        // Chosen even where there is none: what comes after must not depend on that.
        let chosen = self.rng.next_u32() as usize;
        if let Some(&host) = hosts.get(chosen % hosts.len().max(1)) {
            let pid = Pid::from_raw(host as i32).expect("a process's id is not 0");
            // It may have ended by itself.
            self.kills.hosts += u32::from(kill_process(pid, Signal::KILL).is_ok());
        }
    }

    /// Lets a time pass. The moment is the point here: there is no condition that it stands for.
    fn pause(&mut self, longest: Duration) {
        let moment = Instant::now() + longest.mul_f64(self.rng.random());
        eventually("the moment comes", || (Instant::now() >= moment).then_some(()));
    }
}

/// Returns the ids of all hosts that work for a server, whoever their parent is.
pub fn hosts_of(server_url: &str) -> Vec<u32> {
    processes_with(&format!("MIDGE_SERVER={server_url}"))
}

/// Kills a process.
pub fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).expect("a process's id is not 0"), Signal::KILL).unwrap();
}

/// Ends the host in a Machine with a signal.
pub fn signal_host(machine: &MachineName, signal: Signal) {
    let hosts = processes_with(&format!("MIDGE_MACHINE={machine}"));
    assert_eq!(hosts.len(), 1, "hosts in {machine}");
    kill_process(Pid::from_raw(hosts[0] as i32).expect("a process's id is not 0"), signal).unwrap();
}

fn processes_with(variable: &str) -> Vec<u32> {
    let has_it = |pid: &u32| {
        let env = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        env.split(|&byte| byte == 0).any(|entry| entry == variable.as_bytes())
    };
    let all = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(has_it).collect()
}

impl Modules {
    /// Adds all modules of another folder, and keeps the settings of this one's queues.
    #[must_use]
    pub fn and(self, other: &Modules) -> Modules {
        let Manifest { modules, .. } = other.manifest();
        for name in modules.keys() {
            let file = format!("{name}.cwasm");
            self.files.write(&file, std::fs::read(other.files.path(&file)).unwrap());
        }
        self.change(|manifest| manifest.modules.extend(modules));
        self
    }
}
