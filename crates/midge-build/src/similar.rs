//! Guesses which name was meant by one that does not exist.

/// Names further apart than this share of their letters are not taken for a slip.
const ALIKE: f64 = 0.6;

/// Returns the name that was probably meant, if one is like it at all.
pub(crate) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    names
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}
