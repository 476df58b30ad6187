//! What clients, tokens and services cannot do: none of what they say becomes more than it is.

use std::net::SocketAddr;
use std::time::Duration;

use periplus_proxy::{Agent, Options, bootstrap};
use serde_json::json;

use super::authorizer::{Authorizer, INJECTED};
use super::{Filters, PATIENCE, Side, authz, jwt};
use crate::xds_support::ControlPlane;
use crate::xds_support::http::exchange;

/// A proxy with some of the filters that are held against Envoy's.
async fn alone(
    filters: Vec<(&'static str, Filters)>,
    names: &[&str],
    others: &[(&'static str, SocketAddr)],
) -> (Agent, Side) {
    let filters = filters.into_iter();
    let filters: Vec<_> = filters.filter(|(name, _)| names.contains(name)).collect();
    let plane = ControlPlane::start().await;
    let side = Side::new("ours", &plane, &filters, others).await;
    let parsed = bootstrap::parse("ours", &side.bootstrap).expect("valid");
    let agent = Agent::start(parsed, Options::default());
    let agent = agent.await.expect("start");
    let ready = tokio::time::timeout(PATIENCE, agent.ready()).await;
    ready.expect("the agent does not get ready");
    (agent, side)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_that_are_no_values_of_fields_are_not_told() {
    let signer = jwt::Signer::new();
    let (agent, side) = alone(jwt::filters(&signer), &["telling"], &[]).await;
    for (claim, told) in [
        ("alice", Some("alice")),
        (INJECTED, None),
        ("a\nb", None),
        ("a\0b", None),
    ] {
        let token = signer.token(&json!({"sub": claim, "level": 3}));
        let request = format!(
            "GET /ok HTTP/1.1\r\nhost: test\r\nx-sub: root\r\nauthorization: Bearer {token}\r\n\
             connection: close\r\n\r\n"
        );
        let answer = exchange(side.listeners["telling"], &request).await;
        assert_eq!(answer.expect("an answer").status(), 200, "{claim:?}");
        let received = side.origin.take();
        let [only] = &received[..] else {
            panic!("{claim:?} has become {received:?}");
        };
        assert_eq!(only.header("x-sub"), told, "{claim:?}");
        assert_eq!(only.header("x-level"), Some("3"), "{claim:?}");
        assert_eq!(only.header("x-injected"), None, "{claim:?}");
    }
    agent.shutdown(Duration::from_secs(1)).await;
}

/// What filters add is theirs, whatever the client says about its connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_have_no_say_in_what_filters_add() {
    let signer = jwt::Signer::new();
    let (agent, side) = alone(jwt::filters(&signer), &["telling"], &[]).await;
    let token = signer.token(&json!({"sub": "alice"}));
    for target in ["/ok", "http://test/ok", "http://test?x"] {
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: test\r\nconnection: X-Sub, x-a\r\nx-a: 1\r\nx-b: 2\r\n\
             authorization: Bearer {token}\r\nx-sub: root\r\nconnection: close\r\n\r\n"
        );
        let answer = exchange(side.listeners["telling"], &request).await;
        let answer = answer.expect("an answer");
        // There is no route for that one.
        let status = if target.contains("/ok") { 200 } else { 404 };
        assert_eq!(answer.status(), status, "{target}");
        for received in side.origin.take() {
            assert_eq!(received.header("x-sub"), Some("alice"), "{received:?}");
            assert_eq!(received.header("x-a"), None, "{received:?}");
            assert_eq!(received.header("x-b"), Some("2"), "{received:?}");
        }
    }
    agent.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_services_say_becomes_no_other_field_and_no_request() {
    let authorizer = Authorizer::start().await;
    let others = [("ask-grpc", authorizer.grpc)];
    let (agent, side) = alone(authz::filters(), &["grpc"], &others).await;
    for (ask, status) in [
        ("inject-name", 500),
        ("inject-value", 500),
        ("inject-query", 500),
        ("inject-answer", 500),
        ("inject-denial", 500),
        // What is wrong about the service is told in its place.
        ("inject-error", 403),
    ] {
        let request =
            format!("GET /ok HTTP/1.1\r\nhost: test\r\nx-ask: {ask}\r\nconnection: close\r\n\r\n");
        let answer = exchange(side.listeners["grpc"], &request).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), status, "{ask}");
        assert_eq!(answer.header("x-injected"), None, "{ask}");
        assert_eq!(answer.header("x-a"), None, "{ask}");
        let received = side.origin.take();
        assert!(received.is_empty(), "{ask} has become {received:?}");
    }
    agent.shutdown(Duration::from_secs(1)).await;
}

/// A route that was found too late for a service to be asked leads nowhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_leads_past_a_service_that_is_to_be_asked() {
    let authorizer = Authorizer::start().await;
    let signer = jwt::Signer::new();
    let of = |filters: Vec<(&'static str, Filters)>, wanted: &str| -> Filters {
        let mut filters = filters.into_iter();
        filters.find(|(name, _)| *name == wanted).expect("one").1
    };
    let rerouting = of(jwt::filters(&signer), "reroute");
    let asking = [of(authz::filters(), "grpc"), rerouting.clone()].concat();
    let filters = vec![("asking", asking), ("rerouting", rerouting)];
    let others = [("ask-grpc", authorizer.grpc)];
    let (agent, side) = alone(filters, &["asking", "rerouting"], &others).await;
    let token = signer.token(&json!({}));
    let ask = async |listener: &str, field: &str| {
        let request = format!(
            "GET /only/claim HTTP/1.1\r\nhost: test\r\nx-ask: deny\r\n{field}connection: close\r\n\r\n"
        );
        let answer = exchange(side.listeners[listener], &request).await;
        answer.expect("an answer").status()
    };
    let authorized = format!("authorization: Bearer {token}\r\n");
    assert_eq!(ask("rerouting", &authorized).await, 297);
    assert_eq!(ask("asking", &authorized).await, 403);
    assert_eq!(ask("asking", "").await, 404);
    agent.shutdown(Duration::from_secs(1)).await;
}
