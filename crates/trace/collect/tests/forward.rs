//! What is stored also reaches other endpoints, in each protocol.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use periplus_collect::forward::{Counts, Endpoint, EndpointConfig, Forwarding, Forwards};
use periplus_store::{MemoryStore, SpanSink as _, SpanStore as _};
use periplus_wire::otlp;
use support::{Receivers, batch, id_of};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

const DEADLINE: Duration = Duration::from_secs(30);

/// A store that forwards, and the end of its forwarder.
struct Near {
    sink: Forwarding,
    store: Arc<MemoryStore>,
    forwards: Forwards,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
}

impl Near {
    fn to(endpoint: &str) -> Self {
        Self::with(endpoint.parse().unwrap())
    }

    fn with(endpoint: Endpoint) -> Self {
        let store = Arc::new(MemoryStore::default());
        let (forwards, mut forwarders) = Forwards::new(vec![endpoint]).unwrap();
        let sink = forwards.before(store.clone(), None);
        let forwarder = forwarders.pop().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(forwarder.run(async {
            let _ = stopped.await;
        }));
        Self {
            sink,
            store,
            forwards,
            stop,
            ended,
        }
    }

    fn counts(&self) -> Counts {
        counts(&self.forwards)
    }

    async fn until(&self, what: impl Fn(Counts) -> bool) -> Counts {
        let wait = async {
            loop {
                let counts = self.counts();
                if what(counts) {
                    return counts;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(DEADLINE, wait).await;
        waited.unwrap_or_else(|_| panic!("{:?}", self.counts()))
    }

    /// Stops the forwarder, which sends what waits.
    async fn end(self) -> Counts {
        let forwards = self.forwards.clone();
        self.stop.send(()).unwrap();
        self.ended.await.unwrap();
        counts(&forwards)
    }
}

fn counts(forwards: &Forwards) -> Counts {
    forwards.counts().next().unwrap().1
}

#[tokio::test]
async fn each_protocol_carries_the_spans() {
    let far = Receivers::start().await;
    for (trace, endpoint) in [
        (1, format!("otlp+http://{}", far.otlp_http)),
        (3, format!("otlp-grpc+http://{}", far.otlp_grpc)),
        (5, format!("zipkin+http://{}", far.zipkin)),
    ] {
        let near = Near::to(&endpoint);
        near.sink.append(batch(trace, 3)).await.unwrap();
        let body = otlp::encode_protobuf(&batch(trace + 1, 2));
        near.sink.append_otlp(Bytes::from(body)).await.unwrap();
        let counts = near.until(|counts| counts.sent_spans == 5).await;
        assert_eq!(
            counts,
            Counts {
                sent_spans: 5,
                ..Counts::default()
            },
            "{endpoint}"
        );
        assert_eq!(near.store.stats().spans, 5);
        assert_eq!(far.trace(&id_of(trace)).await.span_count(), 3, "{endpoint}");
        assert_eq!(far.trace(&id_of(trace + 1)).await.span_count(), 2);
    }
}

#[tokio::test]
async fn an_endpoint_that_is_away_gets_its_spans_later() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let near = Near::to(&format!("otlp+http://{address}"));
    near.sink.append(batch(1, 2)).await.unwrap();
    let counts = near.until(|counts| counts.failed_requests > 0).await;
    assert_eq!((counts.sent_spans, counts.given_up_spans), (0, 0));
    assert!(counts.queued_bytes > 0);

    answer(TcpListener::bind(address).await.unwrap(), StatusCode::OK);
    let counts = near.until(|counts| counts.sent_spans == 2).await;
    assert_eq!((counts.queued_bytes, counts.given_up_spans), (0, 0));
}

/// Half a second is what we would wait ourselves.
#[tokio::test]
async fn an_endpoint_that_says_when_is_not_asked_before() {
    // `google.rpc.Status` with a `google.rpc.RetryInfo` of one second.
    let details = "CA4aMAoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIECgIIAQ";
    for (protocol, headers) in [
        ("otlp", vec![("retry-after", "1")]),
        ("zipkin", vec![("retry-after", "1")]),
        (
            "otlp-grpc",
            vec![("grpc-status", "14"), ("grpc-status-details-bin", details)],
        ),
    ] {
        let asked: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let times = Arc::clone(&asked);
        let router = Router::new().fallback(async move || {
            let mut times = times.lock().unwrap();
            times.push(Instant::now());
            let mut answer = HeaderMap::new();
            let grpc = headers[0].0.starts_with("grpc");
            let again = times.len() == 1;
            for (name, value) in headers.iter().filter(|_| again) {
                answer.insert(*name, value.parse().unwrap());
            }
            if !again {
                answer.insert("grpc-status", "0".parse().unwrap());
            }
            let status = match again && !grpc {
                true => StatusCode::SERVICE_UNAVAILABLE,
                false => StatusCode::OK,
            };
            (status, answer)
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = Near::to(&format!(
            "{protocol}+http://{}",
            listener.local_addr().unwrap()
        ));
        tokio::spawn(periplus_collect::serve(
            listener,
            router,
            std::future::pending(),
        ));
        near.sink.append(batch(1, 2)).await.unwrap();
        let counts = near.until(|counts| counts.sent_spans == 2).await;
        assert_eq!(counts.failed_requests, 1, "{protocol}");
        let asked = asked.lock().unwrap();
        let waited = asked[1] - asked[0];
        assert!(
            waited >= Duration::from_millis(950),
            "{protocol}: {waited:?}"
        );
    }
}

#[tokio::test]
async fn credentials_go_along_and_a_new_token_counts_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let token_file = directory.path().join("token");
    std::fs::write(&token_file, "first\n").unwrap();
    for protocol in ["otlp", "otlp-grpc", "zipkin"] {
        let seen: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
        let heads = Arc::clone(&seen);
        let router = Router::new().fallback(async move |headers: HeaderMap| {
            heads.lock().unwrap().push(headers);
            ([("grpc-status", "0")], StatusCode::OK)
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = EndpointConfig {
            to: format!("{protocol}+http://{}", listener.local_addr().unwrap()),
            token_file: Some(token_file.clone()),
            headers: [("x-team".to_owned(), "shop".to_owned())].into(),
            ..EndpointConfig::default()
        };
        tokio::spawn(periplus_collect::serve(
            listener,
            router,
            std::future::pending(),
        ));
        let near = Near::with(config.endpoint().unwrap());
        for (spans, token) in [(2, "first"), (4, "second")] {
            std::fs::write(&token_file, token).unwrap();
            near.sink.append(batch(spans, 2)).await.unwrap();
            near.until(|counts| counts.sent_spans == spans).await;
            let seen = seen.lock().unwrap();
            let head = seen.last().unwrap();
            assert_eq!(head["authorization"], format!("Bearer {token}"));
            assert_eq!(head["x-team"], "shop", "{protocol}");
        }
        // Without the file nothing is sent, and nothing is lost.
        std::fs::remove_file(&token_file).unwrap();
        near.sink.append(batch(9, 1)).await.unwrap();
        near.until(|counts| counts.failed_requests > 0).await;
        assert_eq!(seen.lock().unwrap().len(), 2, "{protocol}");
        std::fs::write(&token_file, "third").unwrap();
        near.until(|counts| counts.sent_spans == 5).await;
    }
}

#[tokio::test]
async fn what_is_refused_for_good_is_counted() {
    let near = Near::to(&format!(
        "zipkin+http://{}",
        start(StatusCode::BAD_REQUEST).await
    ));
    near.sink.append(batch(1, 2)).await.unwrap();
    let counts = near.until(|counts| counts.given_up_spans == 2).await;
    assert_eq!((counts.failed_requests, counts.queued_bytes), (0, 0));
}

#[tokio::test]
async fn what_waits_is_sent_when_the_server_stops() {
    let near = Near::to(&format!("otlp+http://{}", start(StatusCode::OK).await));
    for trace in 0..20 {
        near.sink.append(batch(trace, 1)).await.unwrap();
    }
    assert_eq!(near.end().await.sent_spans, 20);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_stays_away_does_not_hold_up_the_end() {
    let near = Near::to("otlp+http://127.0.0.1:9");
    near.sink.append(batch(1, 2)).await.unwrap();
    near.until(|counts| counts.failed_requests > 0).await;
    assert_eq!(near.end().await.given_up_spans, 2);
}

async fn start(status: StatusCode) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    answer(listener, status);
    address
}

/// Answers each request with this status.
fn answer(listener: TcpListener, status: StatusCode) {
    let router = Router::new().fallback(async move || status);
    tokio::spawn(periplus_collect::serve(
        listener,
        router,
        std::future::pending(),
    ));
}
