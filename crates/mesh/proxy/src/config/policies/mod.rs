//! What decides about requests and connections: role based access control, JSON Web Tokens, services that are asked.

mod authz;
mod jwt;
mod metadata;
mod principal;
mod quota;
mod rbac;
mod rule;
mod template;

pub(super) use self::authz::{authorizer, authorizer_of_route, connection_authorizer};
pub(super) use self::jwt::{tokens, tokens_of_route};
pub(super) use self::metadata::compile as metadata;
pub(super) use self::quota::quota;
pub(super) use self::rbac::{connections, requests, requests_of_route};

#[cfg(test)]
mod tests;
