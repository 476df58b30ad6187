//! What the proxy adds to heads and takes away, as Envoy does for sidecars and gateways.

use std::net::IpAddr;

use crate::call::Call;
use crate::edit;
use crate::exchange::{Exchange, Said};
use crate::flags::Flag;
use crate::grpc;
use crate::http1::edit::{
    HOP_BY_HOP, INTERNAL_ONLY, Names, append_field, append_number, copy_lines,
};
use crate::http1::framing::Framing;
use crate::http1::head::list;
use crate::http1::name::Name;
use crate::http1::request::Tunnel;
use crate::route::append_timeout;
use crate::snapshot::{AppendAction, Direction, ServerHeader};
use crate::xfcc;

/// Dropped from every request.
const FROM_REQUEST: Names = HOP_BY_HOP
    .with(INTERNAL_ONLY)
    .with(Names::of(&[Name::XEnvoyInternal]));

/// Dropped from, or replaced in, requests from outside.
const FROM_EDGE_REQUEST: Names = FROM_REQUEST.with(Names::of(&[
    Name::XEnvoyDecoratorOperation,
    Name::XEnvoyDownstreamServiceCluster,
    Name::XEnvoyDownstreamServiceNode,
    Name::XEnvoyOriginalPath,
    Name::XEnvoyExternalAddress,
    Name::XForwardedFor,
    Name::XForwardedProto,
]));

/// What proxies tell each other about their workloads.
const PEER_METADATA: Names = Names::of(&[Name::XEnvoyPeerMetadata, Name::XEnvoyPeerMetadataId]);

/// Dropped from every response.
const FROM_RESPONSE: Names = HOP_BY_HOP.with(Names::of(&[Name::XEnvoyUpstreamServiceTime]));

impl Call {
    /// Writes the head of the upstream request.
    pub(crate) fn write_request(&self, exchange: &mut Exchange, out: &mut Vec<u8>) {
        let request = &self.request;
        let head = self.buffer.head();
        let fields = &request.fields;
        let edge = self.view.manager.use_remote_address;
        let current = exchange.trace.as_ref().map(|trace| {
            let attempt = exchange.attempt.as_ref();
            attempt
                .and_then(|attempt| attempt.span)
                .unwrap_or(trace.span)
        });

        let mut drop = if edge {
            FROM_EDGE_REQUEST
        } else {
            FROM_REQUEST
        };
        let host_first = request.target.absolute || !fields.has(Name::Host);
        if host_first {
            drop.add(Name::Host);
        }
        if let crate::trace::RequestId::Made(_) = exchange.id {
            drop.add(Name::XRequestId);
        }
        let client_cert = self.client_cert_header();
        if client_cert != xfcc::Header::Keep {
            drop.add(Name::XForwardedClientCert);
        }
        let ingress = self
            .view
            .tracer
            .as_ref()
            .is_some_and(|tracer| !tracer.egress);
        if ingress {
            drop.add(Name::XEnvoyDecoratorOperation);
        }
        let plan = self.view.router.as_ref().zip(exchange.route);
        let plan = plan.map(|(router, at)| router.plan(at));
        if let Some(plan) = plan {
            drop = drop.with(plan.replaced);
        }
        if !request.expects_continue {
            drop.add(Name::Expect);
        }
        if exchange.sets_grpc_timeout {
            drop.add(Name::GrpcTimeout);
        }
        let context = self
            .view
            .tracer
            .as_ref()
            .zip(exchange.trace.as_ref())
            .zip(current);
        if let Some(((tracer, trace), current)) = &context {
            drop = drop.with(tracer.replaced(trace, current));
        }

        let metrics = self.view.telemetry.as_ref().and_then(|it| it.metrics());
        if metrics.is_some() {
            drop = drop.with(PEER_METADATA);
        }
        let from = out.len();
        out.extend_from_slice(request.method(head));
        out.push(b' ');
        out.extend_from_slice(match request.tunnel {
            Tunnel::Connect => request.target.authority.get(head),
            _ => request.target.path.get(head),
        });
        out.extend_from_slice(b" HTTP/1.1\r\n");
        if host_first {
            append_field(out, "host", request.target.authority.get(head));
        }
        if let Some(first) = fields.iter().next() {
            copy_lines(
                out,
                head,
                fields,
                first.name.start(),
                drop,
                request.nominates,
            );
        }
        self.append_request_framing(out);
        if edge {
            self.append_edge(out);
        } else if !fields.has(Name::XForwardedProto) {
            self.append_proto(out);
        }
        if let xfcc::Header::Set(value) = &client_cert {
            append_field(out, "x-forwarded-client-cert", value);
        }
        if let Some((metrics, Direction::Outbound)) = metrics {
            out.extend_from_slice(metrics.lines());
        }
        if let crate::trace::RequestId::Made(id) = &exchange.id {
            let mut line = *b"x-request-id: 00000000-0000-0000-0000-000000000000\r\n";
            line[14..50].copy_from_slice(id);
            out.extend_from_slice(&line);
        }
        if let Some(plan) = plan {
            match exchange.timeout {
                Some(timeout) if exchange.is_grpc => {
                    out.extend_from_slice(plan.untimed_lines());
                    let told = exchange.per_try().unwrap_or(timeout);
                    append_timeout(out, told);
                    if exchange.sets_grpc_timeout {
                        let text = grpc::timeout_text(told);
                        append_field(out, "grpc-timeout", text.as_bytes());
                    }
                }
                _ => out.extend_from_slice(&plan.lines),
            }
        }
        if exchange.edits {
            let except = context
                .as_ref()
                .map(|((tracer, trace), current)| tracer.replaced(trace, current));
            self.edit_request(exchange, except.unwrap_or_default(), out, from);
        }
        if exchange.tries > 1 {
            self.edit_again(exchange, out, from);
        }
        if let Some(((tracer, trace), current)) = &context {
            tracer.inject(trace, current, fields, head, out);
        }
        out.extend_from_slice(b"\r\n");
        if exchange.edits {
            self.keep_sent(exchange, &out[from..]);
        }
    }

