//! What the commands print that ask those who run, as a table and as JSON.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SerialNumber, date_time_ymd};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::fake::serve;
use super::{MESH, RULES, printed};

/// A proxy's pages: the resources of `/config_dump` in the shapes that each table tells apart.
fn proxy() -> u16 {
    let of_istio = |path: &str| json!({"filter_metadata": {"istio": {"config": path}}});
    let rule = "/apis/networking.istio.io/v1/namespaces/default/destination-rule/reviews";
    let service = "/apis/networking.istio.io/v1/namespaces/default/virtual-service/reviews";
    let reviews = "outbound|9080|v1|reviews.default.svc.cluster.local";
    let socket = |address: &str, port: u16| json!({"socket_address": {"address": address, "port_value": port}});
    let tcp = |cluster: Value| {
        json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "cluster": cluster,
        }})
    };
    let http = |more: Value| {
        let mut config = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        });
        config
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": config})
    };
    let clusters = json!({
        "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
        "static_clusters": [{"cluster": {"name": "xds-grpc"}}],
        "dynamic_active_clusters": [
            {"cluster": {"name": reviews, "type": "EDS", "metadata": of_istio(rule)}},
            {"cluster": {"name": "PassthroughCluster", "type": "ORIGINAL_DST"}},
        ],
        "dynamic_warming_clusters": [{"cluster": {"name": "inbound|9080||", "type": "STRICT_DNS"}}],
    });
    let by_name = http(json!({"rds": {"route_config_name": "9080"}}));
    let inline = http(
        json!({"route_config": {"virtual_hosts": [{"routes": [{"match": {"prefix": "/"}}]}]}}),
    );
    let listeners = json!({
        "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
        "static_listeners": [{"listener": {
            "name": "stats", "address": socket("127.0.0.1", 15090),
            "filter_chains": [{"filters": [inline]}],
        }}],
        "dynamic_listeners": [
            {"name": "0.0.0.0_9080", "active_state": {"listener": {
                "name": "0.0.0.0_9080", "address": socket("0.0.0.0", 9080),
                "filter_chains": [
                    {"filter_chain_match": {"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"]}, "filters": [by_name]},
                    {"filter_chain_match": {"server_names": ["a.example", "b.example"]}, "filters": [tcp(json!("outbound|443||a.example"))]},
                    {"filter_chain_match": {"destination_port": 9080, "prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}, "filters": [tcp(json!("outbound|9080||b.example"))]},
                ],
                "default_filter_chain": {"filters": [tcp(json!("PassthroughCluster"))]},
            }}},
            {"name": "gone", "draining_state": {"listener": {
                "name": "gone", "address": socket("127.0.0.1", 7), "filter_chains": [{"filters": []}],
            }}},
        ],
    });
    let routes = json!({
        "@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump",
        "static_route_configs": [],
        "dynamic_route_configs": [{"route_config": {"name": "9080", "virtual_hosts": [
            {
                "name": "reviews.default.svc.cluster.local:9080",
                "domains": ["reviews", "reviews.default", "reviews.default.svc"],
                "routes": [
                    {"match": {"prefix": "/", "headers": [{"name": "end-user"}], "query_parameters": [{"name": "beta"}]}, "route": {"cluster": reviews}, "metadata": of_istio(service)},
                    {"match": {"path": "/exact"}, "direct_response": {"status": 418}},
                    {"match": {"safe_regex": {"regex": "/[0-9]+"}}, "route": {"cluster": reviews}},
                ],
            },
            {"name": "block_all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 502}}]},
        ]}}],
    });
    let bootstrap = json!({
        "@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump",
        "bootstrap": {"node": {"id": "sidecar~127.0.0.1~shop.default~default.svc.cluster.local"}},
    });
    let host = |port: u16, health: Value| json!({"address": socket("10.0.0.1", port), "health_status": health});
    let secrets = json!({
        "@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump",
        "dynamic_active_secrets": [
            {"name": "default", "secret": {"name": "default", "tls_certificate": {
                "certificate_chain": {"inline_bytes": BASE64_STANDARD.encode(certificate(0x0c) + &certificate(0x0d))},
                "private_key": {"inline_bytes": BASE64_STANDARD.encode("[redacted]")},
            }}},
            {"name": "ROOTCA", "secret": {"name": "ROOTCA", "validation_context": {
                "trusted_ca": {"inline_string": certificate(0x0d) + &certificate(0x0e)},
            }}},
        ],
        "dynamic_warming_secrets": [{"name": "kubernetes://edge"}],
    });
    let endpoints = json!({"cluster_statuses": [
        {"name": reviews, "host_statuses": [
            host(9080, json!({"eds_health_status": "HEALTHY"})),
            host(9081, json!({"eds_health_status": "UNHEALTHY"})),
            host(9082, json!({"failed_active_health_check": true, "eds_health_status": "HEALTHY"})),
            host(9083, json!({"failed_outlier_check": true, "eds_health_status": "HEALTHY"})),
        ]},
        {"name": "sds-grpc", "host_statuses": [{"address": {"pipe": {"path": "/run/sds"}}, "health_status": {}}]},
    ]});
    let loggers = "active loggers:\n  admin: info\n  http: debug\n".to_owned();
    serve(vec![
        (
            "/config_dump",
            json!({"configs": [bootstrap, clusters, listeners, routes, secrets]}).to_string(),
        ),
        ("/clusters", endpoints.to_string()),
        ("/certs", certificates("2099-01-01T00:00:00Z").to_string()),
        ("/ready", "LIVE\n".to_owned()),
        ("/logging", loggers),
        (
            "/stats",
            json!({"stats": [
                {"name": "tracing.zipkin.spans_sent", "value": 12},
                {"name": "tracing.zipkin.reports_sent", "value": 3},
            ]})
            .to_string(),
        ),
    ])
}

/// One of this serial number, in PEM: always the same.
fn certificate(serial: u8) -> String {
    // RFC 8410 §7, without the public half.
    const PKCS8: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    let key = PrivatePkcs8KeyDer::from([PKCS8, &[serial; 32]].concat());
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519).unwrap();
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&[serial]));
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2098, 1, 1);
    params.self_signed(&key).unwrap().pem()
}

