//! Whether a request has the tokens that it must have.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use serde_json::Value;

use crate::call::Call;
use crate::exchange::Exchange;
use crate::http1::edit::is_one_field;
use crate::http1::request::RequestHead;
use crate::policy::Metadata;
use crate::policy::jwt::{
    FILTER, Jwt, KeySource, Known, Location, Problem, Provider, Requirement, Token,
};
use crate::route::{Asking, meets};
use crate::snapshot::Required;
use crate::stats::{JwtStats, Registry};
use crate::worker::Worker;
use periplus_identity::jwt::{URL_SAFE, payload_text};

/// The filter as a worker has it.
#[derive(Debug)]
pub(crate) struct JwtView {
    pub(crate) jwt: Arc<Jwt>,
    pub(crate) stats: Arc<JwtStats>,
    /// By provider.
    known: Vec<RefCell<Known>>,
}

/// What tokens that hold do to a request.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Headers that go, in lower case.
    pub(crate) removed: Vec<String>,
    /// Parameters of the query that go.
    pub(crate) removed_parameters: Vec<String>,
    /// Headers that come.
    pub(crate) added: Vec<(String, Vec<u8>)>,
    /// What the filters behind learn.
    pub(crate) metadata: Metadata,
    /// The route is to be chosen again.
    pub(crate) clears_route: bool,
}

/// What is asked of a request.
#[derive(Clone, Debug)]
pub(crate) enum Demand {
    /// What the first rule that matches requires.
    ByRules,
    /// What its route requires.
    ByRoute(Arc<Requirement>),
    /// Its route names something that there is not.
    Unknown,
    /// Nothing.
    Nothing,
}

impl Demand {
    pub(crate) fn new(jwt: &Jwt, required: &Required) -> Self {
        match required {
            Required::ByRules => Self::ByRules,
            Required::Nothing => Self::Nothing,
            Required::Entry(name) => match jwt.requirements.get(&**name) {
                Some(requirement) => Self::ByRoute(requirement.clone()),
                None => Self::Unknown,
            },
        }
    }
}

/// Whose a token may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose<'a> {
    /// That of this provider, for other audiences than its own if there are some.
    Of(usize, Option<&'a [String]>),
    /// That of anybody whose issuer one of these has, and has this place for it, if it has one.
    At(&'a [usize], Option<&'a Location>),
}

/// A token that was found: of which provider, where, and its text.
pub(super) struct Found<'a> {
    pub(super) location: &'a Location,
    pub(super) provider: usize,
    pub(super) text: String,
}

impl Jwt {
    /// Whether what a token says may change the route.
    pub(crate) fn clears_route(&self) -> bool {
        self.providers.iter().any(|provider| provider.clears_route)
    }

    /// What the first rule requires that matches a request.
    pub(crate) fn required_of(
        &self,
        asking: &Asking<'_>,
        random: impl Fn() -> u64,
    ) -> Option<&Requirement> {
        let path = asking.request.target.path.get(asking.head);
        let path = memchr::memchr(b'?', path).map_or(path, |query| &path[..query]);
        let rule = self.rules.iter().find(|rule| {
            let conditions = rule.conditions.as_deref();
            rule.path.matches(path)
                && rule.headers.iter().all(|one| asking.has(one))
                && conditions.is_none_or(|all| meets(all, asking, &random))
        });
        rule?.requirement.as_deref()
    }

    /// The tokens at the places of some providers.
    pub(super) fn find(
        &self,
        providers: &[usize],
        request: &RequestHead,
        head: &[u8],
    ) -> Vec<Found<'_>> {
        let mut all: Vec<Found<'_>> = Vec::new();
        for at in providers {
            for location in &self.providers[*at].locations {
                for text in location.tokens(request, head) {
                    let is_same =
                        |other: &Found<'_>| other.location == location && other.text == *text;
                    if !all.iter().any(is_same) {
                        all.push(Found {
                            location,
                            provider: *at,
                            text: text.into_owned(),
                        });
                    }
                }
            }
        }
        all
    }

    /// The provider whose token it is, if it is right in everything but perhaps its signature; `now` in seconds since
    /// 1970.
    pub(super) fn provider_of(
        &self,
        token: &Token,
        whose: Whose<'_>,
        now: u64,
    ) -> Result<usize, Problem> {
        let is_of = |at: &usize| self.providers[*at].issuer == token.issuer;
        let is_of_anybody = |at: &usize| self.providers[*at].issuer.is_empty();
        let issues = |at: &usize| is_of(at) || is_of_anybody(at);
        let (at, audiences) = match whose {
            Whose::Of(at, audiences) => (Some(at).filter(issues), audiences),
            Whose::At(providers, location) => {
                let has_place = |at: &usize| {
                    let places = &self.providers[*at].locations;
                    location.is_none_or(|location| places.contains(location))
                };
                let mut here = providers.iter().filter(|at| has_place(at));
                // As in Envoy, who has this issuer goes before who has any.
                let all = || 0..self.providers.len();
                let at = all().find(is_of).or_else(|| all().find(is_of_anybody));
                (at.filter(|_| here.any(issues)), None)
            }
        };
        let at = at.ok_or(Problem::UNKNOWN_ISSUER)?;
        let provider = &self.providers[at];
        token.check_time(now, provider.clock_skew)?;
        let wanted = audiences.unwrap_or(&provider.audiences);
        let is_wanted = |audience: &String| wanted.iter().any(|one| is_audience(one, audience));
        if !wanted.is_empty() && !token.audiences.iter().any(is_wanted) {
            return Err(Problem::AUDIENCE_NOT_ALLOWED);
        }
        match provider.must_expire && token.expires.is_none() {
            true => Err(Problem::WRONG_SIGNATURE),
            false => Ok(at),
        }
    }
}

