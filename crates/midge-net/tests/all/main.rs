//! The program as its host sees it: lines in, requests at servers of the tests' own, answers out.

mod support;

mod hostile;
mod judge;
mod lines;
mod names;
mod plain;
mod program;
mod redirects;
mod refused;
mod secrets;
mod tls;
