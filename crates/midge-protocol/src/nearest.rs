//! Guesses which name was meant by one that does not exist, for every "did you mean".

/// The share of letters that are right in a slip. Names with fewer are names of their own: `q1` is not meant by `q2`.
/// The builder refuses an undeclared queue whose name is a slip, so that a guess too many would be an error.
const ALIKE: f64 = 0.6;
/// What is longer is nobody's slip.
const NAME_BYTES_MAX: usize = 256;

/// Returns the known name that was probably meant by one that does not exist, if one is like it at all.
///
/// At most two letters of five may be wrong, missing, too many or swapped (Damerau-Levenshtein distance, by the length
/// of the longer name), whatever the order of a name's parts: `jobs_max` is `max_jobs`. A name that goes on after it is
/// preferred to others, and of two names that are equally like it the first in the order of the alphabet.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // None of ours is as long, and to compare takes as long as both are.
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    known
        .into_iter()
        .map(|known| (alike(name, known), known))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| {
            let goes_on = |known: &str| known.starts_with(name);
            goes_on(a.1).cmp(&goes_on(b.1)).then(a.0.total_cmp(&b.0)).then(b.1.cmp(a.1))
        })
        .map(|(_, known)| known)
}

fn alike(name: &str, known: &str) -> f64 {
    let as_they_are = strsim::normalized_damerau_levenshtein(name, known);
    as_they_are.max(strsim::normalized_damerau_levenshtein(&in_order(name), &in_order(known)))
}

/// Puts the parts of a name into the order of the alphabet.
fn in_order(name: &str) -> String {
    let mut parts: Vec<&str> = name.split(['_', '-']).collect();
    parts.sort_unstable();
    parts.join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_taken_for_what_was_meant() {
        let table = [
            ("resise", "resize"),
            ("rezise", "resize"),
            ("helo", "hello"),
            ("cta", "cat"),
            ("module", "modules"),
            ("timelimit", "time_limit"),
            ("fd_wriet", "fd_write"),
            ("naïv", "naive"),
            // Two of five.
            ("que", "queue"),
        ];
        for (slip, meant) in table {
            assert_eq!(nearest(slip, ["another-name", meant]), Some(meant), "{slip}");
        }
    }

    #[test]
    fn who_left_out_the_end_of_a_name_meant_that_one() {
        assert_eq!(nearest("expires_in", ["expires_at", "expires_in_ms"]), Some("expires_in_ms"));
        assert_eq!(nearest("retry_for", ["retry_fox", "retry_for_ms"]), Some("retry_for_ms"));
        assert_eq!(nearest("e", ["expires_in_ms"]), None);
    }

    #[test]
    fn the_parts_of_a_name_may_be_in_another_order() {
        for (slip, meant) in [
            ("jobs_max", "max_jobs"),
            ("attempts_max", "max_attempts"),
            ("ms_limit_time", "time_limit_ms"),
            ("max-machine", "max_machines"),
            ("thumbs-make", "make-thumbs"),
        ] {
            assert_eq!(nearest(slip, ["max_entries", "made", meant]), Some(meant), "{slip}");
        }
    }

    #[test]
    fn another_name_is_no_slip() {
        for (name, known) in [("q1", "q2"), ("x", "a"), ("cat", "dog"), ("mail", "main-queue"), ("", "a")] {
            assert_eq!(nearest(name, [known]), None, "{name}");
        }
        assert_eq!(nearest("anything", []), None);
    }

    #[test]
    fn the_name_that_is_most_like_it_is_meant_and_of_two_the_first() {
        assert_eq!(nearest("resise", ["resized", "resize"]), Some("resize"));
        assert_eq!(nearest("job-c", ["job-b", "job-a"]), Some("job-a"));
    }
}
