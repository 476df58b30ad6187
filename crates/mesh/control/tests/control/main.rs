//! The control plane, from files to proxies.

mod analysis;
mod connections;
mod delegates;
mod faults;
mod gateway_api;
mod generate;
mod guarded;
mod heeded;
mod kubernetes;
mod live;
mod localities;
mod measured;
mod mesh_wide;
mod mutual_tls;
mod proxyless;
mod random;
mod real_envoy;
mod secure_gateways;
mod semantics;
mod services;
mod sessions;
mod settings;
mod support;
mod taken;
mod telemetry;
mod traps;
