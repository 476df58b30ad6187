//! Bookinfo, the sample application, as one program with roles.
//!
//! Four ordinary web services of one online bookstore: `productpage` calls `details` and
//! `reviews`, and `reviews` (from v2 on) calls `ratings`. Routes, JSON shapes, texts, environment
//! variables and time limits are those of Istio's sample, so that its tutorials work unchanged.
//!
//! The services know nothing about tracing. All they do is what the documentation of every mesh
//! asks of an application: copy a few headers of the request they received onto the requests they
//! make for it (`forward.rs`).

mod app;
mod call;
mod environment;
mod form;
mod forward;
pub mod networking;
mod reply;
mod role;
mod server;

mod details;
mod productpage;
mod ratings;
mod reviews;

pub use app::App;
pub use environment::{Environment, SetupError};
pub use role::Role;
pub use server::serve;
