//! `envoy.filters.http.stateful_session`.

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3::stateful_session_per_route::Override;
use envoy_types::pb::envoy::extensions::http::stateful_session::cookie::v3::CookieBasedSessionState;
use envoy_types::pb::envoy::extensions::http::stateful_session::header::v3::HeaderBasedSessionState;
use std::sync::Arc;

use prost::Name as _;

use crate::config::check::{At, Refused, decode, ignored, nothing_else, short_type};
use crate::config::hash_policy;
use crate::snapshot::{Filter, PerFilter, Session, SessionBy};

pub(super) fn compile(mut given: pb::StatefulSession, at: &At<'_>) -> Result<Session, Refused> {
    let session = Session {
        by: match given.session_state.take() {
            Some(state) => by(&state, &at.field("session_state"))?,
            None => SessionBy::Nothing,
        },
        is_strict: std::mem::take(&mut given.strict),
    };
    ignored!(given: stat_prefix);
    nothing_else(&given, at)?;
    Ok(session)
}

pub(super) fn of_route(
    given: pb::StatefulSessionPerRoute,
    at: &At<'_>,
) -> Result<PerFilter, Refused> {
    match given.r#override {
        Some(Override::Disabled(true)) => Ok(PerFilter::Off),
        Some(Override::StatefulSession(session)) => {
            let session = compile(session, &at.field("stateful_session"))?;
            Ok(PerFilter::Own(Filter::Session(Arc::new(session))))
        }
        Some(Override::Disabled(false)) => Err(at.field("disabled").refuse("it must be true")),
        None => Err(at.refuse("disabled or stateful_session must be given")),
    }
}

fn by(state: &TypedExtensionConfig, at: &At<'_>) -> Result<SessionBy, Refused> {
    let config = state.typed_config.as_ref();
    let config = config.ok_or_else(|| at.field("typed_config").refuse("it must be given"))?;
    let kind = short_type(&config.type_url);
    let at_config = &at.field("typed_config");
    if kind == CookieBasedSessionState::full_name() {
        let config: CookieBasedSessionState = decode(config, at_config)?;
        let at = &at_config.field("cookie");
        let cookie = config.cookie.ok_or_else(|| at.refuse("it must be given"))?;
        let attributes = cookie.attributes.into_iter();
        let attributes = attributes.map(|attribute| (attribute.name, attribute.value));
        let named = (cookie.name, cookie.path, attributes.collect());
        return Ok(SessionBy::Cookie(hash_policy::cookie(
            named, cookie.ttl, at,
        )?));
    }
    if kind == HeaderBasedSessionState::full_name() {
        let config: HeaderBasedSessionState = decode(config, at_config)?;
        let name = config.name.to_ascii_lowercase();
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            let at = at_config.field("name");
            return Err(at.refuse(format!("{:?} is no name of a header", config.name)));
        }
        return Ok(SessionBy::Header(name));
    }
    Err(at.refuse(format!(
        "session state {:?} ({kind}) is not supported, only cookies and headers are",
        state.name
    )))
}
