//! OTLP requests into the engine, every field out again: compared with what prost makes of the same
//! bytes by the standard's own declarations. Nothing of our decoder, columns, segments or merges is
//! between the bytes and prost's reading of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

#[path = "../../wire/tests/formats/support/mod.rs"]
#[expect(
    dead_code,
    reason = "written for the codecs' tests, of which this needs a part"
)]
mod support;

#[path = "differential/engine.rs"]
mod engine;
#[path = "differential/odd.rs"]
mod odd;
#[path = "differential/oracle.rs"]
mod oracle;
#[path = "differential/ours.rs"]
mod ours;
#[path = "differential/refusals.rs"]
mod refusals;
