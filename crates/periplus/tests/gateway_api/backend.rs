//! A server that tells who it is and what it has heard.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

static HEARD: Mutex<BTreeSet<(String, String)>> = Mutex::new(BTreeSet::new());

/// Which backends have heard of which paths.
pub(crate) fn heard() -> MutexGuard<'static, BTreeSet<(String, String)>> {
    HEARD.lock().unwrap()
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http,
    /// HTTP within TLS, as `backend.test`.
    Https,
    /// Its name, once it has heard something.
    Bytes,
}

/// Starts one, and tells its port. What requests ask for in `x-…` it does: `x-answer: STATUS` with this status, on
/// attempts before `x-until: N` only if there is that too; `x-wait: MS` after some time; `x-echo: name:value` with a
/// header of its own.
pub(crate) fn start(name: &'static str, speaks: Speaks, secure: &Arc<ServerConfig>) -> u16 {
    let secure = Arc::clone(secure);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let secure = Arc::clone(&secure);
            std::thread::spawn(move || serve(stream, (name, speaks), secure));
        }
    });
    port
}

/// How servers show themselves to be `backend.test`, and the certificate in PEM.
pub(crate) fn identity() -> (Arc<ServerConfig>, String) {
    let made = rcgen::generate_simple_self_signed(["backend.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![made.cert.der().clone()], key);
    (Arc::new(config.unwrap()), made.cert.pem())
}

fn serve(mut stream: TcpStream, (name, speaks): (&str, Speaks), secure: Arc<ServerConfig>) {
    match speaks {
        Speaks::Http => while answer(&mut stream, name).is_some() {},
        Speaks::Https => {
            let connection = ServerConnection::new(secure).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            while answer(&mut stream, name).is_some() {}
        }
        Speaks::Bytes => {
            if stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {
                stream.write_all(name.as_bytes()).ok();
            }
        }
    }
}

/// Answers a request; a connection that breaks ends it.
fn answer(stream: &mut (impl Read + Write), name: &str) -> Option<()> {
    let mut reader = BufReader::new(&mut *stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    let mut fields = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((field, value)) = line.trim_end().split_once(':') else {
            break;
        };
        fields.push((field.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let field = |name: &str| {
        let mut found = fields.iter().filter(|(field, _)| field == name);
        found.next().map(|(_, value)| value.as_str())
    };
    let number = |name: &str| field(name).and_then(|value| value.parse::<u64>().ok());
    let length = number("content-length").unwrap_or(0);
    reader.take(length).read_to_end(&mut Vec::new()).ok()?;
    let wait = Duration::from_millis(number("x-wait").unwrap_or(0));
    let begun = Instant::now();
    while let Some(left) = wait
        .checked_sub(begun.elapsed())
        .filter(|left| !left.is_zero())
    {
        std::thread::park_timeout(left);
    }
    let attempt = number("x-envoy-attempt-count").unwrap_or(1);
    let fails = number("x-until").is_none_or(|until| attempt < until);
    let status = number("x-answer").filter(|_| fails).unwrap_or(200);
    let mut words = first.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    heard().insert((name.to_owned(), path.to_owned()));
    let mut body = format!("backend={name}\nmethod={method}\npath={path}\nattempt={attempt}\n");
    for (field, value) in &fields {
        body += &format!("header {field}={value}\n");
    }
    let echoes = fields.iter().filter(|(field, _)| field == "x-echo");
    let echoes = echoes.map(|(_, value)| format!("{}\r\n", value.replacen(':', ": ", 1)));
    let head = format!(
        "HTTP/1.1 {status} Done\r\ncontent-length: {}\r\n{}\r\n",
        body.len(),
        echoes.collect::<String>()
    );
    stream.write_all((head + &body).as_bytes()).ok()?;
    fields
        .iter()
        .all(|(field, value)| field != "connection" || value != "close")
        .then_some(())
}
