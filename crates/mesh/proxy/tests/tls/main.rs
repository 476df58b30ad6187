//! TLS over real sockets: terminated, originated, passed through, with secrets that come and change.

#[path = "../announced/mod.rs"]
mod announced;
#[path = "../xds_support/mod.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod xds_support;

#[path = "../../../xds/tests/support/fake.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod fake;

mod authority;
mod authorized;
mod cache;
mod client;
mod delta;
mod differential;
mod downstream;
mod health;
#[path = "../xds_support/http2_options.rs"]
mod http2_options;
mod inspection;
mod istio_chains;
mod logs;
mod other_clients;
mod peers;
mod refusals;
mod resumption;
mod rotation;
mod sds;
mod secrets;
mod spans;
mod upstream;
mod websocket;
mod world;
