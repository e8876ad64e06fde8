//! `midge queues set`, `unset` and `changes`: settings of a queue that are changed while the server runs.

use anyhow::{Result, bail};
use midge_cli::output::{say, say_json, say_table};
use midge_cli::table::Table;
use midge_protocol::api::{QueueSettings, SetSetting, SettingsRequest};
use midge_protocol::{QueueName, shown};
use serde_json::Value;

use crate::arguments::ServerArgs;
use crate::connection::Answered;

#[derive(Debug, clap::Args)]
pub(super) struct SetArgs {
    /// The queue
    name: QueueName,
    /// What to set, each as midge.toml has it: max_machines=5, wait=forever
    #[arg(value_name = "SETTING=VALUE", required = true, value_parser = parse_setting)]
    settings: Vec<(String, Value)>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct UnsetArgs {
    /// The queue
    name: QueueName,
    /// What is to be as midge.toml says again; all that was set where none is named
    #[arg(value_name = "SETTING")]
    settings: Vec<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct ChangesArgs {
    /// The queue
    name: QueueName,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Who changes something, and why.
#[derive(Debug, clap::Args)]
struct Who {
    /// Why, for others who wonder
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Who changes it
    #[arg(long, value_name = "NAME", env = "USER", default_value = "")]
    by: String,
}

pub(super) async fn set(args: SetArgs) -> Result<()> {
    let Who { reason, by } = args.who;
    let request =
        SettingsRequest { set: args.settings.into_iter().collect(), reason, by, ..Default::default() };
    let settings = args.server.client()?.change_queue_settings(&args.name, &request).await.answered()?;
    said(&args.name, &settings)
}

pub(super) async fn unset(args: UnsetArgs) -> Result<()> {
    let client = args.server.client()?;
    let mut unset = args.settings;
    if unset.is_empty() {
        let set = client.queue_settings(&args.name).await.answered()?.set;
        unset.extend(set.into_iter().map(|setting| setting.name));
    }
    if unset.is_empty() {
        bail!("nothing of {} was set: it is as midge.toml says", args.name);
    }
    let Who { reason, by } = args.who;
    let request = SettingsRequest { unset, reason, by, ..Default::default() };
    said(&args.name, &client.change_queue_settings(&args.name, &request).await.answered()?)
}

pub(super) async fn changes(args: ChangesArgs) -> Result<()> {
    let settings = args.server.client()?.queue_settings(&args.name).await.answered()?;
    if args.json {
        return say_json(&settings);
    }
    let mut table = Table::new(&["AT", "SETTING", "FROM", "TO", "BY", "REASON"]);
    for change in &settings.changes {
        for changed in &change.changed {
            let to = if changed.unset { " (midge.toml)" } else { "" };
            table.row([
                change.at.to_string(),
                shown::line(&changed.name).into_owned(),
                value(&changed.from),
                format!("{}{to}", value(&changed.to)),
                shown::line(&change.by).into_owned(),
                shown::line(&change.reason).into_owned(),
            ]);
        }
    }
    say_table(table)?;
    said(&args.name, &settings)
}

/// Says what of a queue is not as midge.toml says.
fn said(name: &QueueName, settings: &QueueSettings) -> Result<()> {
    match &settings.unusable {
        Some(why) => say(format_args!("{name}: what was set does not count: {}", shown::line(why)))?,
        None if settings.set.is_empty() => say(format_args!("{name} is as midge.toml says"))?,
        None => {}
    }
    settings.set.iter().try_for_each(|setting| say(format_args!("{name}: {}", in_words(setting))))
}

/// Returns a setting that was set, beside what midge.toml says, for people.
pub(super) fn in_words(setting: &SetSetting) -> String {
    let name = shown::line(&setting.name);
    format!("{name} is {}, and {} in midge.toml", value(&setting.value), value(&setting.declared))
}

/// Returns a value as midge.toml has it.
fn value(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => shown::line(text).into_owned(),
        other => shown::line(&other.to_string()).into_owned(),
    }
}

/// Reads `SETTING=VALUE`. A value that is no JSON is text.
fn parse_setting(text: &str) -> Result<(String, Value), String> {
    let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.trim().is_empty()) else {
        return Err("use SETTING=VALUE, such as `max_machines=5`".to_owned());
    };
    let value = value.trim();
    Ok((name.trim().to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_setting_is_typed_as_in_midge_toml() {
        for (text, name, value) in [
            ("max_machines=5", "max_machines", json!(5)),
            ("wait=0.5", "wait", json!(0.5)),
            ("wait=forever", "wait", json!("forever")),
            ("wait = \"forever\"", "wait", json!("forever")),
            ("single_use=true", "single_use", json!(true)),
            ("idle=", "idle", json!("")),
        ] {
            assert_eq!(parse_setting(text), Ok((name.to_owned(), value)), "{text}");
        }
        for wrong in ["max_machines", "=5", " =5", ""] {
            assert!(parse_setting(wrong).unwrap_err().contains("SETTING=VALUE"), "{wrong}");
        }
    }
}
