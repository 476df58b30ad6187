//! A request that waits for what the service says about it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Once};
use std::task::Poll;

use crate::acquire::{Body, Waits, wait_for_body};
use crate::call::Call;
use crate::clock::Micros;
use crate::errand::{self, Answer, Errand};
use crate::exchange::{Exchange, Rare, Said};
use crate::filter::Active;
use crate::flags::Flag;
use crate::http1::framing::Framing;
use crate::http1::name::Name;
use crate::http1::request::Tunnel;
use crate::policy::Metadata;
use crate::policy::authz::{Authz, Denial, Service, Verdict, grpc, http};
use crate::reply::{Failure, Reply};
use crate::snapshot::AppendAction;
use crate::stats::{AuthzStats, Count, Registry};
use crate::trace::errand::Child;
use crate::trace::text;

/// Envoy's word for an answer that could not be had.
const ERROR: &str = "ext_authz_error";
/// The name of a question's span, as Envoy has it.
const OVER_GRPC: &str = "async envoy.service.auth.v3.Authorization.Check egress";
/// The most bytes of an answer.
const MOST_ANSWER: usize = 1024 * 1024;

/// The filter as a worker has it.
#[derive(Debug)]
pub(crate) struct AuthzView {
    pub(crate) authz: Arc<Authz>,
    pub(super) stats: Arc<AuthzStats>,
    /// By the name of the cluster that a request goes to: looked up once.
    of_clusters: RefCell<HashMap<String, Arc<AuthzStats>>>,
}

/// What a request's span tells of it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The cluster of the service.
    pub(crate) provider: Arc<Authz>,
    /// `allowed`, `denied`, `error`, or `failure_mode_allowed`.
    pub(crate) result: &'static str,
    /// How long it took.
    pub(crate) took: Micros,
}

/// What a service is asked.
pub(crate) struct Question {
    pub(super) method: String,
    pub(super) path: String,
    /// The host that it names: none is that of the service.
    pub(super) host: Option<String>,
    pub(super) fields: Vec<u8>,
    pub(super) body: Vec<u8>,
}

impl AuthzView {
    pub(crate) fn new(authz: &Arc<Authz>, stat_prefix: &str, registry: &Registry) -> Self {
        let prefix = authz.prefix(&format!("http.{stat_prefix}"));
        Self {
            authz: authz.clone(),
            stats: registry.authz(&prefix),
            of_clusters: RefCell::default(),
        }
    }

    /// The counts of those of its requests that go to a cluster.
    fn of_cluster(&self, cluster: &str, registry: &Registry) -> Arc<AuthzStats> {
        let mut known = self.of_clusters.borrow_mut();
        if let Some(stats) = known.get(cluster) {
            return stats.clone();
        }
        let prefix = self.authz.prefix(&format!("cluster.{cluster}"));
        let stats = registry.authz(&prefix);
        known.insert(cluster.to_owned(), stats.clone());
        stats
    }
}

/// Asks the service about a request: an answer, if it is not to go on. `next` is the place of the next filter.
pub(crate) async fn run(
    client: &mut impl Waits,
    exchange: &mut Exchange,
    view: &AuthzView,
    next: &mut usize,
) -> Result<Option<Reply<'static>>, Failure> {
    let AuthzView { authz, stats, .. } = view;
    // As in Envoy, what has no route needs no leave.
    if exchange.route.is_none() {
        return Ok(None);
    }
    if !authz.is_for(client.call(), exchange) {
        stats.disabled.increment();
        return Ok(authz
            .denies_when_off
            .then(|| refuse(exchange, authz, ERROR, Denial::default())));
    }
    let request = &client.call().request;
    let has_body = request.framing != Framing::None && request.tunnel == Tunnel::None;
    let body = match authz.body.filter(|_| has_body) {
        None => None,
        Some(rule) => {
            let most = rule.most + usize::from(!rule.may_be_cut);
            let body = wait_for_body(client, exchange, most).await?;
            if !rule.may_be_cut && !body.is_within(rule.most) {
                return Ok(Some(client.call().too_large(exchange)));
            }
            Some(body)
        }
    };
    let (verdict, took) = ask(client, exchange, authz, body.as_ref()).await?;
    let call = client.call_mut();
    let moves = match &verdict {
        Verdict::Allowed(changes) => authz.clears_route && changes.may_move(),
        Verdict::Denied(_) | Verdict::Failed(..) => false,
    };
    Ok(match settle(call, exchange, view, (verdict, took)) {
        None if moves => call.relocate(exchange, next),
        answer => answer,
    })
}

/// The answer to a request for which a route was found only behind these filters, if one of them has let it pass
/// without asking, as there was none.
pub(crate) fn refuse_unasked(
    call: &Call,
    exchange: &mut Exchange,
    passed: &[Active],
) -> Option<Reply<'static>> {
    let view = passed.iter().find_map(|filter| match filter {
        Active::Authz(view) => {
            let AuthzView { authz, .. } = &**view;
            (authz.denies_when_off || authz.is_for(call, exchange)).then_some(view)
        }
        _ => None,
    })?;
    view.stats.error.increment();
    Some(refuse(exchange, &view.authz, ERROR, Denial::default()))
}

