//! The command line: what can be asked for.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use midge_cli::output;

use crate::commands::{
    batches, bench, build, capabilities, completions, cost, demo, dev, doctor, enqueue, failures, flylet,
    jobs, machines, modules, new, queues, replay, run, schedules, serve, sweeps,
};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Green.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

/// Background jobs that are WebAssembly modules, on Machines that live only as long as the work
#[derive(Debug, Parser)]
#[command(name = "midge", version, styles = STYLES, max_term_width = 110)]
#[command(after_help = "\
Examples:
  midge demo                                        see it work: builds and runs the example jobs
  midge new greet && cd greet && midge dev          write a job, with a server that rebuilds on save
  midge enqueue greet --args '{\"name\": \"you\"}' --wait
  midge jobs --state discarded                      what failed for good

`midge help COMMAND` says more about each.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A subcommand.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(demo::Args),
    New(new::Args),
    Dev(dev::Args),
    Build(build::Args),
    Capabilities(capabilities::Args),
    Replay(Box<replay::Args>),
    Run(run::Args),
    Serve(serve::Args),
    Doctor(Box<doctor::Args>),
    Flylet(flylet::Args),
    Enqueue(Box<enqueue::Args>),
    Jobs(Box<jobs::Args>),
    Batches(batches::Args),
    Failures(failures::Args),
    Sweeps(sweeps::Args),
    Queues(queues::Args),
    Modules(modules::Args),
    Schedules(schedules::Args),
    Machines(machines::Args),
    Cost(cost::Args),
    Bench(bench::Args),
    Completions(completions::Args),
}

/// The subcommands that do nothing but write what they were asked for. Cut, that is not done; all others do or judge something,
/// whoever reads of it.
const ONLY_SHOW: [&str; 7] = ["capabilities", "completions", "count", "list", "log", "result", "show"];

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) command: Command,
    /// Whether there is nothing to do but to write something.
    pub(crate) only_shows: bool,
}

/// Reads a command line. What is not one, and what asks for help, is answered by [`tell`].
pub(crate) fn read(line: impl IntoIterator<Item = OsString>) -> Result<Asked, clap::Error> {
    let line: Vec<OsString> = line.into_iter().collect();
    let mut matches = command().try_get_matches_from(&line).map_err(|error| {
        // Its usage lists what is set by variables, as if that had to be said. Hidden, it does not.
        let plain = command_without_variables().try_get_matches_from(&line);
        let plain = plain.err().filter(|plain| error.use_stderr() && plain.kind() == error.kind());
        with_tip(plain.unwrap_or(error), &line)
    })?;
    let only_shows = only_shows(&command(), &matches);
    let cli = Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command()))?;
    Ok(Asked { command: cli.command, only_shows })
}

fn only_shows(command: &clap::Command, matches: &ArgMatches) -> bool {
    match matches.subcommand() {
        Some((name, matches)) => {
            let command = command.find_subcommand(name).expect("what matched is a subcommand");
            ONLY_SHOW.contains(&name) || only_shows(command, matches)
        }
        // Said without a subcommand, those that can list do.
        None => command.find_subcommand("list").is_some(),
    }
}

/// Adds to an error what may be said instead, where clap has no near name to offer: which subcommands there are, or the flag
/// of which the unknown one is a value.
fn with_tip(mut error: clap::Error, line: &[OsString]) -> clap::Error {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let given = |error: &clap::Error, kind| match error.get(kind) {
        Some(ContextValue::String(given)) => given.clone(),
        _ => String::new(),
    };
    let top = command();
    let within = line
        .iter()
        .filter_map(|word| word.to_str())
        .fold(&top, |command, word| command.find_subcommand(word).unwrap_or(command));
    let tip = match error.kind() {
        ErrorKind::InvalidSubcommand if error.get(ContextKind::SuggestedSubcommand).is_none() => {
            let names = within.get_subcommands().map(clap::Command::get_name);
            format!("the subcommands are {}", names.collect::<Vec<_>>().join(", "))
        }
        ErrorKind::UnknownArgument => {
            let given = given(&error, ContextKind::InvalidArg);
            let has = |arg: &&clap::Arg| {
                arg.get_possible_values()
                    .iter()
                    .any(|value| given.strip_prefix("--") == Some(value.get_name()))
            };
            let mut flags = within.get_arguments().filter(has).filter_map(clap::Arg::get_long);
            let Some(flag) = flags.next() else { return error };
            format!("use `--{flag} {}`", given.trim_start_matches('-'))
        }
        _ => return error,
    };
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}

