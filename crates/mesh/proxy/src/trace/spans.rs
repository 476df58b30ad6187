//! Spans: made from the record of an exchange when it has ended, straight into the exporter's batch.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::LazyLock;
use std::time::Duration;

use periplus_model::SpanKind;
use periplus_model::propagation::SpanContext;
use periplus_wire::export::{FixedTags, SpanRef, Tag};
use periplus_wire::tag;

use crate::call::Protocol;
use crate::clock::{Clock, Micros};
use crate::flags::Flags;
use crate::grpc::GrpcStatus;
use crate::http1::name::Name;
use crate::http1::request::RequestHead;
use crate::policy::authz::Asked;
use crate::policy::quota::Limited;
use crate::policy::{Decisions, Metadata};
use crate::snapshot::{Cluster, CustomTag};
use crate::tls::Secured;
use crate::trace::attempt::{Attempt, push_peers};
use crate::trace::details::{Details, Fixed, Memory};
use crate::trace::grpc::{GrpcRequest, push_grpc_status, status_code};
use crate::trace::tags::{Tags, text};
use crate::trace::{RequestId, TagValue, TraceContext, Tracer};
use crate::upstream::ClusterState;

/// Everything about an exchange that its spans tell.
#[derive(Debug)]
pub(crate) struct Finished<'a> {
    pub(crate) clock: &'a Clock,
    /// The client's address without its port.
    pub(crate) peer: &'a str,
    /// What the TLS of the client's connection has shown.
    pub(crate) secured: Option<&'a Secured>,
    pub(crate) request: &'a RequestHead,
    pub(crate) head: &'a [u8],
    pub(crate) id: &'a RequestId,
    /// The host that the client asked for, whatever a route has made of it.
    pub(crate) host: &'a [u8],
    /// The request came over an edge listener, so that the scheme is ours to say.
    pub(crate) edge: bool,
    /// What names the span, besides the tracer's default.
    pub(crate) name: Option<Cow<'a, str>>,
    pub(crate) begin: Micros,
    pub(crate) end: Micros,
    /// 0 if the client got no response.
    pub(crate) status: u16,
    pub(crate) flags: Flags,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) cluster: Option<&'a ClusterState>,
    pub(crate) attempt: Option<&'a Attempt>,
    pub(crate) protocol: Protocol,
    pub(crate) is_grpc: bool,
    /// What the endpoint was told instead of the client's `grpc-timeout`.
    pub(crate) grpc_timeout: Option<Duration>,
    /// How the call ended, if the response said so.
    pub(crate) grpc: Option<&'a GrpcStatus>,
    /// What the rules have said.
    pub(crate) decided: Option<Decisions<'a>>,
    /// What an authorizer has said.
    pub(crate) asked: Option<&'a Asked>,
    /// What a service that counts has said.
    pub(crate) limited: Option<&'a Limited>,
    /// What the format strings among the custom tags have made of it.
    pub(crate) formats: &'a [String],
    /// What Envoy's spans do not tell, if it is to be told.
    pub(crate) details: Option<&'a Details<'a>>,
    /// The convention of the context that came and was not read.
    pub(crate) ignored: Option<&'static str>,
    /// What filters have found out.
    pub(crate) metadata: Option<&'a Metadata>,
}

/// Memory for texts that must be put together; a worker keeps it.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    url: Vec<u8>,
    name: String,
    details: Memory,
}

impl Tracer {
    /// Reports the spans of an exchange that has ended.
    pub(crate) fn report(
        &self,
        context: &TraceContext,
        finished: &Finished<'_>,
        scratch: &mut Scratch,
    ) {
        if !context.span.sampled {
            return;
        }
        let trace_state = self.trace_state(context, finished);
        if let Some(attempt) = finished.attempt
            && let Some(span) = &attempt.span
        {
            let told = (Some("router"), &*trace_state);
            self.report_attempt(span, attempt, finished, told, scratch);
        }
        self.report_request(&context.span, finished, &trace_state, scratch);
    }

