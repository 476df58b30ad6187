//! The request id, and the decision that it carries.

use periplus_model::propagation::Extracted;
use periplus_model::propagation::request_id::{
    self, Decision, LENGTH, OnArrival, TraceReason, Wishes,
};

use crate::http1::head::Fields;
use crate::http1::name::Name;
use crate::snapshot::ConnectionManager;
use crate::stats::HttpStats;
use crate::trace::Tracer;

/// The `x-request-id` of a request, as the upstream gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestId {
    /// There is none, and none is generated.
    Missing,
    /// As the client sent it.
    Received,
    /// Generated, or the client's with another trace reason.
    Made([u8; LENGTH]),
}

impl RequestId {
    /// The id of a request that has arrived, before anything is decided.
    pub(crate) fn on_arrival(
        manager: &ConnectionManager,
        fields: &Fields,
        head: &[u8],
        mut random: impl FnMut() -> u64,
    ) -> Self {
        let received = fields.value(Name::XRequestId, head);
        if !manager.generate_request_id {
            return match received {
                Some(_) => Self::Received,
                None => Self::Missing,
            };
        }
        let edge = manager.use_remote_address;
        let preserve = manager.preserve_external_request_id;
        match (
            request_id::on_arrival(received, edge, preserve),
            received.map(<[u8; LENGTH]>::try_from),
        ) {
            (OnArrival::KeepWithoutReason, Some(Ok(mut id))) => {
                TraceReason::NotTraced.write(&mut id);
                Self::Made(id)
            }
            (OnArrival::Keep | OnArrival::KeepWithoutReason, _) => Self::Received,
            (OnArrival::Replace, _) => {
                let mut bytes = [0; 16];
                bytes[..8].copy_from_slice(&random().to_ne_bytes());
                bytes[8..].copy_from_slice(&random().to_ne_bytes());
                Self::Made(request_id::generate(bytes))
            }
        }
    }

    /// The text.
    #[inline]
    pub(crate) fn get<'a>(&'a self, fields: &Fields, head: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::Missing => None,
            Self::Received => fields.value(Name::XRequestId, head),
            Self::Made(id) => Some(id),
        }
    }
}

impl Tracer {
    /// Decides whether the request is traced, and writes the reason into its id.
    pub(super) fn decide(
        &self,
        id: &mut RequestId,
        fields: &Fields,
        head: &[u8],
        (stats, extracted): (&HttpStats, &Extracted),
        random: impl FnOnce() -> u64,
    ) -> bool {
        let wishes = Wishes {
            client_trace_id: fields.has(Name::XClientTraceId),
            // No request is internal, so `x-envoy-force-trace` never survives.
            force_trace: false,
        };
        let Decision { mut reason, write } =
            request_id::decide(id.get(fields, head), wishes, self.sampling, random);
        if let Some(limit) = &self.limit
            && write
            && reason == TraceReason::Sampled
            && is_open(extracted)
            && !limit.take()
        {
            stats.trace_limited.increment();
            reason = TraceReason::NotTraced;
        }
        if write
            && let Some(received) = id.get(fields, head)
            && let Ok(mut made) = <[u8; LENGTH]>::try_from(received)
        {
            reason.write(&mut made);
            *id = RequestId::Made(made);
        }
        match reason {
            TraceReason::NotTraced => stats.not_traceable.increment(),
            TraceReason::Sampled => stats.random_sampling.increment(),
            TraceReason::ServiceForced => stats.service_forced.increment(),
            TraceReason::ClientForced => stats.client_enabled.increment(),
        }
        reason.is_traced()
    }
}

/// Whether the caller has left it open whether there is a trace.
fn is_open(extracted: &Extracted) -> bool {
    !extracted.sampled_by_zipkin(false) && extracted.sampled_by_zipkin(true)
}