/// Asks the service: what it says, and how long that took.
async fn ask(
    client: &mut impl Waits,
    exchange: &Exchange,
    authz: &Authz,
    body: Option<&Body>,
) -> Result<(Verdict, Micros), Failure> {
    let call = client.call();
    let begin = call.worker.clock.now();
    let mut question = match &authz.service.http {
        None => grpc::question(call, exchange, authz, body),
        Some(service) => http::question(call, exchange, (authz, service), body),
    };
    let span = call.inject_child(exchange, &mut question.fields);
    let worker = call.worker.clone();
    let mut answer = Answer::default();
    let asking = errand::run(&worker, authz.service.errand(&question), &mut answer);
    let asked = while_there(client, asking).await?;
    let call = client.call();
    let verdict = match asked {
        Err(trouble) => Verdict::Failed(trouble.to_string(), None),
        Ok(()) => authz.verdict(&answer),
    };
    if let Some(span) = span {
        let cluster = &authz.service.cluster;
        let over_http = authz.service.http.as_ref();
        let name = over_http.map(|_| format!("async {cluster} egress"));
        let (word, trouble) = match &verdict {
            Verdict::Allowed(_) => ("ext_authz_ok", None),
            Verdict::Denied(_) => ("ext_authz_unauthorized", None),
            Verdict::Failed(reason, _) => ("ext_authz_error", Some(reason.as_str())),
        };
        let child = Child {
            cluster,
            name: name.as_deref().unwrap_or(OVER_GRPC),
            tag: Some(("ext_authz_status", word)),
            trouble,
        };
        call.report_child(&span, &child, (begin, &answer));
    }
    Ok((verdict, call.worker.clock.now().saturating_sub(begin)))
}

/// Does what the service says: an answer, if the request is not to go on.
fn settle(
    call: &mut Call,
    exchange: &mut Exchange,
    view: &AuthzView,
    (mut verdict, took): (Verdict, Micros),
) -> Option<Reply<'static>> {
    let AuthzView { authz, stats, .. } = view;
    let left_out = verdict.leave_out_framing();
    if left_out > 0 {
        stats.ignored_framing_headers.add(left_out as u64);
        tell_of_framing(&authz.service.cluster);
    }
    let cluster = exchange.cluster.as_ref();
    let of_cluster =
        cluster.map(|cluster| view.of_cluster(&cluster.cluster.name, &call.worker.registry));
    let count = |which: fn(&AuthzStats) -> &Count| {
        for stats in std::iter::once(stats).chain(&of_cluster) {
            which(stats).increment();
        }
    };
    let tell = |exchange: &mut Exchange, result| {
        exchange.rare().asked = Some(Asked {
            provider: authz.clone(),
            result,
            took,
        });
    };
    let invalid = |exchange: &mut Exchange| {
        count(|stats| &stats.invalid);
        tell(exchange, "error");
        let invalid = Denial {
            status: 500,
            ..Denial::default()
        };
        Some(refuse(exchange, authz, "ext_authz_invalid", invalid))
    };
    match verdict {
        Verdict::Denied(denial) if !denial.is_valid() => invalid(exchange),
        Verdict::Allowed(changes) => {
            if changes.apply(call, exchange, view, took).is_none() {
                return invalid(exchange);
            }
            count(|stats| &stats.ok);
            tell(exchange, "allowed");
            None
        }
        Verdict::Denied(denial) => {
            count(|stats| &stats.denied);
            tell(exchange, "denied");
            let reply = refuse(exchange, authz, "ext_authz_denied", denial);
            if let Some(cluster) = exchange.cluster.as_ref().filter(|_| authz.charges_cluster) {
                cluster.stats.rq.count(reply.status);
            }
            Some(reply)
        }
        Verdict::Failed(reason, denial) => {
            let cluster = &authz.service.cluster;
            tracing::debug!(cluster, reason, "no leave could be asked for");
            count(|stats| &stats.error);
            if !authz.lets_failures_pass {
                tell(exchange, "error");
                let denial = denial.filter(Denial::is_valid);
                return Some(refuse(exchange, authz, ERROR, denial.unwrap_or_default()));
            }
            count(|stats| &stats.failure_mode_allowed);
            tell(exchange, "failure_mode_allowed");
            if !authz.tells_failures {
                return None;
            }
            let name = "x-envoy-auth-failure-mode-allowed";
            call.edit_head(&[], &[(name.to_owned(), b"true".to_vec())])
        }
    }
}

/// Says once that a service wants to say how messages are framed.
#[cold]
pub(crate) fn tell_of_framing(cluster: &str) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!(
            cluster,
            "a service that is asked about requests wants to change fields that say how messages are framed, such \
             as content-length or connection; they are left as they are, and counted in ignored_framing_headers"
        );
    });
}

/// Waits as long as the client is there.
pub(crate) async fn while_there<T>(
    client: &mut impl Waits,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        client.poll_gone(cx).map(Err)
    })
    .await
}

