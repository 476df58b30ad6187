//! `JwtAuthentication`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use envoy_types::pb::envoy::config::core::v3::{DataSource, RetryPolicy};
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::JwksSourceSpecifier;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_requirement::RequiresType;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::per_route_config::RequirementSpecifier;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::requirement_rule::RequirementType;
use http::Uri;

use super::super::check::{At, Refused, duration, ignored, nothing_else};
use super::super::{edits, matcher};
use super::rule::{check_depth, not_empty};
use crate::policy::jwt::{
    DEFAULT_CACHE_DURATION, Jwt, KeySource, Keys, Location, Origin, Provider, RemoteKeys,
    Requirement, Rule,
};
use crate::snapshot::{PerFilter, Required};

const DEFAULT_CLOCK_SKEW: u32 = 60;
const DEFAULT_CACHED_TOKENS: u32 = 100;
const MOST_CACHED_TOKENS: u32 = 10_000;
const DEFAULT_CACHED_LENGTH: u32 = 4096;
const MOST_RETRIES: u32 = 10;

/// Where each provider is, by name.
type Places = HashMap<String, usize>;

/// The filter of an HTTP connection manager.
pub(in super::super) fn tokens(
    mut filter: pb::JwtAuthentication,
    at: &At<'_>,
) -> Result<Jwt, Refused> {
    let at_providers = &at.field("providers");
    let mut named: Vec<_> = std::mem::take(&mut filter.providers).into_iter().collect();
    named.sort_by(|one, other| one.0.cmp(&other.0));
    let mut places = Places::new();
    let mut providers = Vec::new();
    for (name, provider) in named {
        let key = format!("[{name:?}]");
        providers.push(self::provider(provider, &at_providers.key(&key))?);
        places.insert(name, providers.len() - 1);
    }
    let at_map = &at.field("requirement_map");
    let mut by_name = HashMap::new();
    for (name, requirement) in std::mem::take(&mut filter.requirement_map) {
        let key = format!("[{name:?}]");
        let compiled = self::requirement(requirement, &places, 0, &at_map.key(&key))?;
        by_name.insert(name, Arc::new(compiled));
    }
    let at_rules = &at.field("rules");
    let rules = std::mem::take(&mut filter.rules)
        .into_iter()
        .enumerate()
        .map(|(index, one)| rule(one, &places, &by_name, &at_rules.index(index)))
        .collect::<Result<_, _>>()?;
    let compiled = Jwt {
        providers,
        rules,
        requirements: by_name,
        lets_preflights_pass: std::mem::take(&mut filter.bypass_cors_preflight),
        is_silent: std::mem::take(&mut filter.strip_failure_response),
        stat_prefix: std::mem::take(&mut filter.stat_prefix),
    };
    nothing_else(&filter, at)?;
    Ok(compiled)
}

/// What a route says of it: an entry of `requirement_map`, or nothing at all.
pub(in super::super) fn tokens_of_route(
    given: pb::PerRouteConfig,
    at: &At<'_>,
) -> Result<PerFilter, Refused> {
    match given.requirement_specifier {
        Some(RequirementSpecifier::Disabled(true)) => Ok(PerFilter::Requirement(Required::Nothing)),
        Some(RequirementSpecifier::Disabled(false)) => {
            Err(at.field("disabled").refuse("it must be true"))
        }
        Some(RequirementSpecifier::RequirementName(name)) if !name.is_empty() => {
            Ok(PerFilter::Requirement(Required::Entry(name.into())))
        }
        _ => Err(at.field("requirement_name").refuse("it must be given")),
    }
}

