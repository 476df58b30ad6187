//! JSON Web Tokens in requests: who has issued them, whether they hold, and what they say.
//!
//! A request is let through if the requirement of the first rule that matches it is met; what its
//! tokens say goes to the filters behind, and to the endpoint as headers if that is asked for.

mod check;
mod location;
mod offline;
mod remote;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use periplus_identity::jwt::{Keys, Problem, Token};

pub(crate) use self::check::{Demand, Effects, JwtView};
pub(crate) use self::location::{Location, without_parameters};
pub(crate) use self::offline::Looked;
pub use self::offline::Tokens;
pub(crate) use self::remote::{Origin, RemoteKeys};
use crate::snapshot::{Conditions, HeaderMatch, PathMatch};

/// The name under which metadata is left.
pub(crate) const FILTER: &str = "envoy.filters.http.jwt_authn";

/// Envoy's `JwtAuthentication`.
#[derive(Debug)]
pub struct Jwt {
    pub(crate) providers: Vec<Provider>,
    pub(crate) rules: Vec<Rule>,
    /// `requirement_map`, which routes choose from.
    pub(crate) requirements: HashMap<String, Arc<Requirement>>,
    /// `bypass_cors_preflight`.
    pub(crate) lets_preflights_pass: bool,
    /// `strip_failure_response`: the answer does not say why.
    pub(crate) is_silent: bool,
    /// `stat_prefix`.
    pub(crate) stat_prefix: String,
}

impl Jwt {
    /// The keys that are fetched.
    pub(crate) fn remote_keys(&self) -> impl Iterator<Item = &RemoteKeys> {
        self.providers
            .iter()
            .filter_map(|provider| match &provider.keys {
                KeySource::Remote(keys) => Some(&**keys),
                KeySource::Local(_) => None,
            })
    }
}

/// Two are the same if they are one: filters have no other use for equality.
impl PartialEq for Jwt {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Jwt {}

/// Who issues tokens, and what becomes of them.
#[derive(Debug)]
pub(crate) struct Provider {
    /// Any if it is empty.
    pub(crate) issuer: String,
    /// Any if there is none.
    pub(crate) audiences: Vec<String>,
    pub(crate) keys: KeySource,
    pub(crate) locations: Vec<Location>,
    /// The endpoint gets the token too.
    pub(crate) forwards: bool,
    /// The header that tells the endpoint the payload; and whether it is padded.
    pub(crate) payload_header: Option<(String, bool)>,
    /// Claims, by their paths, that the endpoint gets as headers.
    pub(crate) claim_headers: Vec<(String, Vec<String>)>,
    /// The key under which the payload goes to the filters behind.
    pub(crate) payload_key: Option<Arc<str>>,
    /// The same of the header.
    pub(crate) header_key: Option<Arc<str>>,
    /// Claims that become lists there.
    pub(crate) lists: Vec<String>,
    /// What a token says may lead the request elsewhere: its route is chosen again.
    pub(crate) clears_route: bool,
    /// How far clocks may differ, in seconds.
    pub(crate) clock_skew: u64,
    /// `require_expiration`: a token must say when it expires.
    pub(crate) must_expire: bool,
    /// How many tokens are remembered, and how long they may be.
    pub(crate) cache: Option<(usize, usize)>,
}

/// Where the keys of a provider are.
#[derive(Debug)]
pub(crate) enum KeySource {
    Local(Arc<Keys>),
    Remote(Arc<RemoteKeys>),
}

/// What some requests must have.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) path: PathMatch,
    pub(crate) headers: Vec<HeaderMatch>,
    pub(crate) conditions: Option<Box<Conditions>>,
    /// Nothing, if there is none.
    pub(crate) requirement: Option<Arc<Requirement>>,
}

/// What is required of a request.
#[derive(Debug)]
pub(crate) enum Requirement {
    /// A token of the provider at this place, for other audiences than its own if there are some.
    Provider(usize, Option<Vec<String>>),
    /// One of them.
    Any(Vec<Requirement>),
    /// All of them.
    All(Vec<Requirement>),
    /// If there are tokens of these providers, they must hold.
    AllowMissing(Vec<usize>),
    /// Nothing; but what the tokens of these providers say is made use of if they hold.
    AllowMissingOrFailed(Vec<usize>),
}

/// Tokens that were found to hold, by their text.
#[derive(Debug, Default)]
pub(crate) struct Known {
    tokens: HashMap<Box<str>, Rc<Token>>,
    /// The oldest first.
    order: std::collections::VecDeque<Box<str>>,
}

impl Known {
    pub(crate) fn get(&self, text: &str) -> Option<&Rc<Token>> {
        self.tokens.get(text)
    }

    /// Remembers a token, and forgets the oldest of more than `most`.
    pub(crate) fn put(&mut self, text: &str, token: Rc<Token>, most: usize) {
        if self.tokens.insert(text.into(), token).is_none() {
            self.order.push_back(text.into());
        }
        while self.order.len() > most {
            if let Some(oldest) = self.order.pop_front() {
                self.tokens.remove(&oldest);
            }
        }
    }
}

/// How long keys are used before they are fetched again, unless it is set.
pub(crate) const DEFAULT_CACHE_DURATION: Duration = Duration::from_secs(600);
