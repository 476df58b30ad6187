//! Which headers each service hands on, to the letter, and in which form its requests go out.

use std::net::SocketAddr;

use crate::support::{Recorder, nobody, send, start, start_with};
use http::{HeaderMap, Method};
use periplus_bookinfo::Role;

/// Every header that some service might forward, and two that none may.
const SENT: [(&str, &str); 22] = [
    ("x-request-id", "a4b5c6d7-1111-9222-8333-444455556666"),
    ("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"),
    ("x-b3-spanid", "a2fb4a1d1a96d312"),
    ("x-b3-parentspanid", "0020000000000001"),
    ("x-b3-sampled", "1"),
    ("x-b3-flags", "1"),
    ("x-ot-span-context", "opaque"),
    (
        "traceparent",
        "00-463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-01",
    ),
    ("tracestate", "a=b"),
    ("x-datadog-trace-id", "1"),
    ("x-datadog-parent-id", "2"),
    ("x-datadog-sampling-priority", "1"),
    ("x-cloud-trace-context", "x/1;o=1"),
    ("grpc-trace-bin", "AAA="),
    ("sw8", "1-x"),
    ("end-user", "mallory"),
    ("user-agent", "test/1"),
    ("cookie", "session=jason; theme=dark"),
    ("authorization", "Bearer x"),
    ("jwt", "y"),
    ("x-private", "stays"),
    ("b3", "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-1"),
];
/// The seven of Istio's documentation.
const SEVEN: [&str; 7] = [
    "x-request-id",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-ot-span-context",
];
const CALLER: [&str; 5] = ["end-user", "user-agent", "cookie", "authorization", "jwt"];

/// The names of the headers that arrived with the value they were sent with.
fn forwarded(received: &HeaderMap) -> Vec<&'static str> {
    SENT.iter()
        .filter(|(name, value)| received.get(*name).is_some_and(|got| got == value))
        .map(|(name, _)| *name)
        .collect()
}

async fn ask(address: SocketAddr, path: &str) {
    let answer = send(address, Method::GET, path, &SENT, "").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn reviews_forward_all_but_strangers() {
    let ratings = Recorder::start(200, "{}").await;
    let backends = [(Role::Ratings, ratings.address)];
    let reviews = start_with(Role::Reviews, "v2", &backends, &[]).await;
    ask(reviews, "/reviews/0").await;
    let received = &ratings.take()[0].headers;
    let expected: Vec<_> = SENT[..20].iter().map(|(name, _)| *name).collect();
    assert_eq!(forwarded(received), expected);
    assert!(SEVEN.iter().all(|name| received.contains_key(*name)));
}

#[tokio::test]
async fn the_product_page_says_itself_who_is_signed_in() {
    let backend = Recorder::start(200, "{}").await;
    let backends = [
        (Role::Details, backend.address),
        (Role::Reviews, backend.address),
    ];
    let page = start_with(Role::Productpage, "v1", &backends, &[]).await;
    ask(page, "/productpage").await;
    let calls = backend.take();
    assert_eq!(calls.len(), 2);
    for call in &calls {
        assert_eq!(call.headers["end-user"], "jason", "from the session");
        let expected: Vec<_> = SENT[..20]
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| *name != "end-user")
            .collect();
        assert_eq!(forwarded(&call.headers), expected);
    }
    assert_eq!(calls[0].uri.path(), "/details/0");
    assert_eq!(calls[1].uri.path(), "/reviews/0");

    let headers = [("end-user", "mallory")];
    send(page, Method::GET, "/productpage", &headers, "").await;
    let calls = backend.take();
    assert!(
        calls
            .iter()
            .all(|call| !call.headers.contains_key("end-user")),
        "nobody is"
    );
}

#[tokio::test]
async fn details_forward_to_the_external_service() {
    let google = Recorder::start(200, r#"{"items": [{}]}"#).await;
    let proxy = format!("http://{}", google.address);
    let variables = [("http_proxy", proxy.as_str()), ("DO_NOT_ENCRYPT", "true")];
    let details = start(Role::Details, "v2", &variables).await;
    ask(details, "/details/0").await;
    let expected: Vec<_> = SENT[..20].iter().map(|(name, _)| *name).collect();
    assert_eq!(forwarded(&google.take()[0].headers), expected);
}

#[tokio::test]
async fn forgetful_services_keep_the_caller_but_lose_the_context() {
    let ratings = Recorder::start(200, "{}").await;
    let backends = [(Role::Ratings, ratings.address)];
    let variables = [("BOOKINFO_DROP_HEADERS", "1")];
    let reviews = start_with(Role::Reviews, "v2", &backends, &variables).await;
    ask(reviews, "/reviews/0").await;
    assert_eq!(forwarded(&ratings.take()[0].headers), CALLER);
}

#[tokio::test]
async fn requests_through_a_proxy_are_in_absolute_form() {
    let proxy = Recorder::start(200, "{}").await;
    let address = format!("http://{}", proxy.address);
    let exempt = Recorder::start(200, "{}").await;
    let host = exempt.address.ip().to_string();
    let port = exempt.address.port().to_string();
    let variables = [
        ("http_proxy", address.as_str()),
        ("no_proxy", "127.0.0.1"),
        ("DETAILS_HOSTNAME", &host),
        ("DETAILS_SERVICE_PORT", &port),
        ("SERVICES_DOMAIN", ""),
    ];
    let page = start(Role::Productpage, "v1", &variables).await;
    ask(page, "/productpage").await;

    let proxied = proxy.take();
    assert_eq!(proxied.len(), 1);
    assert_eq!(proxied[0].uri, "http://reviews:9080/reviews/0");
    assert_eq!(proxied[0].headers["host"], "reviews:9080");
    let direct = exempt.take();
    assert_eq!(direct.len(), 1);
    assert_eq!(direct[0].uri, "/details/0", "origin form where no proxy is");
}

#[tokio::test]
async fn a_flood_is_as_large_as_asked_for() {
    let reviews = Recorder::start(200, "{}").await;
    let backends = [
        (Role::Details, nobody().await),
        (Role::Reviews, reviews.address),
    ];
    let page = start_with(Role::Productpage, "v1", &backends, &[("FLOOD_FACTOR", "5")]).await;
    ask(page, "/productpage").await;
    assert_eq!(reviews.take().len(), 6);
}
