//! Requests that the proxy makes for itself, over the pools of the data path: reports of spans, keys of tokens,
//! questions to authorizers.

mod http1;
mod http2;

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message;
use thiserror::Error;

use crate::balance::{Ask, Verdict};
use crate::grpc::{self, GrpcStatus};
use crate::http1::edit::{append_field, append_number};
use crate::http1::head::Limits;
use crate::http1::response::ResponseHead;
use crate::reply::Failure;
use crate::snapshot::UpstreamProtocol;
use crate::trace::text;
use crate::upstream::{ClusterState, EndpointState};
use crate::worker::Worker;

/// The flag and the length before a message of gRPC.
pub(crate) const PREFIX: usize = 5;

/// A request of the proxy's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Errand<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    /// The lines of its fields but for `host` and `content-length`.
    pub(crate) fields: &'a [u8],
    /// Its body, one part after the other; none has no `content-length` either.
    pub(crate) body: Option<[&'a [u8]; 2]>,
    /// For all of it; none is no limit.
    pub(crate) timeout: Option<Duration>,
    /// The most bytes of the answer's body.
    pub(crate) most_bytes: usize,
}

/// The answer, as a whole. One that is used for several errands keeps its memory.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// The head of the request.
    request: Vec<u8>,
    /// The head of the answer, as HTTP/1.1 has it,
    head: Vec<u8>,
    /// and what it says.
    response: ResponseHead,
    pub(crate) body: Vec<u8>,
    /// The lines of the trailer section.
    trailers: Vec<u8>,
    /// Who has been asked.
    pub(crate) endpoint: Option<Rc<EndpointState>>,
}

