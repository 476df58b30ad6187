//! Every engine gives the same answers.

#[macro_use]
mod suite;

conformance!(memory, periplus_store::MemoryStore::default());
