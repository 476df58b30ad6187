//! What one server stores reaches another.

use std::fs;
use std::net::SocketAddr;

use rustix::process::Signal;

use crate::client::{Client, patiently};
use crate::harness::Serve;
use crate::spans;
use crate::tls::{Authority, Files};

/// A number on the page of metrics; `None` if it is not there.
async fn metric(client: &Client, serve: &Serve, name: &str, labels: &str) -> Option<u64> {
    let page = client
        .get(&format!("{}/metrics", serve.addresses["own metrics"]), &[])
        .await;
    let line = format!("{name}{{{labels}}} ");
    let value = page
        .text
        .lines()
        .find_map(|found| found.strip_prefix(&line));
    value.map(|value| value.parse().unwrap())
}

async fn has_trace(client: &Client, ui: SocketAddr, id: u64, headers: &[(&str, &str)]) -> bool {
    let url = format!("{ui}/api/traces/{id:032x}");
    client.get(&url, headers).await.status == 200
}

#[tokio::test]
async fn each_protocol_reaches_an_endpoint_that_was_away() {
    let mut far = Serve::start();
    let address = |port: &str| far.addresses[port].to_string();
    let (otlp, grpc, zipkin) = (
        address("OTLP over HTTP"),
        address("OTLP over gRPC"),
        address("Zipkin"),
    );
    let endpoints = [
        format!("otlp+http://{otlp}"),
        format!("otlp-grpc+http://{grpc}"),
        format!("zipkin+http://{zipkin}"),
    ];
    let paths = [
        "/v1/traces",
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        "/api/v2/spans",
    ];
    let client = Client::plain();
    let nears = endpoints
        .each_ref()
        .map(|endpoint| Serve::start_with(&["--memory", "--forward", endpoint]));
    let labels: Vec<String> = (endpoints.iter().zip(paths))
        .map(|(endpoint, path)| format!("endpoint=\"{endpoint}{path}\""))
        .collect();

    // A trace in each of two formats, through each of the near ones.
    let send = async |near: &Serve, first: u64| {
        let url = format!("{}/v1/traces", near.addresses["OTLP over HTTP"]);
        let json = [("content-type", "application/json")];
        let answer = client
            .post(&url, &json, spans::otlp_json(first, "shop", 3))
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let url = format!("{}/api/v2/spans", near.addresses["Zipkin"]);
        let answer = client
            .post(&url, &json, spans::zipkin(first + 0x100, "shop"))
            .await;
        assert_eq!(answer.status, 202, "{answer:?}");
    };
    for (near, first) in nears.iter().zip([0x1000, 0x2000, 0x3000]) {
        send(near, first).await;
        for id in [first, first + 0x100] {
            let ui = far.addresses["UI"];
            let arrived = async || has_trace(&client, ui, id, &[]).await.then_some(());
            patiently("the trace", arrived).await;
        }
    }

    // The far one goes away; nobody who sends to a near one notices.
    let ports = [
        ("--otlp-http-port", otlp),
        ("--otlp-grpc-port", grpc),
        ("--zipkin-port", zipkin),
    ];
    assert_eq!(far.signal(Signal::TERM), Some(0));
    for ((near, first), labels) in nears.iter().zip([0x4000, 0x5000, 0x6000]).zip(&labels) {
        send(near, first).await;
        patiently("a failure", async || {
            let name = "periplus_forward_failed_requests_total";
            metric(&client, near, name, labels)
                .await
                .filter(|&count| count > 0)
        })
        .await;
        let queued = metric(&client, near, "periplus_forward_queued_bytes", labels).await;
        assert!(queued > Some(0), "{queued:?}");
    }
    let flags = ports
        .each_ref()
        .map(|(flag, address)| [*flag, address.as_str()]);
    far = Serve::start_with(&[&["--memory"][..], flags.as_flattened()].concat());
    for ((near, first), labels) in nears.iter().zip([0x4000, 0x5000, 0x6000]).zip(&labels) {
        for id in [first, first + 0x100] {
            let ui = far.addresses["UI"];
            let arrived = async || has_trace(&client, ui, id, &[]).await.then_some(());
            patiently("the trace", arrived).await;
        }
        let sent = async || {
            let name = "periplus_forward_sent_spans_total";
            metric(&client, near, name, labels)
                .await
                .filter(|&sent| sent == 8)
        };
        patiently("all spans to be counted as sent", sent).await;
        for name in [
            "periplus_forward_overflowed_spans_total",
            "periplus_forward_given_up_spans_total",
            "periplus_forward_queued_bytes",
        ] {
            assert_eq!(metric(&client, near, name, labels).await, Some(0), "{name}");
        }
    }
}

#[tokio::test]
async fn what_an_endpoint_refuses_is_counted_and_dropped() {
    let far = Serve::start();
    // It has no such path.
    let endpoint = format!("otlp+http://{}/nowhere", far.addresses["OTLP over HTTP"]);
    let near = Serve::start_with(&["--memory", "--forward", &endpoint]);
    let client = Client::plain();
    let url = format!("{}/api/v2/spans", near.addresses["Zipkin"]);
    let json = [("content-type", "application/json")];
    assert_eq!(
        client
            .post(&url, &json, spans::zipkin(1, "shop"))
            .await
            .status,
        202
    );
    patiently("the refusal", async || {
        let (name, labels) = (
            "periplus_forward_given_up_spans_total",
            format!("endpoint=\"{endpoint}\""),
        );
        metric(&client, &near, name, &labels)
            .await
            .filter(|&count| count == 1)
    })
    .await;
    assert!(has_trace(&client, near.addresses["UI"], 1, &[]).await);
}

