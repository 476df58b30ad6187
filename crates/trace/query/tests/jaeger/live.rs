//! `GET /api/periplus/v1/live`: spans as they are stored.

use std::sync::Arc;

use periplus_model::{Attribute, Batch};
use periplus_query::{Options, QueryService};
use periplus_store::{MemoryStore, SpanSink};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Server, group, span, with_attributes};

/// The server's answer, line by line.
struct Tail {
    lines: Lines<BufReader<OwnedReadHalf>>,
    _writer: tokio::net::tcp::OwnedWriteHalf,
}

impl Tail {
    async fn open(address: std::net::SocketAddr, query: &str) -> Self {
        let (reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
        let head = format!(
            "GET /api/periplus/v1/live{query} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"
        );
        writer.write_all(head.as_bytes()).await.unwrap();
        let mut tail = Self {
            lines: BufReader::new(reader).lines(),
            _writer: writer,
        };
        assert_eq!(tail.line().await.unwrap(), "HTTP/1.1 200 OK");
        assert_eq!(tail.event().await.unwrap(), ("open".to_owned(), json!({})));
        tail
    }

    async fn line(&mut self) -> Option<String> {
        self.lines.next_line().await.unwrap()
    }

    /// The next event and its data; `None` at the end.
    async fn event(&mut self) -> Option<(String, Json)> {
        let mut event = None;
        loop {
            let line = self.line().await?;
            if let Some(name) = line.strip_prefix("event: ") {
                event = Some(name.to_owned());
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((event.unwrap(), serde_json::from_str(data).unwrap()));
            }
        }
    }
}

async fn serve() -> (std::net::SocketAddr, QueryService, Arc<dyn SpanSink>) {
    let store = Arc::new(MemoryStore::default());
    let query = QueryService::new(store.clone(), Options::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = query.http();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let sink = query.tap(store);
    (address, query, sink)
}

#[tokio::test]
async fn spans_that_match_are_shown_as_they_are_stored() {
    let (address, query, sink) = serve().await;
    let mut slow = Tail::open(address, "?q=duration%3E%3D2ms").await;
    let mut of_shop = Tail::open(address, "?service=shop").await;
    let mut long = with_attributes(
        span(1, 1, 0, "long", 0),
        vec![Attribute::new("error", true)],
    );
    long.end_unix_nano += 1_000_000;
    let shop = group("shop", vec![span(1, 2, 1, "short", 10)]);
    let bank = group("bank", vec![long]);
    let batch = Batch {
        groups: vec![shop, bank],
    };
    sink.append(batch.clone()).await.unwrap();
    let as_otlp = periplus_wire::otlp::encode_protobuf(&batch);
    sink.append_otlp(as_otlp.into()).await.unwrap();

    for _ in 0..2 {
        let (event, shown) = slow.event().await.unwrap();
        assert_eq!(event, "span");
        assert_eq!(
            shown,
            json!({
                "traceId": format!("{:032x}", 1),
                "spanId": format!("{:016x}", 1),
                "parentSpanId": null,
                "service": "bank",
                "operation": "long",
                "kind": "",
                "startUs": crate::support::BOOKINFO_START_US,
                "durationUs": 2_000,
                "error": true,
            })
        );
        let (_, shown) = of_shop.event().await.unwrap();
        assert_eq!(shown["operation"], "short");
        assert_eq!(shown["parentSpanId"], format!("{:016x}", 1));
    }
    query.close();
    assert_eq!(slow.event().await, None, "the stream ends with the server");
}

#[tokio::test]
async fn what_cannot_be_told_from_one_span_is_refused() {
    let server = Server::start().await;
    for query in [
        "q=child%7Berror%7D",
        "q=%7Ba%3D1%7D%20%7Bb%3D2%7D",
        "q=trace:duration%3E1s",
    ] {
        let answer = server.get(&format!("/api/periplus/v1/live?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(
            error.starts_with("the live tail shows single spans"),
            "{error}"
        );
    }
    let answer = server.get("/api/periplus/v1/live?q=%3D").await;
    assert_eq!(answer.status, 400);
}
