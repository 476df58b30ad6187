//! TLS clients that others have written: `openssl s_client`, and the `ssl` module of Python.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::authority::{Authority, Pair};
use crate::world::{TRUE, Told, World, alpn, certificate, terminating, trusting};
use crate::xds_support::http::Origin;
use crate::xds_support::{PATIENCE, free_address};

const NAME: &str = "a.example";

struct Server {
    world: World,
    at: SocketAddr,
    files: tempfile::TempDir,
}

/// A listener with TLS, for clients that show a certificate if `required`.
async fn server(required: bool) -> Server {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let at = free_address().await;
    let told = Told::default().cluster("app", origin.address, |_| ()).http(
        "l",
        at,
        "app",
        |listener, _| {
            let mut context = alpn(trusting(&authority), &["h2", "http/1.1"]);
            context.tls_certificates = vec![certificate(&authority.server(NAME))];
            listener.filter_chains[0].transport_socket = terminating(context, |tls| {
                tls.require_client_certificate = TRUE.filter(|_| required);
            });
        },
    );
    let files = tempfile::tempdir().expect("a directory");
    let Pair { chain, key } = authority.server("client");
    for (name, text) in [
        ("root.pem", &authority.pem),
        ("cert.pem", &chain),
        ("key.pem", &key),
    ] {
        std::fs::write(files.path().join(name), text).expect("written");
    }
    let world = World::start(&told).await;
    Server { world, at, files }
}

/// Runs a program with this input: what it says.
async fn run(program: OsString, arguments: &[String], input: &str, at: &Path) -> String {
    let mut child = Command::new(&program)
        .args(arguments)
        .current_dir(at)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).await.expect("written");
    // It would end the connection at the end of its input.
    let output = timeout(PATIENCE, child.wait_with_output());
    let output = output.await.expect("in time").expect("its output");
    drop(stdin);
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test]
async fn openssl_speaks_with_the_proxy() {
    let server = server(true).await;
    let request = "GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
    for (version, own, expected) in [
        ("-tls1_2", true, "app got 0 bytes"),
        ("-tls1_3", true, "app got 0 bytes"),
        ("-tls1_2", false, "alert"),
        ("-tls1_1", true, "error"),
    ] {
        let mut arguments: Vec<String> = [
            "s_client",
            "-connect",
            &server.at.to_string(),
            "-servername",
            NAME,
            "-CAfile",
            "root.pem",
            "-verify_return_error",
            "-verify_hostname",
            NAME,
            "-alpn",
            "http/1.1",
            "-quiet",
            "-no_ign_eof",
            version,
        ]
        .map(str::to_owned)
        .to_vec();
        if own {
            arguments.extend(["-cert", "cert.pem", "-key", "key.pem"].map(str::to_owned));
        }
        // Without this the program ends with its input, which stays open here.
        arguments.retain(|argument| argument != "-no_ign_eof");
        let said = run("openssl".into(), &arguments, request, server.files.path()).await;
        assert!(said.contains(expected), "{version} {own}: {said}");
    }
    assert_eq!(server.world.stat("listener.l.ssl.handshake").await, 2);
    server
        .world
        .wait_stat("listener.l.ssl.fail_verify_no_cert", 1)
        .await;
}

const PYTHON_CLIENT: &str = r#"
import socket, ssl, sys
context = ssl.create_default_context(cafile="root.pem")
context.load_cert_chain("cert.pem", "key.pem")
context.set_alpn_protocols(["http/1.1"])
session = None
for turn in range(3):
    raw = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    tls = context.wrap_socket(raw, server_hostname="a.example", session=session)
    body = b"x" * 300000
    tls.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\nconnection: close\r\n\r\n" + body)
    answer = b""
    while True:
        data = tls.recv(65536)
        if not data:
            break
        answer += data
    print(tls.version(), tls.selected_alpn_protocol(), answer.split(b"\r\n\r\n")[1].decode())
    session = tls.session
    # Says good-bye and waits for the proxy's, as only a clean end has one.
    tls.unwrap()
"#;

#[tokio::test]
async fn python_speaks_with_the_proxy() {
    let server = server(true).await;
    let python = std::env::var_os("PERIPLUS_PEERS_PYTHON").unwrap_or_else(|| "python3".into());
    let arguments = [
        "-c".to_owned(),
        PYTHON_CLIENT.to_owned(),
        server.at.port().to_string(),
    ];
    let said = run(python, &arguments, "", server.files.path()).await;
    let line = "TLSv1.3 http/1.1 app got 300000 bytes\n";
    assert_eq!(said, line.repeat(3));
    assert_eq!(server.world.stat("listener.l.ssl.handshake").await, 3);
    assert_eq!(server.world.stat("listener.l.ssl.session_reused").await, 2);
}
