//! Guesses which name was meant by one that does not exist.

/// Names further apart than this share of their letters are not taken for a slip: about a third may be wrong.
const ALIKE: f64 = 0.6;

/// Returns the known name that was probably meant by one that does not exist, if one is like it at all; of two that are
/// equally like it, the first in the order of the alphabet.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1)))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_taken_for_what_was_meant() {
        let known = ["resize", "render", "report", "hello"];
        for (slip, meant) in
            [("resise", "resize"), ("rezise", "resize"), ("helo", "hello"), ("rendr", "render")]
        {
            assert_eq!(nearest(slip, known), Some(meant), "{slip}");
        }
    }

    #[test]
    fn another_name_is_no_slip() {
        assert_eq!(nearest("invoice", ["resize", "hello"]), None);
        assert_eq!(nearest("x", ["a", "b"]), None);
        assert_eq!(nearest("anything", []), None);
    }

    #[test]
    fn of_two_that_are_equally_like_it_the_first_is_named() {
        assert_eq!(nearest("job-c", ["job-b", "job-a"]), Some("job-a"));
    }
}
