//! What Jaeger's clients ask: `/api/v3`, gRPC, metrics, the archive; and our own live tail. One binary,
//! since each one takes its time to be linked.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

#[path = "../support/mod.rs"]
mod support;

mod archive;
mod clients;
mod grpc;
mod live;
mod metrics;
mod peers;
mod storage_cases;
mod v3;
