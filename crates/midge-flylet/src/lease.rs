//! A Machine's lease: who may change it for a while.

use std::time::Duration;

use midge_machines::wire;
use midge_protocol::Timestamp;

/// A day: a lease that somebody forgot must not last.
pub(crate) const LEASE_SECONDS_MAX: i64 = 24 * 60 * 60;
/// Where none is asked for.
pub(crate) const LEASE_SECONDS_DEFAULT: i64 = 120;

/// A lease, held or over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) nonce: String,
    pub(crate) until: Timestamp,
    pub(crate) owner: String,
    pub(crate) description: String,
    pub(crate) version: String,
}

/// Why somebody may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldBy {
    pub(crate) owner: String,
    pub(crate) until: Timestamp,
}

impl Lease {
    /// Returns the end of a lease of so many seconds; nothing where that is not a time that one may last.
    pub(crate) fn end(now: Timestamp, seconds: i64) -> Option<Timestamp> {
        let seconds = u64::try_from(seconds).ok().filter(|_| (1..=LEASE_SECONDS_MAX).contains(&seconds))?;
        Some(now.after(Duration::from_secs(seconds)))
    }

    /// Returns it as its holder sees it, or as everybody else does.
    pub(crate) fn shown(&self, to_holder: bool) -> wire::Lease {
        wire::Lease {
            nonce: if to_holder { self.nonce.clone() } else { String::new() },
            expires_at: self.until.as_millis() / 1000,
            owner: self.owner.clone(),
            description: self.description.clone(),
            version: self.version.clone(),
        }
    }
}

/// Returns the lease where it is held still.
pub(crate) fn held(lease: Option<&Lease>, now: Timestamp) -> Option<&Lease> {
    lease.filter(|lease| lease.until > now)
}

/// Says whether whoever shows a nonce may change the Machine.
///
/// # Errors
/// Who holds it instead.
pub(crate) fn may(lease: Option<&Lease>, nonce: Option<&str>, now: Timestamp) -> Result<(), HeldBy> {
    match held(lease, now) {
        Some(lease) if nonce != Some(lease.nonce.as_str()) => {
            Err(HeldBy { owner: lease.owner.clone(), until: lease.until })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_holder_may_until_the_lease_is_over() {
        let at = Timestamp::from_millis;
        let lease = Lease {
            nonce: "n".to_owned(),
            until: at(1000),
            owner: "o".to_owned(),
            description: String::new(),
            version: "v".to_owned(),
        };
        let may = |nonce, now| may(Some(&lease), nonce, at(now)).is_ok();
        assert!(may(Some("n"), 999));
        assert!(!may(Some("other"), 999) && !may(None, 999));
        assert!(may(None, 1000) && may(Some("other"), 1000));
        assert!(super::may(None, None, at(0)).is_ok());
    }

    #[test]
    fn a_lease_lasts_a_second_to_a_day() {
        let now = Timestamp::from_millis(0);
        assert_eq!(Lease::end(now, 1), Some(Timestamp::from_millis(1000)));
        for bad in [0, -1, LEASE_SECONDS_MAX + 1, i64::MAX, i64::MIN] {
            assert_eq!(Lease::end(now, bad), None);
        }
    }
}
