//! The client side: one ADS stream that follows a control plane, through reconnects. It is of the
//! state-of-the-world form or of the incremental one.

mod delta;
mod secure;
mod session;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::google::protobuf::Any;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};

use self::delta::DeltaSession;
use self::secure::{Bearer, Connector};
pub use self::secure::{Dial, Secure, Stream};
use self::session::Session;

/// Takes what the control plane sends.
pub trait Handler: Send {
    /// Takes the resources of one response.
    ///
    /// `Ok` acknowledges the response. An error refuses it, naming what is wrong; resources of the same
    /// response that are right may be taken all the same, as Envoy does.
    fn apply(
        &mut self,
        type_url: &str,
        version: &str,
        resources: Vec<Any>,
    ) -> Result<(), Vec<Rejection>>;

    /// Takes what has changed: resources that are new or other than before, and the names of those that
    /// have gone. Only asked with [`Form::Delta`]; as for [`Handler::apply`], an error refuses the response.
    fn apply_delta(
        &mut self,
        type_url: &str,
        _version: &str,
        _resources: Vec<Named>,
        _removed: &[String],
    ) -> Result<(), Vec<Rejection>> {
        Err(vec![Rejection {
            resource: format!("{type_url:?}"),
            reason: "the incremental form is not supported".to_owned(),
        }])
    }

    /// The resources of this type that it holds before the first stream, with their versions: with
    /// [`Form::Delta`] the control plane sends only what has changed since.
    fn versions(&self, _type_url: &str) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// The names of this type to be subscribed to, sorted: the routes that the listeners name, the
    /// endpoints that the clusters name. Asked again after each [`Handler::apply`].
    fn wanted(&self, type_url: &str) -> Vec<String>;

    /// A stream has been opened.
    fn connected(&mut self) {}

    /// The stream has ended or could not be opened; the next attempt comes by itself.
    fn disconnected(&mut self, _error: &StreamError) {}
}

/// A resource of the incremental form.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// The resource.
    pub body: Any,
}

/// The forms of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// State of the world: each response is all there is of a type, or of the names that were asked for.
    #[default]
    StateOfTheWorld,
    /// Incremental: each response is what has changed.
    Delta,
}

/// A resource that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{resource}: {reason}")]
pub struct Rejection {
    /// Its kind and name, such as `listener "outbound"`.
    pub resource: String,
    /// The field, and what is wrong with it.
    pub reason: String,
}

/// What is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Service {
    /// One stream for resources of all types (ADS).
    #[default]
    Aggregated,
    /// A stream for secrets only (SDS).
    Secrets,
}

/// How a client connects.
#[derive(Clone, Debug)]
pub struct Config {
    /// The control plane, as `http://HOST:PORT`, or as `https://HOST:PORT` with `secure`.
    pub endpoint: String,
    /// How connections are made, and who this is to the control plane; plaintext without it.
    pub secure: Option<Secure>,
    /// Who this is; sent with the first request of each stream.
    pub node: Node,
    /// Which form of the protocol is spoken.
    pub form: Form,
    /// What is called.
    pub service: Service,
    /// Counts up when something else than this stream has changed which names are wanted.
    pub wishes: Option<watch::Receiver<u64>>,
    /// The types that are subscribed to without names, in this order.
    pub wildcard_types: Vec<&'static str>,
    /// The types that are subscribed to by the names that the handler wants, in this order.
    pub named_types: Vec<&'static str>,
    /// The wait after a first failure; doubled up to `max_backoff`, with jitter.
    pub base_backoff: Duration,
    /// The longest wait between two attempts.
    pub max_backoff: Duration,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// The largest response that is taken, in bytes.
    pub max_message_bytes: usize,
}

