//! WebSocket over TLS (`wss`) with real clients, `websockets` of Python and `ws` of Node.js.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::UpgradeConfig;
use envoy_types::util::pack_any;
use tokio::process::Command;
use tokio::time::timeout;

use crate::announced::Announced;
use crate::authority::Authority;
use crate::world::{Told, World, alpn, certificate, terminating, trusting};
use crate::xds_support::{PATIENCE, free_address};

/// The program of a language, and where its libraries are; none, and a notice, where they are not prepared.
fn prepared(variable: &str) -> Option<OsString> {
    let value = std::env::var_os(variable);
    if value.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{variable} is not set; run the tests with: cargo xtask test"
        );
        eprintln!("not tried: {variable} is not set");
    }
    value
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websocket_over_tls() {
    let (Some(python), Some(clients)) = (
        prepared("PERIPLUS_PEERS_PYTHON"),
        prepared("PERIPLUS_CLIENTS"),
    ) else {
        return;
    };
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/grpc_peers");
    let mut server = std::process::Command::new(&python);
    server.arg(scripts.join("websocket_server.py"));
    let server = Announced::start(server);
    let authority = Authority::new("root");
    let at = free_address().await;
    let told = Told::default().cluster("app", server.address, |_| ());
    let told = told.http("l", at, "app", |listener, mut manager| {
        // Whoever could speak HTTP/2 as well speaks HTTP/1.1 for it.
        let mut context = alpn(trusting(&authority), &["h2", "http/1.1"]);
        context.tls_certificates = vec![certificate(&authority.server("a.example"))];
        let chain = &mut listener.filter_chains[0];
        chain.transport_socket = terminating(context, |_| ());
        manager.upgrade_configs = vec![UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..Default::default()
        }];
        chain.filters = vec![listener::Filter {
            name: "hcm".to_owned(),
            config_type: Some(listener::filter::ConfigType::TypedConfig(pack_any(manager))),
        }];
    });
    let files = tempfile::tempdir().expect("a directory");
    let root = files.path().join("root.pem");
    std::fs::write(&root, &authority.pem).expect("written");
    let world = World::start(&told).await;
    let node_path = PathBuf::from(clients).join("node/node_modules");
    let node = OsString::from("node");
    for (program, script) in [
        (&python, "websocket_client.py"),
        (&node, "websocket_client.cjs"),
    ] {
        let mut client = Command::new(program);
        client.env("NODE_PATH", &node_path).kill_on_drop(true);
        client
            .arg(scripts.join(script))
            .arg(at.to_string())
            .arg(&root);
        let output = timeout(PATIENCE, client.output()).await;
        let output = output.expect("in time").expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {said}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "all passed\n");
    }
    assert_eq!(world.stat("listener.l.ssl.handshake").await, 4);
    world
        .wait_stat("http.test.downstream_cx_upgrades_total", 4)
        .await;
    world
        .wait_stat("http.test.downstream_cx_upgrades_active", 0)
        .await;
}