#[tokio::test]
async fn an_endpoint_s_certificate_must_be_an_authority_s() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = Files::write(dir.path(), &authority);
    let far = Serve::start_with(&[&["--memory"][..], &files.flags()].concat());
    let foreign = dir.path().join("foreign.crt");
    fs::write(&foreign, Authority::new().pem).unwrap();
    let secure = Client::trusting(&authority.pem, None);
    let plain = Client::plain();
    for (id, scheme, port) in [
        (1, "otlp", "OTLP over HTTP"),
        (2, "otlp-grpc", "OTLP over gRPC"),
        (3, "zipkin", "Zipkin"),
    ] {
        let endpoint = format!("{scheme}+https://{}", far.addresses[port]);
        let start = |authorities: &str| {
            let forward = ["--forward", &endpoint, "--forward-ca", authorities];
            Serve::start_with(&[&["--memory"][..], &forward].concat())
        };
        let send = async |near: &Serve| {
            let url = format!("{}/api/v2/spans", near.addresses["Zipkin"]);
            let json = [("content-type", "application/json")];
            let answer = plain.post(&url, &json, spans::zipkin(id, "shop")).await;
            assert_eq!(answer.status, 202);
        };
        let distrustful = start(foreign.to_str().unwrap());
        send(&distrustful).await;
        patiently("a failure", async || {
            let page = format!("{}/metrics", distrustful.addresses["own metrics"]);
            let page = plain.get(&page, &[]).await.text;
            let failed = page.lines().find(|line| {
                line.starts_with("periplus_forward_failed_requests_total{") && !line.ends_with(" 0")
            });
            failed.map(|_| ())
        })
        .await;
        let ui = far.addresses["UI"];
        assert!(!has_trace(&secure, ui, id, &[]).await);

        let near = start(files.authorities());
        send(&near).await;
        let arrived = async || has_trace(&secure, ui, id, &[]).await.then_some(());
        patiently("the trace", arrived).await;
    }
}

#[tokio::test]
async fn an_endpoint_that_asks_who_sends_is_told() {
    const TOKEN: &str = "0123456789abcdef-write";
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = Files::write(dir.path(), &authority);
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let identity = authority.sign();
    let (cert, key) = (
        file("near.crt", &identity.certificate),
        file("near.key", &identity.key),
    );
    let token = file("token", TOKEN);
    let reader = "0123456789abcdef-read";
    let access = format!(
        "access: {{tokens: [{{name: near, token: {TOKEN}, scopes: [write]}}, \
         {{name: we, token: {reader}, scopes: [read]}}]}}\n"
    );
    let config = file("far.yaml", &access);
    let no_agent = [
        "--jaeger-compact-port",
        "off",
        "--jaeger-binary-port",
        "off",
    ];
    let far = [
        &[
            "--memory",
            "--config",
            &config,
            "--tls-client-ca",
            files.authorities(),
        ][..],
        &no_agent,
        &files.flags(),
    ]
    .concat();
    let far = Serve::run(crate::harness::command(&far));
    let client = Client::plain();
    let reads = Client::trusting(&authority.pem, Some(&identity));
    for (id, scheme, port) in [
        (1, "otlp", "OTLP over HTTP"),
        (2, "otlp-grpc", "OTLP over gRPC"),
        (3, "zipkin", "Zipkin"),
    ] {
        let forward = format!(
            "forward: [{{to: {scheme}+https://{}, ca: {}, cert: {cert}, key: {key}, \
             token-file: {token}}}]\n",
            far.addresses[port],
            files.authorities()
        );
        let near = file("near.yaml", &forward);
        let near = Serve::start_with(&["--memory", "--config", &near]);
        let url = format!("{}/api/v2/spans", near.addresses["Zipkin"]);
        let json = [("content-type", "application/json")];
        let answer = client.post(&url, &json, spans::zipkin(id, "shop")).await;
        assert_eq!(answer.status, 202);
        let bearer = format!("Bearer {reader}");
        let headers = [("authorization", bearer.as_str())];
        let ui = far.addresses["UI"];
        let arrived = async || has_trace(&reads, ui, id, &headers).await.then_some(());
        patiently("the trace", arrived).await;
    }
}

#[tokio::test]
async fn a_tenant_s_spans_are_forwarded_in_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("periplus.yaml");
    fs::write(&config, "access: {tenants: {known: {shop: {}, bank: {}}}}").unwrap();
    let tenants = ["--memory", "--config", config.to_str().unwrap()];
    let no_agent = [
        "--jaeger-compact-port",
        "off",
        "--jaeger-binary-port",
        "off",
    ];
    let start = |flags: &[&str]| {
        let flags = [&tenants[..], &no_agent, flags].concat();
        Serve::run(crate::harness::command(&flags))
    };
    let far = start(&[]);
    let endpoint = format!("otlp-grpc+http://{}", far.addresses["OTLP over gRPC"]);
    let near = start(&["--forward", &endpoint]);
    let client = Client::plain();
    for (tenant, id) in [("shop", 1), ("bank", 2)] {
        let url = format!("{}/api/v2/spans", near.addresses["Zipkin"]);
        let headers = [("content-type", "application/json"), ("x-tenant", tenant)];
        assert_eq!(
            client
                .post(&url, &headers, spans::zipkin(id, tenant))
                .await
                .status,
            202
        );
    }
    let ui = far.addresses["UI"];
    for (tenant, own, other) in [("shop", 1, 2), ("bank", 2, 1)] {
        let headers = [("x-tenant", tenant)];
        let arrived = async || has_trace(&client, ui, own, &headers).await.then_some(());
        patiently("the trace", arrived).await;
        assert!(!has_trace(&client, ui, other, &headers).await);
    }
}
