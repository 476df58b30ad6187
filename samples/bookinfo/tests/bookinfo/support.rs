//! Real services on real sockets, and a client to talk to them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use periplus_bookinfo::{App, Environment, Role, serve};
use tokio::net::{TcpListener, TcpStream};

/// Starts a service and returns its address; it ends with the test's runtime.
pub(crate) async fn start(role: Role, version: &str, variables: &[(&str, &str)]) -> SocketAddr {
    let environment: Environment = variables.iter().copied().collect();
    let environment = role.with_version(version, environment).unwrap();
    let app = App::new(role, &environment).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(app, listener, std::future::pending()));
    address
}

/// The variables that point a service at `address`.
pub(crate) fn at(role: Role, address: SocketAddr) -> [(String, String); 2] {
    let prefix = role.name().to_ascii_uppercase();
    [
        (format!("{prefix}_HOSTNAME"), address.ip().to_string()),
        (format!("{prefix}_SERVICE_PORT"), address.port().to_string()),
    ]
}

/// Like [`start`], calling the services at `backends`.
pub(crate) async fn start_with(
    role: Role,
    version: &str,
    backends: &[(Role, SocketAddr)],
    variables: &[(&str, &str)],
) -> SocketAddr {
    let owned: Vec<_> = backends
        .iter()
        .flat_map(|&(role, address)| at(role, address))
        .collect();
    let mut all: Vec<(&str, &str)> = owned
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    all.extend(variables);
    start(role, version, &all).await
}

/// An address where nobody answers: connections are refused.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// A stand-in for a service that keeps what it was asked, and gives one answer.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<Parts>>>,
}

impl Recorder {
    pub(crate) async fn start(status: u16, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let record = Arc::clone(&record);
                let service = service_fn(move |request: Request<Incoming>| {
                    record.lock().unwrap().push(request.into_parts().0);
                    let mut response = Response::new(Full::new(Bytes::from(body)));
                    *response.status_mut() = StatusCode::from_u16(status).unwrap();
                    async { Ok::<_, std::convert::Infallible>(response) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { address, seen }
    }

    /// What it was asked since the last time.
    pub(crate) fn take(&self) -> Vec<Parts> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// A status, headers and a body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, Method::GET, path, &[], "").await
}

pub(crate) async fn send(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", address.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}
