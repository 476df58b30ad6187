//! A mesh with mutual TLS and policies: a client's sidecar, a gateway, a server with a sidecar and one without.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use periplus_identity::{AUDIENCE, Bearer, ServiceAccount, TokenKey};
use rcgen::PublicKeyData as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::resources::resources;
use crate::rotation::world::Proxy;
use crate::support::{Program, free_base, get, patiently};

/// Where requests enter the mesh: who asks, and the port.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) from: &'static str,
    pub(super) port: u16,
    pub(super) is_gateway: bool,
    pub(super) hosts: &'static [&'static str],
}

pub(super) struct World {
    _programs: Vec<Program>,
    directory: TempDir,
    pub(super) entries: [Entry; 3],
    /// What answers at the address of an endpoint.
    pub(super) origins: [(u16, u16); 2],
    pub(super) text: String,
    /// Tokens that hold, of two accounts; and one that nobody has signed.
    pub(super) tokens: [String; 3],
}

impl World {
    pub(super) fn start() -> Self {
        let base = free_base();
        let [xds, monitoring, secured, outbound, inbound, edge, api] =
            [0, 1, 2, 3, 4, 5, 6].map(|n| base + n);
        let admins = [base + 10, base + 11, base + 12];
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let (config, identity) = (path.join("config"), path.join("identity"));
        std::fs::create_dir(&config).unwrap();
        std::fs::create_dir(&identity).unwrap();
        let key = TokenKey::load_or_create(&identity.join("token-key.pem")).unwrap();
        let issue = |account: &str| {
            let bearer = Bearer {
                account: ServiceAccount::new("default", account).unwrap(),
                workload: String::new(),
            };
            let hour = Duration::from_secs(3600);
            key.issue(&bearer, AUDIENCE, hour, SystemTime::now())
        };
        let (ada, bob) = (issue("ada"), issue("bob"));
        let (signed, _) = ada.rsplit_once('.').unwrap();
        let (_, other) = bob.rsplit_once('.').unwrap();
        let forged = format!("{signed}.{other}");
        let (behind, beside) = (origin(), origin());
        let keys = keys(&identity.join("token-key.pem"));
        let text = resources([outbound, inbound, edge, api], [behind, beside], &keys);
        std::fs::write(config.join("mesh.yaml"), &text).unwrap();
        let mut control = Program::start(&[
            "control",
            "--dir",
            config.to_str().unwrap(),
            "--xds-port",
            &xds.to_string(),
            "--tls-port",
            &secured.to_string(),
            "--monitoring-port",
            &monitoring.to_string(),
            "--identity-dir",
            identity.to_str().unwrap(),
        ]);
        control.wait_for(&["control plane is ready"]);
        let mut programs = vec![control];
        for (account, role, labels, admin) in [
            (
                "store",
                "sidecar",
                json!({"app": "store", "version": "v1"}),
                admins[0],
            ),
            ("shop", "sidecar", json!({"app": "shop"}), admins[1]),
            (
                "edge",
                "router",
                json!({"istio": "edge", "gateway.networking.k8s.io/gateway-name": "api"}),
                admins[2],
            ),
        ] {
            let proxy = Proxy {
                directory: path,
                account,
                token_of: account,
                secured,
                admin,
                role,
                labels,
            };
            programs.push(proxy.start(None));
        }
        for admin in admins {
            patiently("a proxy", || {
                (get(admin, "/ready").status == 200).then_some(())
            });
        }
        let entry = |from, port, hosts| Entry {
            from,
            port,
            is_gateway: port != outbound,
            hosts,
        };
        Self {
            _programs: programs,
            directory,
            entries: [
                entry("shop-v1", outbound, &IN_MESH),
                entry(
                    "edge",
                    edge,
                    &[
                        "store.example",
                        "store.example",
                        "STORE.example",
                        "store.example",
                        "nobody.example",
                    ],
                ),
                entry(
                    "api",
                    api,
                    &[
                        "books.example",
                        "books.example",
                        "BOOKS.example",
                        "books.example",
                        "a.books.example",
                    ],
                ),
            ],
            origins: [(inbound, behind), (beside, beside)],
            text,
            tokens: [ada, bob, forged],
        }
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

const IN_MESH: [&str; 9] = [
    "store",
    "store:80",
    "store.default",
    "STORE",
    "store.default.svc.cluster.local",
    "books",
    "books.default",
    "nobody.example",
    "store:81",
];

/// The public half of the key of tokens, as a JSON Web Key Set.
fn keys(file: &Path) -> Value {
    let pem = std::fs::read_to_string(file).unwrap();
    let key = rcgen::KeyPair::from_pem(&pem).unwrap();
    // An uncompressed point: 4, x, y.
    let point = key.der_bytes();
    let text = |bytes| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let (x, y) = (text(&point[1..33]), text(&point[33..]));
    json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "x": x, "y": y}]})
}

/// A server that answers with its port.
pub(crate) fn origin() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                loop {
                    // A connection that has ended ends this.
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read(&mut byte) {
                            Ok(1) => head.push(byte[0]),
                            _ => return,
                        }
                    }
                    head.clear();
                    let body = port.to_string();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}
