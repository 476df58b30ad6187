use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::rpc;

use super::*;
use crate::type_url::{CLUSTER, ENDPOINT};

type Content<'a> = &'a [(&'a str, &'a str)];

enum Step<'a> {
    Request(Box<DeltaDiscoveryRequest>, Meaning),
    /// What is available, the nonce, what is sent: `name=content`, `-name` for what is removed.
    Push(Content<'a>, &'a str, &'a [&'a str]),
    /// The same while what has gone is kept, unless it is `c`.
    Kept(Content<'a>, &'a str, &'a [&'a str]),
    Changed(&'a str),
}
use Step::{Changed, Kept, Push, Request};

fn resource(name: &str, content: &str) -> Resource {
    let body = Any {
        type_url: ENDPOINT.to_owned(),
        value: content.as_bytes().to_vec(),
    };
    Resource::from_any(name, body)
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

/// A change of what is wanted.
fn ask(subscribe: &[&str], unsubscribe: &[&str]) -> Box<DeltaDiscoveryRequest> {
    Box::new(DeltaDiscoveryRequest {
        resource_names_subscribe: names(subscribe),
        resource_names_unsubscribe: names(unsubscribe),
        ..DeltaDiscoveryRequest::default()
    })
}

/// The first request behind a reconnect of a client that holds these.
fn again(subscribe: &[&str], holds: Content<'_>) -> Box<DeltaDiscoveryRequest> {
    let version = |(name, content): &(&str, &str)| {
        let version = match *content {
            "of another" => "of another".to_owned(),
            content => version_text(resource(name, content).version()),
        };
        ((*name).to_owned(), version)
    };
    Box::new(DeltaDiscoveryRequest {
        initial_resource_versions: holds.iter().map(version).collect(),
        ..*ask(subscribe, &[])
    })
}

fn ack(nonce: &str) -> Box<DeltaDiscoveryRequest> {
    Box::new(DeltaDiscoveryRequest {
        response_nonce: nonce.to_owned(),
        ..DeltaDiscoveryRequest::default()
    })
}

fn nack(nonce: &str) -> Box<DeltaDiscoveryRequest> {
    nack_saying(nonce, "")
}

fn nack_saying(nonce: &str, error: &str) -> Box<DeltaDiscoveryRequest> {
    Box::new(DeltaDiscoveryRequest {
        error_detail: Some(rpc::Status {
            message: error.to_owned(),
            ..rpc::Status::default()
        }),
        ..*ack(nonce)
    })
}

fn push(delta: &mut Delta, content: Content<'_>, keep: Keep<'_>, nonce: &str) -> Vec<String> {
    let available: ResourceSet = content.iter().map(|(n, c)| resource(n, c)).collect();
    let Some(due) = delta.due(&available, keep) else {
        return names(&["nothing"]);
    };
    delta.sent(&due, nonce);
    let sent = Delta::response("", nonce, &due);
    let body = |it: Sent| String::from_utf8(it.resource.expect("a body").value);
    let resources = sent.resources.into_iter();
    let resources =
        resources.map(|it| format!("{}={}", it.name.clone(), body(it).expect("a text")));
    let removed = sent
        .removed_resources
        .into_iter()
        .map(|name| format!("-{name}"));
    resources.chain(removed).collect()
}

#[test]
fn what_was_refused_is_refused_until_it_is_taken_or_no_longer_wanted() {
    let both: Content<'_> = &[("a", "1"), ("b", "1")];
    let other: Content<'_> = &[("a", "1"), ("b", "2")];
    let good: Content<'_> = &[("a", "2"), ("b", "2")];
    for (end, gone) in [(good, ""), (other, "a"), (other, "a b")] {
        let mut delta = Delta::new(ENDPOINT);
        delta.on_request(&ask(&["a", "b"], &[]));
        push(&mut delta, both, Keep::Nothing, "1");
        delta.on_request(&ack("1"));
        push(&mut delta, &[("a", "bad"), ("b", "1")], Keep::Nothing, "2");
        delta.on_request(&nack("2"));
        push(&mut delta, &[("a", "bad"), ("b", "2")], Keep::Nothing, "3");
        delta.on_request(&ack("3"));
        assert!(delta.refuses() && delta.answers().is_acknowledged());
        let gone: Vec<&str> = gone.split_whitespace().collect();
        delta.on_request(&ask(&[], &gone));
        push(&mut delta, end, Keep::Nothing, "4");
        delta.on_request(&ack("4"));
        assert!(!delta.refuses(), "{end:?} without {gone:?}");
    }
}

#[test]
fn what_was_refused_by_name_is_refused_whatever_else_of_the_response_is_taken() {
    let mut delta = Delta::new(CLUSTER);
    delta.on_request(&ask(&[], &[]));
    let all: Content<'_> = &[("a", "bad"), ("a.b", "1"), ("b", "bad"), ("c", "1")];
    push(&mut delta, all, Keep::Nothing, "1");
    // As Envoy says it.
    let error = "Error adding/updating cluster(s) a: cannot read it, b: neither this";
    delta.on_request(&nack_saying("1", error));
    let steps: [(Content<'_>, bool); 4] = [
        (
            &[("a", "bad"), ("a.b", "2"), ("b", "bad"), ("c", "1")],
            true,
        ),
        (&[("a", "bad"), ("a.b", "2"), ("b", "2"), ("c", "1")], true),
        (&[("a.b", "2"), ("b", "2"), ("c", "2")], false),
        (&[("a.b", "3"), ("b", "2")], false),
    ];
    for (step, (content, refuses)) in steps.into_iter().enumerate() {
        let nonce = format!("{}", step + 2);
        push(&mut delta, content, Keep::Nothing, &nonce);
        assert!(step > 0 || delta.refuses());
        delta.on_request(&ack(&nonce));
        assert_eq!(delta.refuses(), refuses, "{content:?}");
    }
}

#[test]
fn whoever_is_not_named_may_be_refused_where_the_rest_is_not_taken_or_the_text_is_cut() {
    let both: Content<'_> = &[("a", "bad"), ("b", "1")];
    let long = format!("a: {}", "x".repeat(MAX_ERROR_BYTES));
    for (type_url, error, is_suspected) in [
        (CLUSTER, &*long, true),
        (CLUSTER, "a: cannot read it", false),
        (CLUSTER, "a: cannot read it...(truncated)", true),
        (CLUSTER, "a: cannot read it …", true),
        (ENDPOINT, "a: cannot read it", true),
    ] {
        let mut delta = Delta::new(type_url);
        delta.on_request(&ask(&["a", "b"], &[]));
        push(&mut delta, both, Keep::Nothing, "1");
        delta.on_request(&nack_saying("1", error));
        push(&mut delta, &[("a", "2"), ("b", "1")], Keep::Nothing, "2");
        delta.on_request(&ack("2"));
        assert_eq!(delta.refuses(), is_suspected, "{type_url}: {error}");
        push(&mut delta, &[("a", "2"), ("b", "2")], Keep::Nothing, "3");
        delta.on_request(&ack("3"));
        assert!(!delta.refuses(), "{type_url}: {error}");
    }
}

#[test]
fn trap_14_the_decision_table() {
    const AB: Content<'_> = &[("a", "1"), ("b", "1")];
    const A2B: Content<'_> = &[("a", "2"), ("b", "1")];
    const B: Content<'_> = &[("b", "1")];
    const ABC: Content<'_> = &[("a", "1"), ("b", "1"), ("c", "1")];
    const NOTHING: &[&str] = &["nothing"];
    let cases: Vec<(&str, &str, Vec<Step<'_>>)> = vec![
        (
            "a wildcard type without names gets everything, then what has changed and what has gone",
            CLUSTER,
            vec![
                Request(ask(&[], &[]), Meaning::Subscribe),
                Push(AB, "1", &["a=1", "b=1"]),
                Request(ack("1"), Meaning::Ack),
                Push(AB, "", NOTHING),
                Push(A2B, "2", &["a=2"]),
                Push(B, "3", &["-a"]),
                Push(B, "", NOTHING),
                Push(AB, "4", &["a=1"]),
            ],
        ),
        (
            "a wildcard type with names gets those; a star adds all, and takes all but those away",
            CLUSTER,
            vec![
                Request(ask(&["b"], &[]), Meaning::Subscribe),
                Push(AB, "1", &["b=1"]),
                Request(ask(&["*"], &[]), Meaning::Subscribe),
                Push(AB, "2", &["a=1"]),
                Request(ask(&[], &["*"]), Meaning::Subscribe),
                Push(A2B, "", NOTHING),
                Push(&[("a", "2"), ("b", "2")], "3", &["b=2"]),
            ],
        ),
        (
            "what is unsubscribed by name and wanted with all others is sent again",
            CLUSTER,
            vec![
                Request(ask(&["*", "a"], &[]), Meaning::Subscribe),
                Push(AB, "1", &["a=1", "b=1"]),
                Request(ask(&[], &["a"]), Meaning::Subscribe),
                Push(AB, "2", &["a=1"]),
            ],
        ),
        (
            "other types get what they name",
            ENDPOINT,
            vec![
                Request(ask(&["a"], &[]), Meaning::Subscribe),
                Push(AB, "1", &["a=1"]),
                Request(ask(&["b"], &[]), Meaning::Subscribe),
                Push(AB, "2", &["b=1"]),
                Request(ask(&[], &["a"]), Meaning::Subscribe),
                Push(A2B, "", NOTHING),
            ],
        ),
        (
            "a name that does not exist is told, once, and sent as soon as it does",
            ENDPOINT,
            vec![
                Request(ask(&["a", "c"], &[]), Meaning::Subscribe),
                Push(AB, "1", &["a=1", "-c"]),
                Push(AB, "", NOTHING),
                Push(&[("a", "1"), ("c", "1")], "2", &["c=1"]),
                Push(&[("a", "1")], "3", &["-c"]),
                Push(&[("a", "1")], "", NOTHING),
            ],
        ),
        (
            "who asks again has forgotten",
            ENDPOINT,
            vec![
                Request(ask(&["a"], &[]), Meaning::Subscribe),
                Push(AB, "1", &["a=1"]),
                Request(ask(&["a"], &[]), Meaning::Subscribe),
                Push(AB, "2", &["a=1"]),
            ],
        ),
        (
            "behind a reconnect only what is different comes, and an answer always does",
            CLUSTER,
            vec![
                Request(
                    again(&[], &[("a", "1"), ("b", "1"), ("c", "1")]),
                    Meaning::Subscribe,
                ),
                Push(A2B, "1", &["a=2", "-c"]),
            ],
        ),
        (
            "behind a reconnect with the newest of all there is an empty answer",
            ENDPOINT,
            vec![
                Request(again(&["a"], &[("a", "1")]), Meaning::Subscribe),
                Push(AB, "1", &[]),
                Push(AB, "", NOTHING),
            ],
        ),
        (
            "versions of another control plane are none of ours",
            ENDPOINT,
            vec![
                Request(
                    again(&["a", "b"], &[("a", "of another"), ("b", "of another")]),
                    Meaning::Subscribe,
                ),
                Push(&[("a", "1")], "1", &["a=1", "-b"]),
            ],
        ),
        (
            "what is held counts as asked for when nothing else is",
            ENDPOINT,
            vec![
                Request(again(&[], &[("a", "1")]), Meaning::Subscribe),
                Push(A2B, "1", &["a=2"]),
            ],
        ),
        (
            "a refusal gets no response until something changes",
            ENDPOINT,
            vec![
                Request(ask(&["a"], &[]), Meaning::Subscribe),
                Push(AB, "1", &["a=1"]),
                Request(nack("1"), Meaning::Nack),
                Push(AB, "", NOTHING),
                Push(A2B, "2", &["a=2"]),
            ],
        ),
        (
            "an answer to an older response is counted, and what it asks for is not lost",
            ENDPOINT,
            vec![
                Request(ask(&["a"], &[]), Meaning::Subscribe),
                Push(AB, "1", &["a=1"]),
                Push(A2B, "2", &["a=2"]),
                Request(
                    Box::new(DeltaDiscoveryRequest {
                        resource_names_subscribe: names(&["b"]),
                        ..*ack("1")
                    }),
                    Meaning::Stale,
                ),
                Push(A2B, "3", &["b=1"]),
            ],
        ),
        (
            "what has gone is kept as long as it may still be named",
            CLUSTER,
            vec![
                Request(ask(&[], &[]), Meaning::Subscribe),
                Push(ABC, "1", &["a=1", "b=1", "c=1"]),
                Kept(&[("b", "1"), ("c", "1")], "", NOTHING),
                Kept(&[("b", "2"), ("c", "1")], "2", &["b=2"]),
                Kept(&[("b", "2")], "3", &["-c"]),
                Push(&[("b", "2")], "4", &["-a"]),
            ],
        ),
        (
            "endpoints of clusters that changed are sent again",
            ENDPOINT,
            vec![
                Request(ask(&["a", "b"], &[]), Meaning::Subscribe),
                Push(AB, "1", &["a=1", "b=1"]),
                Changed("a"),
                Push(AB, "2", &["a=1"]),
            ],
        ),
    ];

    for (case, type_url, steps) in cases {
        let mut delta = Delta::new(type_url);
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Request(request, meaning) => {
                    assert_eq!(delta.on_request(&request), meaning, "{case}: step {at}");
                }
                Push(available, nonce, expected) => {
                    let pushed = push(&mut delta, available, Keep::Nothing, nonce);
                    assert_eq!(pushed, expected, "{case}: step {at}");
                }
                Kept(available, nonce, expected) => {
                    let let_go = BTreeSet::from(["c".to_owned()]);
                    let keep = Keep::AllBut(&let_go);
                    let pushed = push(&mut delta, available, keep, nonce);
                    assert_eq!(pushed, expected, "{case}: step {at}");
                }
                Changed(name) => delta.clusters_changed(&[Arc::new(resource(name, ""))]),
            }
        }
    }
}
