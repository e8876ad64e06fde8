//! Rules about batches.

use midge_protocol::job::AfterFailed;

use super::*;
use crate::Links;
use crate::job::tests::new_job;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn id(number: u8) -> JobId {
    JobId::from_bytes([number; 16])
}

/// A batch with a callback for everything that can happen to it.
fn batch(number: u64) -> Batch {
    let callbacks = BatchEvent::ALL.into_iter().zip([id(1), id(2), id(3)]).collect();
    let new = Batch::new(BatchId::from_bytes([number as u8; 16]), number, "import".into(), 7, NOW);
    Batch { callbacks, ..new }
}

/// A batch whose jobs are in these phases.
fn with(phases: &[Phase]) -> Batch {
    let mut batch = batch(5);
    phases.iter().for_each(|phase| batch.count(None, Some(*phase)));
    batch
}

/// What a batch has its callbacks do: those that run, and those that do not.
fn callbacks(batch: &Batch) -> (Vec<JobId>, Vec<JobId>) {
    let (runs, unmet): (Vec<_>, Vec<_>) =
        batch.act(NOW).1.into_iter().partition(|(_, event)| matches!(event, JobEvent::Met));
    let ids = |events: Vec<(JobId, JobEvent)>| events.into_iter().map(|(id, _)| id).collect();
    (ids(runs), ids(unmet))
}

#[test]
fn a_batch_ends_once_when_it_is_closed_and_all_of_its_jobs_have_ended() {
    let open = with(&[Phase::Completed, Phase::Completed]);
    assert!(!open.has_to_act(), "jobs may come");
    let closed = open.closed(NOW);
    assert!(closed.has_to_act());
    assert_eq!(callbacks(&closed), (vec![id(1), id(2)], vec![id(3)]));
    let (ended, _) = closed.act(NOW);
    assert_eq!((ended.state(), ended.ended_at), (BatchState::Ended, Some(NOW)));
    assert!(!ended.has_to_act() && ended.act(NOW).1.is_empty(), "it ends once");
    for unended in [Phase::Fresh, Phase::Retrying, Phase::Held, Phase::Pending, Phase::Running] {
        assert!(!with(&[Phase::Completed, unended]).closed(NOW).has_to_act(), "{unended:?}");
    }
}

#[test]
fn a_batch_without_jobs_has_completed_when_it_is_closed() {
    assert!(!batch(5).has_to_act());
    assert_eq!(callbacks(&batch(5).closed(NOW)).0, [id(1), id(2)]);
}

#[test]
fn the_first_job_that_is_discarded_is_a_failure_whether_others_run_or_come() {
    let mut failing = with(&[Phase::Running, Phase::Discarded]);
    assert_eq!(callbacks(&failing), (vec![id(3)], vec![]));
    failing = failing.act(NOW).0;
    failing.count(Some(Phase::Running), Some(Phase::Discarded));
    assert!(!failing.has_to_act(), "it failed once");
    assert_eq!(callbacks(&failing.closed(NOW)), (vec![id(2)], vec![id(1)]));
    let both = with(&[Phase::Discarded]).closed(NOW);
    assert_eq!(callbacks(&both), (vec![id(3), id(2)], vec![id(1)]));
}

#[test]
fn a_cancelled_job_is_no_failure_and_the_batch_has_not_completed() {
    let cancelled = with(&[Phase::Completed, Phase::Cancelled]).closed(NOW);
    assert_eq!(callbacks(&cancelled), (vec![id(2)], vec![id(1), id(3)]));
    let (_, events) = cancelled.act(NOW);
    let Some((_, JobEvent::Unmet { why })) = events.first() else { panic!("{events:?}") };
    assert!(why.contains("of the 2 jobs of batch") && why.contains("1 cancelled"), "{why}");
}

#[test]
fn a_job_that_is_retried_after_the_end_changes_counts_and_nothing_else() {
    let (mut ended, _) = with(&[Phase::Discarded]).closed(NOW).act(NOW);
    ended.count(Some(Phase::Discarded), Some(Phase::Fresh));
    ended.count(Some(Phase::Fresh), Some(Phase::Running));
    ended.count(Some(Phase::Running), Some(Phase::Completed));
    assert_eq!((ended.counts.completed, ended.counts.total(), ended.has_to_act()), (1, 1, false));
    ended.count(Some(Phase::Completed), Some(Phase::Discarded));
    assert!(!ended.has_to_act());
}

#[test]
fn a_job_that_is_retried_before_the_end_may_complete_in_time() {
    let mut batch = with(&[Phase::Discarded, Phase::Running]).act(NOW).0.closed(NOW);
    batch.count(Some(Phase::Discarded), Some(Phase::Completed));
    batch.count(Some(Phase::Running), Some(Phase::Completed));
    assert_eq!(callbacks(&batch).0, [id(1), id(2)]);
}

