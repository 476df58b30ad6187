//! Authorities of somebody else (`--cacerts`): what they sign is believed by whoever has their root, and meshes of several
//! trust domains call each other where each knows the other's name.

mod discovered;
mod issuers;
mod revoked;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use periplus_identity::{Config, Credentials, ServerName, Trust, fetch, private};
use periplus_proxy::bootstrap::{Spec, render};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use serde_json::json;

use super::explained::world::origin;
use super::support::{Program, free_base, get, patiently, request};

/// A root, and an intermediate authority that it has signed.
struct Authorities {
    root: String,
    root_key: String,
    intermediate: String,
    key: String,
}

impl Authorities {
    fn make() -> Self {
        let params = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params
        };
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let of_root = params("the company");
        let root = of_root.self_signed(&root_key).unwrap().pem();
        let root_key_pem = root_key.serialize_pem();
        let issuer = Issuer::new(of_root, root_key);
        let intermediate = params("the mesh").signed_by(&key, &issuer).unwrap();
        Self {
            root,
            root_key: root_key_pem,
            intermediate: intermediate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// Under the names of Istio's `cacerts`, or those of Kubernetes' Secrets of TLS; the chain with the root, as
    /// Istio's own tools make it.
    fn write(&self, directory: &Path, is_tls: bool) {
        private::make_directory(directory).unwrap();
        let chain = [&*self.intermediate, &self.root].concat();
        let files = match is_tls {
            true => vec![
                ("tls.crt", &chain),
                ("tls.key", &self.key),
                ("ca.crt", &self.root),
            ],
            false => vec![
                ("ca-cert.pem", &self.intermediate),
                ("ca-key.pem", &self.key),
                ("cert-chain.pem", &chain),
                ("root-cert.pem", &self.root),
            ],
        };
        for (name, text) in files {
            private::write(&directory.join(name), text).unwrap();
        }
    }
}

/// A control plane over the files of a directory, with an authority of somebody else.
struct Plane {
    program: Program,
    directory: PathBuf,
    xds: u16,
    secured: u16,
    monitoring: u16,
}

impl Plane {
    fn start(directory: &Path, cacerts: &Path, config: (&str, &str)) -> Self {
        Self::start_with(directory, &["--cacerts", text(cacerts)], config)
    }

    fn start_with(directory: &Path, flags: &[&str], config: (&str, &str)) -> Self {
        Self::start_among(directory, flags, config, None)
    }

