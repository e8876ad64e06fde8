//! Enqueues many jobs, and one that runs after all of them: each is there once, though this job may be run more than once.

use std::time::Duration;

use midge_job::Error;
use serde::{Deserialize, Serialize};

/// The most jobs that one job can run after.
const AFTER_MAX: u32 = 1_000;

#[derive(Deserialize)]
struct Args {
    /// How many jobs there are, beside the last one.
    jobs: u32,
    /// How long it goes on after it has enqueued them.
    #[serde(default)]
    pause_ms: u64,
}

/// What each of the jobs is given: as `hello` takes it.
#[derive(Serialize, Deserialize)]
struct Hello {
    name: String,
}

#[derive(Debug, Serialize)]
struct Enqueued {
    jobs: Vec<String>,
    last: String,
}

#[midge_job::main]
fn fan_out(args: Args) -> midge_job::Result<Enqueued> {
    if args.jobs > AFTER_MAX {
        return Err(Error::refuse(format!("{} jobs are too many for one to run after", args.jobs)));
    }
    let hello = |name: String| midge_job::job("hello").args(&Hello { name });
    let mut jobs = Vec::new();
    for number in 1..=args.jobs {
        jobs.push(hello(format!("guest {number}")).enqueue()?);
    }
    let last = hello("everybody".to_owned()).after(jobs.iter()).enqueue()?;
    midge_job::progress(args.jobs.into(), args.jobs.into(), "named all");
    std::thread::sleep(Duration::from_millis(args.pause_ms));
    Ok(Enqueued { jobs, last })
}

#[cfg(test)]
mod tests {
    use midge_job::testing::Given;

    use super::*;

    fn run(jobs: u32) -> midge_job::Result<Enqueued> {
        fan_out(Args { jobs, pause_ms: 0 })
    }

    #[test]
    fn the_last_one_runs_after_all_others() {
        let seen = Given::new().enqueues(["hello"]).observe(|| run(3));
        let [jobs @ .., last] = seen.enqueued() else { panic!("{seen:?}") };
        let names: Vec<String> = jobs.iter().map(|job| job.args::<Hello>().name).collect();
        assert_eq!(names, ["guest 1", "guest 2", "guest 3"]);
        let ids: Vec<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
        let after = last.option("after").and_then(|after| after.as_array()).unwrap();
        assert!(after.iter().map(|id| id.as_str().unwrap()).eq(ids), "{after:?}");
        assert_eq!(
            (seen.returned.as_ref().unwrap().last.as_str(), last.args::<Hello>().name.as_str()),
            (&*last.id, "everybody")
        );
    }

    #[test]
    fn what_it_does_not_declare_or_is_too_much_is_refused() {
        let error = Given::new().enqueues(["resize"]).run(|| run(1)).unwrap_err();
        assert!(error.to_string().contains("`hello`"), "{error}");
        assert!(run(1_001).is_err());
    }
}
