//! Issuers that say themselves where their keys are (OpenID Connect Discovery): for the tokens of requests, and for those
//! of workloads.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use periplus_identity::{Config, fetch, private};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::super::explained::world::origin;
use super::super::rotation::world::Proxy;
use super::super::support::{free_base, get, get_json, get_with, patiently};
use super::{Plane, workload};

/// A key of an issuer.
struct Signer(KeyPair, &'static str);

impl Signer {
    fn new(id: &'static str) -> Self {
        Self(KeyPair::generate_for(&PKCS_ED25519).unwrap(), id)
    }

    fn public(&self) -> Value {
        let x = BASE64_URL_SAFE_NO_PAD.encode(self.0.der_bytes());
        json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": self.1, "x": x})
    }

    /// A token of this issuer for a workload's account.
    fn token(&self, issuer: &str) -> String {
        let part = |json: Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let header = part(json!({"alg": "EdDSA", "kid": self.1}));
        let claims = part(json!({
            "iss": issuer,
            "sub": "system:serviceaccount:default:shop",
            "aud": ["mesh"],
            "exp": now.as_secs() + 3600,
        }));
        let signed = format!("{header}.{claims}");
        let signature = self.0.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What an issuer says: who it is, and its keys. Without it, it hangs up.
type Said = Arc<Mutex<Option<(String, Value)>>>;

/// An issuer over TLS, its port, and the certificate that it is believed by.
fn publish(said: &Said) -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key);
    let config = Arc::new(config.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let said = Arc::clone(said);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let now = said.lock().unwrap().clone();
            if let Some((issuer, keys)) = now {
                // Whoever has gone needs no answer.
                let _ = answer(stream, &config, port, (&issuer, &keys));
            }
        }
    });
    (port, made.cert.pem())
}