fn rule(
    mut rule: pb::RequirementRule,
    places: &Places,
    by_name: &HashMap<String, Arc<Requirement>>,
    at: &At<'_>,
) -> Result<Rule, Refused> {
    let condition = rule.r#match.take();
    let condition = condition.ok_or_else(|| at.field("match").refuse("it must be given"))?;
    let (path, headers, conditions) = matcher::compile(condition, &at.field("match"))?;
    let asks_filters = conditions
        .as_ref()
        .is_some_and(|all| !all.metadata.is_empty());
    if asks_filters {
        let at = at.field("match");
        return Err(at.field("dynamic_metadata").refuse("is for routes only"));
    }
    let requirement = match rule.requirement_type.take() {
        None => None,
        Some(RequirementType::Requires(one)) => {
            let compiled = requirement(one, places, 0, &at.field("requires"))?;
            Some(Arc::new(compiled))
        }
        Some(RequirementType::RequirementName(name)) => {
            let known = by_name.get(&name).cloned();
            let at = at.field("requirement_name");
            Some(known.ok_or_else(|| at.refuse(format!("{name:?} is not in requirement_map")))?)
        }
    };
    Ok(Rule {
        path,
        headers,
        conditions,
        requirement,
    })
}

fn requirement(
    requirement: pb::JwtRequirement,
    places: &Places,
    depth: usize,
    at: &At<'_>,
) -> Result<Requirement, Refused> {
    check_depth(depth, at)?;
    let find = |name: &str, at: &At<'_>| {
        let place = places.get(name).copied();
        place.ok_or_else(|| at.refuse(format!("there is no provider {name:?}")))
    };
    let everybody = || (0..places.len()).collect();
    Ok(match requirement.requires_type {
        None => Requirement::All(Vec::new()),
        Some(RequiresType::ProviderName(name)) => {
            Requirement::Provider(find(&name, &at.field("provider_name"))?, None)
        }
        Some(RequiresType::ProviderAndAudiences(given)) => {
            let at = &at.field("provider_and_audiences");
            let place = find(&given.provider_name, &at.field("provider_name"))?;
            Requirement::Provider(place, Some(given.audiences))
        }
        Some(RequiresType::RequiresAny(list)) => {
            let at = &at.field("requires_any");
            any(list.requirements, places, depth, &at.field("requirements"))?
        }
        Some(RequiresType::RequiresAll(list)) => {
            let at = &at.field("requires_all");
            let at = &at.field("requirements");
            let all = list.requirements.into_iter().enumerate();
            let all = all.map(|(i, one)| self::requirement(one, places, depth + 1, &at.index(i)));
            Requirement::All(all.collect::<Result<_, _>>()?)
        }
        Some(RequiresType::AllowMissing(_)) => Requirement::AllowMissing(everybody()),
        Some(RequiresType::AllowMissingOrFailed(_)) => {
            Requirement::AllowMissingOrFailed(everybody())
        }
        Some(RequiresType::ExtractOnlyWithoutValidation(_)) => {
            let at = at.field("extract_only_without_validation");
            return Err(at.refuse("is not supported"));
        }
    })
}

/// Whether tokens may be missing is asked last, and of the providers beside it.
fn any(
    list: Vec<pb::JwtRequirement>,
    places: &Places,
    depth: usize,
    at: &At<'_>,
) -> Result<Requirement, Refused> {
    not_empty(&list, at)?;
    let mut compiled = Vec::new();
    let mut beside = Vec::new();
    let mut may_be_missing = None;
    for (index, one) in list.into_iter().enumerate() {
        match self::requirement(one, places, depth + 1, &at.index(index))? {
            Requirement::AllowMissing(_) => {
                may_be_missing.get_or_insert(false);
            }
            Requirement::AllowMissingOrFailed(_) => may_be_missing = Some(true),
            other => {
                if let Requirement::Provider(place, _) = other {
                    beside.push(place);
                }
                compiled.push(other);
            }
        }
    }
    compiled.extend(may_be_missing.map(|or_failed| match or_failed {
        true => Requirement::AllowMissingOrFailed(beside),
        false => Requirement::AllowMissing(beside),
    }));
    Ok(Requirement::Any(compiled))
}

