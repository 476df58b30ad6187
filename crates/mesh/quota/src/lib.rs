//! Shared quotas: all proxies of a mesh ask one service (`envoy.service.ratelimit.v3.RateLimitService`) whether a
//! request is one too many. Limits stand in files of the form of Envoy's own rate limit service, and so do the keys in
//! Redis: both can count in the same one.

mod limits;
mod redis;
mod service;
mod window;

pub use limits::{Limit, Limits, LimitsError};
pub use redis::{Login, Redis, RedisError};
pub use service::{Counts, Service};
pub use window::Unit;