    /// On a machine that believes these authorities, if not those of this one.
    fn start_among(
        directory: &Path,
        flags: &[&str],
        (resources, mesh): (&str, &str),
        authorities: Option<&Path>,
    ) -> Self {
        let config = directory.join("config");
        std::fs::create_dir_all(&config).unwrap();
        std::fs::write(config.join("mesh.yaml"), resources).unwrap();
        let mesh_config = directory.join("mesh-config.yaml");
        std::fs::write(&mesh_config, mesh).unwrap();
        let base = free_base();
        let [xds, secured, monitoring] = [base, base + 1, base + 2];
        let ports = [xds, secured, monitoring].map(|port| port.to_string());
        let identity = directory.join("identity");
        let flags_of_all = [
            "control",
            "--dir",
            text(&config),
            "--mesh-config",
            text(&mesh_config),
            "--identity-dir",
            text(&identity),
            "--xds-port",
            &ports[0],
            "--tls-port",
            &ports[1],
            "--monitoring-port",
            &ports[2],
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
        command
            .args(flags_of_all)
            .args(flags)
            .env_remove("RUST_LOG");
        if let Some(file) = authorities {
            command.env("SSL_CERT_FILE", file);
        }
        let mut program = Program::run(command);
        program.wait_for(&["control plane is ready"]);
        Self {
            program,
            directory: directory.to_owned(),
            xds,
            secured,
            monitoring,
        }
    }

    /// The file of a token for an account.
    fn token(&self, account: &str) -> PathBuf {
        let file = self.directory.join(format!("{account}.jwt"));
        let made = Command::new(env!("CARGO_BIN_EXE_periplus"))
            .args(["token", "-a", account, "--identity-dir"])
            .arg(self.directory.join("identity"))
            .arg("-o")
            .arg(&file)
            .status();
        assert!(made.unwrap().success());
        file
    }

    /// A workload's sidecar, once it is ready.
    fn sidecar(&self, account: &str, trust_domain: &str, admin: u16) -> Program {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let spec = Spec {
            node_id: &format!("sidecar~127.0.0.1~{account}-v1.default~default.svc.cluster.local"),
            node_cluster: &format!("{account}.default"),
            metadata: &json!({
                "NAMESPACE": "default",
                "LABELS": {"app": account},
                "SERVICE_ACCOUNT": account,
                "INTERCEPTION_MODE": "NONE",
            }),
            control_plane: at(self.xds),
            admin: at(admin),
            agent: None,
        };
        let bootstrap = self.directory.join(format!("{account}.json"));
        std::fs::write(&bootstrap, render(&spec)).unwrap();
        let token = self.token(account);
        let flags = ["--token-file", text(&token), "--trust-domain", trust_domain];
        let program = Program::start(&[&["proxy", "-c", text(&bootstrap)], &flags[..]].concat());
        patiently("a sidecar", || {
            (get(admin, "/ready").status == 200).then_some(())
        });
        program
    }
}

/// A workload of its own service account, and the sidecar that takes its requests.
pub(crate) fn workload(app: &str, inbound: u16, origin: u16) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {app}-v1}}
spec: {{address: 127.0.0.1, labels: {{app: {app}}}, serviceAccount: {app}, ports: {{http: {inbound}}}}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: {app}}}
spec:
  workloadSelector: {{labels: {{app: {app}}}}}
  ingress:
  - port: {{number: {inbound}, protocol: HTTP, name: http}}
    bind: 127.0.0.1
    captureMode: NONE
    defaultEndpoint: 127.0.0.1:{origin}