impl Provider {
    /// Tells the filters behind what a token says.
    pub(super) fn tell(&self, token: &Token, metadata: &mut Metadata) {
        if let Some(key) = &self.payload_key {
            let mut payload = token.payload.clone();
            for claim in &self.lists {
                if let Some(Value::String(text)) = payload.get(claim) {
                    payload[claim] = text.split(' ').filter(|one| !one.is_empty()).collect();
                }
            }
            metadata.set(FILTER, &Rc::from(&**key), Rc::new(payload));
        }
        if let Some(key) = &self.header_key {
            let header = Rc::new(token.header.clone());
            metadata.set(FILTER, &Rc::from(&**key), header);
        }
    }
}

impl JwtView {
    pub(crate) fn new(jwt: &Arc<Jwt>, stat_prefix: &str, registry: &Registry) -> Self {
        let name = match jwt.stat_prefix.as_str() {
            "" => format!("{stat_prefix}.jwt_authn"),
            own => format!("{stat_prefix}.jwt_authn.{own}"),
        };
        Self {
            stats: registry.jwt(&name),
            known: jwt.providers.iter().map(|_| RefCell::default()).collect(),
            jwt: jwt.clone(),
        }
    }

    /// Whether a request may go on, and what its tokens do to it.
    pub(crate) async fn check(
        &self,
        call: &Call,
        exchange: &Exchange,
        demand: &Demand,
    ) -> Result<Effects, Problem> {
        let mut effects = Effects::default();
        if self.jwt.lets_preflights_pass && is_preflight(call) {
            self.stats.preflights.increment();
            return Ok(effects);
        }
        let requirement = match demand {
            Demand::ByRules => {
                let random = || call.worker.random();
                self.jwt.required_of(&call.asking(exchange), random)
            }
            Demand::ByRoute(requirement) => Some(&**requirement),
            Demand::Nothing => None,
            Demand::Unknown => return Err(Problem::UNKNOWN_REQUIREMENT),
        };
        if let Some(requirement) = requirement {
            // Only this filter may say what a token says.
            for provider in &self.jwt.providers {
                let payload = provider.payload_header.iter().map(|(name, _)| name);
                let claims = provider.claim_headers.iter().map(|(name, _)| name);
                effects.removed.extend(payload.chain(claims).cloned());
            }
            self.require(requirement, call, &mut effects).await?;
        }
        Ok(effects)
    }

