//! The sandbox from outside: guests in WebAssembly text, compiled here, loaded and run as a host does it.

mod causes;
mod enqueues;
mod files;
mod loading;
mod recordings;
mod requests;
mod seen;
mod support;
mod traffic;
