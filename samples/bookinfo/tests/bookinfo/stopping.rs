//! A service that shall stop finishes what it has begun, and takes nothing new.

use crate::support::Recorder;
use periplus_bookinfo::{App, Role, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

#[tokio::test]
async fn requests_under_way_are_answered() {
    let hold = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let variables: Vec<(String, String)> =
        crate::support::at(Role::Ratings, hold.local_addr().unwrap())
            .into_iter()
            .chain([("ENABLE_RATINGS".to_owned(), "true".to_owned())])
            .collect();
    let app = App::new(Role::Reviews, &variables.into_iter().collect()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(serve(app, listener, async {
        stopped.await.ok();
    }));

    // One connection idles, the other has a request under way that waits for its ratings.
    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut busy = TcpStream::connect(address).await.unwrap();
    busy.write_all(b"GET /reviews/0 HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let (mut ratings, _) = hold.accept().await.unwrap();
    stop.send(()).unwrap();
    assert_eq!(
        idle.read(&mut [0; 1]).await.unwrap(),
        0,
        "idle connections are closed"
    );

    assert!(ratings.read(&mut [0; 4096]).await.unwrap() > 0);
    let body = r#"{"ratings": {"Reviewer1": 3}}"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    ratings.write_all(answer.as_bytes()).await.unwrap();
    let mut received = String::new();
    busy.read_to_string(&mut received).await.unwrap();
    assert!(received.starts_with("HTTP/1.1 200 OK"), "{received}");
    assert!(received.contains(r#""stars":3"#), "{received}");
    serving.await.unwrap();
    assert!(
        TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn keep_alive_is_used() {
    let ratings = Recorder::start(200, "{}").await;
    let backends = [(Role::Ratings, ratings.address)];
    let reviews = crate::support::start_with(Role::Reviews, "v2", &backends, &[]).await;
    let mut connection = TcpStream::connect(reviews).await.unwrap();
    for _ in 0..3 {
        connection
            .write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut buffer = [0; 4096];
        let length = connection.read(&mut buffer).await.unwrap();
        assert!(buffer[..length].starts_with(b"HTTP/1.1 200 OK"));
    }
}
