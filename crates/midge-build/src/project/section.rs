//! Reads one section of a TOML file, key by key, so that every error has its line and says what is expected.

use std::ops::RangeInclusive;
use std::path::Path;

use midge_protocol::manifest::settings::WrongSetting;
use midge_protocol::nearest;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// A file and its text, which turn an offset into a line.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// Makes an error about what begins at the offset `at`, in bytes.
    pub(super) fn wrong(&self, at: usize, message: String) -> ConfigError {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        ConfigError::Wrong { path: self.path.to_owned(), line, message }
    }
}

/// A table of the file; a section that is not there is an empty one.
pub(super) struct Section<'a> {
    source: &'a Source<'a>,
    /// What it is called in messages: `[queues.mail]`.
    name: String,
    table: Option<&'a DeTable<'a>>,
    at: usize,
}

impl<'a> Section<'a> {
    pub(super) fn top(source: &'a Source<'a>, table: &'a DeTable<'a>) -> Section<'a> {
        Section { source, name: String::new(), table: Some(table), at: 0 }
    }

    /// Makes an error about the section itself.
    pub(super) fn wrong(&self, message: String) -> ConfigError {
        self.source.wrong(self.at, message)
    }

    /// Makes an error about the value of a key, or about the section where the key is missing.
    pub(super) fn wrong_at(&self, key: &str, message: String) -> ConfigError {
        self.source.wrong(self.get(key).map_or(self.at, |value| value.span().start), message)
    }

    /// Refuses every key that is not listed.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), ConfigError> {
        // The first in the file, since the table is sorted by name.
        let unknown = self.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        let Some(key) = unknown.min_by_key(|key| key.span().start) else {
            return Ok(());
        };
        let within = if self.name.is_empty() { String::new() } else { format!(" in [{}]", self.name) };
        let hint = match nearest(key.get_ref(), known.iter().copied()) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("the keys are {}", known.join(", ")),
        };
        let message = format!("unknown key `{}`{within}: {hint}", key.get_ref());
        Err(self.source.wrong(key.span().start, message))
    }

    /// Returns the sections in this one, with their names, in the order of names.
    pub(super) fn sections(&self) -> Result<Vec<(&'a str, Section<'a>)>, ConfigError> {
        self.keys().map(|key| Ok((key.get_ref().as_ref(), self.section(key.get_ref())?))).collect()
    }

    /// Returns the section under a key; an empty one where there is none.
    pub(super) fn section(&self, key: &str) -> Result<Section<'a>, ConfigError> {
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        let Some((found, value)) = self.table.and_then(|table| table.get_key_value(key)) else {
            return Ok(Section { source: self.source, name, table: None, at: self.at });
        };
        let table = value
            .get_ref()
            .as_table()
            .ok_or_else(|| self.expected(value, &format!("`{name}` must be a section like [{name}]")))?;
        Ok(Section { source: self.source, name, table: Some(table), at: found.span().start })
    }

    /// Returns the section under a key that is mostly written in one line, such as `such_as`; nothing where there is none.
    pub(super) fn inline(&self, key: &str, such_as: &str) -> Result<Option<Section<'a>>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(value) if value.get_ref().as_table().is_some() => self.section(key).map(Some),
            Some(value) => Err(self.expected(value, &format!("`{key}` must be such as {such_as}"))),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        self.read(key, "a string in quotes", |value| value.as_str())
    }

    /// Returns the strings of a list that is such as `such_as`; nothing where there is none.
    pub(super) fn strings(&self, key: &str, such_as: &str) -> Result<Option<Vec<&'a str>>, ConfigError> {
        let read = |value: &'a DeValue<'a>| {
            value.as_array()?.iter().map(|item| item.get_ref().as_str()).collect::<Option<Vec<_>>>()
        };
        self.read(key, &format!("such as {such_as}"), read)
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        self.read(key, "true or false", |value| value.as_bool())
    }

    pub(super) fn number(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, ConfigError> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(key, &expected, |value| integer(value).filter(|number| range.contains(number)))
    }

    /// Reads a string that has a form of its own.
    pub(super) fn parsed<T, E>(
        &self,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        self.read(key, expected, |value| parse(value.as_str()?).ok())
    }

    /// Reads a value that `read` understands.
    pub(super) fn read<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a DeValue<'a>) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let found = read(value.get_ref());
        found.map(Some).ok_or_else(|| self.expected(value, &format!("`{key}` must be {expected}")))
    }

    /// Returns every key.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.keys().map(|key| key.get_ref().as_ref())
    }

    /// Returns every key with its value as text.
    pub(super) fn texts(&self) -> Result<Vec<(&'a str, &'a str)>, ConfigError> {
        self.names().map(|key| Ok((key, self.text(key)?.unwrap_or_default()))).collect()
    }

    /// Has `set` take the value under a key, as JSON, where there is one.
    pub(super) fn setting(
        &self,
        key: &str,
        set: impl FnOnce(&serde_json::Value) -> Result<(), WrongSetting>,
    ) -> Result<(), ConfigError> {
        let Some(value) = self.get(key) else { return Ok(()) };
        set(&json(value.get_ref())).map_err(|error| match error {
            WrongSetting::Value { expected, .. } => {
                self.expected(value, &format!("`{key}` must be {expected}"))
            }
            WrongSetting::Unknown { .. } | WrongSetting::Together(_) => self.wrong_at(key, error.to_string()),
        })
    }

    fn expected(&self, value: &Spanned<DeValue<'_>>, expected: &str) -> ConfigError {
        let given = self.source.text.get(value.span()).unwrap_or_default();
        let given = given.lines().next().unwrap_or_default();
        self.source.wrong(value.span().start, format!("{expected}, not `{given}`"))
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.and_then(|table| table.get(key))
    }

    fn keys(&self) -> impl Iterator<Item = &'a Spanned<toml::de::DeString<'a>>> {
        self.table.into_iter().flat_map(|table| table.keys())
    }
}

/// Returns a value of TOML as JSON; `null` for what no setting is: a date, a list, a table, a number out of all bounds.
fn json(value: &DeValue<'_>) -> serde_json::Value {
    let float = |text: &str| text.replace('_', "").parse::<f64>().ok();
    match value {
        DeValue::Integer(_) => integer(value).into(),
        DeValue::Float(number) => float(number.as_str()).into(),
        _ => value.as_bool().map_or_else(|| value.as_str().into(), Into::into),
    }
}

/// Returns an integer of TOML, in any of its notations, if it is not negative.
pub(super) fn integer(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str().trim_start_matches('+'), integer.radix()).ok()
}
