//! The filters that decide about requests, in the order in which they are asked.

use std::num::NonZeroU8;
use std::sync::Arc;

use crate::call::Call;
use crate::exchange::{Exchange, Rare};
use crate::http1::edit::append_field;
use crate::http1::head::{Field, Limits, MOST_FIELDS};
use crate::http1::name::Name;
use crate::policy::jwt::{Jwt, JwtView, Problem};
use crate::policy::{Decision, Metadata, Rbac, RbacCounts, Subject, client_address};
use crate::reply::Reply;
use crate::stats::Registry;
use crate::trace::text;

/// How much of a path a challenge names.
const LONGEST_REALM: usize = 256;

/// A filter of a connection manager that decides about its requests.
#[derive(Clone, Debug)]
pub enum PolicyFilter {
    /// `envoy.filters.http.rbac`.
    Rbac(Arc<Rbac>),
    /// `envoy.filters.http.jwt_authn`.
    Jwt(Arc<Jwt>),
}

impl PolicyFilter {
    /// Whether it may have to wait for something.
    pub(crate) fn waits(&self) -> bool {
        matches!(self, Self::Jwt(_))
    }
}

/// The same with what a worker has of it.
#[derive(Debug)]
pub(crate) enum PolicyView {
    Rbac(Arc<Rbac>, RbacCounts),
    Jwt(JwtView),
}

impl PolicyView {
    pub(crate) fn new(filter: &PolicyFilter, stat_prefix: &str, registry: &Registry) -> Self {
        match filter {
            PolicyFilter::Rbac(rbac) => {
                let counts = RbacCounts::new(rbac, &format!("http.{stat_prefix}"), registry);
                Self::Rbac(rbac.clone(), counts)
            }
            PolicyFilter::Jwt(jwt) => Self::Jwt(JwtView::new(jwt, stat_prefix, registry)),
        }
    }
}

/// What the rules have said about a request: the last of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Decided {
    enforced: Option<(NonZeroU8, Decision)>,
    shadow: Option<(NonZeroU8, Decision)>,
}

/// The most filters of a connection manager that decide about requests.
pub(crate) const MOST_FILTERS: usize = 254;

/// The place of a filter, counted from one.
fn place(index: usize) -> NonZeroU8 {
    let place = u8::try_from(index + 1).ok().and_then(NonZeroU8::new);
    place.expect("there are at most MOST_FILTERS")
}

/// A decision in words, for spans and logs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    /// `allowed` or `denied`.
    pub(crate) result: &'static str,
    /// The name of the policy that matched, or `none`.
    pub(crate) policy: &'a str,
}

