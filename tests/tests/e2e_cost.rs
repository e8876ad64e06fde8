//! What jobs cost, on flylet: shares of attempts that ran side by side, and what the command says of them.

use std::time::Duration;

use midge_protocol::api::Costs;
use midge_tests::support::{Flylet, Guest, Modules, Server, block_on, eventually, run};
use serde_json::Value;

/// How long the two jobs are held to have run otherwise than beside each other: one began while the other was there already.
const APART_MAX: Duration = Duration::from_millis(700);

#[test]
fn shares_of_jobs_side_by_side_come_to_the_time_in_which_any_ran_and_the_command_says_what_that_costs() {
    let queue = "[queues.default]\nwait = 1\nmax_machines = 1\njobs_per_machine = 2\n\
                 [prices]\nsizes = { \"shared-cpu-1x:1024\" = 1000000 }";
    let (modules, flylet) = (Modules::of_guests(queue, &[Guest::nap("nap", 1_500)]), Flylet::start());
    let server = Server::on_flylet(&modules, &flylet, "v1");
    let jobs = [(); 2].map(|()| server.enqueue("nap", Value::Null));
    let attempts = jobs.map(|job| {
        server.result(job);
        server.detail(job).attempts.pop().expect("it has ended")
    });
    let [first, second] = attempts.each_ref().map(|attempt| attempt.usage.expect("its host tells"));
    let (ran, shared) = (first.ran_us + second.ran_us, first.share_us + second.share_us);
    let longest = Duration::from_micros(first.ran_us.max(second.ran_us));
    let any_ran = Duration::from_micros(shared);
    assert!(any_ran + Duration::from_millis(50) >= longest, "{first:?} {second:?}");
    assert!(any_ran <= longest + APART_MAX && shared < ran, "{first:?} {second:?}");
    assert!(first.share_us <= first.ran_us && second.share_us <= second.ran_us);

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
    for part in ["QUEUE", "ALWAYS ON", "default", "total", &total.busy.short()[..2]] {
        assert!(table.contains(part), "{table}");
    }
    let by_module = said(&["cost", "--by", "module", "--since", "2d"]);
    assert!(by_module.contains("nap") && by_module.contains("(no module)"), "{by_module}");
    let json: Costs = serde_json::from_str(&said(&["cost", "--by", "day", "--json"])).unwrap();
    assert_eq!((json.total.attempts, json.total.busy), (2, total.busy));
    let show = said(&["jobs", "show", &jobs[0].to_string()]);
    let cost = attempts[0].cost.expect("it has a share").short();
    assert!(show.contains("COST") && show.contains(&cost), "{show}");
    assert_eq!(run(server.midge(&["cost", "--since", "yesterday"]), b"").code, Some(2));
    assert!(said(&["cost", "--until", "2020-01-31", "--since", "2020-01-01"]).is_empty());
}