    /// Reports the span of an attempt that is not the last one.
    #[cold]
    pub(crate) fn report_try(
        &self,
        context: &TraceContext,
        finished: &Finished<'_>,
        scratch: &mut Scratch,
    ) {
        if let Some(attempt) = finished.attempt
            && let Some(span) = attempt.span.as_ref().filter(|span| span.sampled)
        {
            let trace_state = self.trace_state(context, finished);
            let told = (Some("router"), &*trace_state);
            self.report_attempt(span, attempt, finished, told, scratch);
        }
    }

    /// Reports the span of a copy of a request.
    #[cold]
    pub(crate) fn report_mirrored(
        &self,
        context: &TraceContext,
        finished: &Finished<'_>,
        scratch: &mut Scratch,
    ) {
        if let (Some(attempt), true) = (finished.attempt, context.span.sampled) {
            let trace_state = self.trace_state(context, finished);
            let told = (None, &*trace_state);
            self.report_attempt(&context.span, attempt, finished, told, scratch);
        }
    }

    fn trace_state<'a>(&self, context: &TraceContext, finished: &Finished<'a>) -> Cow<'a, str> {
        if !context.continues || !finished.request.fields.has(Name::TraceState) {
            return Cow::Borrowed("");
        }
        let mut values = finished.request.fields.all(Name::TraceState, finished.head);
        match (values.next(), values.next()) {
            (Some(only), None) => text(only),
            _ => {
                let mut joined = Vec::new();
                let all = finished.request.fields.all(Name::TraceState, finished.head);
                periplus_model::propagation::w3c::join_tracestate(all, &mut joined);
                Cow::Owned(text(&joined).into_owned())
            }
        }
    }

    fn report_request(
        &self,
        span: &SpanContext,
        finished: &Finished<'_>,
        trace_state: &str,
        scratch: &mut Scratch,
    ) {
        let Finished {
            request,
            head,
            status,
            flags,
            ..
        } = *finished;
        let value = |name| request.fields.value(name, head);
        self.write_url(finished, &mut scratch.url);
        let host;
        let name = match &finished.name {
            Some(name) => name,
            None => {
                host = text(finished.host);
                self.default_name(&host, &mut scratch.name)
            }
        };
        let id = finished.id.get(&request.fields, head);
        let client_id = value(Name::XClientTraceId);
        let caller = (!finished.edge)
            .then(|| value(Name::XEnvoyDownstreamServiceCluster))
            .flatten()
            .map(text);
        let agent = value(Name::UserAgent);
        let (mut code, mut sent, mut received, mut took, mut counted) = Default::default();
        let code = digits(&mut code, u64::from(status));
        let sent = digits(&mut sent, finished.response_bytes);
        let received = digits(&mut received, finished.request_bytes);
        let flags_text = flags_text(flags);
        let custom = self.custom_headers(finished);
        let grpc = finished.is_grpc.then(|| GrpcRequest::of(finished));

        let mut tags = Tags::new();
        if let Some(id) = id {
            tags.push(tag!("guid:x-request-id", "").with_bytes(id));
        }
        if let Some(id) = client_id {
            tags.push(tag!("guid:x-client-trace-id", "").with_bytes(id));
        }
        tags.push(tag!("http.url", "").with_bytes(&scratch.url));
        tags.push(tag!("http.method", "").with_bytes(request.method(head)));
        tags.push(tag!("user_agent", "").with_bytes(agent.unwrap_or(b"-")));
        let caller = caller.as_deref().unwrap_or("-");
        let protocol = match (finished.protocol, request.minor_version) {
            (Protocol::Http2, _) => "HTTP/2",
            (Protocol::Http1, 0) => "HTTP/1.0",
            (Protocol::Http1, _) => "HTTP/1.1",
        };
        let usual = self
            .usual_tags
            .as_ref()
            .filter(|_| USUAL == values(caller, protocol, &flags_text));
        if usual.is_none() {
            for (name, value) in values(caller, protocol, &flags_text) {
                tags.push(Tag::new(name, value));
            }
        }
        tags.push(tag!("peer.address", finished.peer));
        tags.push(tag!("request_size", received));
        tags.push(tag!("response_size", sent));
        tags.push(tag!("http.status_code", code));
        if let Some(request) = &grpc {
            request.push(&mut tags);
        }
        push_grpc_status(&mut tags, finished.grpc);
        finished.push_identities(&mut tags);
        if let Some([enforced, shadow, audited]) = &finished.decided {
            for (told, [result, policy]) in [enforced, shadow].into_iter().zip(OF_RULES) {
                if let Some(told) = told {
                    tags.push(result.with(told.result));
                    tags.push(policy.with(told.policy));
                }
            }
            if let Some(told) = audited {
                tags.push(tag!("rbac.audit_policy_id", told.policy));
            }
        }
        if let Some(asked) = finished.asked {
            tags.push(tag!("ext_authz.provider", &asked.provider.service.cluster));
            tags.push(tag!("ext_authz.result", asked.result));
            tags.push(tag!("ext_authz.duration_us", digits(&mut took, asked.took)));
        }
        if let Some(limited) = finished.limited {
            tags.push(tag!("ratelimit.provider", &limited.quota.cluster));
            tags.push(tag!("ratelimit.result", limited.result));
            tags.push(tag!(
                "ratelimit.duration_us",
                digits(&mut counted, limited.took)
            ));
        }
        let cluster = self.push_cluster(&mut tags, finished.cluster);
        if status == 0 || status >= 500 || finished.grpc.is_some_and(GrpcStatus::is_failure) {
            tags.push(tag!("error", "true"));
        }
        if let Some(convention) = finished.ignored {
            tags.push(tag!("periplus.context.ignored", convention));
        }
        self.push_custom(&mut tags, &custom, finished.formats);
        let fixed = [&self.request_tags, usual.unwrap_or(&NO_TAGS), cluster];
        let more;
        let fixed = match finished.details {
            None => &fixed[..],
            Some(details) => {
                let memory = &mut scratch.details;
                more = details.push(finished, self.spawns, memory, &mut tags, Fixed::new(fixed));
                more.as_slice()
            }
        };
        self.exporter.append(
            fixed,
            &SpanRef {
                trace_id: span.trace_id,
                span_id: span.span_id,
                parent_span_id: span.parent_span_id,
                kind: self.kind,
                name,
                start_unix_micros: finished.clock.wall(finished.begin),
                duration_micros: finished.end - finished.begin,
                tags: tags.as_slice(),
                shared: span.shared,
                trace_state,
                flags: span.otlp_flags(),
                status: status_code(self.kind, status, finished.grpc),
            },
        );
    }

    fn report_attempt(
        &self,
        span: &SpanContext,
        attempt: &Attempt,
        finished: &Finished<'_>,
        (by, trace_state): (Option<&str>, &str),
        scratch: &mut Scratch,
    ) {
        let Some(cluster) = finished.cluster else {
            return;
        };
        let name = &mut scratch.name;
        name.clear();
        // Writing to a `String` cannot fail.
        let _ = match by {
            Some(by) => write!(name, "{by} {} egress", cluster.cluster.observability_name),
            None => write!(name, "mirror"),
        };
        let mut code = Default::default();
        let code = digits(&mut code, u64::from(attempt.status));
        let flags = flags_text(attempt.flags);
        let custom = self.custom_headers(finished);

        let (mut count, mut waited) = Default::default();
        let mut tags = Tags::new();
        tags.push(tag!(
            "http.protocol",
            match (attempt.connected, attempt.is_http2) {
                (false, _) => "-",
                (true, false) => "HTTP/1.1",
                (true, true) => "HTTP/2",
            },
        ));
        tags.push(tag!("upstream_address", &attempt.address.text));
        tags.push(tag!("peer.address", &attempt.address.text));
        tags.push(tag!("http.status_code", code));
        tags.push(tag!("response_flags", &flags));
        let cluster_tags = self.push_cluster(&mut tags, Some(cluster));
        // What the proxy itself tells a gRPC client is nothing that the endpoint has said.
        let grpc = finished.grpc.filter(|_| attempt.status != 0);
        push_grpc_status(&mut tags, grpc);
        let reason = attempt.reason();
        let failed =
            reason.is_some() || attempt.canceled || grpc.is_some_and(GrpcStatus::is_failure);
        if failed || attempt.status == 0 || attempt.status >= 500 {
            tags.push(tag!("error", "true"));
        }
        if let Some(reason) = reason {
            tags.push(tag!("error.reason", reason));
        }
        attempt.push_tls(&mut tags, true);
        if let Some(retried) = attempt.retried() {
            tags.push(tag!(
                "retry.count",
                digits(&mut count, u64::from(retried.number - 1)),
            ));
            tags.push(tag!("retry.reason", &retried.reason));
            tags.push(tag!(
                "retry.back_off_us",
                digits(&mut waited, retried.back_off)
            ));
        }
        if attempt.canceled || attempt.dropped {
            tags.push(tag!("canceled", "true"));
        }
        self.push_custom(&mut tags, &custom, finished.formats);
        let fixed = [&self.attempt_tags, cluster_tags];
        let more;
        let fixed = match finished.details {
            None => &fixed[..],
            Some(details) => {
                let attempt = (attempt, finished);
                let memory = &mut scratch.details;
                more = details.push_attempt(attempt, memory, &mut tags, Fixed::new(fixed));
                more.as_slice()
            }
        };
        self.exporter.append(
            fixed,
            &SpanRef {
                trace_id: span.trace_id,
                span_id: span.span_id,
                parent_span_id: span.parent_span_id,
                kind: SpanKind::Client,
                name,
                start_unix_micros: finished.clock.wall(attempt.begin),
                duration_micros: finished.end - attempt.begin,
                tags: tags.as_slice(),
                shared: false,
                trace_state,
                flags: span.otlp_flags(),
                status: status_code(SpanKind::Client, attempt.status, grpc),
            },
        );
    }

    /// `http://reviews:9080/reviews/0?x`, path and query cut.
    fn write_url(&self, finished: &Finished<'_>, url: &mut Vec<u8>) {
        let (request, head) = (finished.request, finished.head);
        // What a client says about itself is for an edge to say.
        let value = |name| request.fields.value(name, head).filter(|_| !finished.edge);
        let path = value(Name::XEnvoyOriginalPath).unwrap_or(request.target.path.get(head));
        let scheme: &[u8] = match request.is_https {
            true => b"https://",
            false => b"http://",
        };
        url.clear();
        url.extend_from_slice(scheme);
        url.extend_from_slice(request.target.authority.get(head));
        url.extend_from_slice(&path[..path.len().min(self.longest_path)]);
    }

    /// The values of the custom tags that ask about the request, in their order.
    #[inline]
    fn custom_headers<'a>(&'a self, finished: &Finished<'a>) -> CustomHeaders<'a> {
        let mut headers = CustomHeaders::new();
        if self.has_asking_tags {
            for tag in &self.custom_tags {
                match &tag.value {
                    TagValue::Literal(_) | TagValue::Format(_) => {}
                    TagValue::Header { name, .. } => {
                        let fields = &finished.request.fields;
                        headers.push(fields.all_by_text(name, finished.head).next().map(text));
                    }
                    TagValue::Metadata { filter, path, .. } => {
                        let metadata = finished.metadata;
                        headers.push(metadata.and_then(|known| known.text(filter, path)));
                    }
                }
            }
        }
        headers
    }

    /// The tags of the cluster: encoded before, unless a custom tag replaces one.
    fn push_cluster<'t>(
        &self,
        tags: &mut Tags<'t>,
        cluster: Option<&'t ClusterState>,
    ) -> &'t FixedTags {
        match cluster {
            Some(cluster) if self.fixes_cluster_tags => &cluster.tags,
            Some(cluster) => {
                tags.push(tag!("upstream_cluster", &cluster.cluster.name));
                tags.push(tag!(
                    "upstream_cluster.name",
                    &cluster.cluster.observability_name
                ));
                &NO_TAGS
            }
            None => &NO_TAGS,
        }
    }

    /// Custom tags come last and replace those of the same name.
    fn push_custom<'t>(
        &'t self,
        tags: &mut Tags<'t>,
        headers: &'t CustomHeaders<'_>,
        formats: &'t [String],
    ) {
        let (mut headers, mut formats) = (headers.iter(), formats.iter());
        for tag in &self.custom_tags {
            let value = match &tag.value {
                TagValue::Literal(text) => Some(text.as_str()),
                TagValue::Format(_) => formats
                    .next()
                    .map(String::as_str)
                    .filter(|text| !text.is_empty()),
                TagValue::Header { default, .. } | TagValue::Metadata { default, .. } => headers
                    .next()
                    .and_then(|header| header.as_deref())
                    .or(default.as_deref()),
            };
            match value {
                Some(value) if tag.replaces => tags.set(&tag.name, value),
                Some(value) => tags.push(Tag::new(&tag.name, value)),
                None => {}
            }
        }
    }
}

