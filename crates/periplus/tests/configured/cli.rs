//! The commands that read a server, where it asks who they are.

use std::fs;
use std::process::{Command, Output};

use crate::client::Client;
use crate::harness::{Serve, command};
use crate::spans;
use crate::tls::{Authority, Files};

fn periplus(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
    command.args(arguments).output().unwrap()
}

#[tokio::test]
async fn commands_show_certificate_token_and_tenant() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = Files::write(dir.path(), &authority);
    let own = authority.sign();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let certificate = write("client.crt", &own.certificate);
    let key = write("client.key", &own.key);
    let secret = write("token", "a-secret-of-two-scopes\n");
    let config = write(
        "periplus.yaml",
        &format!(
            "memory: true\naccess:\n  tenants: {{known: {{shop: {{}}, bank: {{}}}}}}\n  tokens:\n\
             \x20   - {{name: a, token-file: {secret}, scopes: [read, write]}}\n"
        ),
    );
    let flags = [
        &files.flags()[..],
        &["--tls-client-ca", files.authorities(), "--config", &config],
        &[
            "--jaeger-compact-port",
            "off",
            "--jaeger-binary-port",
            "off",
        ],
    ];
    let serve = Serve::run(command(&flags.concat()));
    let client = Client::trusting(&authority.pem, Some(&own));
    let url = format!("{}/api/v2/spans", serve.addresses["Zipkin"]);
    let headers = [
        ("authorization", "Bearer a-secret-of-two-scopes"),
        ("x-tenant", "shop"),
        ("content-type", "application/json"),
    ];
    let answer = client.post(&url, &headers, spans::zipkin(1, "front")).await;
    assert_eq!(answer.status, 202, "{answer:?}");

    let server = format!("https://{}", serve.addresses["UI"]);
    let tls = ["--server", &server, "--ca", files.authorities()];
    let identity = ["--cert", &certificate, "--key", &key];
    let token = ["--token-file", &secret];
    let ask = |more: &[&[&str]]| {
        periplus(&[&["services", "-o", "json"][..], &tls, &more.concat()].concat())
    };
    let output = ask(&[&identity, &token, &["--tenant", "shop"]]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("front"), "{said}");
    let output = ask(&[&identity, &token, &["--tenant", "bank"]]);
    assert!(!String::from_utf8(output.stdout).unwrap().contains("front"));
    for (more, expected) in [
        (vec![&identity[..], &token], "missing tenant header"),
        (vec![&identity[..], &["--tenant", "shop"]], "missing token"),
        (vec![&token[..], &["--tenant", "shop"]], "cannot reach"),
    ] {
        let output = ask(&more);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && error.contains(expected),
            "{error}"
        );
        assert!(!error.contains("a-secret"), "{error}");
    }
}
