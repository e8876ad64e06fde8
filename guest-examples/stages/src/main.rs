//! Goes on where the attempt before it was: each stage is done once, though its Machine may be killed at any time.

use std::time::Duration;

use midge_job::Error;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Args {
    /// How many stages there are.
    stages: u64,
    /// How long each takes.
    #[serde(default)]
    pause_ms: u64,
}

/// What a stage came to.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Done {
    stage: u64,
    /// The attempt that did it.
    attempt: u32,
    /// What a service that is called here would know a second call by.
    key: String,
}

#[midge_job::main]
fn stages(args: Args) -> midge_job::Result<Vec<Done>> {
    let mut done = Vec::new();
    for stage in 1..=args.stages {
        let name = format!("stage {stage}");
        let one = midge_job::step(&name, || {
            std::thread::sleep(Duration::from_millis(args.pause_ms));
            Ok::<_, Error>(Done { stage, attempt: midge_job::attempt(), key: midge_job::step_key(&name) })
        })?;
        done.push(one);
        midge_job::progress(stage, args.stages, &name);
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use midge_job::testing::Given;

    use super::*;

    #[test]
    fn a_stage_that_was_done_is_not_done_again() {
        let run = |stages| move || super::stages(Args { stages, pause_ms: 0 });
        let first = Given::new().job_id("j").observe(run(1));
        let second = first.next_attempt().run(run(2)).unwrap();
        let attempts: Vec<u32> = second.iter().map(|done| done.attempt).collect();
        assert_eq!(attempts, [1, 2]);
        assert_eq!(second[1].key, "j/stage 2");
    }
}
