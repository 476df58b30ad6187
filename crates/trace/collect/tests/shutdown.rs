//! `serve`: a stop takes no new connections, and lets requests in flight finish.

mod support;

use std::sync::Arc;
use std::time::Duration;

use periplus_collect::{AllowedOrigins, Collector, Limits, Receiver, zipkin};
use periplus_store::{MemoryStore, SpanStore};
use support::read_answer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

#[tokio::test]
async fn requests_in_flight_finish_and_idle_connections_end() {
    let store = Arc::new(MemoryStore::default());
    let collector = Collector::new(store.clone(), Limits::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let router = zipkin::router(collector.clone(), AllowedOrigins::default());
    let serving = tokio::spawn(periplus_collect::serve(listener, router, async {
        stopped.await.unwrap();
    }));

    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /metrics HTTP/1.1\r\nhost: t\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(read_answer(&mut idle).await.status, 200);

    let body = r#"[{"traceId":"1","id":"2"}]"#;
    let (first, rest) = body.split_at(10);
    let mut busy = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /api/v2/spans HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    busy.write_all(head.as_bytes()).await.unwrap();
    // The server asks for the body: the request is in flight.
    let mut interim = [0; 25];
    busy.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    busy.write_all(first.as_bytes()).await.unwrap();

    stop.send(()).unwrap();
    assert_eq!(idle.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "still listening");
    }

    busy.write_all(rest.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut busy).await.status, 202);
    serving.await.unwrap().unwrap();
    assert_eq!(store.stats().spans, 1);
    assert_eq!(collector.stats().accepted_spans(Receiver::Zipkin), 1);
}
