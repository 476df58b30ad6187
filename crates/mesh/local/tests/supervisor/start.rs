//! Starting: in order, each part ready before the next, and errors that name the part.

use std::time::Duration;

use periplus_local::{Exit, Limits, Probe, StartError, Supervisor};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::helper::{Bench, DEADLINE, Role, limits, nowhere};

#[tokio::test]
async fn parts_start_in_order_and_stop_in_reverse() {
    let bench = Bench::new();
    let server = |name, after: &[&str]| bench.part(name, &Role::Server(nowhere()), after);
    let parts = vec![server("c", &["b"]), server("a", &[]), server("b", &["a"])];
    let (supervisor, _events) = Supervisor::new(parts, limits()).unwrap();
    supervisor.start().await.unwrap();
    assert_eq!(bench.journal(), ["a started", "b started", "c started"]);
    supervisor.stop().await;
    assert_eq!(
        bench.journal()[3..],
        ["c stopped", "b stopped", "a stopped"]
    );
    let log = std::fs::read_to_string(bench.path().join("a.log")).unwrap();
    assert!(log.contains("hello\n"), "{log}");
}

#[tokio::test]
async fn a_part_that_ends_early_is_named_with_its_last_words() {
    let bench = Bench::new();
    let parts = vec![
        bench.part("good", &Role::Server(nowhere()), &[]),
        bench.part("bad", &Role::Failing, &["good"]),
        bench.part("later", &Role::Server(nowhere()), &["bad"]),
    ];
    let (supervisor, _events) = Supervisor::new(parts, limits()).unwrap();
    let error = supervisor.start().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "bad ended before it was ready (exit status 3)"
    );
    assert!(matches!(
        error,
        StartError::Exited {
            exit: Exit::Code(3),
            ..
        }
    ));
    for line in ["about to fail", "it is the disk's fault"] {
        assert!(
            error.last_lines().iter().any(|said| said == line),
            "{error:?}"
        );
    }
    supervisor.stop().await;
    assert_eq!(bench.journal(), ["good started", "good stopped"]);
}

#[tokio::test]
async fn a_part_that_is_never_ready_is_named_with_what_is_amiss() {
    let bench = Bench::new();
    let mut part = bench.part("slow", &Role::Server(nowhere()), &[]);
    part.ready = Probe::Tcp(nowhere());
    let limits = Limits {
        ready_within: Duration::from_millis(300),
        ..limits()
    };
    let (supervisor, _events) = Supervisor::new(vec![part], limits).unwrap();
    let error = supervisor.start().await.unwrap_err().to_string();
    assert!(
        error.starts_with("slow was not ready within 0.3 s: nothing listens on "),
        "{error}"
    );
    supervisor.stop().await;
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let bench = Bench::new();
    let mut part = bench.part("lost", &Role::Failing, &[]);
    part.program = "/nonexistent/program".into();
    let (supervisor, _events) = Supervisor::new(vec![part], limits()).unwrap();
    let error = supervisor.start().await.unwrap_err().to_string();
    assert!(
        error.contains("lost cannot be started: /nonexistent/program"),
        "{error}"
    );
    supervisor.stop().await;
}

#[tokio::test]
async fn http_probes_wait_for_200() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut asked = Vec::new();
        for status in ["503 Service Unavailable", "404 Not Found", "200 OK"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            let head = String::from_utf8_lossy(&request[..length]).into_owned();
            asked.push(head.lines().next().unwrap_or_default().to_owned());
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        asked
    });
    let bench = Bench::new();
    let mut part = bench.part("a", &Role::Server(nowhere()), &[]);
    part.ready = Probe::Http {
        address,
        path: "/ready".to_owned(),
    };
    let (supervisor, _events) = Supervisor::new(vec![part], limits()).unwrap();
    tokio::time::timeout(DEADLINE, supervisor.start())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(serving.await.unwrap(), ["GET /ready HTTP/1.1"; 3]);
    supervisor.stop().await;
}
