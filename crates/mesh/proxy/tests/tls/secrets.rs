//! Secrets: what waits for them, what they must be, and who may see them.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, GenericSecret, SdsSecretConfig,
};
use envoy_types::pb::google::protobuf;
use periplus_xds::type_url::{LISTENER, SECRET};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::authority::{Authority, Wish};
use crate::client::Client;
use crate::world::{
    Told, World, certificate_secret, mesh_context, originating, root_secret, sds, secret_of,
    terminating,
};
use crate::xds_support::http::{Origin, get};
use crate::xds_support::{PATIENCE, eventually, free_address};

const ID: &str = "spiffe://cluster.local/ns/default/sa/reviews";

#[tokio::test]
async fn a_listener_and_a_cluster_wait_for_their_secrets() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let (out, inbound) = (free_address().await, free_address().await);
    let told = Told::default()
        .cluster("app", origin.address, |_| ())
        .cluster("reviews", inbound, |cluster| {
            cluster.transport_socket = originating(mesh_context(&[ID]), |_| ());
        })
        .http("out", out, "reviews", |_, _| ())
        .http("in", inbound, "app", |listener, _| {
            listener.filter_chains[0].transport_socket = terminating(mesh_context(&[]), |_| ());
        });
    let world = World::begin(&told, json!([])).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while world.stat("cluster_manager.warming_clusters").await != 1 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the cluster does not wait"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(get(out, "/").await.is_err(), "no listener is open yet");
    let dump = world.page("/config_dump").await;
    assert!(
        dump.contains("\"dynamic_warming_secrets\":[{\"name\":\"ROOTCA\"},{\"name\":\"default\"}]"),
        "{dump}"
    );

    // Half of them is not enough.
    let half = told.clone().secret(root_secret("ROOTCA", &authority));
    world.tell(&half);
    eventually("the first secret", || {
        let proxies = world.plane.ads.proxies();
        let state = proxies.first()?.types.get(SECRET)?;
        (!state.acked_nonce.is_empty() && state.acked_nonce == state.sent_nonce).then_some(())
    })
    .await;
    assert_eq!(world.stat("cluster_manager.warming_clusters").await, 1);
    world.tell(&half.secret(certificate_secret("default", &authority.workload(ID))));
    tokio::time::timeout(PATIENCE, world.agent.ready())
        .await
        .expect("ready");
    assert_eq!(get(out, "/").await.expect("an answer").status(), 200);
    // What is taken away is kept, as the protocol says of secrets.
    world.tell(&told.without_secrets());
    assert_eq!(get(out, "/").await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn without_its_secrets_neither_a_listener_nor_a_cluster_has_connections() {
    let origin = Origin::start("app").await;
    let (out, inbound) = (free_address().await, free_address().await);
    // Each wait is short: the longest of them counts.
    let soon = Some(protobuf::Duration {
        seconds: 0,
        nanos: 100_000_000,
    });
    let impatient = || {
        let mut config = sds("default");
        if let Some(source) = &mut config.sds_config {
            source.initial_fetch_timeout = soon;
        }
        CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![config],
            ..Default::default()
        }
    };
    let told = Told::default()
        .cluster("app", origin.address, |_| ())
        .cluster("reviews", inbound, |cluster| {
            cluster.transport_socket = originating(impatient(), |_| ());
            let eds = cluster.eds_cluster_config.as_mut();
            let source = eds.and_then(|eds| eds.eds_config.as_mut());
            source.expect("it comes by EDS").initial_fetch_timeout = soon;
        })
        .tcp("out", out, "reviews", |_| ())
        .tcp("in", inbound, "app", |listener| {
            listener.filter_chains[0].transport_socket = terminating(impatient(), |_| ());
        });
    let world = World::begin(&told, json!([])).await;
    tokio::time::timeout(PATIENCE, world.agent.ready())
        .await
        .expect("ready");
    let mut stream = TcpStream::connect(out).await.expect("a connection");
    assert_eq!(stream.read(&mut [0; 1]).await.expect("the end"), 0);
    let counter = "cluster.reviews.client_ssl_socket_factory.upstream_context_secrets_not_ready";
    world.wait_stat(counter, 1).await;
    let client = Client::credulous("x", None, &[]);
    assert!(client.connect(inbound).await.is_err());
    let counter = "listener.in.server_ssl_socket_factory.downstream_context_secrets_not_ready";
    world.wait_stat(counter, 1).await;
}