fn provider(mut given: pb::JwtProvider, at: &At<'_>) -> Result<Provider, Refused> {
    let keys = match given.jwks_source_specifier.take() {
        Some(JwksSourceSpecifier::LocalJwks(source)) => {
            KeySource::Local(Arc::new(local(source, &at.field("local_jwks"))?))
        }
        Some(JwksSourceSpecifier::RemoteJwks(source)) => {
            KeySource::Remote(remote(source, &at.field("remote_jwks"))?)
        }
        None => return Err(at.refuse("local_jwks or remote_jwks must be given")),
    };
    let payload_header = match std::mem::take(&mut given.forward_payload_header) {
        none if none.is_empty() => None,
        name => Some(edits::name(&name, &at.field("forward_payload_header"))?),
    };
    let pads = std::mem::take(&mut given.pad_forward_payload_header);
    let lists = given.normalize_payload_in_metadata.take();
    let skew = match std::mem::take(&mut given.clock_skew_seconds) {
        0 => DEFAULT_CLOCK_SKEW,
        seconds => seconds,
    };
    let compiled = Provider {
        issuer: std::mem::take(&mut given.issuer),
        audiences: std::mem::take(&mut given.audiences),
        keys,
        locations: locations(&mut given, at)?,
        forwards: std::mem::take(&mut given.forward),
        payload_header: payload_header.map(|name| (name, pads)),
        claim_headers: claim_headers(std::mem::take(&mut given.claim_to_headers), at)?,
        payload_key: key(std::mem::take(&mut given.payload_in_metadata)),
        header_key: key(std::mem::take(&mut given.header_in_metadata)),
        lists: lists.map_or_else(Vec::new, |lists| lists.space_delimited_claims),
        clears_route: std::mem::take(&mut given.clear_route_cache),
        clock_skew: skew.into(),
        must_expire: std::mem::take(&mut given.require_expiration),
        cache: cache(given.jwt_cache_config.take(), &at.field("jwt_cache_config"))?,
    };
    nothing_else(&given, at)?;
    Ok(compiled)
}

fn key(name: String) -> Option<Arc<str>> {
    (!name.is_empty()).then(|| name.into())
}

fn locations(given: &mut pb::JwtProvider, at: &At<'_>) -> Result<Vec<Location>, Refused> {
    let at = &at.field("from_headers");
    let mut locations = Vec::new();
    for (index, header) in std::mem::take(&mut given.from_headers)
        .into_iter()
        .enumerate()
    {
        let at = at.index(index);
        locations.push(Location::Header {
            // Unless the token is forwarded, it goes.
            name: edits::name(&header.name, &at.field("name"))?,
            prefix: header.value_prefix,
        });
    }
    let parameters = std::mem::take(&mut given.from_params).into_iter();
    locations.extend(parameters.map(Location::Parameter));
    let cookies = std::mem::take(&mut given.from_cookies).into_iter();
    locations.extend(cookies.map(Location::Cookie));
    if locations.is_empty() {
        locations = vec![
            Location::Header {
                name: "authorization".to_owned(),
                prefix: "Bearer ".to_owned(),
            },
            Location::Parameter("access_token".to_owned()),
        ];
    }
    Ok(locations)
}

fn claim_headers(
    given: Vec<pb::JwtClaimToHeader>,
    at: &At<'_>,
) -> Result<Vec<(String, Vec<String>)>, Refused> {
    let at = &at.field("claim_to_headers");
    let one = |(index, mut given): (usize, pb::JwtClaimToHeader)| {
        let at = &at.index(index);
        let name = edits::name(
            &std::mem::take(&mut given.header_name),
            &at.field("header_name"),
        )?;
        let claim = std::mem::take(&mut given.claim_name);
        nothing_else(&given, at)?;
        if claim.is_empty() {
            return Err(at.field("claim_name").refuse("it must not be empty"));
        }
        Ok((name, claim.split('.').map(str::to_owned).collect()))
    };
    given.into_iter().enumerate().map(one).collect()
}

