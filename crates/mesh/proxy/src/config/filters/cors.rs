//! `envoy.filters.http.cors`.

use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3 as pb;

use crate::config::check::{At, Refused, nothing_else};
use crate::config::{fraction, matcher};
use crate::snapshot::Cors;

/// The filter itself, which does nothing where no route has a policy.
pub(super) fn without_policy() -> Cors {
    Cors {
        enabled: Some(0),
        ..Cors::default()
    }
}

pub(super) fn compile(mut policy: pb::CorsPolicy, at: &At<'_>) -> Result<Cors, Refused> {
    let at_origins = &at.field("allow_origin_string_match");
    let origins = std::mem::take(&mut policy.allow_origin_string_match)
        .into_iter()
        .enumerate()
        .map(|(index, origin)| matcher::string(origin, &at_origins.index(index)))
        .collect::<Result<Vec<_>, _>>()?;
    let share = |given: Option<RuntimeFractionalPercent>, name| {
        let given = given.map(|given| fraction::of_runtime(given, &at.field(name)));
        given.transpose()
    };
    let cors = Cors {
        enabled: share(policy.filter_enabled.take(), "filter_enabled")?,
        shadow: share(policy.shadow_enabled.take(), "shadow_enabled")?,
        origins,
        methods: std::mem::take(&mut policy.allow_methods),
        headers: std::mem::take(&mut policy.allow_headers),
        exposed: std::mem::take(&mut policy.expose_headers),
        max_age: std::mem::take(&mut policy.max_age),
        credentials: policy.allow_credentials.take().map(|flag| flag.value),
        private_network: policy
            .allow_private_network_access
            .take()
            .map(|flag| flag.value),
        forwards_others: policy
            .forward_not_matching_preflights
            .take()
            .map(|flag| flag.value),
    };
    for (name, text) in [
        ("allow_methods", &cors.methods),
        ("allow_headers", &cors.headers),
        ("expose_headers", &cors.exposed),
        ("max_age", &cors.max_age),
    ] {
        if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return Err(at.field(name).refuse("it must have no control characters"));
        }
    }
    nothing_else(&policy, at)?;
    Ok(cors)
}
