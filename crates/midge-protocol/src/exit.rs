//! The exit codes by which a host that ends by itself says why: what ends so is no job's doing.

/// The host left, and its server agreed.
pub const LEFT: i32 = 0;
/// The server has given the Machine up.
pub const GONE: i32 = 3;
/// The server speaks another protocol.
pub const OTHER_PROTOCOL: i32 = 4;
/// The server could not be reached for too long.
pub const LOST: i32 = 5;
/// The flylet that started the host has ended.
pub const LEASH: i32 = 6;
/// The host was told twice to stop: the code that a shell gives for SIGTERM. Where it was not told by way of the Machines
/// API, somebody else did, and nobody can say why.
pub const KILLED: i32 = 143;
/// The code that a shell gives for SIGKILL. No guest can send one: somebody else did, or the kernel for want of memory.
pub const SIGKILL: i32 = 137;

/// Returns whether a host that exited with the code ended in good order, so that no guest can have been the reason.
pub const fn is_orderly(code: i32) -> bool {
    matches!(code, LEFT | GONE | OTHER_PROTOCOL | LOST | LEASH)
}