impl Config {
    /// Clusters and listeners, with their endpoints and routes; back-off from 0.5 s to 15 s.
    pub fn new(endpoint: impl Into<String>, node: Node) -> Self {
        use crate::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
        Self {
            endpoint: endpoint.into(),
            secure: None,
            node,
            form: Form::default(),
            service: Service::default(),
            wishes: None,
            wildcard_types: vec![CLUSTER, LISTENER],
            named_types: vec![ENDPOINT, ROUTE],
            base_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(5),
            max_message_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Why there is no stream.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The endpoint is not a URI.
    #[error("{endpoint:?} is not an address of a control plane, write http://HOST:PORT")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// The cause.
        #[source]
        source: tonic::transport::Error,
    },
    /// No connection could be made.
    #[error("no connection to the control plane at {endpoint}")]
    Connect {
        /// The control plane.
        endpoint: String,
        /// The cause.
        #[source]
        source: tonic::transport::Error,
    },
    /// The control plane ended the stream with an error.
    #[error("the control plane at {endpoint} ended the stream: {}", status.message())]
    Ended {
        /// The control plane.
        endpoint: String,
        /// What it said.
        status: Box<Status>,
    },
    /// The control plane ended the stream without a reason.
    #[error("the control plane at {endpoint} closed the stream")]
    Closed {
        /// The control plane.
        endpoint: String,
    },
}

impl StreamError {
    /// The error with its causes, on one line.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        let mut last = String::new();
        while let Some(error) = cause {
            let next = error.to_string();
            // Some layers say what the one above has said.
            if next != last {
                text.push_str(": ");
                text.push_str(&next);
            }
            last = next;
            cause = error.source();
        }
        text
    }
}

/// Follows the control plane for ever; ends when the future is dropped.
///
/// After a lost stream the client connects again and resumes with the versions that it runs on.
pub async fn run<H: Handler>(config: &Config, handler: &mut H) -> Infallible {
    match config.form {
        Form::StateOfTheWorld => follow(config, Session::new(config), handler).await,
        Form::Delta => follow(config, DeltaSession::new(config, handler), handler).await,
    }
}

/// One form of the protocol; but for [`Dialogue::call`] without I/O.
trait Dialogue {
    type Request: Send + 'static;
    type Response;

    /// Forgets what belongs to one stream; the versions stay.
    fn reset(&mut self);

    /// The requests that open a stream; the first carries the node.
    fn opening(&mut self, handler: &impl Handler) -> Vec<Self::Request>;

    /// The requests that follow from what the handler wants now.
    fn subscribe(&mut self, handler: &impl Handler) -> Vec<Self::Request>;

    /// Hands a response to the handler; the requests that follow from it.
    fn on_response(
        &mut self,
        response: Self::Response,
        handler: &mut impl Handler,
    ) -> Vec<Self::Request>;

    /// Whether this stream brought anything: then the control plane is up, and back-off starts over.
    fn had_response(&self) -> bool;

    /// Opens the stream.
    async fn call(
        client: &mut Client,
        requests: ReceiverStream<Self::Request>,
    ) -> Result<Response<Streaming<Self::Response>>, Status>;
}

type Transport = InterceptedService<Channel, Bearer>;

/// One of the services that are called.
enum Client {
    Aggregated(AggregatedDiscoveryServiceClient<Transport>),
    Secrets(SecretDiscoveryServiceClient<Transport>),
}

async fn follow<H: Handler>(
    config: &Config,
    mut session: impl Dialogue,
    handler: &mut H,
) -> Infallible {
    let mut failures = 0;
    loop {
        session.reset();
        let Err(error) = stream(config, &mut session, handler).await;
        if session.had_response() {
            failures = 0;
        }
        pause_after(&error, config, handler, &mut failures).await;
    }
}

async fn pause_after<H: Handler>(
    error: &StreamError,
    config: &Config,
    handler: &mut H,
    failures: &mut u32,
) {
    tracing::debug!(error = %error.with_causes(), "no xDS stream");
    handler.disconnected(error);
    let random = RandomState::new().build_hasher().finish();
    sleep(backoff(config, *failures, random)).await;
    *failures = failures.saturating_add(1);
}

