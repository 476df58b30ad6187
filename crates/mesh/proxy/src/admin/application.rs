//! The metrics of the application behind a sidecar, by Istio's annotations.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use thiserror::Error;
use tokio::net::TcpStream;

/// The most bytes of one answer; more are no metrics.
const MOST_BYTES: usize = 10 * 1024 * 1024;
/// The most places that are asked.
const MOST_TARGETS: usize = 16;
/// How long an answer may take if Prometheus does not say.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Where the application's own metrics are: what its pod is annotated with, as Istio hands it to a sidecar in
/// `ISTIO_PROMETHEUS_ANNOTATIONS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplicationMetrics(Vec<Target>);

/// A place to ask at, on the loopback address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    port: u16,
    path: String,
}

/// Why [`ApplicationMetrics`] cannot be read.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct BadAnnotations(String);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Annotations {
    scrape: String,
    path: String,
    port: String,
    targets: Vec<AnnotatedTarget>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AnnotatedTarget {
    port: String,
    path: String,
}

/// Why an application's metrics are not among the others.
#[derive(Debug, Error)]
pub(super) enum ScrapeError {
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    #[error("no answer that can be read")]
    Http(#[source] hyper::Error),
    #[error("it is not an answer of at most {MOST_BYTES} bytes")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("its status is {0}")]
    Status(u16),
    #[error("it is not text")]
    NotText,
    #[error("no answer within {0:?}")]
    Late(Duration),
}

impl std::str::FromStr for ApplicationMetrics {
    type Err = BadAnnotations;

    /// Reads Istio's JSON: `{"scrape": "true", "path": "/metrics", "port": "8080"}`, or `targets` with several
    /// ports and paths. The path is `/metrics` and the port 80 unless they are said.
    fn from_str(text: &str) -> Result<Self, BadAnnotations> {
        let said: Annotations =
            serde_json::from_str(text).map_err(|error| BadAnnotations(error.to_string()))?;
        if said.scrape == "false" {
            return Ok(Self::default());
        }
        let mut targets = said.targets;
        if targets.is_empty() {
            targets.push(AnnotatedTarget {
                port: match &*said.port {
                    "" => "80".to_owned(),
                    port => port.to_owned(),
                },
                path: said.path,
            });
        }
        if targets.len() > MOST_TARGETS {
            let many = targets.len();
            return Err(BadAnnotations(format!(
                "there are {many} targets, at most {MOST_TARGETS} are asked"
            )));
        }
        let targets = targets.iter().map(Target::read);
        Ok(Self(targets.collect::<Result<_, _>>()?))
    }
}

impl Target {
    fn read(said: &AnnotatedTarget) -> Result<Self, BadAnnotations> {
        let port = match said.port.parse() {
            Ok(0) | Err(_) => {
                return Err(BadAnnotations(format!("{:?} is not a port", said.port)));
            }
            Ok(port) => port,
        };
        let path = match &*said.path {
            "" => "/metrics".to_owned(),
            path if path.starts_with('/') => path.to_owned(),
            path => format!("/{path}"),
        };
        if let Err(error) = path.parse::<http::Uri>() {
            return Err(BadAnnotations(format!("path {path:?}: {error}")));
        }
        Ok(Self { port, path })
    }
}

impl ApplicationMetrics {
    /// Whether one of the places is a port of this proxy, which would ask itself for ever.
    pub(crate) fn has_port(&self, port: u16) -> bool {
        self.0.iter().any(|target| target.port == port)
    }

    /// What each place has to tell, or why it does not.
    pub(super) async fn scrape(
        &self,
        patience: Duration,
    ) -> Vec<Result<String, (String, ScrapeError)>> {
        let mut all = Vec::new();
        for target in &self.0 {
            let got = tokio::time::timeout(patience, target.get()).await;
            let got = got.unwrap_or(Err(ScrapeError::Late(patience)));
            let place = || format!("localhost:{}{}", target.port, target.path);
            all.push(got.map_err(|error| (place(), error)));
        }
        all
    }
}

impl Target {
    /// Asks for the text format. An application that answers in OpenMetrics all the same loses the mark of its
    /// end, behind which nothing might follow.
    async fn get(&self) -> Result<String, ScrapeError> {
        let stream = TcpStream::connect(("localhost", self.port))
            .await
            .map_err(ScrapeError::Connect)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(ScrapeError::Http)?;
        let request = Request::get(&self.path)
            .header(header::HOST, format!("localhost:{}", self.port))
            .header(header::ACCEPT, "text/plain;version=0.0.4")
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .expect("the path was checked when it was read");
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(ScrapeError::Http)?;
        if answer.status() != http::StatusCode::OK {
            return Err(ScrapeError::Status(answer.status().as_u16()));
        }
        let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await;
        let body = body.map_err(ScrapeError::Body)?.to_bytes();
        // It has ended with the answer.
        connection.abort();
        let text = String::from_utf8(body.into()).map_err(|_| ScrapeError::NotText)?;
        let lines = text.lines().filter(|line| line.trim_end() != "# EOF");
        Ok(lines.flat_map(|line| [line, "\n"]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn istios_annotations_are_read() {
        let target = |port, path: &str| Target {
            port,
            path: path.to_owned(),
        };
        for (text, expected) in [
            (r#"{"scrape":"false","port":"1"}"#, vec![]),
            (
                r#"{"scrape":"true","path":"","port":""}"#,
                vec![target(80, "/metrics")],
            ),
            (
                r#"{"scrape":"true","path":"/m?a=b","port":"9102"}"#,
                vec![target(9102, "/m?a=b")],
            ),
            (
                r#"{"targets":[{"port":"1"},{"port":"2","path":"x"}]}"#,
                vec![target(1, "/metrics"), target(2, "/x")],
            ),
        ] {
            let read: ApplicationMetrics = text.parse().expect(text);
            assert_eq!(read.0, expected, "{text}");
        }
        for (text, expected) in [
            (r#"{"port":"0"}"#, "\"0\" is not a port"),
            (r#"{"port":"http"}"#, "\"http\" is not a port"),
            (r#"{"ports":"1"}"#, "unknown field `ports`"),
            (r#"{"port":"1","path":"/a b"}"#, "path \"/a b\""),
            ("", "EOF"),
        ] {
            let error = text
                .parse::<ApplicationMetrics>()
                .expect_err(text)
                .to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
