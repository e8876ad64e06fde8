//! The parts of the dashboard that say what serves jobs: queues, modules, Machines and schedules.

use maud::{Markup, html};
use midge_protocol::MachineName;
use midge_protocol::api::{MachineView, Machines, ModuleView, Modules, Pause, Queues, Schedules};
use midge_protocol::job::State as JobState;
use midge_protocol::manifest::{Capability, ModuleEntry};
use midge_protocol::shown::line;

use super::looking::{home, link};
use super::{badge, duration, time};

/// How many modules a page shows.
const MODULES_SHOWN_MAX: usize = 100;
/// How many schedules a page shows.
const SCHEDULES_SHOWN_MAX: usize = 100;
/// How many Machines a page shows, and of those that are gone.
const MACHINES_SHOWN_MAX: usize = 50;
const GONE_SHOWN_MAX: usize = 5;

pub(super) fn modules_table(base: &str, modules: &Modules) -> Markup {
    // Those that start no jobs first: somebody may have to do something about them.
    let mut shown: Vec<&ModuleView> = modules.modules.iter().collect();
    shown.sort_by_key(|module| module.entry.is_some() && module.pause.is_none() && module.lacks.is_none());
    let hidden = shown.len().saturating_sub(MODULES_SHOWN_MAX);
    html! {
        table {
            thead {
                tr {
                    th { "module" } th { "queue" } th.n { "size" } th.n { "time limit" } th.n { "memory limit" }
                    th.n { "held jobs" } th { "starts jobs" } th { "may reach" }
                }
            }
            @for module in &shown[..shown.len() - hidden] {
                tr {
                    td { (link(base, "module", &module.name)) }
                    @match &module.entry {
                        Some(entry) => {
                            td { (link(base, "queue", &entry.queue)) }
                            td.n { (entry.size.div_ceil(1024)) " KiB" }
                            td.n { (duration(entry.limits.time_ms)) }
                            td.n { (entry.limits.memory_bytes / (1024 * 1024)) " MiB" }
                        }
                        None => { td { "–" } td.n { "–" } td.n { "–" } td.n { "–" } }
                    }
                    td.n { (module.held) }
                    td.says {
                        @match (&module.entry, &module.pause, &module.lacks) {
                            (None, _, _) => "no, it is not served",
                            (Some(_), Some(pause), _) => { "no, it is " (paused(pause)) }
                            (Some(_), None, Some(lack)) => {
                                "no, Machines lack " (line(&lack.what))
                            }
                            (Some(_), None, None) => "yes",
                        }
                    }
                    td.says { (reach(module.entry.as_ref())) }
                }
            }
        }
        @if hidden > 0 { p.quiet { "and " (hidden) " more: " code { "midge modules" } } }
    }
}

/// What guests of a module may do beyond computing, one line each. Its limits have columns of their own.
fn reach(entry: Option<&ModuleEntry>) -> Markup {
    let all = entry.map(ModuleEntry::capabilities).unwrap_or_default();
    let mut reached = all
        .iter()
        .filter(|capability| !matches!(capability, Capability::TimeMs(_) | Capability::MemoryBytes(_)))
        .peekable();
    html! {
        @if reached.peek().is_none() { "nothing" }
        @for (number, capability) in reached.enumerate() {
            @if number > 0 { br; }
            (line(&capability.to_string()))
        }
    }
}

fn paused(pause: &Pause) -> Markup {
    html! {
        "paused since " (time(pause.since))
        @if !pause.by.is_empty() { " by " (line(&pause.by)) }
        @if let Some(until) = pause.until { " until " (time(until)) }
        @if !pause.reason.is_empty() { ": " (line(&pause.reason)) }
    }
}

