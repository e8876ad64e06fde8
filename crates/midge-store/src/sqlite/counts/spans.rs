//! Where among all ids those of the jobs in line are: a list of them, newest id first, passes by what is between.
//!
//! A span goes from one id to another and says how many jobs in line it has. Ids begin with the time at which they were
//! made, so that a few spans say much: jobs that wait behind a paused queue are one, however many have ended since.

use midge_protocol::JobId;

/// The most spans of one phase of a queue and module. They stand in the row of its numbers, which is written with each
/// transaction, and are to be no page of their own.
const SPANS_MAX: usize = 24;
/// How many bytes of an id a span goes by: its time, in milliseconds.
const ID_BYTES: usize = 6;
/// The bytes of a span: the first and the last id, and the number.
const SPAN_BYTES: usize = 2 * ID_BYTES + 4;

/// The ids from one to another, and how many of the jobs are in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: u64,
    last: u64,
    jobs: i64,
}

/// The first id of a span, and the first beyond it; nothing where there is none.
pub(in crate::sqlite) type IdSpan = (JobId, Option<JobId>);

/// The spans of a phase, in the order of ids. Those that have no job are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::sqlite) struct Spans(Vec<Span>);

impl Spans {
    /// Makes the spans of jobs whose ids nobody knows.
    pub(super) fn anywhere(jobs: i64) -> Spans {
        let all = Span { first: 0, last: start(&JobId::from_bytes([0xff; 16])), jobs };
        Spans((jobs > 0).then_some(all).into_iter().collect())
    }

    /// Counts a job that comes in line (`by` 1) or leaves it (`by` -1).
    pub(super) fn count(&mut self, id: &JobId, by: i64) {
        let id = start(id);
        // Most are the newest.
        let after = self.0.iter().rposition(|span| span.first <= id);
        if let Some(at) = after.filter(|at| id <= self.0[*at].last) {
            self.0[at].jobs += by;
            if self.0[at].jobs <= 0 {
                self.0.remove(at);
            }
        } else if by > 0 {
            self.0.insert(after.map_or(0, |at| at + 1), Span { first: id, last: id, jobs: by });
            if self.0.len() > SPANS_MAX {
                self.merge();
            }
        }
    }

    /// Makes one of the two neighbours that are the shortest together.
    fn merge(&mut self) {
        let together = |at: &usize| self.0[at + 1].last - self.0[*at].first;
        if let Some(at) = (0..self.0.len() - 1).min_by_key(together) {
            let next = self.0.remove(at + 1);
            self.0[at].last = next.last;
            self.0[at].jobs += next.jobs;
        }
    }

    /// Returns the ids of the spans, oldest first.
    pub(in crate::sqlite) fn ids(&self) -> impl Iterator<Item = IdSpan> {
        self.0.iter().map(|span| (begin(span.first).unwrap_or(FIRST), begin(span.last + 1)))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * SPAN_BYTES);
        for Span { first, last, jobs } in &self.0 {
            bytes.extend_from_slice(&first.to_be_bytes()[8 - ID_BYTES..]);
            bytes.extend_from_slice(&last.to_be_bytes()[8 - ID_BYTES..]);
            bytes.extend_from_slice(&u32::try_from(*jobs).unwrap_or(u32::MAX).to_be_bytes());
        }
        bytes
    }

    /// Reads spans of so many jobs. Where they are not known, or are others', the jobs are anywhere.
    pub(super) fn read(bytes: &[u8], jobs: i64) -> Spans {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let span = |span: &[u8]| Span {
            first: number(&span[..ID_BYTES]),
            last: number(&span[ID_BYTES..2 * ID_BYTES]),
            jobs: number(&span[2 * ID_BYTES..]) as i64,
        };
        let spans: Vec<Span> = bytes.chunks_exact(SPAN_BYTES).map(span).collect();
        if spans.iter().map(|span| span.jobs).sum::<i64>() == jobs {
            Spans(spans)
        } else {
            Spans::anywhere(jobs)
        }
    }
}

const FIRST: JobId = JobId::from_bytes([0; 16]);

/// Returns what a span goes by of an id.
fn start(id: &JobId) -> u64 {
    id.as_bytes()[..ID_BYTES].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Returns the first id that begins so; nothing beyond the last.
fn begin(start: u64) -> Option<JobId> {
    if start >> (8 * ID_BYTES) > 0 {
        return None;
    }
    let mut bytes = [0; 16];
    bytes[..ID_BYTES].copy_from_slice(&start.to_be_bytes()[8 - ID_BYTES..]);
    Some(JobId::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(start: u64) -> JobId {
        begin(start).unwrap()
    }

    fn has(spans: &Spans, id: &JobId) -> bool {
        spans.ids().any(|(first, beyond)| first <= *id && beyond.is_none_or(|beyond| *id < beyond))
    }

    #[test]
    fn every_job_in_line_is_in_a_span_and_none_are_left_when_all_have_gone() {
        let mut spans = Spans::default();
        let mut there = Vec::new();
        for number in 0..5_000_u64 {
            // Times that rise, and now and then any other id.
            let id =
                id(if number % 7 == 0 { number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16 } else { number });
            spans.count(&id, 1);
            there.push(id);
            if number % 3 == 0 {
                spans.count(&there.swap_remove(number as usize * 31 % there.len()), -1);
            }
            assert!(spans.0.len() <= SPANS_MAX && spans.0.is_sorted_by(|a, b| a.last < b.first));
        }
        assert!(there.iter().all(|id| has(&spans, id)));
        assert_eq!(Spans::read(&spans.to_bytes(), there.len() as i64), spans);
        there.iter().for_each(|id| spans.count(id, -1));
        assert_eq!(spans, Spans::default());
    }

    #[test]
    fn what_ended_is_between_the_spans() {
        let mut spans = Spans::default();
        (0..10_000).for_each(|number| spans.count(&id(number), 1));
        (10_000..100_000).for_each(|number| {
            spans.count(&id(number), 1);
            spans.count(&id(number), -1);
        });
        spans.count(&id(100_000), 1);
        assert!([0, 9_999, 100_000].iter().all(|number| has(&spans, &id(*number))));
        assert!(![20_000, 99_999].iter().any(|number| has(&spans, &id(*number))));
    }

    #[test]
    fn jobs_that_are_not_known_are_anywhere() {
        let spans = Spans::read(&[], 3);
        assert!(has(&spans, &FIRST) && has(&spans, &JobId::from_bytes([0xff; 16])));
        assert_eq!(Spans::read(&[1; SPAN_BYTES + 3], 2), Spans::anywhere(2));
        assert_eq!(Spans::read(&[], 0), Spans::default());
    }
}