/// Returns what the command line may say. Its help does not show what variables are set to: that may be a secret, or text
/// that a terminal obeys.
fn command() -> clap::Command {
    fn without_values(command: clap::Command) -> clap::Command {
        command.mut_args(|arg| arg.hide_env_values(true)).mut_subcommands(without_values)
    }
    without_values(Cli::command())
}

/// Returns the same, without the flags that variables may stand for.
fn command_without_variables() -> clap::Command {
    fn hidden(command: clap::Command) -> clap::Command {
        let hide = |arg: clap::Arg| if arg.get_env().is_some() { arg.hide(true) } else { arg };
        command.mut_args(hide).mut_subcommands(hidden)
    }
    hidden(command())
}

/// Tells what is wrong with a command line, or the help that it asks for, and returns what to exit with.
pub(crate) fn tell(answer: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    if matches!(answer.kind(), DisplayHelp | DisplayHelpOnMissingArgumentOrSubcommand | DisplayVersion) {
        // Help that was cut was not given; a closed stdout is told nowhere else.
        if answer.print().is_err() {
            return ExitCode::from(crate::UNREAD);
        }
    } else {
        // It repeats what was typed, which may be anything: its text is shown, without clap's own colours.
        output::show_wrong(in_words(answer).trim_end());
    }
    ExitCode::from(answer.exit_code() as u8)
}

/// What may be said in place of an argument that is missing, beside how clap writes that.
const OTHERWISE: [(&str, &str); 2] = [
    ("\n  <IDS>...\n", "or flags that say which jobs are meant, such as `--state discarded`, or `--all`"),
    ("\n  <NAMES>...\n", "or `--queue NAME` for all Machines of a queue"),
];