impl Config {
    async fn connect(&self) -> Result<Client, StreamError> {
        let endpoint = Endpoint::from_shared(self.endpoint.clone())
            .map_err(|source| StreamError::Endpoint {
                endpoint: self.endpoint.clone(),
                source,
            })?
            .connect_timeout(self.connect_timeout)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let connected = match &self.secure {
            None => endpoint.connect().await,
            Some(secure) => {
                let connector = Connector(secure.clone());
                endpoint.connect_with_connector(connector).await
            }
        };
        let channel = connected.map_err(|source| StreamError::Connect {
            endpoint: self.endpoint.clone(),
            source,
        })?;
        let bearer = Bearer(self.secure.clone());
        let transport = InterceptedService::new(channel, bearer);
        let most = self.max_message_bytes;
        Ok(match self.service {
            Service::Aggregated => {
                let client = AggregatedDiscoveryServiceClient::new(transport);
                Client::Aggregated(client.max_decoding_message_size(most))
            }
            Service::Secrets => {
                let client = SecretDiscoveryServiceClient::new(transport);
                Client::Secrets(client.max_decoding_message_size(most))
            }
        })
    }

    fn ended(&self, status: Status) -> StreamError {
        StreamError::Ended {
            endpoint: self.endpoint.clone(),
            status: Box::new(status),
        }
    }

    fn closed(&self) -> StreamError {
        StreamError::Closed {
            endpoint: self.endpoint.clone(),
        }
    }
}

/// A channel that holds the first requests: they must be under way before the server answers.
async fn filled<T>(
    config: &Config,
    first: Vec<T>,
) -> Result<(mpsc::Sender<T>, ReceiverStream<T>), StreamError> {
    let (requests, outgoing) = mpsc::channel(first.len().max(16));
    for request in first {
        let sent = requests.send(request).await;
        sent.map_err(|_| config.closed())?;
    }
    Ok((requests, ReceiverStream::new(outgoing)))
}

async fn stream<H: Handler, D: Dialogue>(
    config: &Config,
    session: &mut D,
    handler: &mut H,
) -> Result<Infallible, StreamError> {
    let mut client = config.connect().await?;
    let (requests, outgoing) = filled(config, session.opening(handler)).await?;
    let opened = D::call(&mut client, outgoing).await;
    let mut responses = opened.map_err(|status| config.ended(status))?.into_inner();
    handler.connected();
    let mut wishes = config.wishes.clone();
    loop {
        let response = tokio::select! {
            response = responses.message() => response,
            () = changed(&mut wishes) => {
                for request in session.subscribe(handler) {
                    let sent = requests.send(request).await;
                    sent.map_err(|_| config.closed())?;
                }
                continue;
            }
        };
        let Some(response) = response.map_err(|status| config.ended(status))? else {
            return Err(config.closed());
        };
        for request in session.on_response(response, handler) {
            let sent = requests.send(request).await;
            sent.map_err(|_| config.closed())?;
        }
    }
}

/// Ready when other names may be wanted.
async fn changed(wishes: &mut Option<watch::Receiver<u64>>) {
    if let Some(wishes) = wishes
        && wishes.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Between half of and the whole exponential wait.
fn backoff(config: &Config, failures: u32, random: u64) -> Duration {
    let full = config
        .base_backoff
        .saturating_mul(1_u32 << failures.min(16))
        .min(config.max_backoff);
    let fraction = (random >> 11) as f64 / (1_u64 << 53) as f64;
    full.mul_f64(0.5 + fraction / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_limit_and_is_drawn_from_its_upper_half() {
        let config = Config {
            base_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(15),
            ..Config::new("http://127.0.0.1:1", Node::default())
        };
        let wait = |failures, random| backoff(&config, failures, random).as_millis();
        for (failures, full) in [(0, 500), (1, 1000), (2, 2000), (3, 4000), (4, 8000)] {
            assert_eq!(wait(failures, 0), full / 2, "{failures}");
            assert_eq!(wait(failures, 1 << 63), full * 3 / 4, "{failures}");
            let most = wait(failures, u64::MAX);
            assert!(most > full * 99 / 100 && most <= full, "{failures}: {most}");
        }
        for failures in [5, 17, 64, u32::MAX] {
            assert_eq!(wait(failures, 0), 7500, "{failures}");
            assert!(wait(failures, u64::MAX) <= 15_000, "{failures}");
        }
    }
}