pub(super) fn queues_table(base: &str, queues: &Queues) -> Markup {
    html! {
        table {
            thead {
                tr {
                    th { "queue" }
                    @for state in JobState::ALL { th.n { (state) } }
                    th.n { "oldest waits" }
                    th.n { "Machines" }
                    th { "why jobs wait" }
                }
            }
            @for queue in &queues.queues {
                tr {
                    td {
                        (link(base, "queue", &queue.name))
                        @if queue.pause.is_some() { " " span.state { "paused" } }
                        @if !queue.declared { " " span.state { "not declared" } }
                        @for setting in &queue.set {
                            br;
                            span.quiet {
                                (line(&setting.name)) " " (line(&plain(&setting.value))) " (midge.toml: " (line(&plain(&setting.declared))) ")"
                            }
                        }
                    }
                    @for state in JobState::ALL {
                        td.n {
                            @match queue.jobs.get(&state).unwrap_or(&0) {
                                0 => "0",
                                number => {
                                    a href={ (home(base)) "?queue=" (queue.name) "&state=" (state) } { (number) }
                                }
                            }
                        }
                    }
                    td.n {
                        @if let Some(millis) = queue.oldest_waits_ms { (duration(millis)) }
                        @else if queue.all_due_are_held() { "held" }
                        @else { "–" }
                    }
                    td.n {
                        (queue.machines) " of " (queue.policy.max_machines)
                        @if let Some(pool) = &queue.policy.pool { " (" (pool) ")" }
                    }
                    td.says {
                        @if let Some(waits) = &queue.waits { (line(&waits.text)) }
                        @else if let Some(pause) = &queue.pause { (paused(pause)) }
                        @if let Some(budget) = queue.budget.as_ref().filter(|budget| budget.warns) {
                            p.bad { (budget.to_string()) }
                        }
                    }
                }
            }
        }
    }
}

/// A setting's value as midge.toml has it.
fn plain(value: &serde_json::Value) -> String {
    if value.is_null() { "none".to_owned() } else { value.to_string() }
}

pub(super) fn schedules_table(base: &str, schedules: &Schedules) -> Markup {
    html! {
        table {
            thead {
                tr {
                    th { "schedule" } th { "module" } th { "when" } th { "next" } th { "last job" } th { "note" }
                }
            }
            @for schedule in schedules.schedules.iter().take(SCHEDULES_SHOWN_MAX) {
                tr {
                    td { (schedule.name) }
                    td { (link(base, "module", &schedule.module)) }
                    td { (line(&schedule.cron)) " " (line(&schedule.zone)) }
                    td {
                        @if schedule.next.is_empty() { "–" }
                        @for (index, next) in schedule.next.iter().enumerate() {
                            @if index > 0 { br; }
                            (time(next.due))
                        }
                    }
                    td {
                        @if let Some(last) = &schedule.last {
                            @match last.state {
                                Some(state) => { a href={ (base) "/jobs/" (last.job) } { (badge(state)) } }
                                None => "deleted",
                            }
                        } @else { "–" }
                    }
                    td.says {
                        @if let Some(pause) = &schedule.pause { (paused(pause)) }
                        @else if let Some(waits) = &schedule.waits { (line(&waits.text)) }
                    }
                }
            }
        }
        @if schedules.schedules.len() > SCHEDULES_SHOWN_MAX {
            p.quiet { "and " (schedules.schedules.len() - SCHEDULES_SHOWN_MAX) " more: " code { "midge schedules" } }
        }
    }
}

pub(super) fn machines_table(machines: &Machines) -> Markup {
    // They are the newest first.
    let gone: Vec<&MachineName> =
        machines.machines.iter().filter(|machine| machine.is_gone()).map(|machine| &machine.name).collect();
    let hidden = gone.get(GONE_SHOWN_MAX..).unwrap_or_default();
    let shown = |machine: &MachineView| !hidden.contains(&&machine.name);
    html! {
        @if machines.machines.is_empty() { p.quiet { "none: there is no work" } } @else {
            table {
                thead {
                    tr {
                        th { "Machine" } th { "id" } th { "queue" } th { "state" } th { "since" }
                        th.n { "runs" } th.n { "attempts" } th { "note" }
                    }
                }
                @for machine in machines.machines.iter().filter(|m| shown(m)).take(MACHINES_SHOWN_MAX) {
                    tr {
                        td { (machine.name) }
                        td { @if let Some(id) = &machine.id { (id) } }
                        td { (machine.queue) }
                        td { (line(&machine.state_in_words())) }
                        td { (time(machine.since)) }
                        td.n { (machine.running) }
                        td.n { (machine.attempts) }
                        td { @if let Some(note) = &machine.note { (line(note)) } }
                    }
                }
            }
            @if !hidden.is_empty() { p.quiet { "and " (hidden.len()) " more that are gone: " code { "midge machines --all" } } }
        }
    }
}
