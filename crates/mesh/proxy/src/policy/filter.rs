//! The filters that decide about requests, in the order in which they are asked.

use std::num::NonZeroU8;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;

use crate::call::Call;
use crate::exchange::{Exchange, Rare};
use crate::filter::Active;
use crate::http1::edit::append_field;
use crate::http1::head::{Field, Limits, MOST_FIELDS};
use crate::http1::name::Name;
use crate::http1::request::RequestHead;
use crate::policy::jwt::{Effects, JwtView, Problem};
use crate::policy::{
    Decision, Metadata, NO_POLICY, Rbac, RbacCounts, Rules, Subject, client_address,
};
use crate::reply::Reply;
use crate::stats::Registry;
use crate::trace::text;

/// How much of a path a challenge names.
const LONGEST_REALM: usize = 256;

/// The RBAC filter as a worker has it.
#[derive(Debug)]
pub(crate) struct RbacView {
    pub(crate) rbac: Arc<Rbac>,
    counts: RbacCounts,
    /// The filter that it is, or in whose place it stands: as in Envoy, metadata is called as that one says.
    named: Arc<Rbac>,
    /// The filters behind are told what it has decided.
    pub(crate) tells: bool,
}

/// The name under which metadata is left.
pub(crate) const RBAC: &str = "envoy.filters.http.rbac";

impl RbacView {
    /// `named` says what its counts are called.
    pub(crate) fn new(
        rbac: &Arc<Rbac>,
        named: &Arc<Rbac>,
        stat_prefix: &str,
        registry: &Registry,
    ) -> Self {
        Self {
            rbac: rbac.clone(),
            named: named.clone(),
            counts: RbacCounts::new(rbac, named, &format!("http.{stat_prefix}"), registry),
            tells: false,
        }
    }
}

/// What the rules have said about a request: the last of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Decided {
    enforced: Option<(NonZeroU8, Decision)>,
    shadow: Option<(NonZeroU8, Decision)>,
}

