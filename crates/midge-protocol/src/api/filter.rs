//! Which jobs somebody means: the query of a list, what a sweep is for, and the options of the command.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::job::{Cause, JobView, State};
use crate::object::objects;
use crate::{
    BatchId, Fingerprint, InvalidName, JobId, JobKey, ModuleName, QueueName, Tag, Timestamp, limits, shown,
};

objects!(JobFilter, Sort);

/// The query of `GET /v1/jobs`, and which jobs a sweep is for. A job is meant if it fits every field that is set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct JobFilter {
    /// Only jobs in this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Only jobs of this queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueName>,
    /// Only jobs of this module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<ModuleName>,
    /// Only jobs of this batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchId>,
    /// Only jobs that an attempt at this job enqueued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<JobId>,
    /// Only jobs with this key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<JobKey>,
    /// Only jobs that have this tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// Only jobs whose last attempt failed for this cause.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "read_cause")]
    pub cause: Option<Cause>,
    /// Only jobs whose last failure has this fingerprint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Fingerprint>,
    /// Only jobs whose id was made at this time or later. Only ids of UUID version 7 say when that was, as midge's do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Only jobs whose id was made before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Only jobs whose last attempt failed at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_since: Option<Timestamp>,
    /// Only jobs whose last attempt failed before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_until: Option<Timestamp>,
    /// Only jobs in the message of whose last failure this text stands, with the same capitals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Only jobs in whose args, as they were written, this text stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<String>,
    /// In which order jobs are listed. Of a page, and of no sweep; and so are the two below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort: Option<Sort>,
    /// Only jobs that come after this point: the `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Cursor>,
    /// The number of jobs in the page, 1 to [`PAGE_JOBS_MAX`]: [`PAGE_JOBS_DEFAULT`] where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// The most jobs in a page.
pub const PAGE_JOBS_MAX: u32 = 1_000;
/// Jobs in a page of a listing where nobody says how many.
pub const PAGE_JOBS_DEFAULT: u32 = 50;

/// The order of a list of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case")]
pub enum Sort {
    /// By id, the highest first: the newest, where ids begin with their time.
    Newest,
    /// The job that failed last first. Jobs whose last attempt did not fail are left out.
    Failed,
}

/// A point in a list of jobs: all that come after it are of the pages to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cursor {
    /// In a list by id: the id of the last job.
    Id(JobId),
    /// In a list by failures: when the last job failed, and its id.
    Failed {
        /// The time of the failure.
        at: Timestamp,
        /// The id of the job.
        id: JobId,
    },
}

impl Cursor {
    /// Returns the order of the list that it is a point of.
    pub const fn sort(&self) -> Sort {
        match self {
            Cursor::Id(_) => Sort::Newest,
            Cursor::Failed { .. } => Sort::Failed,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cursor::Id(id) => id.fmt(f),
            Cursor::Failed { at, id } => write!(f, "{}.{id}", at.as_millis()),
        }
    }
}

impl FromStr for Cursor {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Cursor, InvalidName> {
        let invalid = || InvalidName::new("point in a list", text, "the `next` of a page");
        let Some((at, id)) = text.split_once('.') else {
            return text.parse().map(Cursor::Id).map_err(|_| invalid());
        };
        let at = at.parse().map_err(|_| invalid())?;
        Ok(Cursor::Failed { at: Timestamp::from_millis(at), id: id.parse().map_err(|_| invalid())? })
    }
}

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cursor, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Reads the word of a cause. A newer host may have reported one that is not known here.
///
/// # Errors
/// A text for people, where no cause can be written so.
pub fn cause(word: &str) -> Result<Cause, String> {
    let cause = Cause::from(word);
    if cause.as_str() == word {
        return Ok(cause);
    }
    let near = crate::nearest(word, Cause::KNOWN.iter().map(Cause::as_str));
    let hint = near.map(|near| format!("did you mean `{near}`?"));
    let hint = hint.unwrap_or_else(|| "use a word such as trap, 1 to 64 of a-z, 0-9 and `_`".to_owned());
    let shown = shown::cut(word);
    Err(format!("`{shown}` is no cause of a failure: {hint}"))
}

fn read_cause<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cause>, D::Error> {
    let word = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    word.map(|word| cause(&word).map_err(serde::de::Error::custom)).transpose()
}