fn cache(
    given: Option<pb::JwtCacheConfig>,
    at: &At<'_>,
) -> Result<Option<(usize, usize)>, Refused> {
    let or = |value, unset| if value == 0 { unset } else { value };
    let Some(given) = given else {
        return Ok(None);
    };
    let tokens = or(given.jwt_cache_size, DEFAULT_CACHED_TOKENS);
    if tokens > MOST_CACHED_TOKENS {
        let reason = format!("{tokens} is more than {MOST_CACHED_TOKENS}");
        return Err(at.field("jwt_cache_size").refuse(reason));
    }
    let length = or(given.jwt_max_token_size, DEFAULT_CACHED_LENGTH);
    Ok(Some((tokens as usize, length as usize)))
}

fn local(mut source: DataSource, at: &At<'_>) -> Result<Keys, Refused> {
    let bytes = match source.specifier.take() {
        Some(Specifier::InlineString(text)) => text.into_bytes(),
        Some(Specifier::InlineBytes(bytes)) => bytes,
        _ => return Err(at.refuse("only inline_string and inline_bytes are supported")),
    };
    ignored!(source: watched_directory);
    nothing_else(&source, at)?;
    Keys::parse_with_secrets(&bytes).map_err(|reason| at.refuse(reason))
}

fn remote(mut source: pb::RemoteJwks, at: &At<'_>) -> Result<Arc<RemoteKeys>, Refused> {
    let at_uri = &at.field("http_uri");
    let uri = source.http_uri.take();
    let mut uri = uri.ok_or_else(|| at_uri.refuse("it must be given"))?;
    let Some(HttpUpstreamType::Cluster(cluster)) = uri.http_upstream_type.take() else {
        return Err(at_uri.field("cluster").refuse("it must be given"));
    };
    let text = std::mem::take(&mut uri.uri);
    let parsed: Uri = text
        .parse()
        .map_err(|_| at_uri.field("uri").refuse(format!("{text:?} is not a URI")))?;
    let host = parsed.authority().map(ToString::to_string);
    let host = host.ok_or_else(|| at_uri.field("uri").refuse("it must have a host"))?;
    let timeout = duration(uri.timeout.take(), &at_uri.field("timeout"))?;
    nothing_else(&uri, at_uri)?;
    let (retries, pause) = retries(source.retry_policy.take(), &at.field("retry_policy"))?;
    let origin = Origin {
        cluster,
        host,
        path: parsed
            .path_and_query()
            .map_or("/".to_owned(), ToString::to_string),
        timeout: timeout.ok_or_else(|| at_uri.field("timeout").refuse("it must be given"))?,
        retries,
        pause,
    };
    let at_duration = &at.field("cache_duration");
    let lasting = duration(source.cache_duration.take(), at_duration)?;
    // Keys are fetched when they are first asked for, and no listener waits for them.
    ignored!(source: async_fetch);
    nothing_else(&source, at)?;
    Ok(RemoteKeys::new(
        origin,
        lasting.unwrap_or(DEFAULT_CACHE_DURATION),
    ))
}

/// How many times a fetch is tried again, and the pause before.
fn retries(given: Option<RetryPolicy>, at: &At<'_>) -> Result<(u32, Duration), Refused> {
    let pause = Duration::from_secs(1);
    let Some(mut given) = given else {
        return Ok((0, pause));
    };
    let count = given.num_retries.take().map_or(1, |count| count.value);
    if count > MOST_RETRIES {
        let reason = format!("{count} is more than {MOST_RETRIES}");
        return Err(at.field("num_retries").refuse(reason));
    }
    let mut backoff = given.retry_back_off.take().unwrap_or_default();
    let at_backoff = &at.field("retry_back_off");
    let base = duration(
        backoff.base_interval.take(),
        &at_backoff.field("base_interval"),
    )?;
    ignored!(backoff: max_interval);
    nothing_else(&backoff, at_backoff)?;
    nothing_else(&given, at)?;
    Ok((count, base.unwrap_or(pause)))
}
