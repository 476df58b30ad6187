//! Where requests and connections end: what they leave behind is put together for the access logs.

use std::net::SocketAddr;

use super::istio::{self, Custom, LabelValue, Observation, RulesView, Service};
use super::keep::Telemetry;
use super::log::{Entry, LogView, Request, Upstream, Whole};
use crate::call::{Call, Client, Protocol};
use crate::clock::Micros;
use crate::exchange::{Exchange, NOTHING};
use crate::flags::{Flag, Flags};
use crate::http1::framing::Framing;
use crate::http1::name::Name;
use crate::reply::Reply;
use crate::snapshot::Direction;
use crate::tls::Secured;
use crate::trace::{Attempt, text};
use crate::worker::Worker;

/// What is no request, and was answered all the same.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) details: &'static str,
    pub(crate) sent: u64,
}

impl Refusal {
    pub(crate) fn of(reply: &Reply<'_>) -> Self {
        Self {
            status: reply.status,
            details: match reply.status {
                408 => "request_header_timeout",
                431 => "http1.headers_too_large",
                _ => "http1.codec_error",
            },
            sent: reply.body.len() as u64,
        }
    }
}

impl Call {
    /// Tells of an exchange that has ended.
    pub(crate) fn tell(&self, telemetry: &Telemetry, exchange: &mut Exchange, end: Micros) {
        if let Some(logs) = &telemetry.logs {
            self.log(logs, exchange, end);
        }
        if let Some((metrics, direction)) = telemetry.metrics() {
            let rules = telemetry.rules.as_ref();
            let custom = rules.map(|rules| self.custom(rules, exchange, end));
            let host = telemetry.host_of(self);
            metrics.observe(&self.observed((direction, host), custom, exchange, end));
        }
    }

    /// Whether messages of gRPC are counted.
    pub(crate) fn counts_messages(&self) -> bool {
        let telemetry = self.view.telemetry.as_ref();
        telemetry.is_some_and(|telemetry| telemetry.metrics().is_some())
    }

    /// What the listener's rules ask about an exchange.
    #[cold]
    fn custom<'a>(&'a self, rules: &'a RulesView, exchange: &Exchange, end: Micros) -> Custom<'a> {
        let (request, head) = (&self.request, self.buffer.head());
        let entry = rules
            .has_expressions
            .then(|| self.entry(exchange, b"", end));
        rules.seen(|value| {
            Some(match value {
                LabelValue::Text(_) => return None,
                LabelValue::Method => text(request.method(head)),
                LabelValue::Host => text(request.target.authority.get(head)),
                LabelValue::Path => {
                    let target = request.target.path.get(head);
                    let end = memchr::memchr(b'?', target).unwrap_or(target.len());
                    text(&target[..end])
                }
                LabelValue::Scheme => self.scheme().into(),
                LabelValue::Header(name) => text(request.fields.all_by_text(name, head).next()?),
                LabelValue::Status => exchange.status.to_string().into(),
                LabelValue::Port => {
                    let to = self.client.original.or(self.client.local)?;
                    to.port().to_string().into()
                }
                LabelValue::Expression(expression) => {
                    expression.value(entry.as_ref()?)?.to_string().into()
                }
            })
        })
    }

    /// Counts messages of gRPC in Istio's metrics while their call goes on.
    #[cold]
    pub(crate) fn count_messages(&self, exchange: &Exchange, messages: [u64; 2], now: Micros) {
        let Some(telemetry) = &self.view.telemetry else {
            return;
        };
        let Some((metrics, direction)) = telemetry.metrics() else {
            return;
        };
        let rules = telemetry.rules.as_ref();
        let custom = rules.map(|rules| self.custom(rules, exchange, now));
        let host = telemetry.host_of(self);
        metrics.observe_messages(Observation {
            messages,
            ..self.observed((direction, host), custom, exchange, now)
        });
    }

