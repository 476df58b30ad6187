//! What users of Istio complain of, made to happen by real processes: `periplus doctor tracing` names the cause.

mod world;

use world::{App, World};

const ZIPKIN: &str = "extensionProviders:
- {name: z, zipkin: {service: zipkin.istio-system.svc.cluster.local, port: 9411}}
";
const OTLP: &str = "extensionProviders:
- name: z
  opentelemetry:
    service: zipkin.istio-system.svc.cluster.local
    port: 9411
    http: {path: /v1/traces}
";
const DEFAULT: &str = "defaultProviders: {tracing: [z]}
";
const SAMPLED: &str = "defaultConfig: {tracing: {sampling: 100}}
";

fn telemetry(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: {name}}}
spec: {spec}
---
"
    )
}

/// A case in which nothing arrives.
struct Silent<'a> {
    complaint: &'a str,
    mesh_config: String,
    resources: String,
    step: &'a str,
    said: &'a str,
}

#[test]
fn nothing_arrives_and_the_cause_is_named() {
    let world = World::start();
    let whole = format!("{ZIPKIN}{DEFAULT}{SAMPLED}");
    let root = |tracing: &str| {
        telemetry("all", &format!("{{tracing: [{{{tracing}}}]}}"))
            .replace("name: all}", "name: all, namespace: istio-system}")
    };
    let to = |port: u16| world.collector(port, "HTTP");
    let zipkin = world.port("Zipkin");
    let cases = [
        Silent {
            complaint: "a Telemetry without a provider does nothing (istio/istio#38920)",
            mesh_config: ZIPKIN.to_owned(),
            resources: to(zipkin) + &root("randomSamplingPercentage: 100"),
            step: "provider",
            said: "asks for tracing, and neither it nor the mesh says where spans go",
        },
        Silent {
            complaint: "another name of the provider: no traces, no error (istio/istio#56180)",
            mesh_config: whole.clone(),
            resources: to(zipkin) + &root("providers: [{name: zipkin}]"),
            step: "provider",
            said: "no provider of tracing `zipkin`",
        },
        Silent {
            complaint: "no traces until defaultProviders is added (istio/istio#54436)",
            mesh_config: format!("{ZIPKIN}{SAMPLED}"),
            resources: to(zipkin),
            step: "provider",
            said: "nothing says that z is to be used",
        },
        Silent {
            complaint: "the collector's host is not in the registry (istio/istio#37829)",
            mesh_config: whole.clone(),
            resources: String::new(),
            step: "cluster",
            said: "there is no service `zipkin.istio-system.svc.cluster.local`",
        },
        Silent {
            complaint: "everything is configured, no traces arrive (istio/istio#35750)",
            mesh_config: whole.clone(),
            resources: to(world.closed) + &root("providers: [{name: z}]"),
            step: "reachable",
            said: "does not take connections",
        },
        Silent {
            complaint: "the sampling of the mesh has no effect (istio/istio#34161)",
            mesh_config: whole.clone(),
            resources: to(zipkin) + &root("randomSamplingPercentage: 0"),
            step: "sampled",
            said: "0 % of the requests are sampled, at back-v1.default, by Telemetry istio-system/all (",
        },
        Silent {
            complaint: "the collector's other port (kiali/kiali#7323)",
            mesh_config: whole,
            resources: to(world.port("OTLP over HTTP")),
            step: "exported",
            said: "reports were refused, and none was taken",
        },
    ];
    for case in cases {
        let complaint = case.complaint;
        world.apply(&case.mesh_config, &case.resources);
        let found = world.ask_until(complaint, |found| {
            found.failed() == Some((case.step, true)) && found.says(case.step, case.said)
        });
        assert!(found.advises(case.step), "{complaint}: {found:?}");
        if case.step == "reachable" {
            // Nobody has to ask: the resource itself says so.
            world.wait_until_collector_is(false);
        }
        assert_eq!(
            world.services(),
            [""; 0],
            "{complaint}: something has arrived"
        );
    }
}

