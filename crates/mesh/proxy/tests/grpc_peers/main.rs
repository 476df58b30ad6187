//! Real gRPC, `grpcio` and `@grpc/grpc-js`, as client and as server through the proxy: the basic cases of
//! gRPC's interoperability tests; and real WebSocket. `cargo xtask peers` installs all of them.

#[path = "../announced/mod.rs"]
mod announced;
mod websocket;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use announced::Announced;
use periplus_proxy::snapshot::{
    Cluster, GrpcTimeouts, Http2Options, RouteAction, UpstreamProtocol,
};
use support::{Collector, Config, Origin, forward, route};

#[expect(dead_code, reason = "this file needs only the configuration")]
#[path = "../data_path/support/mod.rs"]
mod support;

/// A language that gRPC is written in.
#[derive(Clone, Copy, Debug)]
enum Language {
    Python,
    Node,
}

use Language::{Node, Python};

impl Language {
    /// A script of this directory, to be run; none, and a notice, where it is not prepared. In CI it must
    /// be.
    fn script(self, role: &str) -> Option<Command> {
        let variable = match self {
            Python => "PERIPLUS_PEERS_PYTHON",
            Node => "PERIPLUS_CLIENTS",
        };
        let Some(value) = env::var_os(variable) else {
            assert!(
                env::var_os("CI").is_none(),
                "{variable} is not set; run the tests with: cargo xtask test"
            );
            eprintln!("not tried with {self:?}: run the tests with: cargo xtask test");
            return None;
        };
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/grpc_peers");
        let (program, name) = match self {
            Python => (value.clone(), format!("{role}.py")),
            Node => (OsString::from("node"), format!("{role}.cjs")),
        };
        let mut command = Command::new(program);
        if let Node = self {
            command.env("NODE_PATH", PathBuf::from(value).join("node/node_modules"));
        }
        command.arg(directory.join(name));
        Some(command)
    }
}

/// A server of this directory.
fn start(language: Language, role: &str) -> Option<Announced> {
    language.script(role).map(Announced::start)
}

fn interoperate(client: Language, server: Language) {
    let (Some(server), Some(mut client)) = (start(server, "server"), client.script("client"))
    else {
        return;
    };
    let collector = Collector::otlp();
    let mut config = Config::to(&Origin::saying("")).otlp(&collector);
    config.clusters[0] = Cluster {
        protocol: UpstreamProtocol::Http2(Http2Options::default()),
        ..support::config::cluster("app", &[server.address])
    };
    // As Istio says it.
    let RouteAction::Forward(mut action) = forward("app") else {
        panic!("it forwards");
    };
    action.timeout = None;
    action.grpc = GrpcTimeouts {
        max: Some(std::time::Duration::ZERO),
        ..GrpcTimeouts::default()
    };
    config.routes = vec![route("/", RouteAction::Forward(action))];
    let mesh = config.start();
    let output = client
        .arg(mesh.address.to_string())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "all passed\n");
    // Nothing is left over, and each call has its span.
    mesh.wait_stat("http.test.downstream_rq_active", 0);
    mesh.wait_stat("cluster.app.upstream_rq_active", 0);
    let calls = mesh.stat("http.test.downstream_rq_http2_total");
    let spans = collector.wait(usize::try_from(calls).expect("few"));
    let ended = |code: &str| {
        let tag = |span: &&support::collector::TestSpan| span.tag("grpc.status_code") == code;
        spans.iter().filter(tag).count()
    };
    assert!(ended("0") >= 207, "{}", ended("0"));
    assert_eq!((ended("2"), ended("7"), ended("12")), (1, 1, 2));
}

#[test]
fn python_to_python() {
    interoperate(Python, Python);
}

#[test]
fn python_to_node() {
    interoperate(Python, Node);
}

#[test]
fn node_to_python() {
    interoperate(Node, Python);
}

#[test]
fn node_to_node() {
    interoperate(Node, Node);
}
