//! The in-memory store keeps every rule of a store.

use midge_store::MemoryStore;

midge_store::conformance!(|| (MemoryStore::new(), ()));
