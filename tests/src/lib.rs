//! Support for the tests of the whole: the simulation's world, and real programs.

pub mod sim;
pub mod support;
