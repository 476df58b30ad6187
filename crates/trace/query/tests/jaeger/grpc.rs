//! A client of the gRPC services, with messages of its own.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Time {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

impl Time {
    /// A point in time or a duration.
    pub(crate) fn nano(nano: u64) -> Option<Self> {
        Some(Self {
            seconds: (nano / 1_000_000_000) as i64,
            nanos: (nano % 1_000_000_000) as i32,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Query {
    #[prost(string, tag = "1")]
    pub(crate) service_name: String,
    #[prost(string, tag = "2")]
    pub(crate) operation_name: String,
    #[prost(map = "string, string", tag = "3")]
    pub(crate) tags: HashMap<String, String>,
    #[prost(message, optional, tag = "4")]
    pub(crate) start_time_min: Option<Time>,
    #[prost(message, optional, tag = "5")]
    pub(crate) start_time_max: Option<Time>,
    #[prost(message, optional, tag = "6")]
    pub(crate) duration_min: Option<Time>,
    #[prost(message, optional, tag = "7")]
    pub(crate) duration_max: Option<Time>,
    #[prost(int32, tag = "8")]
    pub(crate) search_depth: i32,
    #[prost(bool, tag = "9")]
    pub(crate) raw_traces: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FindTraces {
    #[prost(message, optional, tag = "1")]
    pub(crate) query: Option<Query>,
}

/// `api_v2`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GetTraceV2 {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) trace_id: Vec<u8>,
    #[prost(bool, tag = "4")]
    pub(crate) raw_traces: bool,
}

/// `api_v3`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GetTrace {
    #[prost(string, tag = "1")]
    pub(crate) trace_id: String,
    #[prost(bool, tag = "4")]
    pub(crate) raw_traces: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Names {
    #[prost(string, repeated, tag = "1")]
    pub(crate) names: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ServiceAndKind {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
    #[prost(string, tag = "2")]
    pub(crate) span_kind: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Operations {
    #[prost(message, repeated, tag = "1")]
    pub(crate) operations: Vec<ServiceAndKind>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OperationsV2 {
    #[prost(string, repeated, tag = "1")]
    pub(crate) names: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) operations: Vec<ServiceAndKind>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TimeRange {
    #[prost(message, optional, tag = "1")]
    pub(crate) start_time: Option<Time>,
    #[prost(message, optional, tag = "2")]
    pub(crate) end_time: Option<Time>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Dependency {
    #[prost(string, tag = "1")]
    pub(crate) parent: String,
    #[prost(string, tag = "2")]
    pub(crate) child: String,
    #[prost(uint64, tag = "3")]
    pub(crate) call_count: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Dependencies {
    #[prost(message, repeated, tag = "1")]
    pub(crate) dependencies: Vec<Dependency>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Summary {
    #[prost(string, tag = "1")]
    pub(crate) trace_id: String,
    #[prost(string, tag = "2")]
    pub(crate) root_service_name: String,
    #[prost(string, tag = "3")]
    pub(crate) root_operation_name: String,
    #[prost(fixed64, tag = "4")]
    pub(crate) min_start: u64,
    #[prost(fixed64, tag = "5")]
    pub(crate) max_end: u64,
    #[prost(int32, tag = "6")]
    pub(crate) span_count: i32,
    #[prost(int32, tag = "7")]
    pub(crate) error_span_count: i32,
    #[prost(int32, tag = "8")]
    pub(crate) orphan_span_count: i32,
    #[prost(message, repeated, tag = "9")]
    pub(crate) services: Vec<ServiceSummary>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ServiceSummary {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(int32, tag = "2")]
    pub(crate) span_count: i32,
    #[prost(int32, tag = "3")]
    pub(crate) error_span_count: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Summaries {
    #[prost(message, repeated, tag = "1")]
    pub(crate) summaries: Vec<Summary>,
}

/// The part of `api_v2.Span` that tests look at.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SpanV2 {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    pub(crate) operation_name: String,
    #[prost(message, repeated, tag = "4")]
    pub(crate) references: Vec<ReferenceV2>,
    #[prost(message, optional, tag = "6")]
    pub(crate) start_time: Option<Time>,
    #[prost(message, optional, tag = "7")]
    pub(crate) duration: Option<Time>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) tags: Vec<TagV2>,
    #[prost(message, optional, tag = "10")]
    pub(crate) process: Option<ProcessV2>,
    #[prost(string, repeated, tag = "12")]
    pub(crate) warnings: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReferenceV2 {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) span_id: Vec<u8>,
    #[prost(int32, tag = "3")]
    pub(crate) ref_type: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TagV2 {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "3")]
    pub(crate) v_str: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProcessV2 {
    #[prost(string, tag = "1")]
    pub(crate) service_name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) tags: Vec<TagV2>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Spans {
    #[prost(message, repeated, tag = "1")]
    pub(crate) spans: Vec<SpanV2>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Nothing {}

/// One connection; each call to a service and a method.
pub(crate) struct Client {
    grpc: Grpc<Channel>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        // A client's own limit of 4 MiB for a message stays in force.
        let grpc = Grpc::new(endpoint.connect().await.unwrap());
        Self { grpc }
    }

    pub(crate) async fn once<Q, A>(&mut self, method: &str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.grpc.ready().await.unwrap();
        let path = PathAndQuery::try_from(format!("/{method}")).unwrap();
        let answer = self
            .grpc
            .unary(Request::new(request), path, Typed::<Q, A>(PhantomData))
            .await?;
        Ok(answer.into_inner())
    }

    /// All messages of the answer.
    pub(crate) async fn stream<Q, A>(&mut self, method: &str, request: Q) -> Result<Vec<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = PathAndQuery::try_from(format!("/{method}")).unwrap();
        self.grpc.ready().await.unwrap();
        let codec = Typed::<Q, A>(PhantomData);
        let answer = self
            .grpc
            .server_streaming(Request::new(request), path, codec)
            .await?;
        let mut messages = Vec::new();
        let mut stream = answer.into_inner();
        while let Some(message) = stream.message().await? {
            messages.push(message);
        }
        Ok(messages)
    }

    /// All messages of an answer in OTLP, each decoded.
    pub(crate) async fn otlp<Q: Message + 'static>(
        &mut self,
        method: &str,
        request: Q,
    ) -> Result<Vec<periplus_model::Batch>, Status> {
        let path = PathAndQuery::try_from(format!("/{method}")).unwrap();
        self.grpc.ready().await.unwrap();
        let request = Request::new(Bytes::from(request.encode_to_vec()));
        let answer = self.grpc.server_streaming(request, path, Raw).await?;
        let mut messages = Vec::new();
        let mut stream = answer.into_inner();
        while let Some(message) = stream.message().await? {
            let decoded = periplus_wire::otlp::decode_protobuf(&message).unwrap();
            messages.push(decoded.batch);
        }
        Ok(messages)
    }
}

struct Typed<Q, A>(PhantomData<(Q, A)>);

impl<Q: Message + 'static, A: Message + Default + 'static> Codec for Typed<Q, A> {
    type Encode = Q;
    type Decode = A;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(PhantomData)
    }

    fn decoder(&mut self) -> Self {
        Self(PhantomData)
    }
}

impl<Q: Message + 'static, A: Send + 'static> Encoder for Typed<Q, A> {
    type Item = Q;
    type Error = Status;

    fn encode(&mut self, item: Q, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(out).unwrap();
        Ok(())
    }
}

impl<Q: Send + 'static, A: Message + Default + 'static> Decoder for Typed<Q, A> {
    type Item = A;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<A>, Status> {
        Ok(Some(A::decode(bytes).unwrap()))
    }
}

struct Raw;

impl Codec for Raw {
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

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}
