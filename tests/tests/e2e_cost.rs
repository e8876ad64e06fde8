//! What jobs cost, on flylet: shares of attempts that ran side by side, and what the command says of them.

use midge_protocol::api::Costs;
use midge_tests::support::{Flylet, Guest, Modules, Server, block_on, eventually, request, run};
use serde_json::Value;

/// What is lost where two shares are told in whole microseconds.
const TOLD_TO_US: u64 = 2;
/// The server writes times in whole milliseconds, by another clock than that by which the host measures shares.
const WRITTEN_TO_US: u64 = 4_000;

#[test]
fn shares_of_jobs_side_by_side_come_to_the_time_in_which_any_ran_and_the_command_says_what_that_costs() {
    let queue = "[queues.default]\nwait = 1\nmax_machines = 1\njobs_per_machine = 2\n\
                 [prices]\nsizes = { \"shared-cpu-1x:1024\" = 1000000 }";
    let (modules, flylet) = (Modules::of_guests(queue, &[Guest::nap("nap", 1_500)]), Flylet::start());
    let server = Server::on_flylet(&modules, &flylet, "v1");
    // At once, so that the Machine gets both in one answer.
    let both = [(); 2].map(|()| request("nap", Value::Null)).to_vec();
    let jobs = block_on(server.client().enqueue_all(both)).unwrap();
    let attempts: Vec<_> = jobs
        .iter()
        .map(|job| {
            server.result(job.id);
            server.detail(job.id).attempts.pop().expect("it has ended")
        })
        .collect();
    let used: Vec<_> = attempts.iter().map(|attempt| attempt.usage.expect("its host tells")).collect();
    let sum = |of: fn(&midge_protocol::job::Usage) -> u64| used.iter().map(of).sum::<u64>();
    let (ran, shared) = (sum(|usage| usage.ran_us), sum(|usage| usage.share_us));
    assert!(used.iter().all(|usage| usage.share_us <= usage.ran_us), "{used:?}");
    assert!(used.iter().all(|usage| shared + TOLD_TO_US >= usage.ran_us) && shared < ran, "{used:?}");
    // The two were leased one beside the other, and any ran no longer than from the first lease to the last report.
    let begun = attempts.iter().map(|attempt| attempt.started_at).min().unwrap();
    let ended = attempts.iter().map(|attempt| attempt.ended_at).max().unwrap();
    assert!(u128::from(shared) <= ended.since(begun).as_micros() + u128::from(WRITTEN_TO_US), "{attempts:?}");

    eventually("all Machines go", || server.live_machines().is_empty().then_some(()));
    let costs: Costs = block_on(server.client().costs(&Default::default())).unwrap();
    let total = costs.total;
    assert_eq!((total.attempts, total.machines, total.busy_us), (2, 1, shared));
    // A million dollars for 30 days are 38 cents for a second.
    let of_attempts = attempts.iter().filter_map(|attempt| attempt.cost).sum::<midge_protocol::Dollars>();
    assert!(of_attempts.as_nanos().abs_diff(total.busy.as_nanos()) <= 2, "{of_attempts} {total:?}");
    assert!(total.idle_us > 0 && total.dollars > total.busy, "it booted and waited: {total:?}");

    let said = |args: &[&str]| run(server.midge(args), b"").ok().text().to_owned();
    let table = said(&["cost"]);
    for part in ["QUEUE", "ALWAYS ON", "default", "total", &total.dollars.short()] {
        assert!(table.contains(part), "{table}");
    }
    let by_module = said(&["cost", "--by", "module", "--since", "2d"]);
    assert!(by_module.contains("nap") && by_module.contains("(no module)"), "{by_module}");
    let json: Costs = serde_json::from_str(&said(&["cost", "--by", "day", "--json"])).unwrap();
    assert_eq!((json.total.attempts, json.total.busy), (2, total.busy));
    let show = said(&["jobs", "show", &jobs[0].id.to_string()]);
    let cost = attempts[0].cost.expect("it has a share").short();
    assert!(show.contains("COST") && show.matches(&cost).count() == 2, "its attempt's and its own: {show}");
    assert_eq!(run(server.midge(&["cost", "--since", "yesterday"]), b"").code, Some(2));
    assert!(said(&["cost", "--until", "2020-01-31"]).is_empty(), "nothing had run");
}
