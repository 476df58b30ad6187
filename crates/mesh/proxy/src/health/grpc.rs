//! Checks by gRPC: `grpc.health.v1.Health/Check`.

use std::io;

use prost::Message;

use crate::errand::{PREFIX, framed};
use crate::health::check::Found;
use crate::health::http2::{Answer, with_headers};
use crate::health::probe::Probe;
use crate::snapshot::GrpcCheck;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: i32 = 1;

pub(super) async fn check(mut probe: Probe<'_>, rules: &GrpcCheck) -> io::Result<Found> {
    let (scheme, authority) = (probe.scheme(), probe.host(&rules.authority));
    let target = format!("{scheme}://{authority}/grpc.health.v1.Health/Check");
    let request = http::Request::builder()
        .method("POST")
        .uri(target)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let request = with_headers(request, &rules.metadata).body(());
    let message = HealthCheckRequest {
        service: rules.service.clone(),
    };
    let answer = probe.exchange(request, framed(&message), true).await?;
    Ok(judge(&answer))
}

fn judge(answer: &Answer) -> Found {
    let trailers = answer.trailers.as_ref().unwrap_or(&answer.headers);
    let status = trailers.get("grpc-status");
    let is_ok = answer.status == http::StatusCode::OK
        && status.is_some_and(|status| status.as_bytes() == b"0");
    let message = answer.body.get(PREFIX..);
    let serving = message
        .and_then(|message| HealthCheckResponse::decode(message).ok())
        .is_some_and(|response| response.status == SERVING);
    if is_ok && answer.body[0] == 0 && serving {
        Found::Healthy
    } else {
        Found::Unhealthy
    }
}