impl Call {
    /// Asks all filters, none of which has to wait: an answer if the request is not to go on.
    pub(crate) fn authorize(&mut self, exchange: &mut Exchange) -> Option<Reply<'static>> {
        self.decided = Decided::default();
        (0..self.view.policies.len()).find_map(|index| self.ask_rules(index, exchange))
    }

    /// The same where one may have to wait.
    pub(crate) async fn authorize_in_time(
        &mut self,
        exchange: &mut Exchange,
    ) -> Option<Reply<'static>> {
        self.decided = Decided::default();
        let view = self.view.clone();
        for (index, filter) in view.policies.iter().enumerate() {
            let denied = match filter {
                PolicyView::Rbac(..) => self.ask_rules(index, exchange),
                PolicyView::Jwt(tokens) => match tokens.check(self, exchange).await {
                    Ok(effects) => {
                        tokens.stats.allowed.increment();
                        exchange.rare().metadata.take_over(effects.metadata);
                        self.edit_head(&effects.removed, &effects.added)
                    }
                    Err(problem) => {
                        tokens.stats.denied.increment();
                        let is_silent = tokens.jwt.is_silent;
                        Some(self.without_token(exchange, problem, is_silent))
                    }
                },
            };
            if denied.is_some() {
                return denied;
            }
        }
        None
    }

    /// Asks the rules at this place among the filters, if there are some.
    fn ask_rules(&mut self, index: usize, exchange: &mut Exchange) -> Option<Reply<'static>> {
        let view = self.view.clone();
        let PolicyView::Rbac(rbac, counts) = &view.policies[index] else {
            return None;
        };
        let none = Metadata::default();
        let metadata = exchange.rare.as_deref().map(Rare::metadata);
        let subject = self.subject(metadata.unwrap_or(&none));
        let shadow = rbac.shadow_rules.as_ref().map(|r| r.decide(&subject));
        let enforced = rbac.rules.as_ref().map(|r| r.decide(&subject));
        let decided = &mut self.decided;
        if let Some(decision) = shadow {
            counts.count_shadow(decision);
            decided.shadow = Some((place(index), decision));
        }
        let decision = enforced?;
        counts.count(decision);
        decided.enforced = Some((place(index), decision));
        if decision.allowed {
            return None;
        }
        let policy = self.enforced().map_or("none", |told| told.policy);
        let details = format!("rbac_access_denied_matched_policy[{policy}]");
        exchange.rare().details = Some(details.into());
        Some(Reply::new(403, "RBAC: access denied"))
    }

    /// The answer to a request whose tokens do not do.
    #[cold]
    fn without_token(
        &self,
        exchange: &mut Exchange,
        problem: Problem,
        is_silent: bool,
    ) -> Reply<'static> {
        if is_silent {
            return Reply::new(problem.status(), "");
        }
        let head = self.buffer.head();
        let scheme = self.request.fields.value(Name::XForwardedProto, head);
        let scheme = scheme.unwrap_or(match self.client.secured {
            Some(_) => b"https",
            None => b"http",
        });
        let path = self.request.target.path.get(head);
        let path = &path[..path.len().min(LONGEST_REALM)];
        let authority = self.request.target.authority.get(head);
        let error = match problem {
            Problem::MISSING => "",
            _ => ", error=\"invalid_token\"",
        };
        let (scheme, authority, path) = (text(scheme), text(authority), text(path));
        exchange.rare().challenge = format!("Bearer realm=\"{scheme}://{authority}{path}\"{error}");
        Reply::new(problem.status(), problem.text())
    }

    /// Takes lines out of the head and adds others. The head is checked again as if the client had sent it
    /// so; an answer if it could not have.
    pub(crate) fn edit_head(
        &mut self,
        removed: &[String],
        added: &[(String, Vec<u8>)],
    ) -> Option<Reply<'static>> {
        let head = self.buffer.head();
        let goes = |field: &Field| {
            let name = field.name.get(head);
            removed
                .iter()
                .any(|gone| name.eq_ignore_ascii_case(gone.as_bytes()))
        };
        let fields = &self.request.fields;
        if added.is_empty() && !fields.iter().any(goes) {
            return None;
        }
        let mut text = Vec::with_capacity(head.len() + 256);
        let starts = fields.iter().map(|field| field.name.start());
        let ends = starts.skip(1).chain([head.len() - 2]);
        let first = fields.iter().next();
        text.extend_from_slice(&head[..first.map_or(head.len() - 2, |field| field.name.start())]);
        for (field, end) in fields.iter().zip(ends) {
            if !goes(field) {
                text.extend_from_slice(&head[field.name.start()..end]);
            }
        }
        for (name, value) in added {
            append_field(&mut text, name, value);
        }
        text.extend_from_slice(b"\r\n");
        let limits = Limits {
            bytes: usize::MAX,
            fields: MOST_FIELDS,
        };
        match self.request.parse(&mut text, limits) {
            Ok(Some(_)) => {
                self.buffer.replace_head(&text);
                None
            }
            Ok(None) => Some(Reply::new(500, "the head is incomplete after the filters")),
            Err(refused) => Some(Reply::new(refused.status, refused.reason)),
        }
    }

    fn subject<'a>(&'a self, metadata: &'a Metadata) -> Subject<'a> {
        let head = self.buffer.head();
        let client = &*self.client;
        let peer = client.peer.ip().to_canonical();
        let secured = client.secured.as_deref();
        Subject {
            request: Some((&self.request, head)),
            peer,
            client: client_address(&self.view.manager, &self.request, head, peer),
            destination: client.original.or(client.local),
            scheme: self.scheme(),
            server_name: secured.and_then(|secured| secured.server_name.as_deref()),
            secured,
            metadata,
        }
    }

    /// What the enforced rules have said.
    #[inline]
    pub(crate) fn enforced(&self) -> Option<Told<'_>> {
        let (place, decision) = self.decided.enforced?;
        self.told(place, decision, false)
    }

    /// What the rules that are not enforced would have said.
    #[inline]
    pub(crate) fn shadow(&self) -> Option<Told<'_>> {
        let (place, decision) = self.decided.shadow?;
        self.told(place, decision, true)
    }

    #[cold]
    fn told(&self, place: NonZeroU8, decision: Decision, shadow: bool) -> Option<Told<'_>> {
        let PolicyView::Rbac(rbac, _) = self.view.policies.get(usize::from(place.get()) - 1)?
        else {
            return None;
        };
        let rules = match shadow {
            true => rbac.shadow_rules.as_ref(),
            false => rbac.rules.as_ref(),
        };
        Some(Told {
            result: if decision.allowed {
                "allowed"
            } else {
                "denied"
            },
            policy: rules?.name(decision),
        })
    }
}
