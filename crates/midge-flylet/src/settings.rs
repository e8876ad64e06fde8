//! What a flylet is told at its start.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use midge_protocol::{Secret, limits};

use crate::faults::Faults;
use crate::latency::Latency;
use crate::regions::Region;

/// Says where a flylet listens, whose Machines it has, and how much like Fly it is.
#[derive(Debug, Clone)]
pub struct FlyletSettings {
    /// The address to listen on. It must be a loopback address; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// The one app whose Machines it has. Calls for another app are refused with 404.
    pub app: String,
    /// The token that calls must carry: whoever knows it may start processes as this user. One is made up where it is
    /// missing.
    pub token: Option<Secret>,
    /// The command of every image, for Machines whose config names none.
    pub image_command: Vec<String>,
    /// The env of every image. What a Machine's config sets goes before it.
    pub image_env: BTreeMap<String, OsString>,
    /// The app's secrets, which a Machine has as env unless it is made with `skip_secrets`. As on Fly, one goes before
    /// what a Machine's config sets.
    pub secrets: BTreeMap<String, OsString>,
    /// The folder where programs start, which is their `HOME` too.
    pub work_dir: PathBuf,
    /// The most Machines that there may be at once, as an organization on Fly has a limit.
    pub machines_max: usize,
    /// The regions, the nearest first. Without any there is one, `local`, which answers to every name.
    pub regions: Vec<Region>,
    /// How long Machines take to be made, to start and to go on.
    pub latency: Latency,
    /// Whether calls are limited as on Fly, and refused with 429 beyond that.
    pub limits_calls: bool,
    /// What goes wrong.
    pub faults: Faults,
    /// What all chance repeats under: faults by their rates, and latencies that are drawn.
    pub seed: u64,
    /// How many times faster than on Fly time passes, for latencies, limits of calls and faults. Programs, waits, leases
    /// and the timeouts of stops have real time.
    pub speed: f64,
}

impl FlyletSettings {
    /// Returns settings for an app: any port of 127.0.0.1, no delays, limits or faults, a token of its own.
    pub fn new(app: impl Into<String>) -> FlyletSettings {
        FlyletSettings {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            app: app.into(),
            token: None,
            image_command: Vec::new(),
            image_env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            work_dir: PathBuf::from("/"),
            machines_max: limits::MACHINES_MAX as usize,
            regions: Vec::new(),
            latency: Latency::None,
            limits_calls: false,
            faults: Faults::default(),
            seed: 0,
            speed: 1.0,
        }
    }

    /// Returns how long a time of Fly's takes here.
    pub(crate) fn scaled(&self, time: Duration) -> Duration {
        Duration::try_from_secs_f64(time.as_secs_f64() / self.speed).unwrap_or(time)
    }
}