    async fn require(
        &self,
        requirement: &Requirement,
        call: &Call,
        effects: &mut Effects,
    ) -> Result<(), Problem> {
        match requirement {
            Requirement::Provider(at, audiences) => {
                let tokens = self.find(&[*at], call);
                if tokens.is_empty() {
                    return Err(Problem::MISSING);
                }
                let whose = Whose::Of(*at, audiences.as_deref());
                for found in &tokens {
                    self.accept(found, whose, call, effects).await?;
                }
                Ok(())
            }
            Requirement::All(all) => {
                for one in all {
                    Box::pin(self.require(one, call, effects)).await?;
                }
                Ok(())
            }
            Requirement::Any(any) => {
                let mut problem = Problem::MISSING;
                for one in any {
                    match Box::pin(self.require(one, call, effects)).await {
                        Ok(()) => return Ok(()),
                        Err(other) if problem.is_about_others() || !other.is_about_others() => {
                            problem = other;
                        }
                        Err(_) => {}
                    }
                }
                Err(problem)
            }
            Requirement::AllowMissing(providers) => {
                for found in &self.find(providers, call) {
                    let whose = Whose::At(providers, Some(found.location));
                    self.accept(found, whose, call, effects).await?;
                }
                Ok(())
            }
            Requirement::AllowMissingOrFailed(providers) => {
                for found in &self.find(providers, call) {
                    let whose = Whose::At(providers, Some(found.location));
                    if self.accept(found, whose, call, effects).await.is_err() {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    fn find(&self, providers: &[usize], call: &Call) -> Vec<Found<'_>> {
        self.jwt.find(providers, &call.request, call.buffer.head())
    }

    /// Checks a token, and notes what it does to the request.
    async fn accept(
        &self,
        found: &Found<'_>,
        whose: Whose<'_>,
        call: &Call,
        effects: &mut Effects,
    ) -> Result<(), Problem> {
        let looked_at = match whose {
            Whose::Of(at, _) => at,
            Whose::At(..) => found.provider,
        };
        let known = self.known[looked_at].borrow().get(&found.text).cloned();
        let is_known = known.is_some();
        let token = match known {
            Some(token) => token,
            None => Rc::new(Token::parse(&found.text)?),
        };
        let now = call.worker.clock.wall(call.worker.clock.now()) / 1_000_000;
        let at = self.jwt.provider_of(&token, whose, now)?;
        let provider = &self.jwt.providers[at];
        // What one provider has signed says nothing about another one.
        let is_known = is_known && at == looked_at;
        self.verify(&token, found, (at, is_known), &call.worker)
            .await?;
        self.note(provider, &token, found, effects);
        Ok(())
    }

    async fn verify(
        &self,
        token: &Rc<Token>,
        found: &Found<'_>,
        (at, is_known): (usize, bool),
        worker: &Rc<Worker>,
    ) -> Result<(), Problem> {
        let provider = &self.jwt.providers[at];
        let cache = provider
            .cache
            .filter(|(_, longest)| found.text.len() <= *longest);
        if cache.is_some() {
            match is_known {
                true => self.stats.cache_hit.increment(),
                false => self.stats.cache_miss.increment(),
            }
        }
        if is_known {
            return Ok(());
        }
        let keys = match &provider.keys {
            KeySource::Local(keys) => Some(keys.clone()),
            KeySource::Remote(remote) => remote.get(worker, &self.stats).await,
        };
        keys.ok_or(Problem::FETCH_FAILED)?
            .verify(token, &found.text)?;
        if let Some((most, _)) = cache {
            let mut known = self.known[at].borrow_mut();
            known.put(&found.text, token.clone(), most);
        }
        Ok(())
    }

    fn note(&self, provider: &Provider, token: &Token, found: &Found<'_>, effects: &mut Effects) {
        if !provider.forwards {
            match found.location {
                Location::Header { name, .. } => effects.removed.push(name.clone()),
                Location::Parameter(name) => effects.removed_parameters.push(name.clone()),
                // As in Envoy, cookies stay.
                Location::Cookie(_) => {}
            }
        }
        if let Some((name, pads)) = &provider.payload_header {
            let mut text = payload_text(&found.text).trim_end_matches('=').to_owned();
            while *pads && !text.len().is_multiple_of(4) {
                text.push('=');
            }
            effects.added.push((name.clone(), text.into_bytes()));
        }
        // As in Envoy, if there may be something that routes can ask about.
        effects.clears_route |= provider.clears_route && provider.payload_key.is_some();
        for (name, path) in &provider.claim_headers {
            let claim = path
                .iter()
                .try_fold(&token.payload, |value, key| value.get(key));
            let text = claim.and_then(header_value);
            // A claim may be any text: one that would be more than a field is not told.
            if let Some(text) = text.filter(|text| is_one_field(name, text.as_bytes())) {
                effects.added.push((name.clone(), text.into_bytes()));
                effects.clears_route |= provider.clears_route;
            }
        }
        provider.tell(token, &mut effects.metadata);
    }
}

/// A slash at the end, and the scheme, do not count.
fn is_audience(wanted: &str, is: &str) -> bool {
    fn bare(text: &str) -> &str {
        let text = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"))
            .unwrap_or(text);
        text.strip_suffix('/').unwrap_or(text)
    }
    bare(wanted) == bare(is)
}

/// A claim as the value of a header.
fn header_value(claim: &Value) -> Option<String> {
    match claim {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(claim.to_string()),
        Value::Array(_) | Value::Object(_) => Some(URL_SAFE.encode(claim.to_string())),
        Value::Null => None,
    }
}

fn is_preflight(call: &Call) -> bool {
    let head = call.buffer.head();
    let has = |name: &str| call.request.fields.all_by_text(name, head).next().is_some();
    call.request.method(head) == b"OPTIONS" && has("origin") && has("access-control-request-method")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences_are_compared_without_scheme_and_slash() {
        for (wanted, is, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("https://a.example/", "a.example", true),
            ("a.example", "http://a.example/", true),
            ("a.example/x", "a.example", false),
        ] {
            assert_eq!(is_audience(wanted, is), expected, "{wanted} {is}");
        }
    }
}