/// The answer to a request that is refused.
fn refuse(
    exchange: &mut Exchange,
    authz: &Authz,
    details: &'static str,
    denial: Denial,
) -> Reply<'static> {
    exchange.flags.set(Flag::UAEX);
    let rare = exchange.rare();
    rare.details = Some(details.into());
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in denial.fields {
        // Of several of one name the first takes the place of what is there.
        let action = match seen.contains(&name) {
            true => AppendAction::Append,
            false => AppendAction::Overwrite,
        };
        seen.push(name.clone());
        rare.said.push(Said {
            name: Cow::Owned(name),
            value,
            action,
        });
    }
    let status = match denial.status {
        0 => authz.status_on_error,
        status => status,
    };
    let mut body = denial.body;
    if authz.most_denied_bytes > 0 && body.len() > authz.most_denied_bytes {
        body.truncate(body.floor_char_boundary(authz.most_denied_bytes));
    }
    Reply::new(status, body)
}

impl Authz {
    /// What its counts begin with.
    fn prefix(&self, of: &str) -> String {
        match self.stat_prefix.as_str() {
            "" => format!("{of}.ext_authz"),
            own => format!("{of}.ext_authz.{}", own.trim_end_matches('.')),
        }
    }

    /// Whether the service is asked about a request.
    fn is_for(&self, call: &Call, exchange: &Exchange) -> bool {
        let none = Metadata::default();
        let metadata = exchange.rare.as_deref().map(Rare::metadata);
        let metadata = metadata.unwrap_or(&none);
        call.is_in(self.enabled)
            && self
                .enabled_by
                .as_ref()
                .is_none_or(|asked| asked.holds(metadata))
    }

    fn verdict(&self, answer: &Answer) -> Verdict {
        match &self.service.http {
            None => grpc::verdict(answer),
            Some(service) => http::verdict(answer, service),
        }
    }

    /// Whether the service is told of a field.
    pub(super) fn tells(&self, name: &str) -> bool {
        use super::is_one_of;

        let is_allowed = self.allowed.as_ref();
        is_allowed.is_none_or(|names| is_one_of(names, name)) && !is_one_of(&self.disallowed, name)
    }
}

impl Service {
    /// The errand that asks it.
    pub(super) fn errand<'a>(&'a self, question: &'a Question) -> Errand<'a> {
        let Question {
            method,
            path,
            host,
            fields,
            body,
        } = question;
        Errand {
            cluster: &self.cluster,
            method,
            host: host.as_ref().unwrap_or(&self.host),
            path,
            fields,
            body: Some([body, b""]),
            timeout: self.timeout,
            most_bytes: MOST_ANSWER,
        }
    }
}

impl Call {
    /// The fields of a request that a service is told of, each name once and in lower case, pseudo headers of
    /// HTTP/2 first.
    pub(super) fn told_fields(&self, exchange: &Exchange, authz: &Authz) -> Vec<(String, Vec<u8>)> {
        let head = self.buffer.head();
        let is_grpc = authz.service.http.is_none();
        let replaced = self.replaced_by_child(exchange);
        let pseudo = [
            (":authority", self.request.target.authority.get(head)),
            (":method", self.request.method(head)),
            (":path", self.request.target.path.get(head)),
            (":scheme", self.scheme().as_bytes()),
        ];
        let pseudo = pseudo.map(|(name, value)| (name.to_owned(), value.to_vec()));
        let fields = self.request.fields.iter();
        let fields = fields
            .filter(|field| field.id != Name::Host && !field.id.is_hop_by_hop())
            .filter(|field| is_grpc || !replaced.has(field.id))
            .map(|field| {
                let name = text(field.name.get(head)).to_ascii_lowercase();
                (name, field.value.get(head).to_vec())
            });
        let id = exchange.id.get(&self.request.fields, head);
        let added = [
            ("x-forwarded-proto", Some(self.scheme().as_bytes())),
            ("x-request-id", id),
        ];
        let mut told: Vec<(String, Vec<u8>)> = Vec::new();
        for (name, value) in pseudo.into_iter().chain(fields) {
            if name == "x-envoy-auth-partial-body" || !authz.tells(&name) {
                continue;
            }
            // Several of one name are one list (RFC 9110 §5.3).
            match told.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => {
                    known.push(b',');
                    known.extend_from_slice(&value);
                }
                None => told.push((name, value)),
            }
        }
        for (name, value) in added {
            let is_there = told.iter().any(|(known, _)| known == name);
            if let Some(value) = value.filter(|_| !is_there && authz.tells(name)) {
                told.push((name.to_owned(), value.to_vec()));
            }
        }
        told
    }

    /// The answer to a request whose body is too large.
    pub(crate) fn too_large(&self, exchange: &mut Exchange) -> Reply<'static> {
        self.view.http.rq_too_large.increment();
        exchange.rare().details = Some("request_payload_too_large".into());
        Reply::new(413, "Payload Too Large")
    }
}
