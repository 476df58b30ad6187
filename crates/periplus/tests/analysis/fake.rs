//! Whoever the commands ask, with answers that never vary.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

/// A server of pages, by what the paths of requests contain: the first that fits is the answer, and 404 if none does. Its
/// port is told.
pub(super) fn serve(pages: Vec<(&'static str, String)>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(&stream);
            let mut path = String::new();
            let mut line = String::new();
            while line != "\r\n" && reader.read_line(&mut line).is_ok_and(|n| n > 0) {
                if path.is_empty() {
                    path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                }
                if line != "\r\n" {
                    line.clear();
                }
            }
            let page = pages.iter().find(|(part, _)| path.contains(part));
            let (status, body) = match page {
                Some((_, body)) => ("200 OK", body.as_str()),
                None => ("404 Not Found", "there is no such page"),
            };
            // A client that has gone needs none.
            let _ = write!(
                &stream,
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    port
}

/// A control plane that has nothing to tell but its proxies.
pub(super) fn control_plane(proxies: &[serde_json::Value]) -> u16 {
    serve(vec![
        ("/debug/syncz", serde_json::Value::from(proxies).to_string()),
        ("/debug/certificates", "null".to_owned()),
        ("/version", r#"{"name": "fake", "version": "1"}"#.to_owned()),
        ("/", "[]".to_owned()),
    ])
}