fn answer(
    stream: TcpStream,
    config: &Arc<ServerConfig>,
    port: u16,
    (issuer, keys): (&str, &Value),
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let connection = ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let path = head.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match path {
        "/.well-known/openid-configuration" => {
            let keys = format!("https://localhost:{port}/keys");
            ("200 OK", json!({"issuer": issuer, "jwks_uri": keys}))
        }
        "/keys" => ("200 OK", json!({"keys": keys})),
        _ => ("404 Not Found", json!({})),
    };
    let body = body.to_string();
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// Two workloads that take tokens of the issuer.
fn resources(issuer: &str, apps: [(&str, u16); 2], origin: u16) -> String {
    let mut text = format!(
        "apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: everybody}}
spec: {{jwtRules: [{{issuer: '{issuer}'}}]}}
"
    );
    for (app, port) in apps {
        text += &workload(app, port, origin);
    }
    text
}

#[test]
fn an_issuer_that_says_where_its_keys_are_is_followed_and_missed() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let said = Said::default();
    let (port, certificate) = publish(&said);
    let authorities = path("authorities.pem");
    std::fs::write(&authorities, certificate).unwrap();
    let issuer = format!("https://localhost:{port}");
    let says = |name: &str, signer: &Signer| {
        *said.lock().unwrap() = Some((name.to_owned(), json!([signer.public()])));
    };
    let (first, second) = (Signer::new("1"), Signer::new("2"));
    let [one, two] = [&first, &second].map(|signer| signer.token(&issuer));

    let base = free_base();
    let apps = [("ours", base), ("envoy", base + 1)];
    let rule = json!({"issuer": issuer, "audiences": ["mesh"]}).to_string();
    let flags = ["--jwt-rule", &rule, "--jwks-refresh", "1s"];
    let resources = resources(&issuer, apps, origin());
    let config = (&*resources, "");
    let plane = Plane::start_among(directory.path(), &flags, config, Some(&authorities));
    let envoy = std::env::var_os("PERIPLUS_ENVOY").map(PathBuf::from);
    let start = |(account, port): (&'static str, u16)| {
        let proxy = Proxy {
            directory: directory.path(),
            account,
            token_of: account,
            secured: plane.secured,
            admin: port + 10,
            role: "sidecar",
            labels: json!({"app": account}),
        };
        let program = proxy.start(envoy.clone().filter(|_| account == "envoy"));
        patiently(account, || {
            (get(port + 10, "/ready").status == 200).then_some(())
        });
        program
    };
    let _proxies = apps.map(start);
    let statuses = |token: &str| {
        let value = format!("Bearer {token}");
        apps.map(|(_, port)| get_with(port, "/", &[("authorization", &value)]).status)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let certificate = |token: &str| {
        private::write(&path("token"), token).unwrap();
        let config = Config {
            endpoint: format!("http://127.0.0.1:{}", plane.xds),
            trust: None,
            token: path("token"),
            id: "spiffe://cluster.local/ns/default/sa/shop".parse().unwrap(),
            lifetime: None,
        };
        let got = runtime.block_on(fetch(&config));
        got.map(drop).map_err(|error| error.to_string())
    };
    // What is said of the RequestAuthentication: how bad it is, and the words.
    let told = || {
        let all = get_json(plane.monitoring, "/debug/config_errors");
        let mut all = all.as_array().unwrap().iter();
        let found = all.find(|row| row["code"] == "PER0107")?;
        assert_eq!(found["resource"], "RequestAuthentication default/everybody");
        Some(format!("{}: {}", found["severity"], found["message"]))
    };
    let says_that = |words: &[&str]| {
        patiently(words[0], || {
            told().filter(|told| words.iter().all(|word| told.contains(word)))
        })
    };
    let metrics = |line: &str, value: &str| {
        let metrics = get(plane.monitoring, "/metrics").body;
        let labels = |of: &str| format!("{line}{{issuer=\"{issuer}\",of=\"{of}\"}} {value}");
        for of in ["requests", "workloads"] {
            let wanted = labels(of);
            assert!(
                metrics.lines().any(|found| found.starts_with(&wanted)),
                "{wanted}:\n{metrics}"
            );
        }
    };

    // Nobody has its keys: who has a token is refused, and who has none is not.
    says_that(&["\"error\"", "all of its tokens are refused"]);
    for (_, port) in apps {
        patiently("a workload", || {
            (get(port, "/").status == 200).then_some(())
        });
    }
    assert_eq!(statuses(&one), [401, 401]);
    let refused = certificate(&one).unwrap_err();
    assert!(refused.contains("are not here yet"), "{refused}");
    metrics("periplus_issuer_keys_timestamp", "0");

    // Somebody else's keys are none.
    says("https://localhost:1", &first);
    says_that(&["describes another issuer, https://localhost:1"]);
    assert_eq!(statuses(&one), [401, 401]);

    says(&issuer, &first);
    let all = |token: &str, status: u16| {
        patiently("the answer of all", || {
            (statuses(token) == [status; 2]).then_some(())
        });
    };
    all(&one, 200);
    assert_eq!(statuses(&two), [401, 401]);
    patiently("a certificate", || certificate(&one).ok());
    patiently("no complaint", || told().is_none().then_some(()));
    metrics("periplus_issuer_reachable", "1");

    says(&issuer, &second);
    all(&two, 200);
    all(&one, 401);
    patiently("a certificate by the new key", || certificate(&two).ok());
    certificate(&one).unwrap_err();

    // It is gone: its last keys stay, and that is told.
    *said.lock().unwrap() = None;
    says_that(&["\"warning\"", "checked with those that were had before"]);
    patiently("both are missed", || {
        let page = get_json(plane.monitoring, "/debug/certificates");
        (!page["issuers"][0]["trouble"].is_null()).then_some(())
    });
    metrics("periplus_issuer_reachable", "0");
    assert_eq!(statuses(&two), [200, 200]);
    assert_eq!(statuses(&one), [401, 401]);
    certificate(&two).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_periplus"))
        .args(["doctor", "--control"])
        .arg(format!("http://127.0.0.1:{}", plane.monitoring))
        .output();
    let doctor = String::from_utf8(output.unwrap().stdout).unwrap();
    let words = format!("! issuers        {issuer}: ");
    assert!(
        doctor.contains(&words) && doctor.contains("its last keys stay in use"),
        "{doctor}"
    );

    // One that starts has them before it is ready: nobody who connects then refuses good tokens.
    says(&issuer, &second);
    drop(plane);
    let plane = Plane::start_among(directory.path(), &flags, config, Some(&authorities));
    let metrics = get(plane.monitoring, "/metrics").body;
    let line = format!("periplus_issuer_reachable{{issuer=\"{issuer}\",of=\"requests\"}} 1");
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
}