impl Decided {
    /// Keeps what those have said that are among the filters of another route too.
    pub(crate) fn follow(&mut self, before: &[Active], after: &[Active]) {
        let index = |at: NonZeroU8| {
            let Some(Active::Rbac(view)) = before.get(usize::from(at.get()) - 1) else {
                return None;
            };
            let is_it =
                |filter: &Active| matches!(filter, Active::Rbac(other) if Rc::ptr_eq(other, view));
            after.iter().position(is_it).map(place)
        };
        for decided in [&mut self.enforced, &mut self.shadow] {
            *decided = decided.and_then(|(at, decision)| Some((index(at)?, decision)));
        }
    }
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
    /// Asks the rules at this place among the filters: an answer if the request is not to go on.
    pub(crate) fn ask_rules<'a>(
        &mut self,
        view: &'a RbacView,
        index: usize,
        exchange: &mut Exchange,
    ) -> Option<Reply<'static>> {
        let RbacView { rbac, counts, .. } = view;
        let none = Metadata::default();
        let metadata = exchange.rare.as_deref().map(Rare::metadata);
        let subject = self.subject(metadata.unwrap_or(&none));
        let decide = |rules: &'a Option<Rules>| {
            let rules = rules.as_ref()?;
            Some((rules, rules.decide(&subject)))
        };
        let (shadow, enforced) = (decide(&rbac.shadow_rules), decide(&rbac.rules));
        let decided = &mut self.decided;
        if let Some((rules, decision)) = shadow {
            counts.count_shadow(decision);
            decided.shadow = Some((place(index), decision));
            if view.tells {
                let prefix = &view.named.shadow_stat_prefix;
                leave(Told::new(rules, decision), prefix, OF_SHADOW, exchange);
            }
        }
        let (rules, decision) = enforced?;
        if view.tells {
            let prefix = &view.named.stat_prefix;
            leave(Told::new(rules, decision), prefix, OF_ENFORCED, exchange);
        }
        counts.count(decision);
        decided.enforced = Some((place(index), decision));
        if decision.allowed {
            return None;
        }
        let policy = rules.name(decision);
        let details = format!("rbac_access_denied_matched_policy[{policy}]");
        exchange.rare().details = Some(details.into());
        Some(Reply::new(403, "RBAC: access denied"))
    }

    /// Does to a request what its tokens say, and chooses its route again if that may change it; `next` is the place
    /// of the next filter. An answer if it is not to go on.
    pub(crate) fn take_tokens(
        &mut self,
        exchange: &mut Exchange,
        tokens: &JwtView,
        checked: Result<Effects, Problem>,
        next: &mut usize,
    ) -> Option<Reply<'static>> {
        match checked {
            Ok(effects) => {
                tokens.stats.allowed.increment();
                exchange.rare().metadata.take_over(effects.metadata);
                let refused = self.edit_head(&effects.removed, &effects.added);
                if refused.is_none() && effects.clears_route {
                    return self.relocate(exchange, next);
                }
                refused
            }
            Err(problem) => {
                tokens.stats.denied.increment();
                Some(self.without_token(exchange, problem, tokens.jwt.is_silent))
            }
        }
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
        if problem == Problem::UNKNOWN_REQUIREMENT {
            return Reply::new(problem.status(), problem.text());
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
        self.replace_head(text)
    }

    /// Puts another target in the place of the request's: whether there can be such a request.
    pub(crate) fn retarget(&mut self, target: &[u8]) -> bool {
        let head = self.buffer.head();
        let mut text = self.request.method(head).to_vec();
        text.push(b' ');
        if self.request.target.absolute {
            // It says what the host is (RFC 9112 §3.2.2).
            text.extend_from_slice(b"http://");
            text.extend_from_slice(self.request.target.authority.get(head));
        }
        text.extend_from_slice(target);
        text.extend_from_slice(match self.request.minor_version {
            0 => b" HTTP/1.0\r\n",
            _ => b" HTTP/1.1\r\n",
        });
        let first = self.request.fields.iter().next();
        let lines = first.map_or(head.len() - 2, |field| field.name.start());
        text.extend_from_slice(&head[lines..]);
        self.replace_head(text).is_none()
    }

    /// Takes another head, which is checked as if the client had sent it: an answer if it could not have.
    fn replace_head(&mut self, mut text: Vec<u8>) -> Option<Reply<'static>> {
        let limits = Limits {
            bytes: usize::MAX,
            fields: MOST_FIELDS,
        };
        let mut edited = RequestHead {
            is_https: self.request.is_https,
            came_by_https: self.request.came_by_https,
            ..RequestHead::default()
        };
        match edited.parse(&mut text, limits) {
            // The body is on the wire as the client has announced it.
            Ok(Some(_)) if edited.framing != self.request.framing => Some(Reply::new(
                500,
                "the head says after the filters that the body ends elsewhere",
            )),
            Ok(Some(_)) => {
                self.request = edited;
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

    /// What the rules have said, those that are enforced and those that are not.
    #[inline]
    pub(crate) fn decisions(&self, exchange: &Exchange) -> [Option<Told<'_>>; 2] {
        let Decided { enforced, shadow } = self.decided;
        if enforced.is_none() && shadow.is_none() {
            return [None, None];
        }
        self.tell_decisions(exchange)
    }

    #[cold]
    fn tell_decisions(&self, exchange: &Exchange) -> [Option<Told<'_>>; 2] {
        let filters = self.view.filters(exchange);
        let rules = |place: NonZeroU8| match filters.get(usize::from(place.get()) - 1)? {
            Active::Rbac(view) => Some(&*view.rbac),
            _ => None,
        };
        let Decided { enforced, shadow } = self.decided;
        [
            enforced.and_then(|(at, decision)| {
                let rules = rules(at)?.rules.as_ref()?;
                Some(Told::new(rules, decision))
            }),
            shadow.and_then(|(at, decision)| {
                let rules = rules(at)?.shadow_rules.as_ref()?;
                Some(Told::new(rules, decision))
            }),
        ]
    }
}

/// The names of a decision's result and policy in metadata.
const OF_ENFORCED: [&str; 2] = ["enforced_engine_result", "enforced_effective_policy_id"];
const OF_SHADOW: [&str; 2] = ["shadow_engine_result", "shadow_effective_policy_id"];

/// Leaves what rules have decided to the filters behind, and to spans and logs.
#[cold]
fn leave(told: Told<'_>, prefix: &str, [result, policy]: [&str; 2], exchange: &mut Exchange) {
    let id = Some(told.policy).filter(|policy| *policy != NO_POLICY);
    for (name, value) in [(result, Some(told.result)), (policy, id)] {
        if let Some(value) = value {
            let key = format!("{prefix}{name}").into();
            let value = Rc::new(Value::String(value.to_owned()));
            exchange.rare().metadata.set(RBAC, &key, value);
        }
    }
}

impl<'a> Told<'a> {
    fn new(rules: &'a Rules, decision: Decision) -> Self {
        Self {
            result: if decision.allowed {
                "allowed"
            } else {
                "denied"
            },
            policy: rules.name(decision),
        }
    }
}
