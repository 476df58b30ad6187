//! The filter `CORS`.

use std::time::Duration;

use super::items_up_to;
use crate::string_match::StringMatch;
use crate::values::is_token;
use crate::view::{Shape, View};
use crate::virtual_service::CorsPolicy;

pub(super) fn read(view: &View<'_>) -> Option<CorsPolicy> {
    const CORS: Shape = Shape {
        known: &[
            "allowOrigins",
            "allowCredentials",
            "allowMethods",
            "allowHeaders",
            "exposeHeaders",
            "maxAge",
        ],
        refused: &[],
    };
    let object = view.object(&CORS)?;
    let tokens = |name: &str| {
        let items = items_up_to(&object, name, 64);
        let token = |view: &View<'_>| {
            let text = view.some_text()?;
            if !is_token(&text) {
                view.fail(format!("`{text}` is neither a method nor a header name"));
                return None;
            }
            Some(text)
        };
        items.iter().map(token).collect::<Option<Vec<_>>>()
    };
    let origins = items_up_to(&object, "allowOrigins", 64);
    let credentials = object.optional("allowCredentials", View::bool)?;
    let max_age = object.optional("maxAge", |view| view.number(1, i64::from(i32::MAX)))?;
    let policy = CorsPolicy {
        origins: origins.iter().map(read_origin).collect::<Option<_>>()?,
        methods: tokens("allowMethods")?,
        headers: tokens("allowHeaders")?,
        exposed: tokens("exposeHeaders")?,
        max_age: Some(Duration::from_secs(max_age.unwrap_or(5).unsigned_abs())),
        credentials: credentials.filter(|allowed| *allowed),
        stops_others: true,
    };
    if policy.credentials.is_some() && policy.exposed.iter().any(|one| one == "*") {
        object.fail(
            "`*` in `exposeHeaders` means nothing to a browser that sends credentials: name them, or leave out \
             `allowCredentials`",
        );
        return None;
    }
    Some(policy)
}

/// `*`, or a scheme, a host that may begin with `*.`, and a port if it is not the scheme's.
fn read_origin(view: &View<'_>) -> Option<StringMatch> {
    let text = view.some_ascii()?;
    let Some((scheme, host)) = text
        .split_once("://")
        .filter(|(scheme, _)| is_token(scheme))
    else {
        if text == "*" {
            return Some(StringMatch::Regex(".*".to_owned()));
        }
        view.fail(format!(
            "`{text}` is no origin: expected `*`, or for example `https://example.com` or `https://*.example.com`"
        ));
        return None;
    };
    if host.is_empty() || host.contains('/') {
        view.fail(format!(
            "`{text}` is no origin: expected a host, and nothing behind it"
        ));
        return None;
    }
    Some(match host.strip_prefix('*') {
        Some(rest) => StringMatch::Regex(format!(
            "{}://.+{}",
            regex::escape(scheme),
            regex::escape(rest)
        )),
        None => StringMatch::Exact(text),
    })
}
