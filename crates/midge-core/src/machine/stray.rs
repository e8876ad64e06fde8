//! Whose a Machine is that has no row, and when it is destroyed.
//!
//! Its label says whose it is, and so does its name: whoever is root in a Machine can change its labels, and cannot change
//! its name.

use std::time::Duration;

use midge_protocol::{MachineId, MachineName, Timestamp};

/// How much of a store's id is in the names of its Machines: enough that the stores of one app have not the same.
const OWNER_CHARS: usize = 8;
/// A Machine without a row is left alone so long after it was named: what is known of it may be behind, and its host goes by
/// itself when nobody knows it.
const STRAY_GRACE: Duration = Duration::from_secs(60);

/// A Machine that carries our label and our name, and had no row when the Machines API was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// The Machine's id at the Machines API.
    pub id: MachineId,
    /// The time that its name says.
    pub named_at: Timestamp,
}

impl Stray {
    /// Returns whether it is destroyed now. One that was named at a time that is to come is: the clock was ahead then.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.named_at > now || now.since(self.named_at) >= STRAY_GRACE
    }
}

/// Returns a name for a Machine of a store. Names of one store rise with time, so that its Machines list in the order in which
/// they were made; `chance` tells those of one moment apart.
pub fn machine_name(owner: &str, now: Timestamp, chance: u32) -> MachineName {
    MachineName::new(format!("{}{:012x}-{chance:08x}", prefix(owner), now.as_millis()))
        .expect("lower-case letters, digits and hyphens are a Machine name")
}

/// Returns when a Machine of a store was named so; nothing where the name is no such one. It is a time of the server's clock,
/// which that of the Machines API may be far from.
pub fn named_at(owner: &str, name: &str) -> Option<Timestamp> {
    let (time, chance) = name.strip_prefix(&prefix(owner))?.split_once('-')?;
    let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_ours = time.len() >= 12 && chance.len() == 8 && is_hex(time) && is_hex(chance);
    let millis = i64::from_str_radix(time, 16).ok().filter(|_| is_ours)?;
    Some(Timestamp::from_millis(millis))
}

fn prefix(owner: &str) -> String {
    let plain = owner.chars().filter(|char| char.is_ascii_lowercase() || char.is_ascii_digit());
    format!("midge-{}-", plain.take(OWNER_CHARS).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_694_700_000);

    #[test]
    fn a_name_says_whose_it_is_and_rises_with_time() {
        let name = machine_name("0123456789abcdef", NOW, 7);
        assert_eq!(name.as_str(), "midge-01234567-01a217bea5e0-00000007");
        assert_eq!(named_at("0123456789abcdef", name.as_str()), Some(NOW));
        assert!(name < machine_name("0123456789abcdef", NOW.after(Duration::from_millis(1)), 0));
        for other in
            ["", "web-1", "midge-01234567", "midge-01234567-x-00000007", "midge-01234567-01a217bea5e0-7"]
        {
            assert_eq!(named_at("0123456789abcdef", other), None, "{other}");
        }
        let others = named_at("fedcba9876543210", name.as_str());
        assert_eq!(others, None, "another store's, whatever its label says");
    }

    #[test]
    fn a_machine_without_a_row_has_a_minute_unless_the_clock_was_put_back() {
        let stray = Stray { id: MachineId::new("e1").unwrap(), named_at: NOW };
        assert!(!stray.is_over(NOW) && !stray.is_over(NOW.after(Duration::from_secs(59))));
        assert!(stray.is_over(NOW.after(Duration::from_secs(60))));
        assert!(stray.is_over(Timestamp::from_millis(NOW.as_millis() - 1)));
    }
}
