//! Bytes through the TCP proxy: both ways, to their ends, and within their limits.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use periplus_proxy::snapshot::{Backoff, TcpProxy, WeightedCluster};
use socket2::SockRef;

use crate::support::config::{cluster, dead_address};
use crate::support::{Client, Config, Origin, pause, wait_for};

/// An origin that sends back what it gets, and ends when the client does.
fn echo() -> Origin {
    Origin::raw(|mut client, _| {
        while client.more().is_some() {
            let bytes = std::mem::take(&mut client.unread);
            client.send(bytes);
        }
    })
}

/// An origin that says who it is and closes.
fn naming(name: &'static str) -> Origin {
    Origin::raw(move |mut client, _| client.send(name))
}

fn reset(client: &Client) {
    let socket = SockRef::from(&client.stream);
    socket.set_linger(Some(Duration::ZERO)).expect("linger");
}

/// Whether the connection ends with a reset.
fn is_reset(client: &mut Client) -> bool {
    let mut block = [0; 1024];
    loop {
        match client.stream.read(&mut block) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn bytes_pass_both_ways_and_are_counted() {
    let origin = echo();
    let mesh = Config::to(&origin).tcp(|_| ()).start();
    let mut client = mesh.client();
    for size in [1, 100, 16 * 1024, 300_000] {
        let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let mut writer = client.stream.try_clone().expect("a handle");
        let sent = bytes.clone();
        let writing = std::thread::spawn(move || writer.write_all(&sent));
        assert_eq!(client.exactly(size).as_deref(), Some(&bytes[..]));
        writing.join().expect("joined").expect("written");
    }
    let total = 1 + 100 + 16 * 1024 + 300_000;
    for name in [
        "tcp.test.downstream_cx_rx_bytes_total",
        "tcp.test.downstream_cx_tx_bytes_total",
        "cluster.app.upstream_cx_rx_bytes_total",
        "cluster.app.upstream_cx_tx_bytes_total",
    ] {
        mesh.wait_stat(name, total);
    }
    assert_eq!(mesh.stat("tcp.test.downstream_cx_total"), 1);
    assert_eq!(mesh.stat("listener.test.downstream_cx_total"), 1);
    assert_eq!(mesh.stat("listener.test.downstream_cx_active"), 1);
    assert_eq!(mesh.stat("cluster.app.upstream_cx_active"), 1);
    drop(client);
    mesh.wait_stat("listener.test.downstream_cx_active", 0);
    mesh.wait_stat("cluster.app.upstream_cx_active", 0);
    assert_eq!(mesh.stat("cluster.app.upstream_cx_total"), 1);
}

#[test]
fn a_server_may_speak_first() {
    let mesh = Config::to(&naming("220 ready")).tcp(|_| ()).start();
    assert_eq!(mesh.client().rest(), b"220 ready");
}

#[test]
fn each_side_may_close_its_writing_side_and_go_on_reading() {
    let origin = Origin::raw(|mut client, _| {
        let question = client.rest();
        client.send(format!("{} bytes", question.len()));
    });
    let mesh = Config::to(&origin).tcp(|_| ()).start();
    let mut client = mesh.client();
    client.send(vec![b'x'; 100_000]);
    client.stream.shutdown(Shutdown::Write).expect("shut down");
    assert_eq!(client.rest(), b"100000 bytes");

    let (heard, hear) = mpsc::channel();
    let origin = Origin::raw(move |mut client, _| {
        client.send("bye");
        client.stream.shutdown(Shutdown::Write).expect("shut down");
        heard.send(client.rest()).expect("heard");
    });
    let mesh = Config::to(&origin).tcp(|_| ()).start();
    let mut client = mesh.client();
    assert_eq!(client.rest(), b"bye", "and the end of the stream");
    client.send(vec![b'y'; 50_000]);
    drop(client);
    let late = hear.recv_timeout(Duration::from_secs(20));
    assert_eq!(late.expect("the rest").len(), 50_000);
    mesh.wait_stat("listener.test.downstream_cx_active", 0);
}

#[test]
fn a_reset_goes_on_to_the_other_side() {
    let origin = Origin::raw(|mut client, _| {
        client.more();
        reset(&client);
    });
    let mesh = Config::to(&origin).tcp(|_| ()).start();
    let mut client = mesh.client();
    client.send("x");
    assert!(is_reset(&mut client), "the client's end is no clean one");

    let (heard, hear) = mpsc::channel();
    let origin = Origin::raw(move |mut client, _| {
        client.send("go");
        heard.send(is_reset(&mut client)).expect("heard");
    });
    let mesh = Config::to(&origin).tcp(|_| ()).start();
    let mut client = mesh.client();
    client.exactly(2).expect("the connection is up");
    reset(&client);
    drop(client);
    let was_reset = hear.recv_timeout(Duration::from_secs(20));
    assert!(was_reset.expect("an end"), "nor is the endpoint's");
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_passed_over() {
    let mut config = Config::to(&naming("here")).tcp(|proxy| proxy.max_connect_attempts = 2);
    let live = config.clusters[0].endpoints[0].address;
    config.clusters = vec![cluster("app", &[dead_address(), live])];
    let mesh = config.start();
    for _ in 0..6 {
        assert_eq!(mesh.client().rest(), b"here");
    }
    // In turn: the first connection may have begun with the one that lives.
    let failed = mesh.stat("cluster.app.upstream_cx_connect_fail");
    assert!((5..=6).contains(&failed), "{failed}");
    assert_eq!(mesh.stat("cluster.app.upstream_cx_total"), 6 + failed);
    assert_eq!(
        mesh.stat("cluster.app.upstream_cx_connect_attempts_exceeded"),
        0
    );
}

#[test]
fn attempts_end_and_wait_in_between() {
    let mut config = Config::to(&echo()).tcp(|proxy| {
        proxy.max_connect_attempts = 3;
        proxy.backoff = Some(Backoff {
            base: Duration::from_millis(5),
            max: Duration::from_millis(10),
        });
    });
    config.clusters = vec![cluster("app", &[dead_address()])];
    let mesh = config.start();
    assert!(mesh.client().is_closed());
    mesh.wait_stat("cluster.app.upstream_cx_connect_fail", 3);
    mesh.wait_stat("cluster.app.upstream_cx_connect_attempts_exceeded", 1);
    mesh.wait_stat("listener.test.downstream_cx_active", 0);
}

#[test]
fn without_a_way_the_connection_is_closed_and_counted() {
    let mut mesh = Config::to(&echo()).tcp(|_| ()).start();
    mesh.config.clusters = vec![cluster("app", &[])];
    mesh.publish();
    assert!(mesh.client().is_closed());
    mesh.wait_stat("cluster.app.upstream_cx_none_healthy", 1);
    mesh.config.clusters.clear();
    mesh.publish();
    assert!(mesh.client().is_closed());
    mesh.wait_stat("tcp.test.downstream_cx_no_route", 1);
    mesh.wait_stat("tcp.test.downstream_cx_total", 2);
}

#[test]
fn the_limit_of_connections_holds() {
    let mut config = Config::to(&echo()).tcp(|_| ());
    config.clusters[0].limits.default.max_connections = 2;
    let mesh = config.start();
    let open = || {
        let mut client = mesh.client();
        client.send("x");
        let answer = client.exactly(1);
        (client, answer)
    };
    let (first, second) = (open(), open());
    assert!(first.1.is_some() && second.1.is_some());
    assert_eq!(open().1, None, "one too many");
    mesh.wait_stat("cluster.app.upstream_cx_overflow", 1);
    drop(first);
    wait_for("a free place", || open().1);
}

#[test]
fn clusters_are_chosen_by_weight() {
    let mut config = Config::to(&naming("a")).tcp(|proxy| {
        proxy.clusters = vec![WeightedCluster::new("app", 1), WeightedCluster::new("b", 3)];
        proxy.total_weight = 4;
    });
    config.clusters.push(cluster("b", &[naming("b").address]));
    let mesh = config.start();
    let of_b = (0..200).filter(|_| mesh.client().rest() == b"b").count();
    assert!((110..190).contains(&of_b), "{of_b} of 200 at 3 in 4");
}

#[test]
fn idle_and_old_connections_are_closed() {
    let mesh = Config::to(&echo())
        .tcp(|proxy| proxy.idle_timeout = Some(Duration::from_millis(200)))
        .start();
    let mut client = mesh.client();
    for _ in 0..10 {
        client.send("x");
        assert!(client.exactly(1).is_some(), "bytes keep it open");
        pause(Duration::from_millis(50));
    }
    assert!(client.is_closed());
    mesh.wait_stat("tcp.test.idle_timeout", 1);

    let mesh = Config::to(&echo())
        .tcp(|proxy| proxy.max_duration = Some(Duration::from_millis(300)))
        .start();
    let mut client = mesh.client();
    let begin = Instant::now();
    wait_for("the end", || {
        client.send("x");
        client.exactly(1).is_none().then_some(())
    });
    assert!(begin.elapsed() >= Duration::from_millis(250));
    mesh.wait_stat("tcp.test.max_downstream_connection_duration", 1);
}

#[test]
fn a_reader_that_stops_stops_the_writer() {
    const ENOUGH: usize = 64 * 1024 * 1024;
    let (go, wait) = mpsc::channel();
    let (heard, hear) = mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::raw(move |mut client, _| {
        wait.lock().expect("lock").recv().expect("told to read");
        heard.send(client.rest().len()).expect("heard");
    });
    let mesh = Config::to(&origin).tcp(|_| ()).start();
    let mut client: TcpStream = mesh.client().stream;
    let patience = Some(Duration::from_millis(500));
    client.set_write_timeout(patience).expect("a timeout");
    let block = vec![b'x'; 64 * 1024];
    let mut written = 0;
    while written < ENOUGH {
        match client.write(&block) {
            Ok(n) => written += n,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
    }
    assert!(written < ENOUGH, "only the kernel's buffers took bytes");
    go.send(()).expect("go");
    client.shutdown(Shutdown::Write).expect("shut down");
    let received = hear.recv_timeout(Duration::from_secs(20)).expect("all");
    assert_eq!(received, written);
}

#[test]
fn connections_outlive_their_listener_unless_they_are_to_end_with_it() {
    for ends in [false, true] {
        let mesh = Config::to(&echo())
            .tcp(|proxy: &mut TcpProxy| proxy.check_drain_close = ends)
            .start();
        let mut client = mesh.client();
        client.send("x");
        assert!(client.exactly(1).is_some());
        mesh.published.publish(mesh.config.snapshot(2, Vec::new()));
        mesh.applied(2);
        assert!(TcpStream::connect(mesh.address).is_err());
        client.send("y");
        assert_eq!(client.exactly(1).is_none(), ends);
    }
}

#[test]
fn shutdown_lets_connections_go_on_until_its_deadline() {
    let mesh = Config::to(&echo()).tcp(|_| ()).start();
    let mut client = mesh.client();
    client.send("x");
    assert!(client.exactly(1).is_some());
    let address = mesh.address;
    let begin = Instant::now();
    let stopping = std::thread::spawn(move || mesh.shutdown(Duration::from_millis(600)));
    client.send("y");
    assert!(client.exactly(1).is_some(), "it is still served");
    let mut late = Client::connect(address);
    late.send("z");
    assert!(late.exactly(1).is_some(), "and so is who comes now");
    assert!(client.is_closed());
    assert!(begin.elapsed() >= Duration::from_millis(500));
    stopping.join().expect("stopped");
}
