//! How long Machines take to be made, to start and to go on.

use std::time::Duration;

use crate::draws::Draw;

/// How long a Machine takes from state to state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Latency {
    /// No longer than its process does.
    #[default]
    None,
    /// The same each time.
    Fixed {
        /// How long it stays `created`, as it does on Fly while its image is fetched.
        create: Duration,
        /// How long it stays `starting`, as it does on Fly while its kernel boots.
        start: Duration,
        /// How long it stays `starting` where it was suspended.
        resume: Duration,
    },
    /// As people have measured on Fly, drawn under the seed: see [`CREATE_MS`], [`START_MS`] and [`RESUME_MS`].
    Fly,
}

/// The time from a create until the Machine had started, as logs that users have published show it. Less the median of
/// [`START_MS`], it is the time that a Machine stays `created`.
pub const CREATE_MS: [u32; 9] = [2_478, 2_498, 3_454, 3_946, 4_599, 8_887, 10_958, 11_363, 15_341];
/// The time from `stopped` to `started`, as logs that users have published show it.
pub const START_MS: [u32; 7] = [498, 831, 858, 1_154, 1_397, 1_493, 3_419];
/// The time from `suspended` to `started`: Fly's "few hundred milliseconds", and the longest that users have told of.
pub const RESUME_MS: [u32; 5] = [200, 300, 400, 600, 1_290];

/// A way that takes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Create,
    Start,
    Resume,
}

impl Latency {
    /// Returns how long a way takes.
    pub(crate) fn of(self, way: Way, draw: &Draw) -> Duration {
        let between =
            |figures: &[u32], word| Duration::from_secs_f64(quantile(figures, draw.unit(word)) / 1e3);
        match (self, way) {
            (Latency::None, _) => Duration::ZERO,
            (Latency::Fixed { create, .. }, Way::Create) => create,
            (Latency::Fixed { start, .. }, Way::Start) => start,
            (Latency::Fixed { resume, .. }, Way::Resume) => resume,
            (Latency::Fly, Way::Create) => {
                let start = Duration::from_millis(START_MS[START_MS.len() / 2].into());
                between(&CREATE_MS, "create").saturating_sub(start)
            }
            (Latency::Fly, Way::Start) => between(&START_MS, "start"),
            (Latency::Fly, Way::Resume) => between(&RESUME_MS, "resume"),
        }
    }
}

/// Returns what `share` of the figures are below, on the straight lines between them. They are in order.
fn quantile(figures: &[u32], share: f64) -> f64 {
    let place = share * (figures.len() - 1) as f64;
    let low = place.floor() as usize;
    let high = (low + 1).min(figures.len() - 1);
    let (low_ms, high_ms) = (f64::from(figures[low]), f64::from(figures[high]));
    low_ms + (high_ms - low_ms) * (place - low as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::Draws;

    #[test]
    fn figures_are_in_order_and_read_between() {
        for figures in [&CREATE_MS[..], &START_MS[..], &RESUME_MS[..]] {
            assert!(figures.is_sorted());
        }
        assert_eq!(quantile(&[100, 200, 400], 0.0), 100.0);
        assert_eq!(quantile(&[100, 200, 400], 0.5), 200.0);
        assert_eq!(quantile(&[100, 200, 400], 0.75), 300.0);
        assert!(quantile(&[100, 200, 400], 1.0 - f64::EPSILON) <= 400.0);
    }

    #[test]
    fn drawn_times_have_the_medians_that_were_published() {
        let draws = Draws::new(3);
        let median = |way| {
            let mut times: Vec<_> = (0..999).map(|_| Latency::Fly.of(way, &draws.next("m"))).collect();
            times.sort();
            times[499].as_millis()
        };
        assert!((3_100..3_900).contains(&median(Way::Create)), "{}", median(Way::Create));
        assert!((1_100..1_250).contains(&median(Way::Start)), "{}", median(Way::Start));
        assert!((370..450).contains(&median(Way::Resume)), "{}", median(Way::Resume));
    }
}
