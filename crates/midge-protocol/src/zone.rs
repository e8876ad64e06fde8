//! Time zones, by their IANA names. The zone data is compiled in: a machine without `/usr/share/zoneinfo` has the same.

use std::sync::LazyLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::nearest;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The error of a name that no time zone has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no time zone `{given}`: {}", hint(.nearest))]
pub struct UnknownZone {
    /// The name, cut after 64 characters.
    pub given: String,
    /// The name that was likely meant, if one is near enough.
    pub nearest: Option<String>,
}

fn hint(nearest: &Option<String>) -> String {
    match nearest {
        Some(name) => format!("did you mean `{name}`?"),
        None => "use an IANA name such as Europe/Berlin, or UTC".to_owned(),
    }
}

/// Returns a time zone by its IANA name, such as `Europe/Berlin` or `UTC`.
///
/// # Errors
/// [`UnknownZone`] where there is none, with the name that was likely meant.
pub fn zone(name: &str) -> Result<TimeZone, UnknownZone> {
    // Names are found whatever their case, but one name is one spelling.
    let found = ZONES.get(name).ok().filter(|zone| zone.iana_name() == Some(name));
    found.ok_or_else(|| {
        let all: Vec<String> = ZONES.available().map(|name| name.to_string()).collect();
        let lower = name.to_ascii_lowercase();
        let same = all.iter().find(|known| known.to_ascii_lowercase() == lower).cloned();
        // A city is a name's last part.
        let city = || {
            all.iter().find(|known| known.rsplit('/').next().is_some_and(|c| c.to_ascii_lowercase() == lower))
        };
        let near = same.or_else(|| city().cloned());
        let near = near.or_else(|| nearest(name, all.iter().map(String::as_str)).map(str::to_owned));
        UnknownZone { given: crate::shown::cut(name), nearest: near }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_found_by_its_name_and_a_slip_is_told_the_nearest() {
        for name in ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"] {
            assert_eq!(zone(name).unwrap().iana_name(), Some(name));
        }
        let near = |name: &str| zone(name).unwrap_err().to_string();
        assert_eq!(
            near("Europe/Belrin"),
            "there is no time zone `Europe/Belrin`: did you mean `Europe/Berlin`?"
        );
        assert!(near("europe/berlin").ends_with("did you mean `Europe/Berlin`?"));
        assert!(near("Tokyo").ends_with("did you mean `Asia/Tokyo`?"));
        assert!(near("the moon").ends_with("use an IANA name such as Europe/Berlin, or UTC"));
        assert!(near(&"x".repeat(10_000)).len() < 200);
    }
}
