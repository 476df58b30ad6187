//! What a request's tokens come to where nobody waits and nothing is fetched.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use serde_json::Value;

use crate::http1::request::RequestHead;
use crate::policy::Metadata;
use crate::policy::jwt::check::Whose;
use crate::policy::jwt::{Jwt, KeySource, Location, Problem, Requirement, Token};
use periplus_identity::jwt::URL_SAFE;

/// What is known of the tokens of a request.
#[derive(Clone, Copy, Debug)]
pub enum Tokens<'a> {
    /// Those that are written in it; if there are none, it may yet have some.
    Written,
    /// It has none.
    None,
    /// It has a good one that says this.
    Claims(&'a Value),
}

/// What comes of them.
#[derive(Debug)]
pub(crate) enum Looked {
    /// They hold.
    Told(Told),
    /// Nobody knows whether there are some.
    Untold,
    /// The request is refused.
    Refused(Problem),
    /// Whether they hold only somebody can tell who fetches the keys of this issuer.
    NeedsKeys(String),
}

/// What tokens come to that hold.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// What they say.
    pub(crate) metadata: Metadata,
    /// Nobody behind sees one of them.
    pub(crate) is_last: bool,
}

/// Why a requirement is not met.
enum Unmet {
    Problem(Problem),
    Keys(String),
}

impl From<Problem> for Unmet {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// Who looks.
struct Looking<'a> {
    jwt: &'a Jwt,
    request: &'a RequestHead,
    head: &'a [u8],
    tokens: Tokens<'a>,
    /// In seconds since 1970.
    now: u64,
}

impl Jwt {
    /// Looks at the tokens of a request that must meet the requirement of some rule.
    pub(crate) fn look(
        &self,
        requirement: &Requirement,
        (request, head): (&RequestHead, &[u8]),
        tokens: Tokens<'_>,
    ) -> Looked {
        let all: Vec<usize> = (0..self.providers.len()).collect();
        let is_written = !self.find(&all, request, head).is_empty();
        if matches!(tokens, Tokens::Written) && !is_written {
            return Looked::Untold;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let looking = Looking {
            jwt: self,
            request,
            head,
            tokens,
            now: since.map_or(0, |since| since.as_secs()),
        };
        let mut told = Told::default();
        match looking.require(requirement, &mut told) {
            Ok(()) => Looked::Told(told),
            Err(Unmet::Problem(problem)) => Looked::Refused(problem),
            Err(Unmet::Keys(issuer)) => Looked::NeedsKeys(issuer),
        }
    }
}

impl Looking<'_> {
    fn require(&self, requirement: &Requirement, told: &mut Told) -> Result<(), Unmet> {
        match requirement {
            Requirement::Provider(at, audiences) => {
                let texts = self.find(&[*at]);
                if texts.is_empty() {
                    return Err(Problem::MISSING.into());
                }
                let whose = Whose::Of(*at, audiences.as_deref());
                let mut texts = texts.iter();
                texts.try_for_each(|(text, _)| self.accept(text, whose, told))
            }
            Requirement::All(all) => {
                let mut all = all.iter();
                all.try_for_each(|one| self.require(one, told))
            }
            Requirement::Any(any) => self.require_any(any, told),
            Requirement::AllowMissing(providers) => {
                let texts = self.find(providers);
                let mut texts = texts.iter();
                texts.try_for_each(|(text, location)| {
                    self.accept(text, Whose::At(providers, *location), told)
                })
            }
            Requirement::AllowMissingOrFailed(providers) => {
                for (text, location) in &self.find(providers) {
                    match self.accept(text, Whose::At(providers, *location), told) {
                        Ok(()) => {}
                        Err(Unmet::Problem(_)) => break,
                        Err(keys) => return Err(keys),
                    }
                }
                Ok(())
            }
        }
    }

    fn require_any(&self, any: &[Requirement], told: &mut Told) -> Result<(), Unmet> {
        let mut problem = Problem::MISSING;
        let mut keys = None;
        for one in any {
            match self.require(one, told) {
                Ok(()) => return Ok(()),
                Err(Unmet::Keys(issuer)) => keys = keys.or(Some(issuer)),
                Err(Unmet::Problem(other))
                    if problem.is_about_others() || !other.is_about_others() =>
                {
                    problem = other;
                }
                Err(Unmet::Problem(_)) => {}
            }
        }
        Err(keys.map_or(Unmet::Problem(problem), Unmet::Keys))
    }

    /// The texts of tokens at the places of some providers, and these, if they have some.
    fn find(&self, providers: &[usize]) -> Vec<(String, Option<&Location>)> {
        match self.tokens {
            Tokens::None => Vec::new(),
            Tokens::Written => {
                let found = self.jwt.find(providers, self.request, self.head);
                let found = found.into_iter();
                found.map(|one| (one.text, Some(one.location))).collect()
            }
            Tokens::Claims(claims) => {
                // As if somebody had signed it.
                let part = |value: &Value| URL_SAFE.encode(value.to_string());
                let header = part(&serde_json::json!({"alg": "RS256"}));
                vec![(format!("{header}.{}.", part(claims)), None)]
            }
        }
    }

    fn accept(&self, text: &str, whose: Whose<'_>, told: &mut Told) -> Result<(), Unmet> {
        let token = Token::parse(text)?;
        let at = self.jwt.provider_of(&token, whose, self.now)?;
        let provider = &self.jwt.providers[at];
        match (self.tokens, &provider.keys) {
            (Tokens::Claims(_), _) => {}
            (_, KeySource::Local(keys)) => keys.verify(&token, text)?,
            (_, KeySource::Remote(_)) => return Err(Unmet::Keys(token.issuer)),
        }
        told.is_last |= !provider.forwards;
        provider.tell(&token, &mut told.metadata);
        Ok(())
    }
}
