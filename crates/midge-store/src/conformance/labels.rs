//! Rules about finding the jobs that people mean, by whatever they know of them, and counting them.

use midge_core::{Job, JobEvent, JobSearch, Phase, StateFilter, Stretch};
use midge_protocol::api::{Cursor, JobCount};
use midge_protocol::exchange::Outcome;
use midge_protocol::job::{Cause, Failure, State};
use midge_protocol::{BatchId, JobId, JobKey, Tag, Timestamp};

use super::Kept;
use super::fixtures::{
    Chance, after, ask, at, cancelled, completed, discarded, failed, finished, id, job, job_of, module, put,
    queue, running,
};
use crate::{Content, FoundJobs, Store, StoreError, write};

fn tag(name: &str) -> Tag {
    Tag::new(name).expect("rules use tags that are tags")
}

fn key(name: &str) -> JobKey {
    JobKey::new(name).expect("rules use keys that are keys")
}

/// Walks all pages, and returns the jobs of all, and how many there were.
async fn pages(
    store: &dyn Store,
    search: &JobSearch,
    limit: usize,
) -> Result<(Vec<JobId>, usize), StoreError> {
    let mut search = search.clone();
    let (mut all, mut pages) = (Vec::new(), 0);
    loop {
        pages += 1;
        let asked = search.clone();
        let FoundJobs { jobs, stopped_at } = ask(store, move |rows| rows.jobs_found(&asked, limit)).await?;
        assert!(jobs.len() <= limit);
        let last = jobs.last().map(|job| search.point_of_read(job.as_ref()));
        let next = if jobs.len() == limit { last } else { stopped_at };
        all.extend(jobs.iter().map(|job| job.as_ref().expect("what was written can be read").id));
        let Some(next) = next else { return Ok((all, pages)) };
        search.before = Some(next);
    }
}

/// An id of version 7, made so many milliseconds after 1970.
fn made(millis: u64, number: u8) -> JobId {
    let mut bytes = [number; 16];
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    bytes[6] = 0x70;
    JobId::from_bytes(bytes)
}

/// Jobs in all phases and of all kinds that one may search for, a few of each and most of none.
fn many() -> Vec<Job> {
    let mut chance = Chance::new(7);
    let mut all = Vec::new();
    for number in 0..400 {
        let (queue, module) =
            (["default", "rare"][chance.below(2) as usize], ["hello", "resize"][chance.below(2) as usize]);
        let mut job = job_of(number, queue, module, chance.below(100) as i64);
        if chance.below(4) > 0 {
            job.id = made(1_000 + chance.below(50), number as u8);
            job.id = if all.iter().any(|other: &Job| other.id == job.id) { id(number) } else { job.id };
        }
        job.links.parent = (chance.below(5) == 0).then(|| id(chance.below(2).into()));
        job.key = [None, None, Some(key("acme")), Some(key("other"))][chance.below(4) as usize].clone();
        job.labels.tags = match chance.below(6) {
            0 => vec![tag("blue")],
            1 => vec![tag("red"), tag("blue")],
            _ => Vec::new(),
        };
        let when = at(1_000 + chance.below(20) as i64);
        let cause = [Cause::Exit, Cause::Trap][chance.below(2) as usize].clone();
        let text =
            ["user 42 not found", "user 7 not found", "no room", "an \u{e9}nd"][chance.below(4) as usize];
        let fails = Outcome::Failed(Failure::new(cause, text));
        all.push(match chance.below(8) {
            0 => completed(&job, when),
            1 => running(&job, "m1"),
            2 => cancelled(&job, when),
            3 => discarded(&job, when),
            4 | 5 => finished(&job, fails, when),
            6 => after(&cancelled(&finished(&job, fails, when), when), JobEvent::RetryAsked, when),
            _ => job,
        });
    }
    all
}

