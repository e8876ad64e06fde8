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

/// Returns whether two hashes of secrets are the same, in a time that does not tell where they differ. Their length is no
/// secret.
pub(crate) fn same_hash(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

/// Writes bytes in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits =
        |byte: &u8| [byte >> 4, byte & 0xf].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
    bytes.iter().flat_map(digits).collect()
}
