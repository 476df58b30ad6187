//! `jaeger.api_v3.QueryService`: spans as OTLP.

use axum::Router;
use bytes::Bytes;
use futures_util::stream;
use periplus_model::Batch;
use periplus_store::TimeRange;
use periplus_wire::otlp::encode_protobuf;
use prost::Message;
use tonic::Status;

use super::chunk::chunks;
use super::codec::{Messages, Reply, streaming, unary};
use super::message::{
    DependenciesResponse, Dependency, Empty, FindTraceSummariesResponse, FindTracesRequest,
    GetDependenciesRequest, GetOperationsRequest, GetOperationsResponse, GetServicesResponse,
    GetTraceRequest, Operation,
};
use super::status_of;
use crate::api::Api;
use crate::jaeger::trace_id;
use crate::v3::{Search, find_summaries, find_traces, get_trace, operations};

/// The ends of the time range, as errors name them.
const RANGE: [&str; 2] = ["start_time_min", "start_time_max"];

/// Summaries that one message carries.
const SUMMARIES_PER_MESSAGE: usize = 100;

pub(super) fn routes() -> Router<Api> {
    let path = |method: &str| format!("/jaeger.api_v3.QueryService/{method}");
    Router::new()
        .route(&path("GetTrace"), streaming(trace))
        .route(&path("FindTraces"), streaming(traces))
        .route(&path("GetServices"), unary(services))
        .route(&path("GetOperations"), unary(list_operations))
        .route(&path("GetDependencies"), unary(dependencies))
        .route(&path("FindTraceSummaries"), streaming(summaries))
}

async fn trace(api: Api, request: GetTraceRequest) -> Reply {
    let id = trace_id(&request.trace_id)
        .map_err(|error| Status::unknown(format!("malformed trace ID: {error}")))?;
    let batch = get_trace(&api, id, request.raw_traces)
        .await
        .map_err(|problem| status_of(problem, "cannot retrieve trace"))?;
    Ok((traces_data(vec![batch]), None))
}

async fn traces(api: Api, request: FindTracesRequest) -> Reply {
    let failed = |problem| status_of(problem, "cannot find traces");
    let search = search(request)?;
    let query = search.query(RANGE).map_err(failed)?;
    let (batches, partial) = find_traces(&api, query, search.raw).await.map_err(failed)?;
    Ok((traces_data(batches), partial))
}

fn search(request: FindTracesRequest) -> Result<Search, Status> {
    let query = request.query;
    let query = query.ok_or_else(|| Status::invalid_argument("missing query"))?;
    Ok(query.into())
}

/// A message for every few spans; no message has spans of two traces.
fn traces_data(batches: Vec<Batch>) -> Messages {
    let messages = batches
        .into_iter()
        .flat_map(chunks)
        .map(|chunk| Ok(Bytes::from(encode_protobuf(&chunk))));
    Box::pin(stream::iter(messages))
}

/// Of both versions, whose answers have the same form.
pub(super) async fn services(api: Api, _: Empty) -> Result<Bytes, Status> {
    let services = api.store.services().await;
    let services = services.map_err(|error| status_of(error.into(), "cannot list services"))?;
    Ok(GetServicesResponse { services }.encode_to_vec().into())
}

async fn list_operations(api: Api, request: GetOperationsRequest) -> Result<Bytes, Status> {
    let operations = operations(&api, &request.service, &request.span_kind)
        .await
        .map_err(|problem| status_of(problem, "cannot list operations"))?
        .into_iter()
        .map(|(name, kind)| Operation {
            name,
            span_kind: kind.to_owned(),
        })
        .collect();
    Ok(GetOperationsResponse { operations }.encode_to_vec().into())
}

/// Of both versions, whose messages have the same form.
pub(super) async fn dependencies(
    api: Api,
    request: GetDependenciesRequest,
) -> Result<Bytes, Status> {
    let (Some(start), Some(end)) = (request.start_time, request.end_time) else {
        return Err(Status::invalid_argument(
            "start_time and end_time are required",
        ));
    };
    let (start_unix_nano, end_unix_nano) = (start.unix_nano(), end.unix_nano());
    if end_unix_nano <= start_unix_nano {
        return Err(Status::invalid_argument(
            "end_time must be after start_time",
        ));
    }
    let range = TimeRange {
        start_unix_nano,
        end_unix_nano: end_unix_nano.saturating_add(1),
    };
    let edges = api.store.dependencies(range).await;
    let edges = edges.map_err(|error| status_of(error.into(), "cannot compute dependencies"))?;
    let dependencies = edges
        .into_iter()
        .map(|edge| Dependency {
            parent: edge.parent,
            child: edge.child,
            call_count: edge.call_count,
        })
        .collect();
    Ok(DependenciesResponse { dependencies }.encode_to_vec().into())
}

async fn summaries(api: Api, request: FindTracesRequest) -> Reply {
    let failed = |problem| status_of(problem, "cannot find trace summaries");
    let query = search(request)?.query(RANGE).map_err(failed)?;
    let (summaries, partial) = find_summaries(&api, query).await.map_err(failed)?;
    let messages: Vec<_> = summaries
        .chunks(SUMMARIES_PER_MESSAGE)
        .map(|chunk| {
            let summaries = chunk.to_vec();
            let message = FindTraceSummariesResponse { summaries };
            Ok(Bytes::from(message.encode_to_vec()))
        })
        .collect();
    Ok((Box::pin(stream::iter(messages)), partial))
}