#[test]
fn traces_are_broken_and_the_cause_is_named() {
    let world = World::start();
    let telemetry_of = |app: &str, spec: &str| {
        let selector = format!("selector: {{matchLabels: {{app: {app}}}}}");
        telemetry(app, &format!("{{{selector}, tracing: [{{{spec}}}]}}"))
    };
    let zipkin = world.port("Zipkin");
    let to = |port: u16| world.collector(port, "HTTP");

    // Only one side reports: chains are incomplete (istio/istio#8155).
    world.front.behaves(App::HandsOn);
    let whole = format!("{ZIPKIN}{DEFAULT}{SAMPLED}");
    let silent = telemetry_of("back", "disableSpanReporting: true");
    world.apply(&whole, &(to(zipkin) + &silent));
    let found = world.ask_until("one side alone reports", |found| {
        found.says("received", "none of back-v1: Telemetry default/back (")
            && found.says("received", "turns the spans of back-v1 off")
    });
    assert_eq!(found.failed(), None, "{found:?}");

    // Services are sampled apart, and nobody is told of it (istio/istio#12818).
    let half = telemetry_of("back", "randomSamplingPercentage: 50");
    world.apply(&whole, &(to(zipkin) + &half));
    let found = world.ask_until("two rates", |found| {
        found.says(
            "sampled",
            "50 % to 100 % of the requests, 50 % at back-v1.default, by Telemetry default/back (",
        )
    });
    assert_eq!(found.failed(), None, "{found:?}");

    let z = telemetry("all", "{tracing: [{providers: [{name: z}]}]}");
    world.apply(&whole, &(to(zipkin) + &z));
    world.wait_until_collector_is(true);

    // REGISTRY_ONLY, and a Sidecar that hides the collector, turn tracing off (istio/istio#53701): here they do not.
    let hidden = format!("{whole}outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}\n");
    world.hide_others();
    world.apply(&hidden, &to(zipkin));
    let found = world.ask_until("the collector is out of sight", |found| {
        found.state("received") == "passed" && found.state("propagated") == "passed"
    });
    assert_eq!(found.failed(), None, "{found:?}");
    assert_eq!(world.services(), ["back.default", "front.default"]);

    // Traces end after a hop, with wrong parents (istio/istio#7730, #11696): the application drops the headers.
    world.front.behaves(App::Drops);
    let found = world.ask_until("headers are dropped", |found| {
        found.failed() == Some(("propagated", true))
    });
    let said = "the application of front.default does not hand on the tracing headers";
    assert!(found.says("propagated", said), "{found:?}");
    assert!(found.advises("propagated"));
}

/// With OpenTelemetry's provider only the gateway's egress shows up (istio/istio#50117): nobody else has a proxy.
#[test]
fn traces_of_a_gateway_alone_are_told_from_those_of_a_mesh() {
    let world = World::start_with_gateway();
    let otlp = "extensionProviders: [{name: z, opentelemetry: {service: zipkin.istio-system.svc.cluster.local, port: 9411}}]\n";
    let collector = world.collector(world.port("OTLP over gRPC"), "GRPC");
    world.apply(&format!("{otlp}{DEFAULT}{SAMPLED}"), &collector);
    let found = world.ask_until("a gateway alone", |found| {
        found.failed() == Some(("received", true))
            && found.says(
                "received",
                "none of back-v1.default, front-v1.default has a proxy",
            )
    });
    assert!(found.advises("received"));
    assert_eq!(world.services(), ["edge.istio-system"]);
}

/// Bookinfo hands on B3 alone, and OpenTelemetry's provider speaks W3C (istio/istio#55172).
#[test]
fn an_application_that_knows_another_convention_is_named() {
    let world = World::start();
    world.front.behaves(App::HandsOnB3);
    let otlp = world.collector(world.port("OTLP over HTTP"), "HTTP");
    world.apply(&format!("{OTLP}{DEFAULT}{SAMPLED}"), &otlp);
    let found = world.ask_until("two conventions", |found| {
        found.failed() == Some(("propagated", true))
    });
    let said = "the application of front.default does not hand on the tracing headers of the requests that it works \
                on (traceparent and tracestate with provider `z`)";
    assert!(found.says("propagated", said), "{found:?}");
    assert!(found.advises("propagated"));

    world.front.behaves(App::BeginsB3);
    let said =
        "the application of front.default sends b3 headers alone, and its proxy reads traceparent";
    world.ask_until("headers that nobody reads", |found| {
        found.failed() == Some(("propagated", true)) && found.says("propagated", said)
    });
}
