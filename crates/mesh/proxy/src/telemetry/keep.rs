//! What is kept of an exchange until it has ended, for whoever is told of it then: no more than they ask for.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::istio::{Metrics, RulesView};
use super::log::{LogView, known};
use crate::call::Call;
use crate::clock::Micros;
use crate::exchange::{Exchange, Told};
use crate::reply::Failure;
use crate::snapshot::{CustomTag, CustomTagValue, Direction, MetricRules};
use crate::upstream::{Birth, Reaches, Ready};
use crate::worker::Worker;

/// What is told of the requests of a connection manager.
#[derive(Debug)]
pub(crate) struct Telemetry {
    pub(super) logs: Option<LogView>,
    metrics: Option<Rc<Metrics>>,
    /// What is wanted of them.
    pub(super) rules: Option<RulesView>,
    /// What clients call a service says nothing of where its cluster does not.
    ignores_host: bool,
    direction: Direction,
    keeps: Keeps,
    /// Memory for what is kept of the next exchange.
    spare: RefCell<Option<Box<Told>>>,
}

/// Spare memory of more bytes is not kept.
const MOST_SPARE: usize = 4096;

/// What is kept of an exchange until it has ended.
#[derive(Debug)]
struct Keeps {
    /// When it came how far, and how it failed.
    course: bool,
    /// The response's headers and trailers.
    response: bool,
    /// What is to be known of the connection to the endpoint.
    upstream: OfUpstream,
    /// The bytes of the head that the endpoint has sent.
    upstream_head: bool,
}

/// What is to be known of a connection to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum OfUpstream {
    Nothing,
    /// The proxy's own address.
    Local,
    /// That, and how it came to be.
    Birth,
}

impl Telemetry {
    /// None if there is nothing to tell.
    pub(crate) fn new(
        logs: Option<LogView>,
        metrics: Option<Rc<Metrics>>,
        rules: Option<&Arc<MetricRules>>,
        direction: Direction,
        tags: &[CustomTag],
    ) -> Option<Box<Self>> {
        let of_tags = tags.iter().filter_map(|tag| match &tag.value {
            CustomTagValue::Format(format) => Some(&format.0),
            CustomTagValue::Literal(_)
            | CustomTagValue::RequestHeader { .. }
            | CustomTagValue::Metadata { .. } => None,
        });
        let of_tags: Vec<_> = of_tags.collect();
        if logs.is_none() && metrics.is_none() && of_tags.is_empty() {
            return None;
        }
        let ignores_host = rules.is_some_and(|rules| rules.ignores_host);
        let rules = rules.and_then(RulesView::new);
        let of_logs = logs.as_ref();
        let keeps = Keeps {
            course: of_logs.is_some() || !of_tags.is_empty(),
            response: of_logs.is_some_and(|logs| logs.needs_response)
                || rules.as_ref().is_some_and(|rules| rules.needs_response)
                || of_tags.iter().any(|tag| tag.needs_response()),
            upstream_head: of_logs.is_some_and(|logs| logs.needs_upstream_head),
            upstream: if of_logs.is_some_and(|logs| logs.needs_birth)
                || of_tags.iter().any(|tag| tag.needs_birth())
            {
                OfUpstream::Birth
            } else if of_logs.is_some_and(|logs| logs.needs_upstream_local)
                || of_tags.iter().any(|tag| tag.needs_upstream_local())
            {
                OfUpstream::Local
            } else {
                OfUpstream::Nothing
            },
        };
        Some(Box::new(Self {
            logs,
            metrics,
            rules,
            ignores_host,
            direction,
            keeps,
            spare: RefCell::default(),
        }))
    }

    pub(crate) fn logs(&self) -> Option<&LogView> {
        self.logs.as_ref()
    }

    /// Istio's metrics, and the side that they are reported of.
    pub(crate) fn metrics(&self) -> Option<(&Metrics, Direction)> {
        let metrics = self.metrics.as_deref()?;
        Some((metrics, self.direction))
    }