type CustomHeaders<'a> = smallvec::SmallVec<[Option<Cow<'a, str>>; 4]>;

/// The tags of a cluster, encoded once.
pub(crate) fn cluster_tags(cluster: &Cluster) -> FixedTags {
    FixedTags::new(&[
        ("upstream_cluster", &cluster.name),
        ("upstream_cluster.name", &cluster.observability_name),
    ])
}

/// The tags of what rules have said: the names that Envoy has for it in its metadata.
const OF_RULES: [[Tag<'_>; 2]; 2] = [
    [
        tag!("rbac.enforced_engine_result", ""),
        tag!("rbac.enforced_effective_policy_id", ""),
    ],
    [
        tag!("rbac.shadow_engine_result", ""),
        tag!("rbac.shadow_effective_policy_id", ""),
    ],
];

/// Tags that vary, but hardly ever do.
const fn values<'t>(
    downstream_cluster: &'t str,
    protocol: &'t str,
    flags: &'t str,
) -> [(&'static str, &'t str); 3] {
    [
        ("downstream_cluster", downstream_cluster),
        ("http.protocol", protocol),
        ("response_flags", flags),
    ]
}

/// What they nearly always are.
const USUAL: [(&str, &str); 3] = values("-", "HTTP/1.1", "-");

/// The usual tags, encoded once; none if a custom tag replaces one.
pub(super) fn usual_tags(custom: &[CustomTag]) -> Option<FixedTags> {
    let replaced = |(name, _): &(&str, &str)| custom.iter().any(|tag| tag.name == *name);
    (!USUAL.iter().any(replaced)).then(|| FixedTags::new(&USUAL))
}

/// The tags of no cluster.
static NO_TAGS: LazyLock<FixedTags> = LazyLock::new(FixedTags::default);

fn flags_text(flags: Flags) -> Cow<'static, str> {
    match flags.as_static() {
        Some(text) => Cow::Borrowed(text),
        None => Cow::Owned(flags.to_string()),
    }
}

#[inline]
pub(super) fn digits(buffer: &mut itoa::Buffer, number: u64) -> &str {
    buffer.format(number)
}

impl Finished<'_> {
    /// Those of the client's connection or, if that is plaintext, of the endpoint's.
    #[inline]
    fn push_identities<'t>(&'t self, tags: &mut Tags<'t>) {
        if let Some(secured) = self.secured {
            push_peers(tags, secured.peer_id(), secured.own_id());
        }
        if let Some(attempt) = self.attempt {
            attempt.push_tls(tags, self.secured.is_none());
        }
    }
}
