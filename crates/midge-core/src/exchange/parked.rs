//! The server's side of the exchange: how long an answer that says nothing is held back.

use std::time::Duration;

use midge_protocol::exchange::{Answer, Request};
use midge_protocol::{Timestamp, limits};

/// A host's request while its answer may be held back.
#[derive(Debug, Clone, Copy)]
pub struct Parked {
    /// The answer goes out at this time at the latest, whatever it says.
    pub until: Timestamp,
    since: Timestamp,
    /// Whether the host repeats something until it is acknowledged: then it is, at once.
    reports: bool,
}

impl Parked {
    /// Takes a request that came at `now`. It is parked as long as its host asks for, and at most for
    /// [`limits::HEARTBEAT`], so that the host is heard of again in time.
    pub fn new(request: &Request, now: Timestamp) -> Parked {
        let wait = Duration::from_millis(request.wait_ms.into()).min(limits::HEARTBEAT);
        let reports = !(request.finished.is_empty() && request.log.is_empty());
        Parked { until: now.after(wait), since: now, reports }
    }

    /// Returns whether an answer goes out at `now`. One that is held back is asked for again when there may be
    /// something to say, and at [`Parked::until`]. `stale`: a newer request of the same Machine has come.
    pub fn is_answered(&self, request: &Request, answer: &Answer, stale: bool, now: Timestamp) -> bool {
        // Where the clock was put back, nobody knows how long it was.
        let is_over = now >= self.until || now < self.since;
        self.reports || stale || answer.is_news_to(request) || is_over
    }
}

#[cfg(test)]
mod tests {
    use midge_protocol::BootId;
    use midge_protocol::exchange::LogChunk;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn request(wait_ms: u32) -> Request {
        Request {
            boot: BootId(1),
            seq: 1,
            room: 1,
            wait_ms,
            leaving: false,
            running: Vec::new(),
            finished: Vec::new(),
            log: Vec::new(),
            saved: Vec::new(),
        }
    }

    fn is_answered(request: &Request, answer: &Answer, stale: bool) -> bool {
        Parked::new(request, NOW).is_answered(request, answer, stale, NOW)
    }

    #[test]
    fn an_answer_that_says_nothing_is_held_back_until_there_is_something_to_say() {
        let request = request(5_000);
        assert!(!is_answered(&request, &Answer::default(), false));
        assert!(is_answered(&request, &Answer { left: true, ..Answer::default() }, false));
        let parked = Parked::new(&request, NOW);
        let later = NOW.after(Duration::from_millis(5_000));
        assert!(parked.is_answered(&request, &Answer::default(), false, later));
    }

    #[test]
    fn a_report_is_acknowledged_at_once() {
        let job = midge_protocol::JobId::from_bytes([1; 16]);
        let attempt = midge_protocol::exchange::AttemptRef::new(job, midge_protocol::AttemptNumber(1));
        let log = vec![LogChunk { attempt, offset: 0, bytes: "line".into() }];
        assert!(is_answered(&Request { log, ..request(5_000) }, &Answer::default(), false));
    }

    #[test]
    fn an_older_request_gives_way_to_a_newer_one() {
        assert!(is_answered(&request(5_000), &Answer::default(), true));
    }

    #[test]
    fn no_host_is_silent_for_longer_than_a_heartbeat() {
        let parked = Parked::new(&request(u32::MAX), NOW);
        assert_eq!(parked.until, NOW.after(limits::HEARTBEAT));
    }
}
