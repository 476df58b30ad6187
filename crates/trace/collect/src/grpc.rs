//! Unary gRPC methods.
//!
//! Tonic does the framing, the compression and the limits; the message itself goes to our decoders
//! as it came.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use axum::BoxError;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::{Buf, BufMut, Bytes};
use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Frame;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, UnaryService};
use tonic::{Code as GrpcCode, Status};

use crate::limits::Share;
use crate::otlp::reply::{Code, retry_status};
use crate::{Collector, Reason, Receiver, Refusal};

/// A method that takes spans.
pub(crate) struct Method {
    pub(crate) receiver: Receiver,
    pub(crate) path: &'static str,
    /// Takes a message; gives the answer's bytes.
    pub(crate) take: fn(Collector, Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>>,
    /// What a client is told that speaks HTTP here, but no gRPC.
    pub(crate) no_grpc: &'static str,
}

/// Answers a call of the method.
pub(crate) async fn unary(
    method: &'static Method,
    collector: Collector,
    request: Request,
) -> Response {
    if !is_grpc(request.headers()) {
        collector
            .stats()
            .refuse_request(method.receiver, Reason::UnsupportedType);
        return no_grpc(method);
    }
    let limits = *collector.limits();
    let mut grpc = Grpc::new(BytesCodec)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(limits.max_message_bytes);
    let arrived = Arc::new(AtomicBool::new(false));
    let service = Call {
        method,
        collector: collector.clone(),
        arrived: Arc::clone(&arrived),
    };
    let request = request.map(|body| Metered {
        body,
        share: collector.share(),
    });
    let mut exchange = pin!(grpc.unary(service, request));
    let response = match tokio::time::timeout(limits.body_timeout, &mut exchange).await {
        Ok(response) => response,
        // The store has the message: only its own answer is the truth.
        Err(_) if arrived.load(Ordering::Relaxed) => exchange.await,
        Err(_) => {
            collector
                .stats()
                .refuse_request(method.receiver, Reason::Timeout);
            return Status::deadline_exceeded("the message did not arrive in time").into_http();
        }
    };
    let mut response = response.map(Body::new);
    settle_transport_refusal(&collector, method.receiver, response.headers_mut());
    response
}

/// Answers every other path of a port that has this method alone.
pub(crate) fn not_here(method: &Method, headers: &HeaderMap) -> Response {
    if !is_grpc(headers) {
        return no_grpc(method);
    }
    let path = method.path;
    Status::unimplemented(format!("unknown method: only {path} is served here")).into_http()
}

/// Marks the refusals that come from our code, so that they are told from tonic's.
const COUNTED: &str = "x-periplus-counted";

/// What tonic refused before our code saw the message (framing, compression, size) is counted here.
/// Its code for a message over the limit, `OUT_OF_RANGE`, would make OTLP senders repeat the very
/// message for ever: they get `RESOURCE_EXHAUSTED`, final without `RetryInfo`.
fn settle_transport_refusal(collector: &Collector, receiver: Receiver, headers: &mut HeaderMap) {
    if headers.remove(COUNTED).is_some() {
        return;
    }
    let Some(status) = headers.get("grpc-status") else {
        return;
    };
    let reason = match status.as_bytes() {
        b"0" => return,
        b"8" | b"11" => {
            headers.insert("grpc-status", HeaderValue::from_static("8"));
            Reason::TooLarge
        }
        b"12" => Reason::UnsupportedEncoding,
        b"14" => Reason::Busy,
        _ => Reason::Malformed,
    };
    collector.stats().refuse_request(receiver, reason);
}

/// Whether a request says that it is gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn no_grpc(method: &Method) -> Response {
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, method.no_grpc).into_response()
}

struct Call {
    method: &'static Method,
    collector: Collector,
    /// Set when the whole message is here.
    arrived: Arc<AtomicBool>,
}

impl UnaryService<Bytes> for Call {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<tonic::Response<Bytes>, Status>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        self.arrived.store(true, Ordering::Relaxed);
        let Self {
            method, collector, ..
        } = self;
        let (receiver, collector) = (method.receiver, collector.clone());
        let taking = (method.take)(collector.clone(), request.into_inner());
        Box::pin(async move {
            match taking.await {
                Ok(body) => Ok(tonic::Response::new(body)),
                Err(refusal) => {
                    collector.stats().refuse_request(receiver, refusal.reason);
                    Err(refuse(&refusal))
                }
            }
        })
    }
}

fn refuse(refusal: &Refusal) -> Status {
    let (code, number) = match refusal.reason {
        Reason::TooLarge => (GrpcCode::ResourceExhausted, Code::ResourceExhausted),
        Reason::UnsupportedType | Reason::UnsupportedEncoding => {
            (GrpcCode::Unimplemented, Code::Unimplemented)
        }
        Reason::Timeout => (GrpcCode::DeadlineExceeded, Code::DeadlineExceeded),
        Reason::Malformed | Reason::CorruptEncoding | Reason::Aborted => {
            (GrpcCode::InvalidArgument, Code::InvalidArgument)
        }
        Reason::Busy | Reason::QueueFull => (GrpcCode::Unavailable, Code::Unavailable),
        Reason::StoreFailed => (GrpcCode::Internal, Code::Internal),
    };
    let mut status = if refusal.reason == Reason::Busy {
        let details = retry_status(number, &refusal.message, Refusal::RETRY_AFTER_SECONDS);
        Status::with_details(code, &refusal.message, Bytes::from(details))
    } else {
        Status::new(code, &refusal.message)
    };
    status
        .metadata_mut()
        .insert(COUNTED, tonic::metadata::MetadataValue::from_static("1"));
    status
}

/// A body whose bytes are taken from the budget while tonic collects them.
struct Metered {
    body: Body,
    share: Share,
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            let frame = frame?;
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            if self.share.grow(bytes) {
                Ok(frame)
            } else {
                // Tonic finds the status inside the error and answers with it.
                Err(busy().into())
            }
        }))
    }
}

fn busy() -> Status {
    let message = "the receiver is busy with other requests; send again later";
    let details = retry_status(Code::Unavailable, message, Refusal::RETRY_AFTER_SECONDS);
    Status::with_details(GrpcCode::Unavailable, message, Bytes::from(details))
}

/// Passes messages through as bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}