    /// What Istio's metrics tell of an exchange.
    #[inline]
    fn observed<'a>(
        &'a self,
        (direction, host): (Direction, &'a [u8]),
        custom: Option<Custom<'a>>,
        exchange: &'a Exchange,
        end: Micros,
    ) -> Observation<'a> {
        let head = self.buffer.head();
        let attempt = exchange.attempt.as_ref();
        let is_outbound = direction == Direction::Outbound;
        let (peer, secured) = if is_outbound {
            let told = attempt.and_then(|attempt| attempt.address.workload.get());
            (told, attempt.and_then(Attempt::secured))
        } else {
            if let Some(told) = self.request.fields.value(Name::XEnvoyPeerMetadata, head) {
                self.client.workload.learn(told);
            }
            (self.client.workload.get(), self.client.secured.as_deref())
        };
        let answer_head = match exchange.status {
            0 => 0,
            _ => u64::from(self.response_head_bytes),
        };
        let response_bytes = answer_head + exchange.response_bytes;
        let cluster = exchange.cluster.as_deref();
        let router = self.view.router.as_ref().zip(exchange.route);
        let route = router.map_or("", |(router, at)| &router.route(at).name);
        Observation {
            direction,
            peer,
            service: Service::of(cluster, route, host),
            peer_principal: secured.and_then(Secured::peer_id),
            own_principal: secured.and_then(Secured::own_id),
            status: exchange.status,
            grpc: exchange.call_status(),
            protocol: match exchange.is_grpc {
                true => istio::Protocol::Grpc,
                false => istio::Protocol::Http,
            },
            flags: exchange.flags,
            millis: end.saturating_sub(exchange.begin) / 1000,
            request_bytes: head.len() as u64 + exchange.request_bytes,
            response_bytes,
            messages: exchange.messages.map(u64::from),
            custom,
            now: end,
        }
    }

    /// Writes the lines of an exchange.
    #[cold]
    fn log(&self, logs: &LogView, exchange: &mut Exchange, end: Micros) {
        let differs = logs.needs_own_headers
            || self.view.manager.use_remote_address
            || exchange.sent().is_some();
        let sent = match logs.needs_sent_head && differs || exchange.sent().is_some() {
            true => self.sent_head(exchange),
            false => Vec::new(),
        };
        let entry = self.entry(exchange, &sent, end);
        logs.write(&entry, || self.worker.random());
    }

    /// The head that the endpoint gets.
    pub(crate) fn sent_head(&self, exchange: &mut Exchange) -> Vec<u8> {
        if let Some(edited) = exchange.sent() {
            return edited.text.to_vec();
        }
        let mut sent = Vec::new();
        // What a route changes is for requests that go on.
        let edits = std::mem::take(&mut exchange.edits);
        self.write_request(exchange, &mut sent);
        exchange.edits = edits;
        sent
    }

    /// What there is to be told of an exchange; `sent` is the head that the endpoint gets, if somebody needs it.
    pub(crate) fn entry<'a>(
        &'a self,
        exchange: &'a Exchange,
        sent: &'a [u8],
        end: Micros,
    ) -> Entry<'a> {
        let text = self.buffer.head();
        let told = exchange.told.as_deref().unwrap_or(&NOTHING);
        let route = self.view.router.as_ref().zip(exchange.route);
        let route = route.map(|(router, at)| router.route(at));
        let attempt = exchange.attempt.as_ref();
        let cluster = exchange.cluster.as_deref();
        let bodiless = self.request.framing == Framing::None;
        let response_begun = told.response_begun;
        let failed = exchange
            .rare
            .as_ref()
            .is_some_and(|rare| rare.details.is_some());
        let is_cut = exchange.status == 0 || failed && response_begun.is_some();
        Entry {
            request: Some(Request {
                head: &self.request,
                text,
                sent,
                id: exchange.id.get(&self.request.fields, text),
                is_edge: self.view.manager.use_remote_address,
            }),
            protocol: Some(self.protocol_text()),
            response: &told.response,
            trailers: &told.trailers,
            status: exchange.status,
            flags: exchange.flags,
            details: Some(details(exchange)),
            has_plain_details: !failed,
            received: exchange.request_bytes,
            sent: exchange.response_bytes,
            request_complete: told.request_complete.or(bodiless.then_some(exchange.begin)),
            response_begun,
            response_sent: (!is_cut).then_some(end),
            attempts: match attempt.is_some() || exchange.flags.is_of_cluster() {
                true => exchange.tries.into(),
                false => 0,
            },
            cluster: cluster.map(|cluster| &*cluster.cluster),
            has_plain_cluster: cluster.is_some_and(|cluster| cluster.has_plain_names),
            upstream: attempt.map(|attempt| Upstream {
                address: &attempt.address.address,
                text: Some(&attempt.address.text),
                local: told.upstream_local.as_ref(),
                secured: attempt.secured(),
                is_connected: attempt.connected,
                protocol: attempt.connected.then_some(match attempt.is_http2 {
                    true => "HTTP/2",
                    false => "HTTP/1.1",
                }),
                of_connection: None,
            }),
            transport_failure: attempt.and_then(|attempt| attempt.transport_failure()),
            route: route.map(|route| &*route.name),
            span: exchange.trace.as_ref().map(|trace| &trace.span),
            grpc: exchange.grpc.as_ref().and_then(|status| status.number()),
            call_status: exchange.call_status(),
            metadata: exchange.rare.as_ref().map(|rare| rare.metadata()),
            whole: Some(Whole {
                call: self,
                exchange,
            }),
            ..self.bare_entry(exchange.begin, end)
        }
    }

    /// Tells of something that is no request.
    #[cold]
    pub(crate) fn tell_refusal(&self, refusal: &Refusal) {
        let Some(telemetry) = &self.view.telemetry else {
            return;
        };
        let mut flags = Flags::default();
        flags.set(Flag::DPE);
        let now = self.worker.clock.now();
        if let Some((metrics, direction)) = telemetry.metrics() {
            let is_inbound = direction == Direction::Inbound;
            let secured = self.client.secured.as_deref().filter(|_| is_inbound);
            let rules = telemetry.rules.as_ref();
            metrics.observe(&Observation {
                direction,
                peer: None,
                service: Service::default(),
                peer_principal: secured.and_then(Secured::peer_id),
                own_principal: secured.and_then(Secured::own_id),
                status: refusal.status,
                grpc: None,
                protocol: istio::Protocol::Http,
                flags,
                millis: 0,
                request_bytes: 0,
                response_bytes: self.out.bytes.len() as u64,
                messages: [0, 0],
                // There is nothing that could be asked about it.
                custom: rules.map(|rules| rules.seen(|_| None)),
                now,
            });
        }
        let Some(logs) = telemetry.logs() else {
            return;
        };
        let entry = Entry {
            protocol: Some(match self.protocol {
                Protocol::Http1 => "HTTP/1.1",
                Protocol::Http2 => "HTTP/2",
            }),
            response: &self.out.bytes,
            status: refusal.status,
            flags,
            details: Some(refusal.details),
            sent: refusal.sent,
            ..self.bare_entry(now, now)
        };
        logs.write(&entry, || self.worker.random());
    }

    fn bare_entry(&self, begin: Micros, end: Micros) -> Entry<'_> {
        Entry {
            chain: Some(&self.view.chain),
            ..bare_entry(&self.worker, &self.client, begin, end)
        }
    }
}

