//! Jaeger's remote sampling, over HTTP and gRPC.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use periplus_collect::sampling::{RemoteSampling, StrategiesFile, grpc, http};
use support::{send, spawn};

const STRATEGIES: &str = r#"{
    "default_strategy": {"type": "probabilistic", "param": 0.5},
    "service_strategies": [{"service": "a b", "type": "ratelimiting", "param": 5}]}"#;

const HALF: &str =
    r#"{"strategyType":"PROBABILISTIC","probabilisticSampling":{"samplingRate":0.5}}"#;
const FIVE: &str =
    r#"{"strategyType":"RATE_LIMITING","rateLimitingSampling":{"maxTracesPerSecond":5}}"#;
const ONCE: &str = "'service' parameter must be provided once\n";

async fn remote(text: &str) -> (RemoteSampling, StrategiesFile, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("strategies.json");
    std::fs::write(&path, text).unwrap();
    let (file, strategies) = StrategiesFile::open(&path, 1.0).await.unwrap();
    (RemoteSampling::new(strategies), file, dir)
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = send(address, "GET", path, "", b"").await;
    (answer.status, answer.text().to_owned())
}

#[tokio::test]
async fn every_path_of_the_http_port_answers() {
    let (remote, _, _dir) = remote(STRATEGIES).await;
    let address = spawn(http::router(remote.clone())).await;
    let legacy = HALF.replace(r#""PROBABILISTIC""#, "0");
    for (path, status, body) in [
        ("/sampling?service=x", 200, HALF),
        ("/api/sampling?service=x", 200, HALF),
        ("/anything/else?service=x&other=1", 200, HALF),
        ("/sampling?service=a%20b", 200, FIVE),
        ("/sampling?service=a+b", 200, FIVE),
        ("/sampling?service=", 200, HALF),
        ("/?service=x", 200, &legacy),
        ("/baggageRestrictions?service=x", 200, "[]"),
        ("/sampling", 400, ONCE),
        ("/", 400, ONCE),
        ("/baggageRestrictions", 400, ONCE),
        ("/sampling?service=a&service=b", 400, ONCE),
    ] {
        assert_eq!(
            get(address, path).await,
            (status, body.to_owned()),
            "{path}"
        );
    }
    let answer = send(address, "GET", "/sampling?service=x", "", b"").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    for path in ["/", "/sampling", "/baggageRestrictions"] {
        assert_eq!(
            send(address, "POST", path, "", b"").await.status,
            405,
            "{path}"
        );
    }
    assert_eq!(
        (remote.stats().answered(), remote.stats().refused()),
        (8, 4)
    );
}

#[tokio::test]
async fn the_ports_of_a_collector_answer_one_path() {
    let (remote, _, _dir) = remote(STRATEGIES).await;
    let address = spawn(http::api(remote)).await;
    let (status, body) = get(address, "/api/sampling?service=x").await;
    assert_eq!((status, body.as_str()), (200, HALF));
    assert_eq!(get(address, "/sampling?service=x").await.0, 404);
}

#[tokio::test]
async fn grpc_answers() {
    let (remote, _, _dir) = remote(STRATEGIES).await;
    let address = spawn(grpc::router(remote)).await;
    let method = "/jaeger.api_v2.SamplingManager/GetSamplingStrategy";
    let mut client = support::grpc::client_of(address).await;
    let mut ask = async |method, question: &'static [u8]| {
        support::grpc::call(&mut client, method, Bytes::from_static(question)).await
    };
    let answer = ask(method, b"\x0a\x03a b").await.unwrap();
    assert_eq!(answer[..], [8, 1, 0x1a, 2, 8, 5]);
    let answer = ask(method, b"").await.unwrap();
    assert_eq!(answer[..], [0x12, 9, 9, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f]);
    let status = ask(method, b"\x0a\x05a").await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    let status = ask("/x/y", b"").await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented, "{status}");
}

#[tokio::test]
async fn a_change_of_the_file_is_picked_up_and_a_bad_one_is_not() {
    let (remote, file, dir) = remote(STRATEGIES).await;
    let address = spawn(http::router(remote.clone())).await;
    tokio::spawn(file.watch(Duration::from_millis(5), remote.clone()));
    let path = dir.path().join("strategies.json");
    let until = async |done: &dyn Fn() -> bool| {
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        waited.await.unwrap();
    };

    std::fs::write(&path, "{").unwrap();
    until(&|| remote.stats().failed() == 1).await;
    assert_eq!(get(address, "/sampling?service=x").await.1, HALF);

    // Written beside and moved, as careful tools do.
    let new = dir.path().join("new");
    std::fs::write(&new, STRATEGIES.replace("0.5", "0.25")).unwrap();
    std::fs::rename(&new, &path).unwrap();
    until(&|| remote.stats().loaded() == 1).await;
    let (_, body) = get(address, "/sampling?service=x").await;
    assert_eq!(body, HALF.replace("0.5", "0.25"));

    std::fs::remove_file(&path).unwrap();
    until(&|| remote.stats().failed() == 2).await;
    assert_eq!(get(address, "/sampling?service=x").await.1, body);
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let error = StrategiesFile::open("/nowhere/s.json".as_ref(), 1.0)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the sampling strategies in /nowhere/s.json"
    );
}