    /// What a client calls the service, if that counts.
    #[inline]
    pub(super) fn host_of<'a>(&self, call: &'a Call) -> &'a [u8] {
        match self.ignores_host {
            true => b"",
            false => call.request.target.authority.get(call.buffer.head()),
        }
    }

    #[inline]
    fn told<'a>(&self, exchange: &'a mut Exchange) -> &'a mut Told {
        let spare = || self.spare.take().unwrap_or_default();
        exchange.told.get_or_insert_with(spare)
    }

    /// Keeps the memory of what was kept of an exchange that has been told.
    #[inline]
    pub(crate) fn keep_for_next(&self, mut told: Box<Told>) {
        let Told {
            response, trailers, ..
        } = &mut *told;
        if response.capacity() + trailers.capacity() <= MOST_SPARE {
            let mut response = std::mem::take(response);
            response.clear();
            *told = Told {
                response,
                ..Told::default()
            };
            self.spare.replace(Some(told));
        }
    }

    /// Notes what is to be known of the connection to the endpoint, on which the request goes now.
    #[cold]
    pub(crate) fn keep_upstream(
        &self,
        exchange: &mut Exchange,
        worker: &Worker,
        upstream: &impl Reaches,
    ) {
        if self.keeps.upstream == OfUpstream::Nothing {
            return;
        }
        self.told(exchange).upstream_local = upstream.local_address();
        if self.keeps.upstream == OfUpstream::Birth {
            keep_birth(exchange, worker, Some(upstream.birth()));
        }
    }

    /// Notes when the request was complete.
    #[cold]
    pub(crate) fn keep_request(&self, exchange: &mut Exchange, now: Micros) {
        if self.keeps.course {
            self.told(exchange).request_complete = Some(now);
        }
    }

    /// Notes the lines of the response's head, and when it began if it is an endpoint's.
    #[cold]
    fn keep_response(
        &self,
        exchange: &mut Exchange,
        (head, upstream): (&[u8], &[u8]),
        now: Micros,
    ) {
        if self.keeps.course {
            let by_endpoint = exchange
                .attempt
                .as_ref()
                .is_some_and(|attempt| attempt.status != 0);
            let told = self.told(exchange);
            told.response_begun = by_endpoint.then_some(now);
        }
        if self.keeps.upstream_head && !upstream.is_empty() {
            let sizes = known::sizes(upstream, false);
            self.told(exchange).upstream_head = sizes.map(|size| size as u32);
        }
        if self.keeps.response {
            self.told(exchange).response.extend_from_slice(head);
        }
    }

    /// Notes the lines of the response's trailers.
    #[cold]
    pub(crate) fn keep_trailers(&self, exchange: &mut Exchange, trailers: &[u8]) {
        if self.keeps.response && !trailers.is_empty() {
            self.told(exchange).trailers = trailers.to_vec();
        }
    }
}

/// Notes when the attempt had this connection, or that it gets none.
#[cold]
#[inline(never)]
fn keep_birth(exchange: &mut Exchange, worker: &Worker, birth: Option<&Birth>) {
    if let Some(attempt) = &mut exchange.attempt {
        attempt.is_ready(Ready {
            at: worker.clock.now(),
            connection: birth.map(|birth| birth.opened(worker)),
        });
    }
}

impl Call {
    /// Notes the lines of the response's head, which begin there in the output, and what is to be known of that which
    /// the endpoint has sent.
    #[inline]
    pub(crate) fn keep_response(&mut self, exchange: &mut Exchange, begin: usize, upstream: &[u8]) {
        if let Some(telemetry) = &self.view.telemetry {
            self.response_head_bytes = (self.out.bytes.len() - begin) as u32;
            let head = (&self.out.bytes[begin..], upstream);
            telemetry.keep_response(exchange, head, self.answered_at);
        }
    }

    /// Notes how an exchange failed.
    pub(crate) fn keep_failure(&self, exchange: &mut Exchange, failure: &Failure) {
        let Some(telemetry) = &self.view.telemetry else {
            return;
        };
        if telemetry.keeps.course {
            exchange.rare().details = Some(failure.details(exchange.status != 0));
        }
        let attempt = exchange.attempt.as_ref();
        let is_waiting = attempt.is_some_and(|attempt| !attempt.connected);
        if telemetry.keeps.upstream == OfUpstream::Birth && is_waiting && failure.is_of_pool() {
            keep_birth(exchange, &self.worker, None);
        }
    }
}
