//! What the program finds around it, so that tests can give it another one.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;

/// Looks up the addresses of a name, best first. It may block: it is called on a thread of its own.
pub type Lookup = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// What the program finds around it.
#[derive(Clone)]
pub struct World {
    /// Who knows the addresses of names.
    pub lookup: Lookup,
    /// A file of certificates in PEM that are trusted beside those of the web: `SSL_CERT_FILE`, as curl has it.
    pub certificates: Option<PathBuf>,
}

impl World {
    /// Returns the world of this system: names as the C library knows them.
    pub fn of_the_system(certificates: Option<PathBuf>) -> World {
        // The port is only there because the standard library asks for one.
        let lookup = |name: &str| Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect());
        World { lookup: Arc::new(lookup), certificates }
    }
}