"
    )
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Whether somebody who has the root alone believes a chain of a workload.
fn is_believed(root: &str, chain: &[CertificateDer<'static>]) -> bool {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(root.as_bytes()).unwrap();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let (leaf, between) = chain.split_first().unwrap();
    let verified = verifier
        .build()
        .unwrap()
        .verify_client_cert(leaf, between, UnixTime::now());
    verified.is_ok()
}

#[test]
fn chains_of_an_intermediate_authority_are_believed_by_whoever_has_the_root() {
    let authorities = Authorities::make();
    for is_tls in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let cacerts = directory.path().join("cacerts");
        authorities.write(&cacerts, is_tls);
        let plane = Plane::start(directory.path(), &cacerts, ("", ""));
        // All that the client has.
        let root = directory.path().join("company.pem");
        std::fs::write(&root, &authorities.root).unwrap();
        let config = Config {
            endpoint: format!("https://127.0.0.1:{}", plane.secured),
            trust: Some(Trust {
                roots: root,
                server_name: ServerName::try_from("istiod.istio-system.svc").unwrap(),
            }),
            token: plane.token("shop"),
            id: "spiffe://cluster.local/ns/default/sa/shop".parse().unwrap(),
            lifetime: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let got: Credentials = runtime.unwrap().block_on(fetch(&config)).unwrap();
        let chain = CertificateDer::pem_slice_iter(got.chain.as_bytes());
        let chain: Vec<_> = chain.collect::<Result<_, _>>().unwrap();
        let intermediate = CertificateDer::from_pem_slice(authorities.intermediate.as_bytes());
        assert_eq!(chain[1..], [intermediate.unwrap()], "{is_tls}");
        assert!(is_believed(&authorities.root, &chain), "{is_tls}");
        assert!(!is_believed(&authorities.root, &chain[..1]), "{is_tls}");
        assert!(!is_believed(&Authorities::make().root, &chain), "{is_tls}");
        let given = CertificateDer::from_pem_slice(got.roots.as_bytes()).unwrap();
        let own = CertificateDer::from_pem_slice(authorities.root.as_bytes()).unwrap();
        assert_eq!(given, own, "{is_tls}");
    }
}

/// Two control planes with one root, each with a trust domain of its own: a client's sidecar is that of the first, a
/// server's that of the second, which takes nobody without a certificate.
#[test]
fn meshes_of_two_trust_domains_call_each_other_if_both_know_the_other() {
    let authorities = Authorities::make();
    let port = origin();
    for (client_knows, server_knows, status) in
        [(true, true, 200), (true, false, 503), (false, true, 503)]
    {
        let directory = tempfile::tempdir().unwrap();
        let cacerts = directory.path().join("cacerts");
        authorities.write(&cacerts, false);
        let base = free_base();
        let [inbound, outbound, first, second] = [base, base + 1, base + 2, base + 3];
        let resources = resources(inbound, outbound, port);
        let start = |name: &str, other: &str, knows: bool| {
            let aliases = if knows { other } else { "" };
            let mesh = format!("trustDomain: {name}\ntrustDomainAliases: [{aliases}]\n");
            let directory = directory.path().join(name);
            std::fs::create_dir(&directory).unwrap();
            Plane::start(&directory, &cacerts, (&resources, &mesh))
        };
        let one = start("one.example", "two.example", client_knows);
        let _client = one.sidecar("client", "one.example", first);
        let two = start("two.example", "one.example", server_knows);
        let _server = two.sidecar("server", "two.example", second);
        let url = "http://server.default.svc.cluster.local/";
        let context = format!("client knows: {client_knows}, server knows: {server_knows}");
        for admin in [first, second] {
            patiently("a certificate", || {
                let stats = get(admin, "/stats").body;
                let renewed = stats
                    .lines()
                    .find_map(|line| line.strip_prefix("identity.renewed: "));
                (renewed != Some("0")).then_some(())
            });
        }
        let answer = patiently(&context, || {
            let answer = request(outbound, "GET", url, &[], "");
            (answer.status == status).then_some(answer)
        });
        if status == 200 {
            assert_eq!(answer.body, port.to_string(), "{context}");
            continue;
        }
        // It stays refused, by whoever does not know the other's name.
        let again = request(outbound, "GET", url, &[], "");
        assert_eq!(again.status, status, "{context}: {}", again.body);
        let stats = |admin: u16| get(admin, "/stats").body;
        let refused = |admin: u16| {
            let stats = stats(admin);
            let mut counts = stats.lines().filter_map(|line| line.split_once(": "));
            counts.any(|(name, count)| name.contains("ssl.fail_verify_san") && count != "0")
        };
        assert_eq!(
            [refused(first), refused(second)],
            [!client_knows, !server_knows],
            "{context}\n{}\n{}",
            stats(first),
            stats(second)
        );
    }
}

fn resources(inbound: u16, outbound: u16, origin: u16) -> String {
    format!(
        "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: istio-system}}
spec: {{mtls: {{mode: STRICT}}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: server}}
spec:
  hosts: [server.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  workloadSelector: {{labels: {{app: server}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: server-v1}}
spec: {{address: 127.0.0.1, labels: {{app: server}}, serviceAccount: server, ports: {{http: {inbound}}}}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: server}}
spec:
  workloadSelector: {{labels: {{app: server}}}}
  ingress:
  - port: {{number: {inbound}, protocol: HTTP, name: http}}
    bind: 127.0.0.1
    captureMode: NONE
    defaultEndpoint: 127.0.0.1:{origin}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: client}}
spec:
  workloadSelector: {{labels: {{app: client}}}}
  egress:
  - port: {{number: {outbound}, protocol: HTTP_PROXY, name: http-proxy}}
    bind: 127.0.0.1
    captureMode: NONE
    hosts: ['*/*']
"
    )
}
