//! The control plane, from files to proxies.

mod connections;
mod generate;
mod live;
mod random;
mod real_envoy;
mod support;
mod telemetry;