/// The page of those that are in use: one of them is a secret, too.
fn certificates(until: &str) -> Value {
    let mut shared = json!({
        "serial_number": "0c",
        "valid_from": "2000-01-01T00:00:00Z",
        "expiration_time": "2098-01-01T00:00:00Z",
    });
    shared["subject_alt_names"] = json!([{"uri": "spiffe://cluster.local/ns/default/sa/shop"}]);
    let one = |serial: &str, uri: &str, until: &str| {
        json!({
            "serial_number": serial,
            "sha256_fingerprint": serial,
            "subject_alt_names": [{"uri": uri}],
            "valid_from": "2000-01-01T00:00:00Z",
            "expiration_time": until,
        })
    };
    json!({"certificates": [{"cert_chain": [shared], "ca_cert": []}, {
        "cert_chain": [one("0a", "spiffe://cluster.local/ns/default/sa/shop", until)],
        "ca_cert": [one("0b", "spiffe://cluster.local", until)],
    }]})
}

fn synced() -> Value {
    json!({"status": "SYNCED", "sentVersion": "v2", "ackedVersion": "v2", "names": null, "lastError": null})
}

/// Rows of `/debug/syncz`: a proxy in sync, and, with trouble, one that is behind and has refused something.
fn rows(admin: u16, with_trouble: bool) -> Value {
    let row = |name: &str, admin: Option<String>, resources: Value, notes: Value| {
        json!({
            "proxy": name, "cluster_id": "Kubernetes", "istio_version": "1.24.0",
            "admin": admin, "resources": resources, "notes": notes,
        })
    };
    let mut named = synced();
    named["names"] = json!(3);
    let well = json!({"cluster": synced(), "listener": synced(), "endpoint": named, "route": named, "secret": named});
    let mut rows = vec![row(
        "shop.default",
        Some(format!("127.0.0.1:{admin}")),
        well,
        json!([]),
    )];
    if with_trouble {
        let behind = json!({"status": "STALE", "sentVersion": "v2", "ackedVersion": "v1", "names": null, "lastError": null});
        let mut refused = behind.clone();
        refused["status"] = json!("ERROR");
        refused["lastError"] = json!("listener 0.0.0.0_80: `access_log` is not supported");
        let resources = json!({"cluster": behind, "listener": refused, "route": {"status": "NOT SENT", "names": 1}});
        let notes =
            json!(["server tls of Gateway default/edge lets nobody in: there is no Secret"]);
        rows.push(row("edge.istio-system", None, resources, notes));
    }
    rows.into()
}

