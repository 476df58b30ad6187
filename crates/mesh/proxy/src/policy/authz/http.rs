//! A service of HTTP: it gets the head of the request, and what it answers decides.

use serde_json::Value;

use crate::acquire::Body;
use crate::call::Call;
use crate::errand::Answer;
use crate::exchange::{Exchange, Said};
use crate::http1::edit::append_field;
use crate::http1::name::Name;
use crate::policy::authz::ask::Question;
use crate::policy::authz::{Authz, Change, Changes, Denial, How, HttpService, Verdict, is_one_of};
use crate::snapshot::AppendAction;
use crate::trace::text;

/// A field of an answer that names fields of the request that are to go.
const TO_REMOVE: &str = "x-envoy-auth-headers-to-remove";
/// What clients who are refused are told in any case.
const ALWAYS_TOLD: [&str; 2] = ["www-authenticate", "location"];

pub(super) fn question(
    call: &Call,
    exchange: &Exchange,
    (authz, service): (&Authz, &HttpService),
    body: Option<&Body>,
) -> Question {
    let mut fields = Vec::new();
    let (mut method, mut path, mut host) = (String::new(), String::new(), None);
    for (name, value) in call.told_fields(exchange, authz) {
        match name.as_str() {
            ":method" => method = text(&value).into_owned(),
            ":path" => path = text(&value).into_owned(),
            // As in Envoy, the service is asked as if it were the one whom the client wants.
            ":authority" if !value.is_empty() => host = Some(text(&value).into_owned()),
            "content-length" => {}
            name if name.starts_with(':') => {}
            name => append_field(&mut fields, name, &value),
        }
    }
    fields.extend_from_slice(&authz.service.fields);
    if let Some(body) = body {
        let is_cut = if body.is_whole { "false" } else { "true" };
        append_field(&mut fields, "x-envoy-auth-partial-body", is_cut.as_bytes());
    }
    let path = match service.path_override.as_str() {
        "" => format!("{}{path}", service.path_prefix),
        path => path.to_owned(),
    };
    Question {
        method,
        path,
        host,
        fields,
        body: body.map_or_else(Vec::new, |body| body.data.clone()),
    }
}

pub(super) fn verdict(answer: &Answer, service: &HttpService) -> Verdict {
    let fields: Vec<_> = answer
        .fields()
        .map(|(name, value)| (name, value.to_vec()))
        .collect();
    let pick = |names: &[_]| -> Vec<(String, Vec<u8>)> {
        let fields = fields.iter();
        let picked = fields.filter(|(name, _)| is_one_of(names, name) && name != TO_REMOVE);
        picked.cloned().collect()
    };
    let status = answer.status();
    if status >= 500 {
        return Verdict::Failed(format!("the answer was {status}"), None);
    }
    if status != 200 {
        let names = &service.client;
        let is_told = |(name, _): &(String, Vec<u8>)| {
            let is_wanted = || is_one_of(names, name) || ALWAYS_TOLD.contains(&name.as_str());
            may_be_told(name) && (names.is_empty() || is_wanted())
        };
        return Verdict::Denied(Denial {
            status,
            fields: fields
                .iter()
                .filter(|field| is_told(field))
                .cloned()
                .collect(),
            body: text(&answer.body).into_owned(),
        });
    }
    let change = |how: How| move |(name, value)| Change { name, value, how };
    let set = pick(&service.upstream).into_iter().map(change(How::Set));
    let added = pick(&service.upstream_added).into_iter();
    let added = added.map(change(How::Add));
    let told = pick(&service.client_on_success).into_iter();
    let told = told.map(|(name, value)| Said {
        name: name.into(),
        value,
        action: AppendAction::Append,
    });
    let metadata = pick(&service.metadata).into_iter();
    let removed = fields.iter().filter(|(name, _)| name == TO_REMOVE);
    let removed = removed.flat_map(|(_, value)| {
        let names = text(value).into_owned();
        let names = names
            .split(',')
            .map(|name| name.trim().to_ascii_lowercase());
        names.collect::<Vec<_>>()
    });
    Verdict::Allowed(Changes {
        request: set.chain(added).collect(),
        removed: removed.filter(|name| !name.is_empty()).collect(),
        response: told.collect(),
        metadata: metadata
            .map(|(name, value)| (name, Value::String(text(&value).into_owned())))
            .collect(),
        ..Changes::default()
    })
}

/// Whether a field of an answer is one that the client's answer may have; the proxy says itself how its own
/// is framed.
fn may_be_told(name: &str) -> bool {
    let known = Name::of(name.as_bytes());
    name != TO_REMOVE && known != Name::ContentLength && !known.is_hop_by_hop()
}
