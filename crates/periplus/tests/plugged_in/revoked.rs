//! `ca-crl.pem` of an authority that is plugged in: whom it takes back, nobody believes any more.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use periplus_identity::private;
use rcgen::{
    CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
};
use serde_json::{Value, json};

use super::super::explained::world::origin;
use super::super::rotation::world::Proxy;
use super::super::support::{free_base, get, get_json, patiently, request};
use super::{Authorities, Plane, workload};

const HOUR: Duration = Duration::from_secs(3600);

/// A list of an authority with these serial numbers, which holds for so long.
fn list(certificate: &str, key: &str, serials: &[Vec<u8>], left: Duration) -> String {
    let key = KeyPair::from_pem(key).unwrap();
    let issuer = Issuer::from_ca_cert_pem(certificate, key).unwrap();
    let now = time::OffsetDateTime::now_utc();
    let revoked = |serial: &Vec<u8>| RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: now - Duration::from_secs(60),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: now - HOUR,
        next_update: now + left,
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&issuer).unwrap().pem().unwrap()
}

impl Authorities {
    /// `ca-crl.pem`: nothing of the root's is revoked, and these of the intermediate authority's.
    fn lists(&self, serials: &[Vec<u8>]) -> String {
        self.lists_until(serials, HOUR)
    }

    fn lists_until(&self, serials: &[Vec<u8>], left: Duration) -> String {
        let of_root = list(&self.root, &self.root_key, &[], HOUR);
        of_root + &list(&self.intermediate, &self.key, serials, left)
    }
}

/// The serial number of a proxy's own certificate, as its admin port shows it.
fn serial(admin: u16) -> Vec<u8> {
    patiently("a certificate", || {
        let shown = get_json(admin, "/certs");
        let all = shown["certificates"].as_array()?.clone();
        let own = all
            .iter()
            .find_map(|one| one["cert_chain"][0]["serial_number"].as_str());
        let digits = own?.to_owned();
        let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
        (0..digits.len()).step_by(2).map(byte).collect()
    })
}

/// Each request comes by a connection of its own: those that are open stay.
fn resources(outbound: [u16; 2], inbound: [u16; 2], origin: u16) -> String {
    let mut text = "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
"
    .to_owned();
    for (app, port) in ["good", "bad"].into_iter().zip(outbound) {
        let _ = write!(
            text,
            "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: {app}}}
spec:
  workloadSelector: {{labels: {{app: {app}}}}}
  egress:
  - port: {{number: {port}, protocol: HTTP_PROXY, name: http-proxy}}
    bind: 127.0.0.1
    captureMode: NONE
    hosts: ['*/*']
"
        );
    }
    for (app, port) in ["ours", "envoy"].into_iter().zip(inbound) {
        let _ = write!(
            text,
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {app}}}
spec:
  hosts: [{app}.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  workloadSelector: {{labels: {{app: {app}}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {app}}}
spec: {{host: {app}, trafficPolicy: {{connectionPool: {{http: {{maxRequestsPerConnection: 1}}}}}}}}
"
        );
        text += &workload(app, port, origin);
    }
    text
}

#[test]
fn whom_the_authority_takes_back_nobody_lets_in() {
    let authorities = Authorities::make();
    let directory = tempfile::tempdir().unwrap();
    // Where the proxies look for the root.
    let cacerts = directory.path().join("identity/ca");
    private::make_directory(&directory.path().join("identity")).unwrap();
    authorities.write(&cacerts, false);
    let revoke = |lists: &str| private::write(&cacerts.join("ca-crl.pem"), lists).unwrap();
    revoke(&authorities.lists(&[]));
    let base = free_base();
    let (outbound, inbound) = ([base, base + 1], [base + 2, base + 3]);
    let resources = resources(outbound, inbound, origin());
    let mut plane = Plane::start(directory.path(), &cacerts, (&resources, ""));
    let admin = [4, 5, 6, 7].map(|n| base + n);
    let envoy = std::env::var_os("PERIPLUS_ENVOY").map(PathBuf::from);
    let apps = ["good", "bad", "ours", "envoy"];
    let start = |(account, admin): (&'static str, u16)| {
        let proxy = Proxy {
            directory: directory.path(),
            account,
            token_of: account,
            secured: plane.secured,
            admin,
            role: "sidecar",
            labels: json!({"app": account}),
        };
        let program = proxy.start(envoy.clone().filter(|_| account == "envoy"));
        patiently(account, || {
            (get(admin, "/ready").status == 200).then_some(())
        });
        program
    };
    let _proxies: Vec<_> = apps.into_iter().zip(admin).map(start).collect();
    let ask = |port: u16, host: &str| {
        let url = format!("http://{host}.default.svc.cluster.local/");
        request(port, "GET", &url, &[], "").status
    };
    let wait = |what: &str, port: u16, host: &str, status: u16| {
        patiently(&format!("{what}: {host}"), || {
            (ask(port, host) == status).then_some(())
        });
    };
    for host in ["ours", "envoy"] {
        for port in outbound {
            wait("with lists of nobody", port, host, 200);
        }
    }

    revoke(&authorities.lists(&[serial(admin[1])]));
    plane
        .program
        .wait_for(&["other certificates are revoked from now on"]);
    for host in ["ours", "envoy"] {
        wait("a client that was revoked", outbound[1], host, 503);
        wait("another one", outbound[0], host, 200);
        assert_eq!(ask(outbound[1], host), 503, "{host}");
    }
    let refused = |admin: u16| {
        let stats = get(admin, "/stats").body;
        let mut counts = stats.lines().filter_map(|line| line.split_once(": "));
        counts.any(|(name, count)| name.contains("ssl.fail_verify_error") && count != "0")
    };
    assert_eq!([refused(admin[2]), refused(admin[3])], [true, true]);

    // A list that nobody could use changes nothing, and says why.
    revoke(&list(&authorities.root, &authorities.root_key, &[], HOUR));
    plane.program.wait_for(&[
        "stays what it is",
        "with ca-crl.pem nobody would be believed",
    ]);
    wait("another one", outbound[0], "ours", 200);
    assert_eq!(ask(outbound[1], "ours"), 503);
    let certificates: Value = get_json(plane.monitoring, "/debug/certificates");
    let lists = certificates["revocationLists"].as_array().unwrap();
    assert_eq!(lists.len(), 2, "{certificates:#}");

    // The ends of those in use are shown.
    let metrics = get(plane.monitoring, "/metrics").body;
    for list in lists {
        assert_eq!(list["endsSoon"], false, "{list:#}");
        let line = format!(
            "periplus_revocation_list_expiry_timestamp {}",
            list["nextUpdate"]
        );
        assert!(metrics.lines().any(|found| found == line), "{metrics}");
    }
    assert!(
        metrics.contains("periplus_revocation_list_expiry_seconds 3"),
        "{metrics}"
    );

    // They are warned of before they end.
    revoke(&authorities.lists_until(&[], HOUR / 60));
    plane
        .program
        .wait_for(&["must be replaced soon", "the mesh"]);
    let control = format!("http://127.0.0.1:{}", plane.monitoring);
    let output = Command::new(env!("CARGO_BIN_EXE_periplus"))
        .args(["doctor", "--control", &control])
        .output();
    let said = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(said.contains("has revoked must be replaced in"), "{said}");
}
