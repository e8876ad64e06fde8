//! `[secrets.NAME]`, and `http` and `secrets` of a module: what guests may reach.

use std::collections::BTreeMap;

use midge_protocol::SecretName;
use midge_protocol::manifest::{Destination, InvalidDestination, Reach, SecretSource, check_secrets};

use super::section::Section;
use super::{ConfigError, ProjectModule};

const LIST: &str = "a list of destinations, such as [\"https://api.example.com\"]";

/// Reads `[secrets]`.
pub(super) fn secrets(
    section: &Section<'_>,
    env: &BTreeMap<String, String>,
) -> Result<BTreeMap<SecretName, SecretSource>, ConfigError> {
    let mut secrets = BTreeMap::new();
    for (name, secret) in section.sections()? {
        let name = SecretName::new(name).map_err(|error| secret.wrong(error.to_string()))?;
        secret.only(&["env"])?;
        let env = secret.text("env")?.ok_or_else(|| {
            secret.wrong(format!(
                "a secret needs `env`: the variable of the Machine that holds it, such as \"{name}_KEY\""
            ))
        })?;
        secrets.insert(name, SecretSource { env: env.to_owned() });
    }
    match check_secrets(&secrets, env) {
        Ok(()) => Ok(secrets),
        Err((name, message)) => Err(section.section(name.as_str())?.wrong_at("env", message)),
    }
}

/// Reads `http` of a module.
pub(super) fn http(section: &Section<'_>) -> Result<Vec<Destination>, ConfigError> {
    destinations(section, "http")
}

/// Reads `secrets` of a module.
pub(super) fn of_module(
    section: &Section<'_>,
) -> Result<BTreeMap<SecretName, Vec<Destination>>, ConfigError> {
    let names = section.names();
    let read = names.map(|name| {
        let secret = SecretName::new(name).map_err(|error| section.wrong_at(name, error.to_string()))?;
        let destinations = destinations(section, name)?;
        if destinations.is_empty() {
            return Err(section.wrong_at(name, format!("`{name}` goes nowhere: it must be {LIST}")));
        }
        Ok((secret, destinations))
    });
    read.collect()
}

/// Checks what a module reaches, which is said in its section.
pub(super) fn check(
    section: &Section<'_>,
    module: &ProjectModule,
    declared: &BTreeMap<SecretName, SecretSource>,
) -> Result<(), ConfigError> {
    let reach = Reach { http: &module.http, secrets: &module.secrets, env: &module.env };
    reach.check(declared).map_err(|(key, message)| section.wrong_at(key, message))
}

fn destinations(section: &Section<'_>, key: &str) -> Result<Vec<Destination>, ConfigError> {
    let texts = section.read(key, LIST, |value| {
        value.as_array()?.iter().map(|item| item.get_ref().as_str()).collect::<Option<Vec<&str>>>()
    })?;
    let read = texts.unwrap_or_default().into_iter().map(str::parse);
    read.collect::<Result<_, InvalidDestination>>().map_err(|error| section.wrong_at(key, error.to_string()))
}
