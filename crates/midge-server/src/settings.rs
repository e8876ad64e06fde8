//! How a server is to be: what whoever embeds it decides.

use midge_core::Retention;
use midge_protocol::Secret;

use crate::catalog::Catalog;

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

/// How Machines are made from the app's own image. Nothing of the server's own environment goes into them.
#[derive(Debug, Clone)]
pub struct Fork {
    /// The app's image, as a full reference such as `registry.fly.io/my-app@sha256:...`; flylet takes any word.
    pub image: String,
    /// The region to make them in, such as `iad`, or several in the order of preference, such as `iad,ord,any`; near
    /// the Machines API where it is missing. Where one has no room, the next has its turn.
    pub region: Option<String>,
    /// The absolute path of the host in the image, and any arguments that come before `work`.
    pub host: Vec<String>,
    /// The URL at which hosts reach this server, with the path under which its router is mounted.
    pub server_url: String,
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
