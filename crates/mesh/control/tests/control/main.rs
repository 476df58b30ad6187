//! The control plane, from files to proxies.

mod analysis;
mod connections;
mod gateway_api;
mod generate;
mod kubernetes;
mod live;
mod localities;
mod mesh_wide;
mod mutual_tls;
mod random;
mod real_envoy;
mod support;
mod telemetry;