#[test]
fn what_was_deleted_is_counted_as_it_ended_and_else_as_cancelled() {
    let mut batch = with(&[Phase::Completed, Phase::Fresh]);
    batch.count(Some(Phase::Completed), None);
    assert_eq!((batch.counts.completed, batch.counts.total()), (1, 2));
    batch.count(Some(Phase::Fresh), None);
    assert_eq!((batch.counts.waiting, batch.counts.cancelled, batch.counts.total()), (0, 1, 2));
}

#[test]
fn a_batch_takes_jobs_while_it_is_open_and_is_cancelled_until_it_has_ended() {
    let job = Job::new(new_job(9, NOW), NOW);
    assert_eq!(batch(5).takes(&job, None), Ok(()));
    let closed = with(&[Phase::Running]).closed(NOW);
    let refused = closed.takes(&job, None).unwrap_err();
    assert_eq!(refused, BatchRefused::Closed(closed.id, BatchState::Closed));
    let cancelled = batch(5).cancelled(NOW).unwrap();
    assert_eq!((cancelled.state(), cancelled.has_to_act()), (BatchState::Closed, true));
    assert!(cancelled.takes(&job, None).is_err());
    let ended = batch(5).closed(NOW).act(NOW).0;
    assert_eq!(ended.cancelled(NOW), Err(BatchRefused::Ended(ended.id)));
}

#[test]
fn a_closed_batch_takes_what_its_own_jobs_enqueue_until_it_has_ended() {
    let job = Job::new(new_job(1, NOW), NOW);
    let mut parent = Job::new(new_job(2, NOW), NOW);
    let closed = batch(5).closed(NOW);
    assert!(closed.takes(&job, Some(&parent)).is_err(), "it is of another batch, or of none");
    parent.links.batch = Some(closed.id);
    assert_eq!(closed.takes(&job, Some(&parent)), Ok(()));
    assert!(closed.cancelled(NOW).unwrap().takes(&job, Some(&parent)).is_err());
    let (ended, _) = closed.act(NOW);
    assert!(ended.ended_at.is_some() && ended.takes(&job, Some(&parent)).is_err());
}

#[test]
fn a_job_of_a_batch_waits_for_no_batch_that_is_not_older() {
    let waits_for = |number| {
        let links = Links { behind: number, after_failed: AfterFailed::GoOn, ..Links::default() };
        Job { links, ..Job::new(new_job(9, NOW), NOW) }.pending()
    };
    assert_eq!(batch(5).takes(&waits_for(0), None), Ok(()));
    assert_eq!(batch(5).takes(&waits_for(4), None), Ok(()));
    for number in [5, 6] {
        assert_eq!(batch(5).takes(&waits_for(number), None), Err(BatchRefused::Circle(batch(5).id)));
    }
    // It waits for nothing any more.
    assert_eq!(batch(5).takes(&waits_for(6).apply(JobEvent::Met, NOW).unwrap().job, None), Ok(()));
}

/// Whatever people enqueue after whatever, in whatever batch: from no batch does a way lead back to it.
#[test]
fn no_way_leads_from_a_batch_back_to_it() {
    let mut seed: u64 = 1;
    let mut draw = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..300 {
        // Pending jobs: what each is after, by index, and the batch that it waits for as a callback of it.
        let mut jobs: Vec<(Job, Vec<usize>, Option<usize>)> = Vec::new();
        let mut batches: Vec<(Batch, Vec<usize>)> = Vec::new();
        for _ in 0..40 {
            let new = Job::new(new_job(jobs.len() as u8, NOW), NOW);
            if batches.is_empty() || draw(4) == 0 {
                let number = batches.len() as u64 + 1;
                batches.push((batch(number), Vec::new()));
                let callback = new.called_by(&batches[batches.len() - 1].0, BatchEvent::Ended);
                jobs.push((callback, Vec::new(), Some(batches.len() - 1)));
                continue;
            }
            let after: Vec<usize> = (0..1 + draw(2)).map(|_| draw(jobs.len())).collect();
            let on: Vec<&Job> = after.iter().map(|index| &jobs[*index].0).collect();
            let links = Links { behind: Links::behind(on.iter().copied()), ..Links::default() };
            let job = Job { links, ..new }.pending();
            if draw(3) > 0 {
                let index = draw(batches.len());
                let (batch, members) = &mut batches[index];
                if batch.takes(&job, None).is_err() {
                    refused += 1;
                    continue;
                }
                members.push(jobs.len());
            }
            taken += 1;
            jobs.push((job, after, None));
        }
        for start in 0..batches.len() {
            let (mut seen, mut todo) = (vec![false; jobs.len()], batches[start].1.clone());
            while let Some(job) = todo.pop() {
                if std::mem::replace(&mut seen[job], true) {
                    continue;
                }
                let (_, after, callback_of) = &jobs[job];
                todo.extend(after);
                if let Some(batch) = callback_of {
                    assert_ne!(*batch, start, "a batch waits for itself");
                    todo.extend(&batches[*batch].1);
                }
            }
        }
    }
    assert!(taken > 100 && refused > 100, "{taken} {refused}");
}
