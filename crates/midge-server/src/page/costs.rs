//! The part of the dashboard that says what Machines and jobs have cost.

use maud::{Markup, html};
use midge_protocol::api::{Cost, CostGroup, Costs};

use super::duration;
use super::looking::link;

/// How many queues a page shows.
const COSTS_SHOWN_MAX: usize = 50;

pub(super) fn costs_table(base: &str, costs: &Costs) -> Markup {
    let hidden = costs.groups.len().saturating_sub(COSTS_SHOWN_MAX) as u64 + costs.left_out;
    html! {
        table {
            thead {
                tr {
                    th { "queue" } th.n { "attempts" } th.n { "Machines made" } th.n { "busy" } th.n { "idle" }
                    th.n { "stopped" } th.n { "cost" } th.n { "one always on" }
                }
            }
            @for CostGroup { name, cost } in costs.groups.iter().take(COSTS_SHOWN_MAX) {
                tr {
                    td { @if let Some(name) = name { (link(base, "queue", name)) } }
                    (numbers(cost))
                }
            }
            tr { td { "all" } (numbers(&costs.total)) }
        }
        @if hidden > 0 { p.quiet { "and " (hidden) " more: " code { "midge cost" } } }
    }
}

fn numbers(cost: &Cost) -> Markup {
    html! {
        td.n { (cost.attempts) }
        td.n { (cost.machines) }
        @for micros in [cost.busy_us, cost.idle_us, cost.stopped_us] { td.n { (duration(micros / 1_000)) } }
        td.n { (cost.dollars.short()) }
        td.n { @if let Some(always_on) = cost.always_on { (always_on.short()) } }
    }
}
