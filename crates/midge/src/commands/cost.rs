//! `midge cost`: what Machines and jobs cost.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use midge_cli::output::{dim, note, say_json, say_table};
use midge_cli::table::Table;
use midge_cli::words;
use midge_protocol::Day;
use midge_protocol::api::{Cost, CostGroup, Costs, CostsBy, CostsFilter};

use crate::arguments::ServerArgs;
use crate::connection::Answered;

/// Show what Machines and jobs have cost, by queue, module or day
#[derive(Debug, clap::Args)]
#[command(after_help = "\
BUSY is the time of Machines that attempts had, IDLE the time in which Machines ran and no
attempt did, STOPPED the time in which they were there and did not run. Beside the cost stands
that of one Machine for each queue that is always on. Days are in UTC.

Examples:
  midge cost                             the last 30 days, by queue
  midge cost --since 7d --by day
  midge cost --since 2030-01-01 --until 2030-01-31 --by module --json")]
pub(crate) struct Args {
    /// The first day, such as 2030-01-31, or so long ago, such as 7d; 29 days before the last where this is missing
    #[arg(long, value_name = "WHEN", value_parser = day_or_ago)]
    since: Option<Day>,
    /// The last day; today where this is missing
    #[arg(long, value_name = "WHEN", value_parser = day_or_ago)]
    until: Option<Day>,
    /// What the costs are told by: queue, module or day
    #[arg(long, value_name = "WHAT", default_value = "queue")]
    by: CostsBy,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Reads a day, or how long ago it was.
fn day_or_ago(text: &str) -> Result<Day, String> {
    match words::parse_duration(text) {
        Ok(ago) => Ok(Day::of(words::now().before(ago))),
        Err(_) if text.contains('-') => {
            text.parse().map_err(|error: midge_protocol::InvalidDay| error.to_string())
        }
        Err(wrong) => Err(format!("{wrong}, or a day such as 2030-01-31")),
    }
}

impl Args {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let filter = CostsFilter { since: self.since, until: self.until, by: Some(self.by) };
        let costs = self.server.client()?.costs(&filter).await.answered()?;
        if self.json {
            say_json(&costs)?;
        } else if costs.groups.is_empty() {
            note(format_args!("nothing has run since {}", costs.since));
        } else {
            say_table(table(&costs))?;
            if costs.left_out > 0 {
                let more = format!("{} cheaper ones are in the total and not in the table", costs.left_out);
                note(dim(&more));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(costs: &Costs) -> Table {
    let by = costs.by.as_str().to_uppercase();
    let mut table = Table::new(&[
        by.as_str(),
        ">ATTEMPTS",
        ">MACHINES",
        ">BUSY",
        ">IDLE",
        ">STOPPED",
        ">COST",
        ">ALWAYS ON",
    ]);
    for CostGroup { name, cost } in &costs.groups {
        table.row(row(name.as_deref().unwrap_or("(no module)"), cost));
    }
    table.row(row("total", &costs.total));
    table
}

fn row(name: &str, cost: &Cost) -> [String; 8] {
    let time = |micros| match micros {
        0 => "-".to_owned(),
        _ => words::duration(Duration::from_micros(micros)),
    };
    [
        name.to_owned(),
        cost.attempts.to_string(),
        cost.machines.to_string(),
        time(cost.busy_us),
        time(cost.idle_us),
        time(cost.stopped_us),
        cost.dollars.short(),
        cost.always_on.map_or_else(|| "-".to_owned(), |always_on| always_on.short()),
    ]
}

#[cfg(test)]
mod tests {
    use midge_core::{CostKey, CostSums, CostTable};
    use midge_protocol::manifest::{MachineSize, Prices};
    use midge_protocol::{Dollars, ModuleName, QueueName};

    use super::*;

    const COST: &str = include_str!("../../../../docs/cost.md");

    /// Returns hours and minutes in microseconds.
    const fn time(hours: u64, minutes: u64) -> u64 {
        (hours * 60 + minutes) * 60 * 1_000_000
    }

    /// The sums of a month of which the document tells: what is written there is what the command says of them.
    fn of_the_document(by: CostsBy) -> Costs {
        let (first, last): (Day, Day) = ("2030-01-01".parse().unwrap(), "2030-01-30".parse().unwrap());
        let mut table = CostTable::new(by, first, last);
        let mut add = |day, queue, module: Option<&str>, sums| {
            let (queue, module) =
                (QueueName::new(queue).unwrap(), module.map(|name| ModuleName::new(name).unwrap()));
            table.add(&CostKey { day, queue, module, size: MachineSize::default(), region: None }, sums);
        };
        let machines =
            |made, running_us, resting_us| CostSums { made, running_us, resting_us, ..CostSums::default() };
        let attempts = |attempts, share_us| CostSums { attempts, share_us, ..CostSums::default() };
        add(first, "pictures", None, machines(31, time(7, 16), time(74, 0)));
        add(first, "pictures", Some("resize"), attempts(1_204, time(6, 12)));
        add(first, "mail", None, machines(12, time(20, 42), 0));
        add(last, "mail", Some("send"), attempts(88_100, time(9, 30)));
        add(last, "mail", Some("digest"), attempts(20, time(0, 10)));
        table.costs(&Prices::default(), last.ends())
    }

    #[test]
    fn the_tables_of_the_document_are_what_the_command_says() {
        for (by, command) in
            [(CostsBy::Queue, "$ midge cost\n"), (CostsBy::Module, "$ midge cost --by module\n")]
        {
            let shown = table(&of_the_document(by)).to_string();
            let shown = anstream::adapter::strip_str(&shown).to_string();
            let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
            let block = format!("{command}{}\n", lines.join("\n"));
            assert!(COST.contains(&block), "docs/cost.md has another table than\n{block}");
        }
    }

    #[test]
    fn a_day_is_one_or_so_long_ago() {
        assert_eq!(day_or_ago("2030-01-31").unwrap().to_string(), "2030-01-31");
        assert_eq!(day_or_ago("0s").unwrap(), Day::of(words::now()));
        assert_eq!(day_or_ago("2d").unwrap(), Day::of(words::now().before(Duration::from_secs(2 * 86_400))));
        for wrong in ["yesterday", "2030-02-30", "-1d", ""] {
            assert!(day_or_ago(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_modules_has_a_row_and_no_machine_that_is_always_on() {
        let cost = Cost {
            attempts: 3,
            machines: 2,
            busy_us: 90_000_000,
            idle_us: 200_000,
            stopped_us: u64::MAX,
            dollars: Dollars::from_cents(1_234),
            ..Cost::default()
        };
        let day = Day::of(words::now());
        let groups = vec![CostGroup { name: None, cost }];
        let total = Cost { always_on: Some(Dollars::from_nanos(1)), ..cost };
        let costs = Costs { since: day, until: day, by: CostsBy::Module, groups, left_out: 0, total };
        assert_eq!(
            row("(no module)", &costs.groups[0].cost)[3..5],
            ["1m 30s".to_owned(), "200 ms".to_owned()]
        );
        let shown = table(&costs).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].contains("MODULE"), "{shown}");
        assert!(lines[1].starts_with("(no module)") && lines[1].ends_with("$12.34          -"), "{shown}");
        assert!(lines[2].starts_with("total") && lines[2].ends_with("<$0.0001"), "{shown}");
    }
}