fn searches(jobs: &[Job]) -> Vec<JobSearch> {
    let fingerprints: Vec<_> = jobs.iter().filter_map(Job::fingerprint).collect();
    let stretch =
        |since: Option<i64>, until: Option<i64>| Stretch { since: since.map(at), until: until.map(at) };
    let times = |since: Option<i64>, until: Option<i64>| Stretch {
        since: since.map(Timestamp::from_millis),
        until: until.map(Timestamp::from_millis),
    };
    let all = JobSearch::default;
    let mut searches = vec![
        JobSearch { tag: Some(tag("blue")), ..all() },
        JobSearch { tag: Some(tag("red")), ..all() },
        JobSearch { tag: Some(tag("none")), ..all() },
        JobSearch { key: Some(key("acme")), ..all() },
        JobSearch { key: Some(key("none")), ..all() },
        JobSearch { parent: Some(id(1)), ..all() },
        JobSearch { parent: Some(id(2)), ..all() },
        JobSearch { made: times(Some(1_010), Some(1_030)), ..all() },
        JobSearch { made: times(None, Some(1_005)), ..all() },
        JobSearch { made: times(Some(1_045), None), ..all() },
        JobSearch { failed: stretch(Some(1_005), Some(1_010)), ..all() },
        JobSearch { failed: stretch(Some(1_015), None), ..all() },
        JobSearch { text: Some("not found".to_owned()), ..all() },
        JobSearch { text: Some("\u{e9}".to_owned()), ..all() },
        JobSearch { args: Some("\"n\": 7".to_owned()), ..all() },
        JobSearch { cause: Some(Cause::Trap), ..all() },
        JobSearch { cause: Some(Cause::OverTime), ..all() },
        JobSearch { failure: Some(fingerprints[0]), ..all() },
        all(),
    ];
    let states = [State::Discarded, State::Retryable, State::Available, State::Completed, State::Running];
    let more: Vec<JobSearch> = searches
        .iter()
        .flat_map(|search| {
            let mut more: Vec<JobSearch> = states
                .iter()
                .map(|state| JobSearch { state: StateFilter::of(*state, at(60)), ..search.clone() })
                .collect();
            more.push(JobSearch {
                queue: Some(queue("rare")),
                module: Some(module("resize")),
                ..search.clone()
            });
            more.push(JobSearch { tag: Some(tag("blue")), cause: Some(Cause::Exit), ..search.clone() });
            more
        })
        .collect();
    searches.extend(more);
    let by_failure: Vec<JobSearch> =
        searches.iter().map(|search| JobSearch { by_failure: true, ..search.clone() }).collect();
    searches.extend(by_failure);
    searches
}

/// Whatever is searched for, the pages have exactly the jobs that fit, in the order of the search, and so many are counted.
pub async fn every_search_finds_and_counts_exactly_what_fits(store: &dyn Store) -> Kept {
    let jobs = many();
    put(store, &jobs).await?;
    let args = |job: &Job| format!("{{\"n\": {}}}", job.content_hash % 10);
    let contents: Vec<(JobId, String)> = jobs.iter().map(|job| (job.id, args(job))).collect();
    write(store, move |rows| {
        contents.iter().try_for_each(|(job, args)| rows.put_content(*job, Content::Args, args.as_bytes()))
    })
    .await?;
    for search in searches(&jobs) {
        let fits = |job: &&Job| search.matches(job) && search.matches_args(args(job).as_bytes());
        let mut expected: Vec<&Job> = jobs.iter().filter(fits).collect();
        expected.sort_by_key(|job| {
            std::cmp::Reverse((search.by_failure.then(|| job.failed_at()).flatten(), job.id))
        });
        let expected: Vec<JobId> = expected.iter().map(|job| job.id).collect();
        for limit in [1_000, 7] {
            assert_eq!(pages(store, &search, limit).await?.0, expected, "{search:?}");
        }
        let asked = search.clone();
        let counted = ask(store, move |rows| rows.jobs_counted(&asked, at(60))).await?;
        assert_eq!(counted, JobCount { jobs: expected.len() as u64, exact: true }, "{search:?}");
    }
    Ok(())
}

/// A search that no index serves looks at so many jobs and no more, says where it stopped, and goes on from there.
pub async fn a_search_stops_early_and_goes_on_from_there(store: &dyn Store) -> Kept {
    let many: Vec<Job> = (0..12_000).map(|number| job(number, "default", 0)).collect();
    put(store, &many).await?;
    let found = [id(3), id(6_000), id(11_999)];
    write(store, move |rows| {
        found.iter().try_for_each(|job| rows.put_content(*job, Content::Args, b"{\"a\": \"needle\"}"))
    })
    .await?;
    let search = JobSearch { args: Some("needle".to_owned()), ..JobSearch::default() };
    let (all, pages) = pages(store, &search, 10).await?;
    assert_eq!(all, [id(11_999), id(6_000), id(3)]);
    assert!(pages > 2, "it looked at 12,000 jobs in {pages} pages");
    Ok(())
}

/// However many others are newer, a page of the few jobs of a tag, a key, a batch, a parent or a cause is found at once.
pub async fn few_jobs_are_found_at_once_behind_many_newer_ones(store: &dyn Store) -> Kept {
    let mut old = job(1, "default", 0);
    old.labels.tags = [tag("rare")].into();
    old.key = Some(key("rare"));
    old.links.batch = Some(BatchId::from_bytes([7; 16]));
    old.links.parent = Some(id(9));
    let failed_before = discarded(&job(2, "default", 0), at(1));
    let others = (10..5_500).map(|number| failed(&job(number, "default", 0), at(2)));
    put(store, &[old.clone(), failed_before.clone()]).await?;
    put(store, &others.collect::<Vec<_>>()).await?;
    let by_failure = JobSearch { by_failure: true, ..JobSearch::default() };
    for (search, found) in [
        (JobSearch { tag: old.labels.tags.first().cloned(), ..JobSearch::default() }, &old),
        (JobSearch { key: old.key.clone(), ..JobSearch::default() }, &old),
        (JobSearch { batch: old.links.batch, ..JobSearch::default() }, &old),
        (JobSearch { parent: old.links.parent, ..JobSearch::default() }, &old),
        (JobSearch { cause: Some(Cause::Refused), ..by_failure.clone() }, &failed_before),
        (JobSearch { failure: failed_before.fingerprint(), ..by_failure.clone() }, &failed_before),
        (
            JobSearch {
                state: StateFilter { phases: vec![Phase::Discarded], ..StateFilter::default() },
                ..by_failure
            },
            &failed_before,
        ),
    ] {
        assert_eq!(pages(store, &search, 10).await?, (vec![found.id], 1), "{search:?}");
        let asked = search.clone();
        let counted = ask(store, move |rows| rows.jobs_counted(&asked, at(60))).await?;
        assert_eq!(counted, JobCount { jobs: 1, exact: true }, "{search:?}");
    }
    Ok(())
}

