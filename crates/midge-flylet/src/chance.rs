//! Random ids.

use std::fmt::Write as _;

/// The alphabet of a ULID, which Fly's versions and event ids are.
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Returns `BYTES` random bytes in hex.
pub(crate) fn hex<const BYTES: usize>() -> String {
    random::<BYTES>().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all that is written");
        text
    })
}

/// Returns 26 characters that look like a ULID, without its time.
pub(crate) fn ulid() -> String {
    random::<26>().iter().map(|byte| char::from(CROCKFORD[usize::from(byte % 32)])).collect()
}

fn random<const BYTES: usize>() -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).expect("Linux always has randomness once it has booted");
    bytes
}
