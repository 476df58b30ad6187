//! Many who ask for pages, and take none of them.

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use super::*;
use crate::xds_support::PATIENCE;

/// More than there are places.
const MANY: usize = 80;
/// Those of them who ask; the others say nothing.
const DEAF: usize = 4;
/// More pages than the kernel holds for who does not read.
const PAGES: usize = 5000;

/// A client that asks again and again, and never reads.
async fn deaf(at: SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut stream = socket.connect(at).await.expect("connects");
    let request = "GET /stats/prometheus HTTP/1.1\r\nhost: a\r\n\r\n".repeat(PAGES);
    tokio::spawn(async move {
        // Whoever finds no place is closed.
        let _ = stream.write_all(request.as_bytes()).await;
        std::future::pending::<()>().await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_no_answer_keeps_nobody_else_from_theirs() {
    let plane = ControlPlane::start().await;
    let text = bootstrap::render(&bootstrap::Spec {
        agent: None,
        node_id: NODE,
        node_cluster: "test.default",
        metadata: &json!({}),
        control_plane: plane.address,
        admin: SocketAddr::from(([127, 0, 0, 1], 0)),
    });
    let bootstrap = bootstrap::parse("test", &text).expect("valid");
    let options = Options {
        metrics_address: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        ..Options::default()
    };
    let agent = Agent::start(bootstrap, options).await.expect("start");
    let admin = agent.admin_address().expect("an address");
    let metrics = agent.metrics_address().expect("an address");
    for _ in 0..DEAF {
        deaf(metrics).await;
    }
    let mut silent = Vec::new();
    for _ in DEAF..MANY {
        silent.push(TcpStream::connect(metrics).await.expect("connects"));
    }
    let refused = "/stats?filter=^listener.admin.downstream_cx_overflow$";
    let expected = format!("listener.admin.downstream_cx_overflow: {}\n", MANY - 64);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while page(admin, refused).await.body != expected {
        assert!(tokio::time::Instant::now() < deadline, "not {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The other pages are there.
    assert_eq!(page(admin, "/ready").await.status(), 503);
    assert_eq!(page(admin, "/stats/prometheus").await.status(), 200);
    // Who takes nothing for long enough gives up the place.
    let is_there = || get(metrics, "/stats/prometheus");
    while !is_there().await.is_ok_and(|page| page.line.contains("200")) {
        assert!(tokio::time::Instant::now() < deadline, "no place");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    agent.shutdown(Duration::from_millis(100)).await;
}