/// Tells the logs of a listener of a connection of HTTP that has ended.
pub(crate) fn tell_connection(
    logs: &LogView,
    worker: &Worker,
    (client, chain): (&Client, &str),
    begin: Micros,
) {
    let entry = Entry {
        chain: Some(chain),
        ..bare_entry(worker, client, begin, worker.clock.now())
    };
    logs.write(&entry, || worker.random());
}

/// Tells the logs of a listener of a connection that no filter chain takes.
pub(crate) fn tell_no_chain(
    logs: &LogView,
    worker: &Worker,
    (peer, local): (SocketAddr, SocketAddr),
    server_name: Option<&str>,
) {
    let now = worker.clock.now();
    let mut flags = Flags::default();
    flags.set(Flag::NR);
    let entry = Entry {
        flags,
        details: Some("filter_chain_not_found"),
        connection: Some(worker.open.next_id().get()),
        server_name,
        ..Entry::of_connection(&worker.clock, (&peer, Some(&local)), now, now)
    };
    logs.write(&entry, || worker.random());
}

fn bare_entry<'a>(worker: &'a Worker, client: &'a Client, begin: Micros, end: Micros) -> Entry<'a> {
    let secured = client.secured.as_deref();
    Entry {
        connection: Some(client.id),
        direct: client.direct.as_ref(),
        direct_local: client.local.as_ref(),
        secured,
        server_name: secured.and_then(|secured| secured.server_name.as_deref()),
        ..Entry::of_connection(
            &worker.clock,
            (
                &client.peer,
                client.original.as_ref().or(client.local.as_ref()),
            ),
            begin,
            end,
        )
    }
}

/// Envoy's word for how the response came about.
fn details(exchange: &Exchange) -> &str {
    let known = exchange
        .rare
        .as_ref()
        .and_then(|rare| rare.details.as_deref());
    let by_proxy = || match exchange.attempt {
        _ if exchange.flags.has(Flag::NR) => "route_not_found",
        _ if exchange.flags.has(Flag::NC) => "cluster_not_found",
        Some(_) => "via_upstream",
        None => "direct_response",
    };
    known.unwrap_or_else(by_proxy)
}
