//! `jaeger.api_v2.QueryService`: spans as Jaeger has them.

use axum::Router;
use bytes::Bytes;
use futures_util::stream;
use periplus_insight::jaeger::AdjustedGroup;
use periplus_model::TraceId;
use periplus_store::StoredTrace;
use periplus_wire::jaeger::{append_span, project_process, project_span};
use prost::Message;
use tonic::Status;

use super::api_v3::{dependencies, services};
use super::chunk::SPANS_PER_MESSAGE;
use super::codec::{Messages, Reply, streaming, unary};
use super::message::{
    FindTracesRequest, GetOperationsRequest, GetOperationsResponseV2, GetTraceRequestV2, Operation,
};
use super::status_of;
use crate::api::{Api, Found};
use crate::archive::Archived;
use crate::jaeger::operations_of;
use crate::v3::{Problem, Search};

pub(super) fn routes() -> Router<Api> {
    let path = |method: &str| format!("/jaeger.api_v2.QueryService/{method}");
    Router::new()
        .route(&path("GetTrace"), streaming(trace))
        .route(&path("ArchiveTrace"), unary(archive))
        .route(&path("FindTraces"), streaming(traces))
        .route(&path("GetServices"), unary(services))
        .route(&path("GetOperations"), unary(list_operations))
        .route(&path("GetDependencies"), unary(dependencies))
}

async fn trace(api: Api, request: GetTraceRequestV2) -> Reply {
    let id = trace_id(&request.trace_id)?;
    let failed = |problem| status_of(problem, "failed to fetch spans from the backend");
    let trace = api.trace(id).await.map_err(|error| failed(error.into()))?;
    let trace = trace.ok_or_else(|| failed(Problem::NotFound("trace not found")))?;
    Ok((chunks(&api, vec![trace], request.raw_traces).await?, None))
}

/// 16 bytes, or 8 for an id without a high half.
fn trace_id(bytes: &[u8]) -> Result<TraceId, Status> {
    let id = match *bytes {
        [] => TraceId::default(),
        [b0, b1, b2, b3, b4, b5, b6, b7] => {
            TraceId::from_halves(0, u64::from_be_bytes([b0, b1, b2, b3, b4, b5, b6, b7]))
        }
        _ => match <[u8; 16]>::try_from(bytes) {
            Ok(bytes) => TraceId::from_bytes(bytes),
            Err(_) => {
                let length = bytes.len();
                return Err(Status::invalid_argument(format!(
                    "invalid length for TraceID: {length} bytes, 8 or 16 are expected"
                )));
            }
        },
    };
    if id.is_zero() {
        return Err(Status::invalid_argument(
            "uninitialized TraceID is not allowed",
        ));
    }
    Ok(id)
}

async fn archive(api: Api, request: GetTraceRequestV2) -> Result<Bytes, Status> {
    let id = trace_id(&request.trace_id)?;
    let archived = api.archive(id).await;
    match archived.map_err(|error| status_of(error.into(), "failed to archive trace"))? {
        Archived::Done => Ok(Bytes::new()),
        Archived::NotFound => Err(Status::not_found("trace not found")),
        Archived::NotConfigured => Err(Status::internal(
            "failed to archive trace: archive span storage was not configured",
        )),
    }
}

async fn traces(api: Api, request: FindTracesRequest) -> Reply {
    let query = request.query;
    let query = query.ok_or_else(|| Status::invalid_argument("missing query"))?;
    let failed = |problem| status_of(problem, "failed when searching for traces");
    let mut search = Search::from(query);
    // Unlike in v3 neither end is required, and there is no filter.
    search.start_min = search.start_min.or(Some(0));
    search.start_max = search.start_max.or(Some(u64::MAX));
    search.filter = None;
    let query = search
        .query(["start_time_min", "start_time_max"])
        .map_err(failed)?;
    let found = api.find(query).await;
    let Found {
        traces,
        partial,
        turn: _turn,
    } = found.map_err(|error| failed(error.into()))?;
    Ok((chunks(&api, traces, search.raw).await?, partial))
}

/// Each message has spans of one trace.
async fn chunks(api: &Api, traces: Vec<StoredTrace>, raw: bool) -> Result<Messages, Status> {
    let view = api.view(raw);
    let spans = traces.iter().map(StoredTrace::span_count).sum();
    let traces: Vec<Vec<AdjustedGroup>> = api
        .compute(spans, move || {
            traces.iter().map(|trace| view.of(trace)).collect()
        })
        .await
        .map_err(|error| status_of(error.into(), "failed to send traces"))?;
    let messages = traces.into_iter().flat_map(|groups| {
        let (mut group, mut span) = (0, 0);
        std::iter::from_fn(move || chunk(&groups, &mut group, &mut span).map(Ok))
    });
    Ok(Box::pin(stream::iter(messages)))
}

/// The next `SpansResponseChunk`, from a place in the trace on.
fn chunk(groups: &[AdjustedGroup], group: &mut usize, span: &mut usize) -> Option<Bytes> {
    let mut out = Vec::new();
    let mut room = SPANS_PER_MESSAGE;
    while let Some(of_group) = groups.get(*group)
        && room > 0
    {
        let process = project_process(&of_group.resource);
        let rest = of_group.spans.get(*span..).unwrap_or_default();
        for adjusted in rest.iter().take(room) {
            let projected = project_span(&adjusted.span, &of_group.scope);
            append_span(&mut out, 1, &projected, &process, &adjusted.warnings);
            *span += 1;
            room -= 1;
        }
        if *span >= of_group.spans.len() {
            *group += 1;
            *span = 0;
        }
    }
    (!out.is_empty()).then(|| out.into())
}

async fn list_operations(api: Api, request: GetOperationsRequest) -> Result<Bytes, Status> {
    let operations = operations_of(&api, &request.service, &request.span_kind).await;
    let operations: Vec<_> = operations
        .map_err(|error| status_of(error.into(), "cannot list operations"))?
        .into_iter()
        .map(|operation| Operation {
            name: operation.name,
            span_kind: operation.kind.as_str().to_owned(),
        })
        .collect();
    let mut operation_names: Vec<_> = operations.iter().map(|it| it.name.clone()).collect();
    operation_names.dedup();
    let response = GetOperationsResponseV2 {
        operation_names,
        operations,
    };
    Ok(response.encode_to_vec().into())
}
