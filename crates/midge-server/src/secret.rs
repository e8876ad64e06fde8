//! Secrets: made from the system's randomness, kept as hashes, compared in constant time.

use midge_protocol::Secret;
use rand::Rng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Makes a secret of 256 bits.
pub(crate) fn generate(rng: &mut impl Rng) -> Secret {
    let mut bytes = [0u8; 32];
    rng.fill_bytes(&mut bytes);
    Secret::new(hex(&bytes))
}

/// Returns SHA-256 of a secret, in hex. A secret of 256 random bits needs no salt and no slow hash.
pub fn secret_hash(secret: &Secret) -> String {
    hash_text(secret.expose())
}

/// Returns the same hash of a secret as it came in.
pub(crate) fn hash_text(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// Returns whether two texts are the same, in a time that tells neither where they differ nor how long each is.
pub(crate) fn same(a: &str, b: &str) -> bool {
    // Of the same length, whatever theirs is.
    let [a, b] = [a, b].map(|text| Sha256::digest(text.as_bytes()));
    a.as_slice().ct_eq(b.as_slice()).into()
}

/// Writes bytes in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
