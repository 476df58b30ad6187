use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::rpc;

use super::*;
use crate::type_url::{CLUSTER, ENDPOINT};

fn resource(name: &str, content: &str) -> Resource {
    Resource::from_any(
        name,
        Any {
            type_url: ENDPOINT.to_owned(),
            value: content.as_bytes().to_vec(),
        },
    )
}

fn set(resources: &[(&str, &str)]) -> ResourceSet {
    resources
        .iter()
        .map(|(name, content)| resource(name, content))
        .collect()
}

fn request(nonce: &str, names: &[&str]) -> Box<DiscoveryRequest> {
    Box::new(DiscoveryRequest {
        response_nonce: nonce.to_owned(),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DiscoveryRequest::default()
    })
}

fn refusal(nonce: &str, names: &[&str]) -> Box<DiscoveryRequest> {
    Box::new(DiscoveryRequest {
        error_detail: Some(rpc::Status {
            code: 3,
            message: "no".to_owned(),
            details: Vec::new(),
        }),
        ..*request(nonce, names)
    })
}

/// What is due, as `name=content` texts; sends it under the nonce.
fn push(subscription: &mut Subscription, available: &ResourceSet, nonce: &str) -> Vec<String> {
    let Some(due) = subscription.due(available, Keep::Nothing) else {
        return vec!["nothing".to_owned()];
    };
    subscription.sent(&due, nonce);
    due.resources
        .iter()
        .map(|r| format!("{}={}", r.name(), String::from_utf8_lossy(&r.body().value)))
        .collect()
}

enum Step<'a> {
    Request(Box<DiscoveryRequest>, Meaning),
    Push(&'a [(&'a str, &'a str)], &'a str, &'a [&'a str]),
    AnswerNextAck,
}
use Step::{AnswerNextAck, Push, Request};