/// A job is found by its tags as it was written last, and by none when it is deleted, by hand or because it is old.
pub async fn a_job_is_found_by_the_tags_that_it_has_now(store: &dyn Store) -> Kept {
    let tagged = |number, tags: &[&str]| {
        let mut job = job(number, "default", 0);
        job.labels.tags = tags.iter().map(|name| tag(name)).collect();
        job
    };
    let count = async |name: &'static str| {
        let search = JobSearch { tag: Some(tag(name)), ..JobSearch::default() };
        let listed = pages(store, &search, 10).await?.0.len() as u64;
        let counted = ask(store, move |rows| rows.jobs_counted(&search, at(0))).await?;
        assert_eq!(counted, JobCount { jobs: listed, exact: true });
        Ok::<_, StoreError>(listed)
    };
    put(store, &[tagged(1, &["a", "b"]), tagged(2, &["a"]), completed(&tagged(3, &["a"]), at(5))]).await?;
    assert_eq!((count("a").await?, count("b").await?), (3, 1));
    put(store, &[tagged(1, &["c", "a"])]).await?;
    assert_eq!((count("a").await?, count("b").await?, count("c").await?), (3, 0, 1));
    write(store, |rows| rows.delete_job(id(1))).await?;
    assert_eq!((count("a").await?, count("c").await?), (2, 0));
    write(store, |rows| rows.delete_ended(&queue("default"), midge_core::Phase::Completed, at(6), 10))
        .await?;
    assert_eq!(count("a").await?, 1);
    Ok(())
}

/// By which tags a job is found is forgotten with work that fails.
pub async fn tags_are_forgotten_with_work_that_fails(store: &dyn Store) -> Kept {
    let mut job = job(1, "default", 0);
    job.labels.tags = vec![tag("a")];
    let written = job.clone();
    let failed: Result<(), StoreError> = write(store, move |rows| {
        rows.put_jobs(&[written])?;
        Err(StoreError::Failed("on purpose".to_owned()))
    })
    .await;
    assert!(failed.is_err());
    let search = JobSearch { tag: Some(tag("a")), ..JobSearch::default() };
    assert_eq!(pages(store, &search, 10).await?.0, []);
    put(store, &[job]).await?;
    assert_eq!(pages(store, &search, 10).await?.0, [id(1)]);
    Ok(())
}

/// While jobs come in and go on, pages repeat none and skip none that was there from the beginning to the end.
pub async fn pages_neither_repeat_nor_skip_while_jobs_come_in(store: &dyn Store) -> Kept {
    let failed = |number: u128, when: i64| {
        finished(&job(number, "default", 0), Outcome::Failed(Failure::new(Cause::Exit, "no")), at(when))
    };
    let there: Vec<Job> = (0..100).map(|number| failed(2 * number, 100 + number as i64 % 10)).collect();
    put(store, &there).await?;
    for by_failure in [false, true] {
        let mut search = JobSearch { by_failure, cause: Some(Cause::Exit), ..JobSearch::default() };
        let mut seen = Vec::new();
        for round in 0_u128.. {
            let asked = search.clone();
            let page = ask(store, move |rows| rows.jobs_found(&asked, 7)).await?.jobs;
            let Some(last) = page.last() else { break };
            search.before = Some(search.point_of_read(last.as_ref()));
            seen.extend(page.iter().map(|job| job.as_ref().expect("it can be read").id));
            // One that is newer, and fails now; one that was seen is retried and fails again.
            let again = seen[seen.len() / 2];
            let known: Option<Job> = there.iter().find(|job| job.id == again).cloned();
            let again = known.map(|job| failed(u128::from_be_bytes(*job.id.as_bytes()), 500 + round as i64));
            put(store, &[failed(1_001 + 2 * round, 400 + round as i64)]).await?;
            put(store, again.as_slice()).await?;
        }
        let of_before: Vec<JobId> =
            seen.iter().copied().filter(|seen| there.iter().any(|job| job.id == *seen)).collect();
        let mut once = of_before.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!((of_before.len(), once.len()), (there.len(), there.len()), "by failure: {by_failure}");
        put(store, &there).await?;
    }
    let newest = JobSearch { before: Some(Cursor::Id(id(3))), ..JobSearch::default() };
    assert_eq!(pages(store, &newest, 10).await?.0, [id(2), id(0)]);
    Ok(())
}
