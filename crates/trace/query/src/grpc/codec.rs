//! From axum's requests to typed messages, and back to bytes that we encoded ourselves.

use std::marker::PhantomData;
use std::pin::Pin;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{MethodRouter, post};
use bytes::{BufMut, Bytes};
use futures_util::Stream;
use futures_util::future::BoxFuture;
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::server::{Grpc, ServerStreamingService, UnaryService};

use crate::api::Api;

/// The largest request, in bytes: a query, which is never large.
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// Messages of an answer, encoded.
pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// What a method with a stream answers: its messages, and why they are not all, if they are not.
pub(super) type Reply = Result<(Messages, Option<&'static str>), Status>;

/// A method; a named type, since the compiler cannot follow a nameless one this far.
type Method<M, R> = Box<dyn FnMut(M) -> BoxFuture<'static, R> + Send>;

/// A method that answers with one message.
pub(super) fn unary<M, F>(method: fn(Api, M) -> F) -> MethodRouter<Api>
where
    M: Message + Default + 'static,
    F: Future<Output = Result<Bytes, Status>> + Send + 'static,
{
    post(move |State(api): State<Api>, request: Request| {
        let method: Method<M, _> = Box::new(move |message| Box::pin(method(api.clone(), message)));
        answer_once(method, request)
    })
}

/// A method that answers with a stream of messages.
pub(super) fn streaming<M, F>(method: fn(Api, M) -> F) -> MethodRouter<Api>
where
    M: Message + Default + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    post(move |State(api): State<Api>, request: Request| {
        let method: Method<M, _> = Box::new(move |message| Box::pin(method(api.clone(), message)));
        answer_often(method, request)
    })
}

fn answer_once<M: Message + Default + 'static>(
    method: Method<M, Result<Bytes, Status>>,
    request: Request,
) -> BoxFuture<'static, Response> {
    struct Once<M>(Method<M, Result<Bytes, Status>>);

    impl<M> UnaryService<M> for Once<M> {
        type Response = Bytes;
        type Future = BoxFuture<'static, Result<tonic::Response<Bytes>, Status>>;

        fn call(&mut self, request: tonic::Request<M>) -> Self::Future {
            let answer = self.0(request.into_inner());
            Box::pin(async move { answer.await.map(tonic::Response::new) })
        }
    }

    Box::pin(async move {
        let response = grpc::<M>().unary(Once(method), request).await;
        response.map(Body::new)
    })
}

fn answer_often<M: Message + Default + 'static>(
    method: Method<M, Reply>,
    request: Request,
) -> BoxFuture<'static, Response> {
    struct Often<M>(Method<M, Reply>);

    impl<M> ServerStreamingService<M> for Often<M> {
        type Response = Bytes;
        type ResponseStream = Messages;
        type Future = BoxFuture<'static, Result<tonic::Response<Messages>, Status>>;

        fn call(&mut self, request: tonic::Request<M>) -> Self::Future {
            let answer = self.0(request.into_inner());
            Box::pin(async move {
                let (messages, partial) = answer.await?;
                let mut response = tonic::Response::new(messages);
                if let Some(reason) = partial {
                    let reason = MetadataValue::from_static(reason);
                    response.metadata_mut().insert("periplus-partial", reason);
                }
                Ok(response)
            })
        }
    }

    Box::pin(async move {
        let response = grpc::<M>().server_streaming(Often(method), request).await;
        response.map(Body::new)
    })
}

fn grpc<M: Message + Default + 'static>() -> Grpc<MessageCodec<M>> {
    Grpc::new(MessageCodec(PhantomData))
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(usize::MAX)
}

/// Decodes a request and passes an answer through.
struct MessageCodec<M>(PhantomData<M>);

impl<M: Message + Default + 'static> Codec for MessageCodec<M> {
    type Encode = Bytes;
    type Decode = M;
    type Encoder = Encoded;
    type Decoder = Self;

    fn encoder(&mut self) -> Encoded {
        Encoded
    }

    fn decoder(&mut self) -> Self {
        Self(PhantomData)
    }
}

impl<M: Message + Default + 'static> Decoder for MessageCodec<M> {
    type Item = M;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<M>, Status> {
        M::decode(bytes)
            .map(Some)
            .map_err(|error| Status::invalid_argument(format!("cannot read the request: {error}")))
    }
}

struct Encoded;

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}
