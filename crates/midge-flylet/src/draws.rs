//! Chance that repeats under a seed: the n-th draw for something is the same, whatever else is drawn meanwhile.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Beyond it counting begins anew. There is one key for each action on a Machine of a name.
const KEYS_MAX: usize = 100_000;

/// A source of draws.
#[derive(Debug)]
pub(crate) struct Draws {
    seed: u64,
    counts: Mutex<HashMap<String, u64>>,
}

/// One of the draws for a key, from which several numbers can be made.
#[derive(Debug, Clone)]
pub(crate) struct Draw {
    seed: u64,
    key: String,
}

impl Draws {
    pub(crate) fn new(seed: u64) -> Draws {
        Draws { seed, counts: Mutex::default() }
    }

    /// Returns the next draw for a key, such as `start of q-1`.
    pub(crate) fn next(&self, key: &str) -> Draw {
        let counts = &mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= KEYS_MAX {
            counts.clear();
        }
        let count = counts.entry(key.to_owned()).or_default();
        *count += 1;
        Draw { seed: self.seed, key: format!("{key} {count}") }
    }
}

impl Draw {
    /// Returns a number from 0 to below 1. Each word has one of its own.
    pub(crate) fn unit(&self, word: &str) -> f64 {
        let hash = xxh3_64_with_seed(format!("{word}: {}", self.key).as_bytes(), self.seed);
        // The 53 bits that a number between 0 and 1 can hold.
        (hash >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_repeat_under_a_seed_in_whatever_order_those_of_others_come() {
        let (one, two) = (Draws::new(7), Draws::new(7));
        let first: Vec<f64> = (0..3).map(|_| one.next("a").unit("late")).collect();
        for _ in 0..5 {
            two.next("b");
        }
        let second: Vec<f64> = (0..3).map(|_| two.next("a").unit("late")).collect();
        assert_eq!(first, second);
        assert!(first[0] != first[1], "each is another");
        assert!(Draws::new(8).next("a").unit("late") != first[0], "each seed has others");
    }

    #[test]
    fn draws_are_even() {
        let draws = Draws::new(1);
        let below = (0..10_000).filter(|_| draws.next("a").unit("w") < 0.25).count();
        assert!((2_300..2_700).contains(&below), "{below}");
    }
}