impl JobFilter {
    /// Returns how many jobs the page may have; nothing where more are asked for than a page has, or none.
    pub fn page_len(&self) -> Option<usize> {
        let len = self.limit.unwrap_or(PAGE_JOBS_DEFAULT);
        (1..=PAGE_JOBS_MAX).contains(&len).then_some(len as usize)
    }

    /// Returns whether it means every job.
    pub fn is_everything(&self) -> bool {
        let (sort, before, limit) = (self.sort, self.before, self.limit);
        *self == JobFilter { sort, before, limit, ..JobFilter::default() }
    }

    /// Returns the order of the list: as it is asked for, else by failures where the filter is about those. Of jobs that were
    /// discarded each has failed.
    pub fn sort(&self) -> Sort {
        let failures = self.state == Some(State::Discarded)
            || self.cause.is_some()
            || self.failure.is_some()
            || self.failed_since.is_some()
            || self.failed_until.is_some()
            || self.text.is_some();
        self.sort.unwrap_or(if failures { Sort::Failed } else { Sort::Newest })
    }

    /// Checks what no single field shows: texts within their bound, ends after beginnings, a point of this very list.
    ///
    /// # Errors
    /// A text for people, with the field and its value.
    pub fn check(&self) -> Result<(), String> {
        for (name, text) in [("text", &self.text), ("args", &self.args)] {
            let max = limits::SEARCH_TEXT_BYTES_MAX;
            match text.as_ref().map(String::len) {
                Some(0) => return Err(format!("`{name}` is empty: leave it out, or use 1 to {max} bytes")),
                Some(bytes) if bytes > max => {
                    return Err(format!("`{name}` is {bytes} bytes: use 1 to {max}"));
                }
                _ => {}
            }
        }
        for (first, since, last, until) in [
            ("since", self.since, "until", self.until),
            ("failed_since", self.failed_since, "failed_until", self.failed_until),
        ] {
            if let (Some(since), Some(until)) = (since, until)
                && since >= until
            {
                return Err(format!(
                    "`{first}` is {since}, which is not before `{last}`, {until}: swap them"
                ));
            }
        }
        match &self.before {
            Some(before) if before.sort() != self.sort() => Err(format!(
                "`before` is {before}, which is a point of a list in another order: use the `next` of a page"
            )),
            _ => Ok(()),
        }
    }

    /// Returns the fields that are set, with their values as text: what a query has.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        // Every field by name: one that is added and not sent does not compile.
        let JobFilter {
            state,
            queue,
            module,
            batch,
            parent,
            key,
            tag,
            cause,
            failure,
            since,
            until,
            failed_since,
            failed_until,
            text,
            args,
            sort,
            before,
            limit,
        } = self;
        fn text_of<T: fmt::Display>(value: &Option<T>) -> Option<String> {
            value.as_ref().map(T::to_string)
        }
        let all = [
            ("state", text_of(state)),
            ("queue", text_of(queue)),
            ("module", text_of(module)),
            ("batch", text_of(batch)),
            ("parent", text_of(parent)),
            ("key", text_of(key)),
            ("tag", text_of(tag)),
            ("cause", text_of(cause)),
            ("failure", text_of(failure)),
            ("since", text_of(since)),
            ("until", text_of(until)),
            ("failed_since", text_of(failed_since)),
            ("failed_until", text_of(failed_until)),
            ("text", text_of(text)),
            ("args", text_of(args)),
            ("sort", text_of(sort)),
            ("before", text_of(before)),
            ("limit", text_of(limit)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sort::Newest => "newest",
            Sort::Failed => "failed",
        })
    }
}

/// A page of jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPage {
    /// The jobs of this page, in the order that was asked for.
    pub jobs: Vec<JobView>,
    /// What to pass as `before` for the next page; nothing at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
    /// Whether only so many jobs were looked at as one page may: there may be jobs that fit in the pages to come, however
    /// few this one has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped_early: bool,
}

/// The answer of `GET /v1/jobs/count`: how many jobs fit a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobCount {
    /// The number of jobs; where it is not exact, there are at least so many.
    pub jobs: u64,
    /// Whether these are all.
    pub exact: bool,
}

impl JobCount {
    /// Returns the number in a few letters, for a table: `1000+` where there are at least so many.
    pub fn short(&self) -> String {
        format!("{}{}", self.jobs, if self.exact { "" } else { "+" })
    }
}

