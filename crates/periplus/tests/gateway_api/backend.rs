//! A server that tells who it is and what it has heard.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair, SanType};
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
    /// HTTP/2 without TLS, as far as it is needed to answer one request.
    H2c,
    /// HTTP within TLS, as `backend.test`.
    Https,
    /// Its name, once it has heard something.
    Bytes,
}

/// Starts one, and tells its port. What requests ask for in `x-…` it does: `x-answer: STATUS` with this status, on
/// attempts before `x-until: N` only if there is that too; `x-wait: MS` after some time; `x-echo: name:value` with a
/// header of its own; `upgrade: …` with the other protocol.
pub(crate) fn start(name: &'static str, speaks: Speaks, secure: &Arc<ServerConfig>) -> u16 {
    start_at("127.0.0.1", (name, speaks), secure)
}

/// The same at an address.
pub(crate) fn start_at(
    address: &str,
    (name, speaks): (&'static str, Speaks),
    secure: &Arc<ServerConfig>,
) -> u16 {
    let secure = Arc::clone(secure);
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let secure = Arc::clone(&secure);
            std::thread::spawn(move || serve(stream, (name, speaks), secure));
        }
    });
    port
}

/// What servers show that are `backend.test`, in PEM.
pub(crate) struct Identity {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(["backend.test".to_owned()]).unwrap();
        let id = "spiffe://backend.test/identity".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(id));
        let pair = KeyPair::generate().unwrap();
        let made = params.self_signed(&pair).unwrap();
        let key = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![made.der().clone()], key);
        Self {
            config: Arc::new(config.unwrap()),
            certificate: made.pem(),
            key: pair.serialize_pem(),
        }
    }
}

fn serve(mut stream: TcpStream, (name, speaks): (&str, Speaks), secure: Arc<ServerConfig>) {
    match speaks {
        Speaks::Http => while answer(&mut stream, name).is_some() {},
        Speaks::H2c => {
            answer_h2(&mut stream, name);
        }
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
    if field("upgrade").is_some() {
        let head = "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        let text = format!("{head}backend={name}\n");
        stream.write_all(text.as_bytes()).ok()?;
        return None;
    }
    let mut body = format!("backend={name}\nmethod={method}\npath={path}\nattempt={attempt}\n");
    let mut joined = BTreeMap::<_, Vec<&str>>::new();
    for (field, value) in &fields {
        joined.entry(field).or_default().push(value);
    }
    for (field, values) in joined {
        body += &format!("header {field}={}\n", values.join(","));
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

/// Answers the first request on a connection (RFC 9113 §3.4, §4.1; RFC 7541 §6): frames of the client that are none of
/// headers are passed over.
fn answer_h2(stream: &mut TcpStream, name: &str) -> Option<()> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).ok()?;
    if preface != PREFACE {
        return None;
    }
    stream.write_all(&SETTINGS).ok()?;
    let mut asked = false;
    loop {
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).ok()?;
        let [a, b, c, kind, flags, stream_id @ ..] = frame;
        let length = u32::from_be_bytes([0, a, b, c]).into();
        stream.take(length).read_to_end(&mut Vec::new()).ok()?;
        if kind == 4 && flags & 1 == 0 {
            stream.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).ok()?;
        }
        if kind != 1 || std::mem::replace(&mut asked, true) {
            continue;
        }
        let body = format!("backend={name}\n");
        // `:status: 200`, and `content-length` as a literal.
        let digits = body.len().to_string();
        let mut fields = vec![0x88, 0x0f, 0x0d, digits.len() as u8];
        fields.extend(digits.bytes());
        let mut answer = vec![0, 0, fields.len() as u8, 1, 4];
        answer.extend(stream_id);
        answer.extend(fields);
        answer.extend([0, 0, body.len() as u8, 0, 1]);
        answer.extend(stream_id);
        answer.extend(body.bytes());
        stream.write_all(&answer).ok()?;
    }
}