    fn append_request_framing(&self, out: &mut Vec<u8>) {
        let request = &self.request;
        let head = self.buffer.head();
        if request.framing == Framing::Chunked {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        if request.fields.has(Name::Te)
            && request
                .fields
                .all(Name::Te, head)
                .flat_map(list)
                .any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
        {
            out.extend_from_slice(b"te: trailers\r\n");
        }
        if request.tunnel == Tunnel::Upgrade {
            out.extend_from_slice(b"connection: upgrade\r\n");
            for protocols in request.fields.all(Name::Upgrade, head) {
                append_field(out, "upgrade", protocols);
            }
        }
    }

    /// The scheme that the client has used.
    fn append_proto(&self, out: &mut Vec<u8>) {
        if self.client.secured.is_some() {
            out.extend_from_slice(b"x-forwarded-proto: https\r\n");
        } else {
            out.extend_from_slice(b"x-forwarded-proto: http\r\n");
        }
    }

    /// The client's address, as only an edge proxy knows it.
    fn append_edge(&self, out: &mut Vec<u8>) {
        let head = self.buffer.head();
        let client = self.client.peer.ip().to_canonical();
        let shown = match self.worker.own_address {
            Some(own) if client.is_loopback() => AddressText::new(own),
            _ => AddressText::new(client),
        };
        out.extend_from_slice(b"x-forwarded-for: ");
        for before in self.request.fields.all(Name::XForwardedFor, head) {
            out.extend_from_slice(before);
            out.push(b',');
        }
        out.extend_from_slice(&shown.0);
        out.extend_from_slice(b"\r\n");
        self.append_proto(out);
        append_field(out, "x-envoy-external-address", self.client.text.as_bytes());
    }

    /// Writes the head of the client's response from the one that was parsed at the beginning of
    /// `head`, and takes what the upstream's proxy says about itself.
    pub(crate) fn write_response(
        &mut self,
        exchange: &mut Exchange,
        head: &[u8],
        upstream_ms: u64,
        chunks: bool,
        keep: bool,
    ) {
        let begin = self.out.bytes.len();
        let manager = &self.view.manager;
        let response = &self.response;
        let fields = &response.fields;
        let mut drop = FROM_RESPONSE;
        let overwrites_server = match manager.server_header {
            ServerHeader::Overwrite => true,
            ServerHeader::AppendIfAbsent => !fields.has(Name::Server),
            ServerHeader::PassThrough => false,
        };
        if overwrites_server {
            drop.add(Name::Server);
        }
        if manager.always_set_request_id_in_response {
            drop.add(Name::XRequestId);
        }
        let tunnel = self.opens_tunnel();
        if response.status == 204 || tunnel {
            drop.add(Name::ContentLength);
        }
        if let Some(tracer) = &self.view.tracer {
            if tracer.egress {
                drop.add(Name::XEnvoyDecoratorOperation);
                if let Some(name) = fields.value(Name::XEnvoyDecoratorOperation, head)
                    && !name.is_empty()
                {
                    exchange.rare().renamed = Some(name.into());
                }
            } else if self.decorator_to_answer(exchange).is_some() {
                drop.add(Name::XEnvoyDecoratorOperation);
            }
        }
        let metrics = self.view.telemetry.as_ref().and_then(|it| it.metrics());
        if let Some((_, direction)) = metrics {
            drop = drop.with(PEER_METADATA);
            if direction == Direction::Outbound
                && let Some(told) = fields.value(Name::XEnvoyPeerMetadata, head)
                && let Some(attempt) = &exchange.attempt
            {
                attempt.address.workload.learn(told);
            }
        }
        let out = &mut self.out.bytes;
        let from = out.len();
        if response.minor_version == 1 {
            copy_lines(out, head, fields, 0, drop, response.nominates);
        } else {
            out.extend_from_slice(b"HTTP/1.1 ");
            append_status(out, response.status);
            out.push(b' ');
            out.extend_from_slice(response.reason.get(head));
            out.extend_from_slice(b"\r\n");
            if let Some(first) = fields.iter().next() {
                let from = first.name.start();
                copy_lines(out, head, fields, from, drop, response.nominates);
            }
        }
        if chunks {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        if self.request.tunnel == Tunnel::None {
            append_number(out, "x-envoy-upstream-service-time", upstream_ms);
        }
        if let Some((metrics, Direction::Inbound)) = metrics
            && self.request.fields.has(Name::XEnvoyPeerMetadata)
        {
            out.extend_from_slice(metrics.lines());
        }
        let mut has_date = fields.has(Name::Date);
        if exchange.edits {
            let mut out = std::mem::take(&mut self.out.bytes);
            let mut except = Names::default();
            if overwrites_server {
                except.add(Name::Server);
            }
            if manager.always_set_request_id_in_response {
                except.add(Name::XRequestId);
            }
            self.edit_response(exchange, except, &mut out, from);
            has_date = edit::has(&out[from..], "date");
            self.out.bytes = out;
        }
        let out = &mut self.out.bytes;
        if !has_date {
            self.worker.clock.append_date(out);
        }
        if overwrites_server {
            append_field(out, "server", manager.server_name.as_bytes());
        }
        if response.status == 101 {
            out.extend_from_slice(b"connection: upgrade\r\n");
            for protocol in fields.all(Name::Upgrade, head) {
                append_field(out, "upgrade", protocol);
            }
        } else if tunnel {
            // Nothing follows that `connection` could be about.
        } else if !keep {
            out.extend_from_slice(b"connection: close\r\n");
        } else if self.request.minor_version == 0 {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        self.append_response_context(exchange, from);
        self.out.bytes.extend_from_slice(b"\r\n");
        self.keep_response(exchange, begin, head);
    }

    /// Whether the response turns the request into a tunnel.
    #[inline]
    pub(crate) fn opens_tunnel(&self) -> bool {
        match self.request.tunnel {
            Tunnel::None => false,
            Tunnel::Upgrade => self.response.status == 101,
            Tunnel::Connect => self.response.status / 100 == 2,
        }
    }

    /// What every response tells the client about its request, the proxy's own answers included; its head begins
    /// at `from`.
    pub(crate) fn append_response_context(&mut self, exchange: &Exchange, from: usize) {
        let tells_attempts = self.tells_attempts(exchange);
        let out = &mut self.out.bytes;
        if self.view.manager.always_set_request_id_in_response
            && let Some(id) = exchange.id.get(&self.request.fields, self.buffer.head())
        {
            append_field(out, "x-request-id", id);
        }
        if tells_attempts {
            append_number(out, "x-envoy-attempt-count", exchange.tries.into());
        }
        if exchange.rare.is_some() || self.decorator_to_answer(exchange).is_some() {
            self.append_rare_context(exchange, from);
        }
    }

    /// Whether the client is told how many attempts there were.
    fn tells_attempts(&self, exchange: &Exchange) -> bool {
        let router = self.view.router.as_ref().zip(exchange.route);
        router.is_some_and(|(router, at)| router.plan(at).tells_attempts)
            && (exchange.attempt.is_some() || exchange.flags.has(Flag::UH))
            && !exchange
                .rare
                .as_ref()
                .is_some_and(|rare| rare.hides_attempts)
    }

    /// What few answers have.
    fn append_rare_context(&mut self, exchange: &Exchange, from: usize) {
        let mut out = std::mem::take(&mut self.out.bytes);
        if let Some(operation) = self.decorator_to_answer(exchange) {
            append_field(
                &mut out,
                "x-envoy-decorator-operation",
                operation.as_bytes(),
            );
        }
        if let Some(rare) = &exchange.rare {
            out.extend_from_slice(rare.cookies.as_bytes());
            for Said {
                name,
                value,
                action,
            } in &rare.said
            {
                let is_there = || edit::has(&out[from..], name);
                match action {
                    AppendAction::AddIfAbsent if is_there() => continue,
                    AppendAction::OverwriteIfExists if !is_there() => continue,
                    AppendAction::Overwrite | AppendAction::OverwriteIfExists => {
                        edit::remove(&mut out, from, name);
                    }
                    AppendAction::Append | AppendAction::AddIfAbsent => {}
                }
                append_field(&mut out, name, value);
            }
            if let (Some(session), Some(attempt)) = (&rare.session, &exchange.attempt) {
                session.append(attempt.address.address, &mut out, from);
            }
        }
        self.out.bytes = out;
    }

    /// The operation that the caller's proxy is told: only on the way in, and if it named none.
    fn decorator_to_answer(&self, exchange: &Exchange) -> Option<&str> {
        self.view.tracer.as_ref().filter(|tracer| !tracer.egress)?;
        if self.decorated_by_caller().is_some() {
            return None;
        }
        let decorator = self.decorator(exchange)?;
        decorator.propagate.then_some(decorator.operation.as_str())
    }
}

fn append_status(out: &mut Vec<u8>, status: u16) {
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
}

/// An IP address as text, without the heap for IPv4.
struct AddressText(smallvec::SmallVec<[u8; 46]>);

impl AddressText {
    fn new(address: IpAddr) -> Self {
        use std::io::Write;

        let mut text = smallvec::SmallVec::new();
        // Writing to a vector cannot fail.
        let _ = write!(text, "{address}");
        Self(text)
    }
}
