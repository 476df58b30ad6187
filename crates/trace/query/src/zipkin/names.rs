//! Lists of names, for the forms of a UI.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use periplus_model::Value;
use periplus_store::{Scope, SpanFilter, TimeRange, TraceFilter, TraceQuery};
use periplus_wire::zipkin::endpoints;

use super::answer::{self, Failure};
use super::{Zipkin, search};
use crate::params::Params;

type Answer = Result<Response, Failure>;

/// How many of the newest traces of a service are looked at for the names of its other sides.
const REMOTE_NAMES_FROM: usize = 1000;

/// The most values that are offered of a tag.
const MAX_VALUES: usize = 1000;

/// `GET /api/v2/services`.
pub(super) async fn services(State(zipkin): State<Zipkin>) -> Answer {
    let services = zipkin.api.store.services().await?;
    let names: BTreeSet<String> = (services.into_iter())
        .filter(|name| !name.is_empty())
        .map(|name| name.to_lowercase())
        .collect();
    zipkin.services.store(names.len(), Ordering::Relaxed);
    let names = names.into_iter().collect();
    Ok(answer::names(names, zipkin.may_cache_names()))
}

/// `GET /api/v2/spans`.
pub(super) async fn spans(State(zipkin): State<Zipkin>, uri: Uri) -> Answer {
    let services = services_of(&zipkin, &uri).await?;
    let mut names = Vec::new();
    for service in services {
        let operations = zipkin.api.store.operations(&service, None).await?;
        names.extend(operations.into_iter().map(|it| it.name.to_lowercase()));
    }
    names.retain(|name| !name.is_empty());
    Ok(answer::names(names, zipkin.may_cache_names()))
}

/// `GET /api/v2/remoteServices`: those of the newest traces.
pub(super) async fn remote_services(State(zipkin): State<Zipkin>, uri: Uri) -> Answer {
    let services = services_of(&zipkin, &uri).await?;
    let mut names = BTreeSet::new();
    let mut partial = None;
    if !services.is_empty() {
        let filter = TraceFilter::AnySpan(SpanFilter::And(vec![
            search::any_of_services(&services),
            search::has_remote_service(),
        ]));
        let query = TraceQuery::new(TimeRange::ALL, filter, REMOTE_NAMES_FROM);
        let found = zipkin.api.find(query).await?;
        partial = found.partial;
        let groups = found.traces.iter().flat_map(|trace| &trace.groups);
        for group in groups.filter(|it| services.iter().any(|s| s == it.resource.service_name())) {
            for span in &group.spans {
                let (_, remote) = endpoints(&group.resource, span);
                names.extend(remote.service_name.map(|name| name.into_owned()));
            }
        }
    }
    let names = names.into_iter().collect();
    let response = answer::names(names, zipkin.may_cache_names());
    Ok(answer::partial(response, partial))
}

/// `GET /api/v2/autocompleteKeys`.
pub(super) async fn autocomplete_keys(State(zipkin): State<Zipkin>) -> Answer {
    Ok(answer::names(
        zipkin.options.autocomplete_keys.clone(),
        true,
    ))
}

/// `GET /api/v2/autocompleteValues`: of any tag, not only of those that are offered.
pub(super) async fn autocomplete_values(State(zipkin): State<Zipkin>, uri: Uri) -> Answer {
    let params = Params::of(uri.query());
    let key = required(&params, "key")?;
    if key.is_empty() {
        return Err(Failure::bad_request("key was empty"));
    }
    let mut values = Vec::new();
    for scope in [Scope::Span, Scope::Resource] {
        let found = (zipkin.api.store).attribute_values(key, scope, "", MAX_VALUES);
        values.extend(found.await?.iter().filter_map(text));
    }
    values.sort();
    values.dedup();
    let many = values.len() > answer::UNCACHED_NAMES;
    Ok(answer::names(values, many))
}

fn text(value: &Value) -> Option<String> {
    Some(match value {
        Value::String(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Empty | Value::Bytes(_) | Value::Array(_) | Value::Map(_) => return None,
    })
}

/// The services that `serviceName` means.
async fn services_of(zipkin: &Zipkin, uri: &Uri) -> Result<Vec<String>, Failure> {
    let params = Params::of(uri.query());
    let wanted = required(&params, "serviceName")?.to_lowercase();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    Ok(search::services_named(zipkin, &wanted).await?)
}

fn required<'a>(params: &'a Params<'_>, name: &'a str) -> Result<&'a str, Failure> {
    params
        .all(name)
        .next()
        .ok_or_else(|| Failure::bad_request(format!("Required parameter '{name}' is missing")))
}