impl fmt::Display for JobCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.exact { "" } else { "at least " }, self.jobs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";

    fn full() -> JobFilter {
        let json = format!(
            r#"{{"state":"discarded","queue":"mail","module":"hello","batch":"{ID}","parent":"{ID}","key":"acme","tag":"customer:42","cause":"trap",
            "failure":"0c3fa51b22d07e94","since":"2030-01-01T00:00:00Z","until":"2030-01-02T00:00:00Z",
            "failed_since":"2030-01-01T00:00:00Z","failed_until":"2030-01-02T00:00:00Z","text":"no","args":"42",
            "sort":"failed","before":"12.{ID}","limit":7}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn a_filter_is_read_back_from_its_pairs() {
        let filter = full();
        let pairs = filter.pairs();
        let json: serde_json::Map<String, serde_json::Value> = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
            .map(|(name, value)| if name == "limit" { (name, 7.into()) } else { (name, value) })
            .collect();
        assert_eq!(json.len(), 18);
        assert_eq!(serde_json::from_value::<JobFilter>(json.into()).unwrap(), filter);
        assert_eq!(filter.check(), Ok(()));
    }

    #[test]
    fn a_filter_without_a_field_means_every_job() {
        let page = JobFilter { limit: Some(1), sort: Some(Sort::Failed), ..JobFilter::default() };
        assert!(page.is_everything() && JobFilter::default().is_everything());
        assert!(!full().is_everything());
        assert!(!JobFilter { args: Some("a".to_owned()), ..JobFilter::default() }.is_everything());
    }

    #[test]
    fn who_looks_for_failures_sees_the_newest_failure_first() {
        let cause = JobFilter { cause: Some(Cause::Trap), ..JobFilter::default() };
        assert_eq!((cause.sort(), JobFilter::default().sort()), (Sort::Failed, Sort::Newest));
        let of_state = |state| JobFilter { state: Some(state), ..JobFilter::default() }.sort();
        assert_eq!((of_state(State::Discarded), of_state(State::Completed)), (Sort::Failed, Sort::Newest));
        assert_eq!(JobFilter { sort: Some(Sort::Newest), ..cause }.sort(), Sort::Newest);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_field() {
        let wrong = |change: fn(&mut JobFilter)| {
            let mut filter = full();
            change(&mut filter);
            filter.check().unwrap_err()
        };
        assert!(wrong(|filter| filter.text = Some(String::new())).starts_with("`text` is empty"));
        assert!(
            wrong(|filter| filter.args = Some("x".repeat(257)))
                .starts_with("`args` is 257 bytes: use 1 to 256")
        );
        assert!(wrong(|filter| filter.until = filter.since).contains("not before `until`"));
        assert!(
            wrong(|filter| filter.failed_until = filter.failed_since).starts_with("`failed_since` is 2030")
        );
        assert!(wrong(|filter| filter.sort = Some(Sort::Newest)).starts_with("`before` is 12."));
        for (json, says) in [
            (r#"{"cause": "Trap"}"#, "did you mean `trap`?"),
            (r#"{"cause": "TRAP!"}"#, "is no cause of a failure"),
            (r#"{"failure": "xyz"}"#, "is not a fingerprint"),
            (r#"{"tag": ""}"#, "is not a tag"),
            (r#"{"before": "12.x"}"#, "is not a point in a list"),
            (r#"{"tags": "a"}"#, "unknown field"),
            (r#"["discarded"]"#, "invalid type: sequence"),
        ] {
            let error = serde_json::from_str::<JobFilter>(json).unwrap_err().to_string();
            assert!(error.contains(says), "{json}: {error}");
        }
        assert_eq!(cause("over_sockets").unwrap().as_str(), "over_sockets", "a newer host may report it");
    }

    #[test]
    fn a_point_is_read_back_from_its_text() {
        let id: JobId = ID.parse().unwrap();
        for at in [Timestamp::EARLIEST, Timestamp::default(), Timestamp::LATEST] {
            for cursor in [Cursor::Id(id), Cursor::Failed { at, id }] {
                assert_eq!(cursor.to_string().parse(), Ok(cursor));
            }
        }
        for wrong in ["", ".", "1.", &format!(".{ID}"), &format!("1e3.{ID}"), &"9".repeat(100_000)] {
            assert!(wrong.parse::<Cursor>().is_err());
        }
    }
}