fn control(admin: u16, with_trouble: bool) -> u16 {
    let certificate = |left: u64, ends_soon: bool| json!({"serial": "0c", "secondsLeft": left, "endsSoon": ends_soon});
    let (authority, errors) = match with_trouble {
        false => (
            json!({"authority": certificate(864_000, false), "refused": {"wrong_token": 0}, "streamsRefused": {}}),
            json!([]),
        ),
        true => (
            json!({"authority": certificate(0, true), "refused": {"wrong_token": 2}, "streamsRefused": {"other_account": 1}}),
            json!([{"severity": "error"}, {"severity": "warning"}]),
        ),
    };
    serve(vec![
        ("/debug/syncz", rows(admin, with_trouble).to_string()),
        ("/debug/certificates", authority.to_string()),
        ("/debug/config_errors", errors.to_string()),
        (
            "/version",
            r#"{"name": "periplus", "version": "1.2.3"}"#.to_owned(),
        ),
    ])
}

/// What commands print, one below the other, with ports that are always the same.
struct Printed {
    directory: TempDir,
    ports: Vec<(u16, &'static str)>,
    text: String,
}

impl Printed {
    fn new(ports: &[(u16, &'static str)]) -> Self {
        Self {
            directory: super::directory(RULES),
            ports: ports.to_vec(),
            text: String::new(),
        }
    }

    fn run(&mut self, arguments: &[&str]) {
        let mut printed = printed(self.directory.path(), arguments);
        let mut line = arguments.join(" ");
        for (port, name) in &self.ports {
            for text in [&mut printed, &mut line] {
                *text = text.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{name}"));
            }
        }
        let own = env!("CARGO_PKG_VERSION");
        printed = printed
            .replace(&format!("client version: {own}"), "client version: OWN")
            .replace(&format!("\"client\": \"{own}\""), "\"client\": \"OWN\"");
        // Writing to a string cannot fail.
        let _ = write!(self.text, "$ periplus {line}\n{printed}\n");
    }

    /// As a table, and as JSON.
    fn run_both(&mut self, arguments: &[&str]) {
        self.run(arguments);
        self.run(&[arguments, &["-o", "json"]].concat());
    }
}

#[test]
fn what_a_proxy_runs_on() {
    let port = proxy();
    let address = format!("127.0.0.1:{port}");
    for what in [
        "listeners",
        "routes",
        "clusters",
        "endpoints",
        "secrets",
        "log",
    ] {
        let mut all = Printed::new(&[(port, "15000")]);
        all.run_both(&["proxy-config", what, &address]);
        insta::assert_snapshot!(format!("proxy_config_{what}"), all.text);
    }
    let mut all = Printed::new(&[(port, "15000")]);
    all.run_both(&["proxy-config", "all", &address]);
    for flags in [
        &["listeners", "--port", "15090"][..],
        &["routes", "--name", "nothing"],
        &["clusters", "--fqdn", "reviews", "--subset", "v1"],
        &["endpoints", "--status", "unhealthy"],
        &["log", "--level", "http:debug"],
        &["bootstrap"],
    ] {
        let (what, flags) = flags.split_first().unwrap();
        all.run(&[&["proxy-config", what, &address], flags].concat());
    }
    insta::assert_snapshot!("proxy_config_all", all.text);
}

#[test]
fn which_proxies_are_in_sync() {
    for (name, with_trouble) in [("proxy_status", false), ("proxy_status_with_trouble", true)] {
        let admin = proxy();
        let control = control(admin, with_trouble);
        let mut all = Printed::new(&[(admin, "15000"), (control, "15014")]);
        let url = format!("http://127.0.0.1:{control}");
        let flags = ["proxy-status", "--control", &url];
        all.run_both(&flags);
        all.run(&[&flags[..], &["-v"]].concat());
        all.run(&[&flags[..], &["shop"]].concat());
        all.run(&[&flags[..], &["edge"]].concat());
        all.run_both(&["version", "--control", &url]);
        insta::assert_snapshot!(name, all.text);
    }
}

/// What scripts read of the commands that ask files alone, and where the pages are.
#[test]
fn what_programs_are_told_of_files() {
    let mut all = Printed::new(&[]);
    let bad = RULES.replace("subset: v2", "subset: v3");
    std::fs::create_dir(all.directory.path().join("bad")).unwrap();
    std::fs::write(all.directory.path().join("bad/mesh.yaml"), MESH).unwrap();
    std::fs::write(all.directory.path().join("bad/rules.yaml"), bad).unwrap();
    let dir = ["--dir", "mesh"];
    for arguments in [
        &["analyze", "bad"][..],
        &["validate", "bad"],
        &["describe", "reviews-v2", dir[0], dir[1]],
        &["describe", "reviews", dir[0], dir[1]],
        &["authz", "check", "reviews-v2", dir[0], dir[1]],
        &[
            "explain",
            "GET reviews:9080/",
            "--from",
            "shop",
            dir[0],
            dir[1],
        ],
    ] {
        all.run(&[arguments, &["-o", "json"]].concat());
    }
    for page in ["ui", "dependencies", "zipkin", "control"] {
        all.run(&["dashboard", page, "--no-browser"]);
    }
    insta::assert_snapshot!("of_files", all.text);
}

#[test]
fn what_the_doctor_says() {
    for (name, with_trouble) in [("doctor", false), ("doctor_with_trouble", true)] {
        let admin = match with_trouble {
            false => proxy(),
            true => serve(vec![
                ("/ready", "LIVE\n".to_owned()),
                ("/certs", certificates("2001-01-01T00:00:00Z").to_string()),
            ]),
        };
        let control = control(admin, with_trouble);
        let mut all = Printed::new(&[(admin, "15000"), (control, "15014")]);
        let url = format!("http://127.0.0.1:{control}");
        all.run_both(&["doctor", "--control", &url]);
        insta::assert_snapshot!(name, all.text);
    }
}

#[test]
fn what_the_doctor_says_of_traces() {
    let admin = proxy();
    let control = control(admin, false);
    let pages = |begun: Value| {
        serve(vec![
            ("/api/services", json!({"data": ["shop.default", "reviews.default"]}).to_string()),
            ("context.ignored", json!({"traces": []}).to_string()),
            ("search?q=root", json!({"traces": begun}).to_string()),
            ("search?q=service", json!({"traces": [{"traceId": "a1", "root": {"service": "shop.default", "missing": false}}]}).to_string()),
            ("search", json!({"traces": []}).to_string()),
        ])
    };
    let call =
        |id: &str| json!({"traceId": id, "root": {"service": "shop.default", "missing": false}});
    let (well, torn) = (pages(json!([])), pages(json!([call("a1"), call("a2")])));
    let collector = serve(vec![("/", String::new())]);
    let mut all = Printed::new(&[
        (admin, "15000"),
        (control, "15014"),
        (well, "16686"),
        (torn, "16686"),
        (collector, "9411"),
    ]);
    let write = |name: &str, text: String| {
        std::fs::write(all.directory.path().join(name), text).unwrap();
    };
    let service = format!(
        "{MESH}---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: zipkin}}
spec:
  hosts: [zipkin.default.svc.cluster.local]
  resolution: STATIC
  ports: [{{number: 9411, name: http, targetPort: {collector}}}]
  endpoints: [{{address: 127.0.0.1}}]
"
    );
    write("mesh/mesh.yaml", service);
    write(
        "config.yaml",
        "extensionProviders: [{name: z, zipkin: {service: zipkin.default.svc.cluster.local, port: 9411}}]\n\
         defaultProviders: {tracing: [z]}\n\
         defaultConfig: {tracing: {sampling: 100}}\n"
            .to_owned(),
    );
    let url = format!("http://127.0.0.1:{control}");
    for backend in [well, torn] {
        let server = format!("http://127.0.0.1:{backend}");
        all.run_both(&[
            "doctor",
            "tracing",
            "--dir",
            "mesh",
            "--mesh-config",
            "config.yaml",
            "--control",
            &url,
            "--server",
            &server,
        ]);
    }
    insta::assert_snapshot!("doctor_tracing", all.text);
}

#[test]
fn codes_are_listed() {
    let mut all = Printed::new(&[]);
    all.run_both(&["analyze", "--list-codes"]);
    insta::assert_snapshot!("codes", all.text);
}
