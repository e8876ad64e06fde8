//! What a flylet is told at its start.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use midge_protocol::{Secret, limits};

/// Says where a flylet listens, whose Machines it has, and how fast they come up.
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
    pub image_env: BTreeMap<String, String>,
    /// The folder where programs start, which is their `HOME` too.
    pub work_dir: PathBuf,
    /// How long a Machine stays `created`, as it does on Fly while its image is fetched.
    pub create_delay: Duration,
    /// How long a Machine stays `starting`, as it does on Fly while its kernel boots.
    pub start_delay: Duration,
    /// The most Machines that there may be at once, as an organization on Fly has a limit.
    pub machines_max: usize,
}

impl FlyletSettings {
    /// Returns settings for an app: any port of 127.0.0.1, no delays, a token of its own.
    pub fn new(app: impl Into<String>) -> FlyletSettings {
        FlyletSettings {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            app: app.into(),
            token: None,
            image_command: Vec::new(),
            image_env: BTreeMap::new(),
            work_dir: PathBuf::from("/"),
            create_delay: Duration::ZERO,
            start_delay: Duration::ZERO,
            machines_max: limits::MACHINES_MAX as usize,
        }
    }
}