/// Returns what is wrong with a command line, with what may be said in place of an argument that is missing.
fn in_words(answer: &clap::Error) -> String {
    let mut words = answer.to_string();
    if answer.kind() == clap::error::ErrorKind::MissingRequiredArgument {
        for (missing, otherwise) in OTHERWISE {
            words = words.replace(missing, &format!("{missing}  {otherwise}\n"));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Asked, String> {
        read(line.split(' ').map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_shows_examples_or_needs_none() {
        for command in Cli::command().get_subcommands() {
            let simple = ["completions", "help"].contains(&command.get_name());
            let help = command.clone().render_long_help().to_string();
            assert!(simple || help.contains("Examples:"), "midge {}", command.get_name());
            assert!(command.get_about().is_some(), "midge {}", command.get_name());
        }
    }

    /// Returns the command lines of a text, a shell's words taken out: what follows a `|`, a `&&` or a `#`, and `$(..)`.
    fn command_lines(text: &str) -> Vec<Vec<String>> {
        let lines = text.lines().filter_map(|line| {
            let line = line.trim_start().trim_start_matches("$ ");
            // A help says after two spaces what its example does.
            let line = line.split_once("  ").map_or(line, |(line, _)| line);
            let line = line.strip_prefix("ID=$(").and_then(|rest| rest.strip_suffix(')')).unwrap_or(line);
            let line = line.strip_prefix("midge ")?;
            let line = line.split_once("$(").map_or(line.to_owned(), |(line, rest)| {
                format!("{line}$ID{}", rest.split_once(')').expect("a `)` to a `$(`").1)
            });
            let line = line.replace("$ID", "0190b3e4-7d5c-7c3a-9f00-0123456789ab");
            let words = shlex::split(&line).unwrap_or_else(|| panic!("a quote is not closed: {line}"));
            let words = words.into_iter().take_while(|word| !["|", "&&", ">", "<", ";"].contains(&&**word));
            Some(std::iter::once("midge".to_owned()).chain(words).collect())
        });
        lines.collect()
    }

    #[test]
    fn every_command_line_of_a_document_and_of_a_help_is_one() {
        let documents = [
            include_str!("../../../README.md"),
            include_str!("../../../docs/queues.md"),
            include_str!("../../../docs/api.md"),
            include_str!("../../../docs/cost.md"),
            include_str!("../../../docs/client.md"),
            include_str!("../../../docs/replay.md"),
            include_str!("../../../docs/security.md"),
        ];
        let shells = documents.iter().flat_map(|text| text.split("```console\n").skip(1));
        let shells = shells.filter_map(|rest| rest.split("```").next());
        let shells: Vec<String> =
            shells.flat_map(str::lines).filter(|line| line.starts_with("$ ")).map(str::to_owned).collect();
        let mut helps = Vec::new();
        fn add(command: &clap::Command, helps: &mut Vec<String>) {
            let help = command.clone().render_long_help().to_string();
            helps.extend(help.split("Examples:\n").nth(1).map(str::to_owned));
            command.get_subcommands().for_each(|command| add(command, helps));
        }
        add(&command(), &mut helps);
        let lines: Vec<_> = shells.iter().chain(&helps).flat_map(|text| command_lines(text)).collect();
        assert!(lines.len() > 100, "{}", lines.len());
        for line in lines {
            let read = read(line.iter().map(OsString::from));
            let wrong = read.err().filter(clap::Error::use_stderr);
            assert!(wrong.is_none(), "{}: {}", line.join(" "), wrong.unwrap());
        }
    }

    #[test]
    fn no_help_shows_what_a_variable_is_set_to() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments().filter(|argument| argument.get_env().is_some()) {
                let name = (command.get_name(), argument.get_id());
                assert!(argument.is_hide_env_values_set(), "{name:?}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&command());
    }

    #[test]
    fn what_does_or_judges_something_is_no_command_that_only_shows() {
        let id = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";
        let only_shows = |line: &str| parse(&line.replace("ID", id)).unwrap().only_shows;
        for line in [
            "jobs",
            "jobs list",
            "jobs show ID",
            "jobs log -f ID",
            "jobs result ID",
            "jobs count",
            "queues",
            "sweeps show 7",
            "schedules",
            "batches show ID",
            "machines --json",
            "modules list",
            "failures",
            "capabilities",
            "completions fish",
        ] {
            assert!(only_shows(&format!("midge {line}")), "{line}");
        }
        for line in [
            "jobs wait ID",
            "jobs retry ID",
            "jobs pull ID",
            "enqueue a --wait",
            "enqueue --jsonl -",
            "replay a",
            "build",
            "serve",
            "sweeps wait 7",
            "schedules run a",
            "batches new",
            "machines drain m1",
            "queues pause a",
            "flylet",
            "dev",
        ] {
            assert!(!only_shows(&format!("midge {line}")), "{line}");
        }
    }

    #[test]
    fn jobs_lists_unless_told_otherwise() {
        for line in ["midge jobs", "midge jobs --state discarded", "midge jobs list --state discarded"] {
            assert!(parse(line).is_ok(), "{line}");
        }
        let id = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";
        for verb in ["show", "log", "result", "wait", "cancel", "retry", "delete"] {
            assert!(parse(&format!("midge jobs {verb} {id}")).is_ok(), "{verb}");
            assert!(parse(&format!("midge jobs {verb}")).is_err(), "{verb}");
        }
        for verb in ["priority -5", "move mail"] {
            assert!(parse(&format!("midge jobs {verb} {id}")).is_ok(), "{verb}");
            assert!(parse(&format!("midge jobs {verb}")).is_err(), "{verb}");
        }
    }

    #[test]
    fn what_is_done_to_jobs_names_them_or_says_which_are_meant() {
        let id = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";
        for verb in ["cancel", "retry", "delete", "priority -5", "move mail"] {
            let parse = |rest: &str| parse(&format!("midge jobs {verb} {rest}"));
            for good in [
                "--state discarded --module hello",
                "--tag a --dry-run",
                "--all",
                "--failed-since 2h",
                "--dry-run",
            ] {
                assert!(parse(good).is_ok(), "{verb} {good}: {:?}", parse(good).err());
            }
            for bad in [
                &format!("{id} --state discarded"),
                &format!("{id} --all"),
                "--json",
                "--failure x",
                "--since soon",
            ] {
                assert!(parse(bad).is_err(), "{verb} {bad}");
            }
        }
        for verb in ["show", "retry", "cancel", "delete"] {
            assert!(parse(&format!("midge failures {verb} 0c3fa51b22d07e94")).is_ok(), "{verb}");
            assert!(parse(&format!("midge failures {verb}")).is_err(), "{verb}");
        }
        for line in
            ["midge failures", "midge failures --module hello", "midge sweeps", "midge sweeps cancel 7"]
        {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn who_names_nothing_hears_what_may_be_said_instead() {
        let wrong = |line: &str| in_words(&read(line.split(' ').map(OsString::from)).unwrap_err());
        for verb in ["cancel", "retry", "delete", "move slow", "priority 1"] {
            let told = wrong(&format!("midge jobs {verb}"));
            assert!(told.contains("such as `--state discarded`, or `--all`"), "{told}");
        }
        let told = wrong("midge machines drain");
        assert!(told.contains("or `--queue NAME`"), "{told}");
    }

    #[test]
    fn who_says_an_unknown_word_hears_which_there_are() {
        let told = parse("midge jobs tail").unwrap_err();
        assert!(
            told.contains("tip: the subcommands are list, show, log, pull, result, wait, count, "),
            "{told}"
        );
        let told = parse("midge queues show mail").unwrap_err();
        assert!(told.contains("tip: the subcommands are list, pause, resume, set, unset, changes"), "{told}");
        assert!(parse("midge foo").unwrap_err().contains("the subcommands are demo, new, dev, "));
        let told = parse("midge jobs shw").unwrap_err();
        assert!(told.contains("'show'") && !told.contains("the subcommands are"), "{told}");
        let told = parse("midge enqueue sync --push-back").unwrap_err();
        assert!(
            told.contains("tip: use `--on-conflict push-back`") && told.matches("tip:").count() == 1,
            "{told}"
        );
    }

    #[test]
    fn machines_lists_unless_told_otherwise() {
        for line in [
            "midge machines",
            "midge machines --json",
            "midge machines list",
            "midge machines drain m1 m2 --wait",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        assert!(parse("midge machines drain --queue mail --wait --timeout 1m").is_ok());
        for line in ["drain", "drain m1 --queue mail", "drain m1 --timeout 1m"] {
            assert!(parse(&format!("midge machines {line}")).is_err(), "{line}");
        }
        assert!(parse("midge queues set mail max_machines=5 wait=forever --by Ada --reason flood").is_ok());
        assert!(
            parse("midge queues unset mail").is_ok() && parse("midge queues changes mail --json").is_ok()
        );
        assert!(
            parse("midge queues set mail").is_err() && parse("midge queues set mail max_machines").is_err()
        );
        assert!(parse("midge queues pause mail --wait --timeout 1m").is_ok());
        assert!(parse("midge modules pause mail --wait --timeout 1m").is_ok());
    }

    #[test]
    fn batches_lists_unless_told_otherwise() {
        for line in
            ["midge batches", "midge batches --json", "midge batches list --limit 5", "midge batches new"]
        {
            assert!(parse(line).is_ok(), "{line}");
        }
        let id = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";
        for verb in ["show", "close", "cancel"] {
            assert!(parse(&format!("midge batches {verb} {id}")).is_ok(), "{verb}");
            assert!(parse(&format!("midge batches {verb}")).is_err(), "{verb}");
        }
        assert!(parse(&format!("midge enqueue --jsonl - --batch {id}")).is_ok());
        assert!(parse("midge batches new --on-ended ../etc").unwrap_err().contains("a module or a job"));
    }

    #[test]
    fn schedules_lists_unless_told_otherwise() {
        for line in ["midge schedules", "midge schedules --json", "midge schedules list"] {
            assert!(parse(line).is_ok(), "{line}");
        }
        for verb in ["show", "pause", "resume", "run"] {
            assert!(parse(&format!("midge schedules {verb} nightly")).is_ok(), "{verb}");
            assert!(parse(&format!("midge schedules {verb}")).is_err(), "{verb}");
        }
        assert!(parse("midge schedules pause nightly --by Ada --reason flood").is_ok());
    }

    #[test]
    fn a_wrong_name_is_refused_with_its_rule() {
        let error = parse("midge enqueue ../etc").unwrap_err();
        assert!(error.contains("a-z, 0-9"), "{error}");
        let error = parse("midge jobs --state done").unwrap_err();
        assert!(error.contains("completed"), "{error}");
    }

    #[test]
    fn an_enqueue_has_one_source_of_jobs() {
        assert!(parse("midge enqueue").is_err());
        assert!(parse("midge enqueue hello --jsonl jobs.jsonl").is_err());
        assert!(parse("midge enqueue --jsonl - --wait").is_err());
        assert!(parse("midge enqueue hello --in 10m --at 2030-01-31T08:00:00Z").is_err());
        assert!(parse("midge enqueue --jsonl -").is_ok());
    }

    #[test]
    fn a_guests_own_arguments_follow_two_dashes() {
        let Command::Run(run) = parse("midge run hello --args 1 -- --verbose x").unwrap().command else {
            panic!("not run");
        };
        assert_eq!(run.guest_args, ["--verbose", "x"]);
    }
}
