//! How a server is to be: what whoever embeds it decides.

use std::collections::BTreeMap;

use midge_core::Retention;
use midge_machines::own::Model;
use midge_protocol::Secret;
use midge_protocol::manifest::MachineSize;
use sha2::{Digest, Sha256};

use crate::catalog::Catalog;
use crate::secret::hex;

/// How much of a hash is in the name of a generation: enough that no two deploys of one image have the same.
const GENERATION_HASH_BYTES: usize = 4;

/// What an app decides about its server: what it serves, how its Machines are made, who may use it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The modules that jobs may name, and the queues with their policies.
    pub catalog: Catalog,
    /// The image, region and program that Machines are made with.
    pub fork: Fork,
    /// Who may use the API and the dashboard.
    pub access: Access,
    /// The time for which ended jobs are kept before they are deleted, where their queue does not say.
    pub retention: Retention,
}

/// How Machines are made from the app's own image. [`Fork::like`] makes one that is like the server's own Machine.
#[derive(Debug, Clone)]
pub struct Fork {
    /// The app's image, as a full reference such as `registry.fly.io/my-app@sha256:...`; flylet takes any word.
    pub image: String,
    /// The env that the app declares for its Machines, beside that of `midge.toml`, which goes before it. Never the env of
    /// the server's process: there the app's secrets are.
    pub env: BTreeMap<String, String>,
    /// CPUs and memory of Machines of queues that say none; the default size where it is missing.
    pub size: Option<MachineSize>,
    /// The region to make them in, for queues that say none, such as `iad`, or several in the order of preference, such as `iad,ord,any`; near
    /// the Machines API where it is missing. Where one has no room, the next has its turn.
    pub region: Option<String>,
    /// The absolute path of the host in the image, and any arguments that come before `work`.
    pub host: Vec<String>,
    /// The URL at which hosts reach this server, with the path under which its router is mounted; or several, with commas
    /// between, which hosts try in turn: an address, say, and names that lead to the server after it has moved.
    pub server_url: String,
}

impl Fork {
    /// Returns how Machines are made like the server's own, with this program as their host. Nothing where it is not known
    /// what image that has.
    pub fn like(model: Model, host: Vec<String>, server_url: String) -> Option<Fork> {
        let Model { image, env, size, region } = model;
        Some(Fork { image: image?, env, size, region, host, server_url })
    }

    /// Returns the generation of Machines that are made so: the image, and a hash of the env and the size where there are any.
    /// A deploy that changes nothing else is one too.
    pub fn generation(&self) -> String {
        if self.env.is_empty() && self.size.is_none() {
            return self.image.clone();
        }
        let parts = serde_json::to_vec(&(&self.env, &self.size)).expect("texts and numbers are JSON");
        format!("{}+{}", self.image, hex(&Sha256::digest(parts)[..GENERATION_HASH_BYTES]))
    }
}

/// Who may use the API and the dashboard.
#[derive(Debug, Clone)]
pub enum Access {
    /// Whoever sends this token: as a bearer token, or as the password of HTTP Basic.
    Token(Secret),
    /// Everybody on this machine. Only for a server that listens on loopback: what keeps web pages out is that
    /// `Host` must be a loopback name, and that a body must be JSON, which a page cannot send elsewhere unasked.
    Loopback,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fork(env: &[(&str, &str)], size: Option<MachineSize>) -> Fork {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let model = Model { image: Some("shop@sha256:ab".to_owned()), env, size, region: None };
        Fork::like(model, vec!["host".to_owned()], "http://x".to_owned()).unwrap()
    }

    #[test]
    fn a_deploy_that_changes_only_declared_env_or_the_size_is_another_generation() {
        let plain = fork(&[], None).generation();
        assert_eq!(plain, "shop@sha256:ab");
        let generations = [
            plain,
            fork(&[("LOG", "info")], None).generation(),
            fork(&[("LOG", "debug")], None).generation(),
            fork(&[], Some(MachineSize::default())).generation(),
        ];
        for (place, generation) in generations.iter().enumerate() {
            assert!(generation.starts_with("shop@sha256:ab"), "{generation}");
            assert!(!generations[..place].contains(generation), "{generation}");
        }
        assert_eq!(fork(&[("LOG", "info")], None).generation(), generations[1], "it is the same each time");
    }

    #[test]
    fn no_machine_is_made_like_one_whose_image_is_not_known() {
        assert!(Fork::like(Model::default(), Vec::new(), String::new()).is_none());
    }
}
