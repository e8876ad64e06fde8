//! The connections that a module keeps, for its next requests to the same origin.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::asked::Origin;
use crate::link::Link;

/// How long a connection is kept that nobody uses: less than the 60 s after which most servers and proxies end theirs, so
/// that it is seldom they who do.
const KEPT: Duration = Duration::from_secs(50);
/// Connections that a module keeps: each is a descriptor, here and at a server. As many as its guests may use side by side
/// in a Machine of 16 places.
const LINKS_MAX: usize = 256;

/// What a kept connection may be used for: requests to an origin, and such whose module names that very host or does not.
/// Those that may reach more must not lend their connections to those that may not.
type Use = (Origin, bool);

pub(crate) struct Pool {
    kept: Mutex<HashMap<Use, Vec<Kept>>>,
    tell: Arc<Notify>,
}

struct Kept {
    link: Link,
    since: Instant,
}

impl Pool {
    /// Makes an empty one, which tells when it keeps something.
    pub(crate) fn new(tell: Arc<Notify>) -> Pool {
        Pool { kept: Mutex::default(), tell }
    }

    /// Returns a connection that is ready: the one that was used last, which will be there longest.
    pub(crate) fn take(&self, of: &Use) -> Option<Link> {
        let mut kept = self.lock();
        let links = kept.get_mut(of)?;
        links.retain(|kept| !kept.link.has_ended());
        let at = links.iter().rposition(|kept| kept.link.is_ready())?;
        match links[at].link.share() {
            Some(share) => {
                links[at].since = Instant::now();
                Some(share)
            }
            None => Some(links.remove(at).link),
        }
    }

    /// Keeps a connection on which a request has been answered, or which can be shared.
    pub(crate) fn keep(&self, of: Use, link: Link) {
        if link.has_ended() {
            return;
        }
        let mut kept = self.lock();
        // Of several that were made at once, one that can be shared has room for the next requests.
        let has_room = |kept: &Kept| kept.link.is_shared() && kept.link.is_ready();
        if link.is_shared() && kept.get(&of).is_some_and(|links| links.iter().any(has_room)) {
            return;
        }
        if kept.values().map(Vec::len).sum::<usize>() >= LINKS_MAX {
            drop_oldest(&mut kept);
        }
        kept.entry(of).or_default().push(Kept { link, since: Instant::now() });
        self.tell.notify_one();
    }

    /// Returns when the first of its connections has been kept long enough.
    pub(crate) fn first_end(&self) -> Option<Instant> {
        self.lock().values().flatten().map(|kept| kept.since + KEPT).min()
    }

    /// Drops the connections that nobody has used for long enough, and those that have ended.
    pub(crate) fn drop_unused(&self) {
        let now = Instant::now();
        self.lock().retain(|_, links| {
            links.retain_mut(|kept| {
                if kept.link.requests() > 0 {
                    kept.since = now;
                }
                !kept.link.has_ended() && now < kept.since + KEPT
            });
            !links.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Use, Vec<Kept>>> {
        self.kept.lock().expect("nothing panics while it holds this")
    }
}

fn drop_oldest(kept: &mut HashMap<Use, Vec<Kept>>) {
    let oldest = kept.values().flatten().map(|kept| kept.since).min();
    for links in kept.values_mut() {
        if let Some(at) = links.iter().position(|kept| Some(kept.since) == oldest) {
            links.remove(at);
            return;
        }
    }
}
