//! Rules about sums of Machine time.

use midge_core::{CostBook, CostKey, CostSums};
use midge_protocol::manifest::MachineSize;
use midge_protocol::{Day, RegionName};

use super::Kept;
use super::fixtures::{ask, module, queue};
use crate::{Store, StoreError, write};

fn day(number: i64) -> Day {
    Day::from_number(number)
}

fn key(day_number: i64, queue_name: &str) -> CostKey {
    let size = MachineSize::default();
    CostKey { day: day(day_number), queue: queue(queue_name), module: None, size, region: None }
}

fn book(entries: &[(CostKey, CostSums)]) -> CostBook {
    let mut book = CostBook::default();
    entries.iter().for_each(|(key, sums)| book.add(key.clone(), *sums));
    book
}

async fn add(store: &dyn Store, entries: &[(CostKey, CostSums)]) -> Result<(), StoreError> {
    let book = book(entries);
    write(store, move |rows| rows.add_costs(&book)).await
}

async fn all(store: &dyn Store, first: i64, last: i64) -> Result<Vec<(CostKey, CostSums)>, StoreError> {
    ask(store, move |rows| {
        let mut all = Vec::new();
        rows.costs(day(first)..=day(last), &mut |key, sums| all.push((key, sums)))?;
        Ok(all)
    })
    .await
}

const SOME: CostSums = CostSums { attempts: 1, share_us: 2, running_us: 3, resting_us: 4, made: 5 };

/// Sums are found with every part of their keys, in the order of those, for the days that were asked for.
pub async fn sums_are_found_by_day_in_the_order_of_their_keys(store: &dyn Store) -> Kept {
    let of = |module_name: &str, cpu_kind: &str, cpus, memory_mib, region: &str| CostKey {
        module: Some(module(module_name)),
        size: MachineSize { cpu_kind: cpu_kind.to_owned(), cpus, memory_mib },
        region: RegionName::new(region).ok(),
        ..key(7, "default")
    };
    let keys = [
        key(-1, "default"),
        key(7, "default"),
        of("a", "performance", 2, 4096, ""),
        of("a", "performance", 2, 4096, "ams"),
        of("a", "performance", 2, 4096, "iad"),
        of("a", "performance", 2, 8192, "iad"),
        of("a", "performance", 16, 256, "iad"),
        of("a", "shared", 1, 256, "iad"),
        of("b", "", 0, u32::MAX, "iad"),
        key(7, "other"),
        key(8, "default"),
    ];
    let entries: Vec<_> = keys.into_iter().map(|key| (key, SOME)).collect();
    let mut backwards = entries.clone();
    backwards.reverse();
    for entry in backwards {
        add(store, &[entry]).await?;
    }
    assert_eq!(all(store, -1, 8).await?, entries);
    assert_eq!(all(store, 0, 7).await?, entries[1..10]);
    assert_eq!(all(store, 9, 7).await?, []);
    assert_eq!(all(store, i64::MIN, i64::MAX).await?, entries);
    Ok(())
}

/// The Machines' own sums of a queue are found without those of its modules, and of other queues.
pub async fn sums_of_machines_are_found_by_queue(store: &dyn Store) -> Kept {
    let of_module = CostKey { module: Some(module("hello")), ..key(2, "default") };
    let large = MachineSize { cpus: 2, ..MachineSize::default() };
    let large = CostKey { size: large, ..key(2, "default") };
    let all =
        [key(1, "default"), key(2, "default"), large.clone(), of_module, key(2, "other"), key(4, "default")];
    add(store, &all.map(|key| (key, SOME))).await?;
    let found = ask(store, |rows| {
        let mut found = Vec::new();
        rows.machine_costs(&queue("default"), day(2)..=day(3), &mut |key, sums| found.push((key, sums)))?;
        Ok(found)
    });
    assert_eq!(found.await?, [(key(2, "default"), SOME), (large, SOME)]);
    Ok(())
}

/// What is added to a key that has sums is summed, to the largest number that a sum may be.
pub async fn sums_grow_to_their_bound(store: &dyn Store) -> Kept {
    let most = CostSums { attempts: u64::MAX, share_us: CostSums::MAX, ..CostSums::default() };
    for _ in 0..3 {
        add(store, &[(key(1, "default"), SOME), (key(2, "default"), most)]).await?;
    }
    let thrice = CostSums { attempts: 3, share_us: 6, running_us: 9, resting_us: 12, made: 15 };
    let bound = CostSums { attempts: CostSums::MAX, share_us: CostSums::MAX, ..CostSums::default() };
    assert_eq!(all(store, 1, 2).await?, [(key(1, "default"), thrice), (key(2, "default"), bound)]);
    Ok(())
}

/// Sums of days before one are deleted, the earliest first, so many at once.
pub async fn sums_of_early_days_are_deleted(store: &dyn Store) -> Kept {
    let entries = [(1, "a"), (1, "b"), (2, "a"), (3, "a")].map(|(day, queue)| (key(day, queue), SOME));
    add(store, &entries).await?;
    let deleted = async |limit| write(store, move |rows| rows.delete_costs(day(3), limit)).await;
    assert_eq!(deleted(2).await?, 2);
    assert_eq!(all(store, 0, 9).await?, entries[2..]);
    assert_eq!((deleted(2).await?, deleted(2).await?), (1, 0));
    assert_eq!(all(store, 0, 9).await?, entries[3..]);
    Ok(())
}

/// Sums are as they were where the work that added to them fails.
pub async fn sums_forget_work_that_fails(store: &dyn Store) -> Kept {
    add(store, &[(key(1, "default"), SOME)]).await?;
    let more = book(&[(key(1, "default"), SOME), (key(2, "default"), SOME)]);
    let undone: Result<(), StoreError> = write(store, move |rows| {
        rows.add_costs(&more)?;
        rows.delete_costs(day(2), 9)?;
        Err(StoreError::Failed("on purpose".to_owned()))
    })
    .await;
    assert!(undone.is_err());
    assert_eq!(all(store, 0, 9).await?, [(key(1, "default"), SOME)]);
    Ok(())
}
