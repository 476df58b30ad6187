//! The filters that decide about requests, in the order in which they are asked.

use std::num::NonZeroU8;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;

use crate::call::Call;
use crate::exchange::{Exchange, Rare};
use crate::filter::Active;
use crate::http1::name::Name;
use crate::policy::jwt::{Effects, JwtView, Problem};
use crate::policy::{
    Action, Decision, Metadata, NO_POLICY, Rbac, RbacCounts, Rules, Subject, client_address,
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
/// The same of connections.
pub(crate) const NETWORK_RBAC: &str = "envoy.filters.network.rbac";

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

/// What the rules have said about a request: of each kind what matters most.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Decided {
    /// There is something to tell.
    tells: bool,
    enforced: Option<(NonZeroU8, Decision)>,
    /// What would have come of a dry run.
    shadow: Option<(NonZeroU8, Decision)>,
    /// A policy that only notes requests (LOG) has matched.
    audited: Option<(NonZeroU8, Decision)>,
}

/// The kinds of what rules have said, in words: enforced, of a dry run, and noted.
pub(crate) type Decisions<'a> = [Option<Told<'a>>; 3];

impl Decided {
    /// Keeps what enforced rules have said: those that only note requests decide nothing.
    fn enforce(&mut self, index: usize, rules: &Rules, decision: Decision) {
        let kind = match rules.action {
            Action::Log if rules.name(decision) == NO_POLICY => return,
            Action::Log => &mut self.audited,
            Action::Allow | Action::Deny => &mut self.enforced,
        };
        *kind = Some((place(index), decision));
        self.tells = true;
    }

    /// Keeps what a dry run has said: that a request would be denied, whatever rules behind say.
    fn try_out(&mut self, index: usize, decision: Decision) {
        let denied = self.shadow.is_some_and(|(_, before)| !before.allowed);
        if !denied || !decision.allowed {
            self.shadow = Some((place(index), decision));
        }
        self.tells = true;
    }

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
        for decided in [&mut self.enforced, &mut self.shadow, &mut self.audited] {
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
            if !view.named.asks() {
                decided.try_out(index, decision);
            }
            if view.tells {
                let prefix = &view.named.shadow_stat_prefix;
                let to = (RBAC, &mut exchange.rare().metadata);
                leave(Told::new(rules, decision), prefix, OF_SHADOW, to);
            }
        }
        let (rules, decision) = enforced?;
        if view.tells {
            let prefix = &view.named.stat_prefix;
            let to = (RBAC, &mut exchange.rare().metadata);
            leave(Told::new(rules, decision), prefix, OF_ENFORCED, to);
        }
        counts.count(decision);
        decided.enforce(index, rules, decision);
        if decision.allowed {
            return None;
        }
        exchange.rare().details = Some(rules.details(decision).into());
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
                let refused = self
                    .edit_head(&effects.removed, &effects.added)
                    .or_else(|| self.leave_out_parameters(&effects.removed_parameters));
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
        let why = match problem {
            Problem::UNKNOWN_REQUIREMENT => "Wrong_requirement_name".to_owned(),
            problem => problem.text().replace(' ', "_"),
        };
        exchange.rare().details = Some(format!("jwt_authn_access_denied{{{why}}}").into());
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

    fn subject<'a>(&'a self, metadata: &'a Metadata) -> Subject<'a> {
        let head = self.buffer.head();
        let client = &*self.client;
        let peer = client.peer.ip().to_canonical();
        let secured = client.secured.as_deref();
        Subject {
            request: Some((&self.request, head)),
            peer,
            direct: client
                .direct
                .map_or(peer, |direct| direct.ip().to_canonical()),
            client: client_address(&self.view.manager, &self.request, head, peer),
            destination: client.original.or(client.local),
            scheme: self.scheme(),
            server_name: secured.and_then(|secured| secured.server_name.as_deref()),
            secured,
            metadata,
        }
    }

    /// What the rules have said, if they have said anything.
    #[inline]
    pub(crate) fn decisions(&self, exchange: &Exchange) -> Option<Decisions<'_>> {
        self.decided.tells.then(|| self.tell_decisions(exchange))
    }

    #[cold]
    fn tell_decisions(&self, exchange: &Exchange) -> Decisions<'_> {
        let filters = self.view.filters(exchange);
        let told = |said: Option<(NonZeroU8, Decision)>, of: fn(&Rbac) -> &Option<Rules>| {
            let (place, decision) = said?;
            match filters.get(usize::from(place.get()) - 1)? {
                Active::Rbac(view) => Some(Told::new(of(&view.rbac).as_ref()?, decision)),
                _ => None,
            }
        };
        let decided = &self.decided;
        [
            told(decided.enforced, |rbac| &rbac.rules),
            told(decided.shadow, |rbac| &rbac.shadow_rules),
            told(decided.audited, |rbac| &rbac.rules),
        ]
    }
}

/// The names of a decision's result and policy in metadata.
const OF_ENFORCED: [&str; 2] = ["enforced_engine_result", "enforced_effective_policy_id"];
pub(super) const OF_SHADOW: [&str; 2] = ["shadow_engine_result", "shadow_effective_policy_id"];

/// Leaves what rules have decided to the filters behind, and to spans and logs, under the name of their filter.
#[cold]
pub(super) fn leave(
    told: Told<'_>,
    prefix: &str,
    [result, policy]: [&str; 2],
    (filter, metadata): (&'static str, &mut Metadata),
) {
    let id = Some(told.policy).filter(|policy| *policy != NO_POLICY);
    for (name, value) in [(result, Some(told.result)), (policy, id)] {
        if let Some(value) = value {
            let key = format!("{prefix}{name}").into();
            let value = Rc::new(Value::String(value.to_owned()));
            metadata.set(filter, &key, value);
        }
    }
}

impl<'a> Told<'a> {
    pub(super) fn new(rules: &'a Rules, decision: Decision) -> Self {
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
