//! What decides about requests and connections: role based access control, JSON Web Tokens.

mod jwt;
mod metadata;
mod principal;
mod rbac;
mod rule;
mod template;

pub(super) use self::jwt::tokens;
pub(super) use self::rbac::{connections, requests};

#[cfg(test)]
mod tests;
