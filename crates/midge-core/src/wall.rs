//! What time a server goes by: the system's, read so that a clock that is set does no harm.

use std::time::Duration;

use midge_protocol::Timestamp;

/// A clock that is further off than this since it was last read was set: less than a lease lasts between two heartbeats.
/// What is less is how a clock is corrected, or how long a read took.
const STEP: Duration = Duration::from_secs(5);

/// The system's clock as a server goes by it.
///
/// It follows the system's. By a little it is never set back: then it stands still until the system's has caught up. A
/// step is taken over at once, since stored times mean what people mean by them; and from then on no lease is counted
/// that began before it.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    wall: Timestamp,
    /// How long the process had run when it was read.
    ran: Duration,
    told: Timestamp,
    even_since: Timestamp,
}

/// A clock that was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What was told last.
    pub from: Timestamp,
    /// The time now.
    pub to: Timestamp,
}

impl WallClock {
    /// Begins with what the system's clock says, and how long the process has run.
    pub fn new(wall: Timestamp, ran: Duration) -> WallClock {
        WallClock { wall, ran, told: wall, even_since: wall }
    }

    /// Reads the time from what the system's clock says, and from how long the process has run, sleep of the computer left
    /// out. Says where the clock was set since it was last read.
    pub fn read(&mut self, wall: Timestamp, ran: Duration) -> (Timestamp, Option<Step>) {
        let expected = self.wall.after(ran.saturating_sub(self.ran));
        let off = wall.since(expected).max(expected.since(wall));
        let stood_still = self.told.since(wall);
        (self.wall, self.ran) = (wall, ran.max(self.ran));
        if off <= STEP && stood_still <= STEP {
            self.told = self.told.max(wall);
            return (self.told, None);
        }
        let step = Step { from: self.told, to: wall };
        (self.told, self.even_since) = (wall, wall);
        (wall, Some(step))
    }

    /// Returns since when the clock was not set: its beginning, or the last step.
    pub fn even_since(&self) -> Timestamp {
        self.even_since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000_000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(NOW + millis)
    }

    /// What is told at each of these readings: of the wall, and of how long the process ran.
    fn told(readings: &[(i64, u64)]) -> Vec<(i64, bool)> {
        let mut clock = WallClock::new(at(0), Duration::ZERO);
        let read = |(wall, ran): &(i64, u64)| {
            let (now, step) = clock.read(at(*wall), Duration::from_millis(*ran));
            (now.as_millis() - NOW, step.is_some())
        };
        readings.iter().map(read).collect()
    }

    #[test]
    fn it_follows_the_system_and_never_runs_backwards_by_a_little() {
        let slewed: Vec<(i64, u64)> = (1..1_000).map(|n| (n * 10_005, n as u64 * 10_000)).collect();
        assert!(told(&slewed).iter().zip(&slewed).all(|(told, (wall, _))| *told == (*wall, false)));
        assert_eq!(
            told(&[(1_000, 1_000), (500, 1_500), (1_200, 2_200)]),
            [(1_000, false), (1_000, false), (1_200, false)]
        );
    }

    #[test]
    fn a_step_is_taken_over_at_once_and_said_once() {
        let hour = 3_600_000;
        assert_eq!(
            told(&[(10, 10), (hour, 20), (hour + 10, 30)]),
            [(10, false), (hour, true), (hour + 10, false)]
        );
        assert_eq!(
            told(&[(10, 10), (-hour, 20), (10 - hour, 30)]),
            [(10, false), (-hour, true), (10 - hour, false)]
        );
        let mut slept = WallClock::new(at(0), Duration::ZERO);
        assert_eq!(slept.even_since(), at(0));
        slept.read(at(hour), Duration::from_millis(5));
        slept.read(at(hour + 9), Duration::from_millis(14));
        assert_eq!(slept.even_since(), at(hour));
    }

    #[test]
    fn it_does_not_stand_still_for_long_however_small_the_steps_are() {
        let readings: Vec<(i64, u64)> = (1..10).map(|n| (-4_000 * n, 100 * n as u64)).collect();
        let told = told(&readings);
        assert!(told.iter().any(|(_, step)| *step));
        assert!(told.iter().zip(&readings).all(|((told, _), (wall, _))| told - wall <= 5_000), "{told:?}");
    }

    #[test]
    fn no_time_is_too_large_for_it() {
        let mut clock = WallClock::new(Timestamp::EARLIEST, Duration::ZERO);
        for (wall, ran) in [(Timestamp::LATEST, Duration::MAX), (Timestamp::EARLIEST, Duration::ZERO)] {
            assert_eq!(clock.read(wall, ran).0, wall);
        }
    }
}
