//! Issuers of tokens other than the control plane (`--jwt-rule`).

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use periplus_identity::{Bearer, Config, ServiceAccount, TokenKey, fetch, private};

use super::super::support::tokens::{ISSUER, keys};
use super::super::support::{get, patiently};
use super::{Plane, text};

/// Answers each request with what there is at the time.
fn publish(text: Arc<Mutex<String>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let body = text.lock().unwrap().clone();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            // Whoever has gone needs none.
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    port
}

/// `JWT_RULE`: another control plane issues the tokens, and publishes its keys.
#[test]
fn tokens_of_an_issuer_elsewhere_get_certificates_once_its_keys_are_known() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let [first, second] = ["one", "two"].map(|name| {
        let file = path(name);
        let key = TokenKey::load_or_create(&file).unwrap();
        (key, keys(&file).to_string())
    });
    let published = Arc::new(Mutex::new("{}".to_owned()));
    let port = publish(Arc::clone(&published));
    let rule = format!(
        "{{\"issuer\": \"{ISSUER}\", \"audiences\": [\"mesh\"], \"jwks_uri\": \"http://127.0.0.1:{port}/keys\"}}"
    );
    let file = path("rule.json");
    std::fs::write(&file, rule).unwrap();
    let flags = ["--jwt-rule", text(&file)];
    let mut plane = Plane::start_with(directory.path(), &flags, ("", ""));
    patiently("a warning", || {
        let said = "cannot get the keys of tokens";
        plane.program.has_said(said).then_some(())
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ask = |key: &TokenKey, audience: &str| {
        let bearer = Bearer {
            account: ServiceAccount::new("default", "shop").unwrap(),
            workload: String::new(),
        };
        let hour = Duration::from_secs(3600);
        let token = key.issue(&bearer, audience, hour, SystemTime::now());
        private::write(&path("token"), &token).unwrap();
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
    let refused = ask(&first.0, "mesh").unwrap_err();
    assert!(refused.contains("are not here yet"), "{refused}");
    *published.lock().unwrap() = first.1.clone();
    patiently("the keys", || ask(&first.0, "mesh").ok());
    let refused = ask(&first.0, "istio-ca").unwrap_err();
    assert!(
        refused.contains("another audience than `mesh`"),
        "{refused}"
    );
    // A key that nobody knows may be a new one.
    let refused = ask(&second.0, "mesh").unwrap_err();
    assert!(refused.contains("does not hold"), "{refused}");
    *published.lock().unwrap() = second.1.clone();
    patiently("the new keys", || ask(&second.0, "mesh").ok());
    assert!(ask(&first.0, "mesh").is_err());
    let metrics = get(plane.monitoring, "/metrics").body;
    for reason in ["no_keys", "foreign_audience", "bad_token"] {
        let zero = format!("periplus_certificate_refusals_total{{reason=\"{reason}\"}} 0");
        assert!(!metrics.contains(&zero), "{reason} in\n{metrics}");
    }
}
