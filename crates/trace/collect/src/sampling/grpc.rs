//! Remote sampling over gRPC: `jaeger.api_v2.SamplingManager/GetSamplingStrategy`.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use futures_util::future::{Ready, ready};
use http::{HeaderMap, StatusCode};
use periplus_wire::sampling::decode_parameters;
use tonic::Status;
use tonic::codec::CompressionEncoding;
use tonic::server::{Grpc, UnaryService};

use super::RemoteSampling;
use crate::grpc::{BytesCodec, is_grpc};

const METHOD: &str = "/jaeger.api_v2.SamplingManager/GetSamplingStrategy";

/// The largest question: it is a service's name.
const MAX_QUESTION_BYTES: usize = 64 << 10;

/// Port 5779.
pub fn router(remote: RemoteSampling) -> Router {
    service(remote).fallback(unimplemented)
}

/// The service alone, to stand beside others on a port (14250 of a Jaeger collector).
pub fn service(remote: RemoteSampling) -> Router {
    Router::new().route(METHOD, post(call)).with_state(remote)
}

async fn call(State(remote): State<RemoteSampling>, request: Request) -> Response {
    if !is_grpc(request.headers()) {
        return no_grpc();
    }
    let mut grpc = Grpc::new(BytesCodec)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(MAX_QUESTION_BYTES);
    grpc.unary(Answer(remote), request).await.map(Body::new)
}

struct Answer(RemoteSampling);

impl UnaryService<Bytes> for Answer {
    type Response = Bytes;
    type Future = Ready<Result<tonic::Response<Bytes>, Status>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        ready(match decode_parameters(request.get_ref()) {
            Ok(service) => {
                let strategy = self.0.strategy(&service);
                Ok(tonic::Response::new(strategy.to_protobuf().into()))
            }
            Err(error) => {
                self.0.stats().refuse();
                Err(Status::invalid_argument(error.to_string()))
            }
        })
    }
}

async fn unimplemented(headers: HeaderMap) -> Response {
    if !is_grpc(&headers) {
        return no_grpc();
    }
    Status::unimplemented(format!("unknown method: only {METHOD} is served here")).into_http()
}

fn no_grpc() -> Response {
    (
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "this port speaks gRPC; sampling strategies over HTTP have a port of their own, 5778 by default",
    )
        .into_response()
}