#[tokio::test]
async fn a_secret_that_is_not_usable_is_refused_by_name_and_field() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let inbound = free_address().await;
    let told = Told::default().cluster("app", origin.address, |_| ()).http(
        "in",
        inbound,
        "app",
        |listener, _| {
            listener.filter_chains[0].transport_socket = terminating(mesh_context(&[]), |_| ());
        },
    );
    let good = authority.workload(ID);
    let world = World::start(&told.clone().identity(&authority, &good)).await;
    let mut mixed = authority.workload(ID);
    mixed.key.clone_from(&authority.workload(ID).key);
    let mut garbled = authority.workload(ID);
    garbled.chain = "no certificate".to_owned();
    for (secret, expected) in [
        (
            certificate_secret("default", &mixed),
            "secret \"default\": tls_certificate.private_key: ",
        ),
        (
            certificate_secret("default", &garbled),
            "secret \"default\": tls_certificate.certificate_chain: it has no certificate in PEM",
        ),
        (
            secret_of("default", Type::GenericSecret(GenericSecret::default())),
            "secret \"default\": generic_secret: is not supported",
        ),
        (
            root_secret("default", &authority),
            "secret \"default\": validation_context: a certificate is wanted under this name",
        ),
    ] {
        let told = told.clone().secret(root_secret("ROOTCA", &authority));
        world.tell(&told.secret(secret));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let message = world.refusal(SECRET).await;
            if message.contains(expected) {
                assert!(!message.contains("PRIVATE KEY"), "{message}");
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{message}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The former one stays in use.
        let client = Client::credulous("x", None, &[]);
        assert_eq!(
            client.get(inbound, "/").await.expect("an answer").status(),
            200
        );
    }
    assert!(world.stat("sds.update_rejected").await >= 4);
}

#[tokio::test]
async fn certificates_are_shown_and_keys_are_not() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let inbound = free_address().await;
    let told = Told::default().cluster("app", origin.address, |_| ()).http(
        "in",
        inbound,
        "app",
        |listener, _| {
            listener.filter_chains[0].transport_socket = terminating(mesh_context(&[]), |_| ());
        },
    );
    let pair = authority.issue(&Wish {
        uri: Some(ID),
        expires: Ok(Duration::from_secs(3 * 86_400 + 3600)),
        ..Wish::default()
    });
    let world = World::start(&told.identity(&authority, &pair)).await;
    assert_eq!(world.stat("server.days_until_first_cert_expiring").await, 3);
    let certs: serde_json::Value = serde_json::from_str(&world.page("/certs").await).expect("JSON");
    let shown = &certs["certificates"][0];
    assert_eq!(shown["cert_chain"][0]["subject_alt_names"][0]["uri"], ID);
    assert_eq!(shown["cert_chain"][0]["days_until_expiration"], "3");
    assert_eq!(shown["ca_cert"][0]["subject"], "CN=root");
    let dump: serde_json::Value =
        serde_json::from_str(&world.page("/config_dump").await).expect("JSON");
    let configs = dump["configs"].as_array().expect("a list");
    let mut secrets = configs
        .iter()
        .flat_map(|part| part["dynamic_active_secrets"].as_array())
        .flatten();
    let own = secrets.find(|one| !one["secret"]["tls_certificate"].is_null());
    let own = &own.expect("the certificate")["secret"]["tls_certificate"];
    let chain = STANDARD.encode(&pair.chain);
    assert_eq!(own["certificate_chain"]["inline_bytes"], chain);
    assert_eq!(own["private_key"]["inline_string"], "[redacted]");
    let secret = pair.key.lines().nth(1).expect("a line");
    let encoded = &STANDARD.encode(&pair.key)[..60];
    for page in [
        "/config_dump",
        "/certs",
        "/clusters",
        "/listeners",
        "/server_info",
    ] {
        let page = world.page(page).await;
        assert!(
            !page.contains(secret) && !page.contains(encoded) && !page.contains("PRIVATE"),
            "{page}"
        );
    }
}

#[tokio::test]
async fn the_bootstrap_file_has_secrets_too() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let inbound = free_address().await;
    let directory = tempfile::tempdir().expect("a directory");
    let pair = authority.server("a");
    std::fs::write(directory.path().join("key.pem"), &pair.key).expect("written");
    let secrets = json!([
        {"name": "fixed", "tls_certificate": {
            "certificate_chain": {"inline_string": pair.chain},
            "private_key": {"filename": directory.path().join("key.pem")},
        }},
    ]);
    let told = |name: &str| {
        Told::default().cluster("app", origin.address, |_| ()).http(
            "in",
            inbound,
            "app",
            |listener, _| {
                let context = CommonTlsContext {
                    tls_certificate_sds_secret_configs: vec![SdsSecretConfig {
                        name: name.to_owned(),
                        sds_config: None,
                    }],
                    ..Default::default()
                };
                listener.filter_chains[0].transport_socket = terminating(context, |_| ());
            },
        )
    };
    let world = World::begin(&told("fixed"), secrets).await;
    tokio::time::timeout(PATIENCE, world.agent.ready())
        .await
        .expect("ready");
    let client = Client::of(&authority, "a");
    assert_eq!(
        client.get(inbound, "/").await.expect("an answer").status(),
        200
    );
    world.tell(&told("other"));
    let message = world.refusal(LISTENER).await;
    let expected = "tls_certificate_sds_secret_configs[0].name: \
                    the bootstrap file has no secret \"other\"";
    assert!(message.contains(expected), "{message}");
}
