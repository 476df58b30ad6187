//! The four services over real sockets, one module for each behaviour.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod header_forwarding;
mod json_api;
mod product_page;
mod stopping;
mod support;