/// The limits of an answer's head.
const LIMITS: Limits = Limits {
    bytes: 60 * 1024,
    fields: 100,
};

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum Trouble {
    #[error("the cluster is not configured")]
    NoCluster,
    #[error("it cannot be reached: {0}")]
    Failed(Cow<'static, str>),
    #[error("no answer in time")]
    TimedOut,
    /// It has answered something that is no answer.
    #[error("no valid answer: {0}")]
    Senseless(Cow<'static, str>),
    /// A connection of the pool was closed before anything came back.
    #[error("the connection was closed")]
    Stale,
}

impl Trouble {
    fn failed(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Failed(reason.into())
    }

    fn senseless(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Senseless(reason.into())
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(match &failure {
            Failure::NoEndpoint => "the cluster has no endpoints".into(),
            Failure::Overflow => "the cluster is at its limits".into(),
            failure => failure.details(false).into_owned().into(),
        })
    }
}

/// Runs an errand. An answer of any status is one.
pub(crate) async fn run(
    worker: &Rc<Worker>,
    errand: Errand<'_>,
    answer: &mut Answer,
) -> Result<(), Trouble> {
    let view = worker.view();
    let cluster = view.clusters.get(errand.cluster);
    let cluster = cluster.ok_or(Trouble::NoCluster)?;
    let running = exchange(worker, cluster, errand, answer);
    let Some(timeout) = errand.timeout else {
        return running.await;
    };
    let result = tokio::time::timeout(timeout, running).await;
    result.unwrap_or_else(|_| {
        cluster.stats.rq_timeout.increment();
        Err(Trouble::TimedOut)
    })
}

async fn exchange(
    worker: &Rc<Worker>,
    cluster: &Rc<ClusterState>,
    errand: Errand<'_>,
    answer: &mut Answer,
) -> Result<(), Trouble> {
    answer.endpoint = None;
    let admitted = cluster.admit(Ask::default(), &**worker)?;
    let endpoint = admitted.endpoint();
    answer.endpoint = Some(endpoint.clone());
    errand.write_head(&mut answer.request);
    answer.clear();
    let result = match cluster.cluster.protocol {
        UpstreamProtocol::Http2(options) => {
            http2::exchange((cluster, endpoint, options), errand, answer).await
        }
        UpstreamProtocol::Http1 | UpstreamProtocol::Downstream(_) => {
            http1::exchange(worker, (cluster, endpoint), errand, answer).await
        }
    };
    let verdict = match &result {
        Ok(()) => Verdict::Answered(answer.status()),
        Err(_) => Verdict::Failed,
    };
    cluster.report(endpoint, verdict);
    result?;
    cluster.stats.rq.count(answer.status());
    Ok(())
}

impl Errand<'_> {
    /// Writes the text of its head.
    fn write_head(&self, head: &mut Vec<u8>) {
        head.clear();
        for part in [self.method, " ", self.path, " HTTP/1.1\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        append_field(head, "host", self.host.as_bytes());
        head.extend_from_slice(self.fields);
        if let Some(parts) = self.body {
            let length: usize = parts.iter().map(|part| part.len()).sum();
            append_number(head, "content-length", length as u64);
        }
        head.extend_from_slice(b"\r\n");
    }
}

impl Answer {
    /// The status; zero is none.
    pub(crate) fn status(&self) -> u16 {
        match self.head.is_empty() {
            true => 0,
            false => self.response.status,
        }
    }

    /// The first value of a field; `name` is in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        self.response.fields.all_by_text(name, &self.head).next()
    }

    /// All fields, with names in lower case.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (String, &[u8])> {
        let fields = self.response.fields.iter();
        fields.map(|field| {
            let name = text(field.name.get(&self.head)).to_ascii_lowercase();
            (name, field.value.get(&self.head))
        })
    }

    /// Forgets what was answered before.
    fn clear(&mut self) {
        self.head.clear();
        self.body.clear();
        self.trailers.clear();
    }

    /// Takes the next part of the body.
    fn take(&mut self, data: &[u8], most_bytes: usize) -> Result<(), Trouble> {
        if self.body.len() + data.len() > most_bytes {
            let reason = format!("it has more than {most_bytes} bytes");
            return Err(Trouble::senseless(reason));
        }
        self.body.extend_from_slice(data);
        Ok(())
    }

    /// What gRPC says behind the message, or in the head where there is none; `name` is in lower case.
    pub(crate) fn trailer(&self, name: &str) -> Option<&[u8]> {
        grpc::value_in_lines(&self.trailers, name).or_else(|| self.field(name))
    }

    /// How the call has ended, if it is one of gRPC's and says so.
    pub(crate) fn grpc_code(&self) -> Option<u32> {
        self.grpc_status()?.number()
    }

    fn grpc_status(&self) -> Option<GrpcStatus> {
        let in_head = || GrpcStatus::in_fields(&self.response.fields, &self.head);
        GrpcStatus::in_lines(&self.trailers).or_else(in_head)
    }

    /// The message of gRPC in it; a text if the call has failed, or it is none.
    pub(crate) fn message<M: Message + Default>(&self) -> Result<M, String> {
        if self.status() != 200 {
            return Err(format!("the answer was {}", self.status()));
        }
        match self.grpc_status() {
            Some(status) if status.code == "0" => {}
            Some(status) => {
                let GrpcStatus { code, message } = status;
                let message = message.unwrap_or_default();
                return Err(format!("the call ended with status {code} {message}"));
            }
            None => return Err("the call has no status".to_owned()),
        }
        let length = self
            .body
            .get(1..PREFIX)
            .and_then(|length| length.try_into().ok());
        let length = length.map(|length| u32::from_be_bytes(length) as usize);
        match (self.body.first(), length) {
            (Some(0), Some(length)) if length == self.body.len() - PREFIX => {
                M::decode(&self.body[PREFIX..]).map_err(|error| error.to_string())
            }
            _ => Err("the answer is not one plain message".to_owned()),
        }
    }
}

/// A message as gRPC sends it.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX + length);
    bytes.extend_from_slice(&prefix(length));
    message.encode_raw(&mut bytes);
    bytes.freeze()
}

/// What comes before a message of so many bytes.
pub(crate) fn prefix(length: usize) -> [u8; PREFIX] {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [0, a, b, c, d]
}
