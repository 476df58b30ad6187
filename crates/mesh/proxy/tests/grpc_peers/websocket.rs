//! Real WebSocket, `websockets` of Python and `ws` of Node.js, as client and as server through the proxy.

use periplus_proxy::snapshot::Upgrade;

use crate::Language::{self, Node, Python};
use crate::start;
use crate::support::{Collector, Config, Origin};

fn interoperate(client: Language, server: Language) {
    over((client, &[]), server);
}

/// The same with more for the client to be told.
fn over((client, more): (Language, &[&str]), server: Language) {
    let server = start(server, "websocket_server");
    let (Some(server), Some(mut client)) = (server, client.script("websocket_client")) else {
        return;
    };
    let collector = Collector::zipkin();
    let mut config = Config::to(&Origin::saying("")).zipkin(&collector);
    config.clusters[0] = crate::support::config::cluster("app", &[server.address]);
    let config = config.with_manager(|manager| {
        manager.http2.allow_connect = true;
        manager.upgrades = vec![Upgrade {
            protocol: "websocket".into(),
            is_enabled: true,
            is_terminated: false,
        }];
    });
    let mesh = config.start();
    let output = client
        .arg(mesh.address.to_string())
        .args(more)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "all passed\n");
    mesh.wait_stat("http.test.downstream_cx_upgrades_active", 0);
    mesh.wait_stat("http.test.downstream_cx_upgrades_total", 2);
    mesh.wait_stat("cluster.app.upstream_cx_active", 0);
    for span in collector.wait(2) {
        assert_eq!(span.tag("http.status_code"), "101");
        assert_eq!(span.tag("response_flags"), "-");
    }
}

#[test]
fn websocket_python_to_python() {
    interoperate(Python, Python);
}

#[test]
fn websocket_python_to_node() {
    interoperate(Python, Node);
}

#[test]
fn websocket_node_to_python() {
    interoperate(Node, Python);
}

#[test]
fn websocket_node_to_node() {
    interoperate(Node, Node);
}

/// Streams of one connection of HTTP/2 (RFC 8441), to servers that only speak HTTP/1.1.
#[test]
fn websocket_on_streams() {
    for server in [Python, Node] {
        over((Node, &["h2"]), server);
    }
}
