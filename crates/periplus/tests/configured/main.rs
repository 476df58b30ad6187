//! `periplus serve` with settings: TLS, tokens and tenants, forwarding, a file of settings.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

#[path = "../support/serve.rs"]
mod harness;

mod access;
mod cli;
mod client;
mod config;
mod forward;
mod sampling_api;
mod spans;
mod tls;
