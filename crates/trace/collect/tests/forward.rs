//! What is stored also reaches other endpoints, in each protocol.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::StatusCode;
use periplus_collect::forward::{Counts, Endpoint, Forwarding, Forwards};
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
        let store = Arc::new(MemoryStore::default());
        let endpoint: Endpoint = endpoint.parse().unwrap();
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