#[test]
fn the_decision_table() {
    const AB: &[(&str, &str)] = &[("a", "1"), ("b", "1")];
    const A2B: &[(&str, &str)] = &[("a", "2"), ("b", "1")];
    const NOTHING: &[&str] = &["nothing"];
    let cases: Vec<(&str, &str, Vec<Step<'_>>)> = vec![
        (
            "a wildcard type without names gets everything, and only changes after that",
            CLUSTER,
            vec![
                Request(request("", &[]), Meaning::Subscribe),
                Push(AB, "1", &["a=1", "b=1"]),
                Request(request("1", &[]), Meaning::Ack),
                Push(AB, "", NOTHING),
                Push(A2B, "2", &["a=2", "b=1"]),
                Request(request("2", &[]), Meaning::Ack),
                Push(&[("a", "2")], "3", &["a=2"]),
            ],
        ),
        (
            "a wildcard type with names gets those, and none of them is an unsubscription",
            CLUSTER,
            vec![
                Request(request("", &["b"]), Meaning::Subscribe),
                Push(AB, "1", &["b=1"]),
                Request(request("1", &["a", "b"]), Meaning::Ack),
                Push(AB, "2", &["a=1", "b=1"]),
                Request(request("2", &[]), Meaning::Unsubscribe),
            ],
        ),
        (
            "a star among the names is the wildcard",
            CLUSTER,
            vec![
                Request(request("", &["*"]), Meaning::Subscribe),
                Push(AB, "1", &["a=1", "b=1"]),
            ],
        ),
        (
            "other types get what they name, then only what is new",
            ENDPOINT,
            vec![
                Request(request("", &["a"]), Meaning::Subscribe),
                Push(AB, "1", &["a=1"]),
                Request(request("1", &["a"]), Meaning::Ack),
                Push(AB, "", NOTHING),
                Request(request("1", &["a", "b"]), Meaning::Ack),
                Push(AB, "2", &["b=1"]),
                Request(request("2", &["a", "b"]), Meaning::Ack),
                Push(A2B, "3", &["a=2"]),
            ],
        ),
        (
            "names that were taken away get no response, and are sent again when they come back",
            ENDPOINT,
            vec![
                Request(request("", &["a", "b"]), Meaning::Subscribe),
                Push(AB, "1", &["a=1", "b=1"]),
                Request(request("1", &["b"]), Meaning::Ack),
                Push(A2B, "", NOTHING),
                Request(request("1", &["a", "b"]), Meaning::Ack),
                Push(A2B, "2", &["a=2"]),
            ],
        ),
        (
            "a type without a wildcard and without names is unsubscribed",
            ENDPOINT,
            vec![
                Request(request("", &["a"]), Meaning::Subscribe),
                Push(AB, "1", &["a=1"]),
                Request(request("1", &[]), Meaning::Unsubscribe),
            ],
        ),
        (
            "a name that does not exist is answered with nothing, and pushed once it does",
            ENDPOINT,
            vec![
                Request(request("", &["c"]), Meaning::Subscribe),
                Push(AB, "1", &[]),
                Push(AB, "", NOTHING),
                Push(&[("c", "1")], "2", &["c=1"]),
            ],
        ),
        (
            "a refusal gets no response until something changes",
            ENDPOINT,
            vec![
                Request(request("", &["a"]), Meaning::Subscribe),
                Push(AB, "1", &["a=1"]),
                Request(refusal("1", &["a"]), Meaning::Nack),
                Push(AB, "", NOTHING),
                Push(A2B, "2", &["a=2"]),
            ],
        ),
        (
            "an answer to an older response changes nothing, not even the names",
            ENDPOINT,
            vec![
                Request(request("", &["a"]), Meaning::Subscribe),
                Push(AB, "1", &["a=1"]),
                Push(A2B, "2", &["a=2"]),
                Request(request("1", &["a", "b"]), Meaning::Stale),
                Push(A2B, "", NOTHING),
                Request(request("2", &["a", "b"]), Meaning::Ack),
                Push(A2B, "3", &["b=1"]),
            ],
        ),
        (
            "the first request after a reconnect may carry an old nonce and gets everything",
            ENDPOINT,
            vec![
                Request(request("77", &["a"]), Meaning::Subscribe),
                Push(AB, "1", &["a=1"]),
            ],
        ),
        (
            "an empty nonce starts over",
            ENDPOINT,
            vec![
                Request(request("", &["a"]), Meaning::Subscribe),
                Push(AB, "1", &["a=1"]),
                Request(request("", &["a", "b"]), Meaning::Subscribe),
                Push(AB, "2", &["a=1", "b=1"]),
            ],
        ),
        (
            "endpoints of clusters that changed are sent again although they look acknowledged",
            ENDPOINT,
            vec![
                Request(request("", &["a"]), Meaning::Subscribe),
                Push(AB, "1", &["a=1"]),
                Request(request("1", &["a"]), Meaning::Ack),
                AnswerNextAck,
                Push(AB, "", NOTHING),
                Request(request("1", &["a"]), Meaning::Ack),
                Push(AB, "2", &["a=1"]),
                Request(request("2", &["a"]), Meaning::Ack),
                Push(AB, "", NOTHING),
            ],
        ),
    ];

    for (case, type_url, steps) in cases {
        let mut subscription = Subscription::new(type_url);
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Request(request, meaning) => {
                    assert_eq!(
                        subscription.on_request(&request),
                        meaning,
                        "{case}: step {at}"
                    );
                }
                Push(available, nonce, expected) => {
                    let pushed = push(&mut subscription, &set(available), nonce);
                    assert_eq!(pushed, expected, "{case}: step {at}");
                }
                AnswerNextAck => subscription.clusters_changed(&[]),
            }
        }
    }
}

#[test]
fn the_version_depends_on_content_and_names_alone() {
    let mut wildcard = Subscription::new(CLUSTER);
    wildcard.on_request(&request("", &[]));
    let version = |set: &ResourceSet| wildcard.due(set, Keep::Nothing).expect("owed").version;

    let one = version(&set(&[("a", "1"), ("b", "1")]));
    assert_eq!(one, version(&set(&[("b", "1"), ("a", "1")])));
    assert_ne!(one, version(&set(&[("a", "1"), ("b", "2")])));
    assert_ne!(one, version(&set(&[("a", "1")])));
}
