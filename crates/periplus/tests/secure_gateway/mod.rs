//! TLS that ends at gateways: whose certificate is shown to whom, who is let in, and what becomes of it when Secrets
//! change. With our proxy and with a real Envoy.

pub(crate) mod client;
pub(crate) mod world;

use std::ffi::OsStr;

use rustls::version::{TLS12, TLS13};

use self::client::{Connection, Manner};
use self::world::{World, text};
use crate::support::patiently;

#[test]
fn a_gateway_ends_tls() {
    ends_tls(None);
}

/// `PERIPLUS_ENVOY` names the binary. Without it the test fails on CI, and elsewhere says so and passes.
#[test]
fn a_gateway_ends_tls_with_envoy() {
    let envoy = std::env::var_os("PERIPLUS_ENVOY");
    if envoy.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "PERIPLUS_ENVOY must name an Envoy on CI"
        );
        eprintln!("not run: PERIPLUS_ENVOY does not name an Envoy");
        return;
    }
    ends_tls(envoy.as_deref());
}

/// What clients ask for: port, name and path; and what comes of it: whose certificate, and who answers.
const CASES: [(u16, &str, &str); 24] = [
    (443, "a.test/", "a v1"),
    (443, "b.test/", "b v2"),
    (443, "files.test/", "files v1"),
    (443, "bytes.test", "a bytes"),
    (443, "through.test/", "backend raw"),
    (443, "ingress.test/", "a v3"),
    (443, "a.test/secure", "a secure"),
    // The gateway does not believe that one, and has certificates to show to it.
    (443, "a.test/unsure", "a 503"),
    (8443, "other.through.test/", "backend raw"),
    // Nobody gets to others by these names.
    (443, "missing.test/", "closed"),
    (443, "broken.test/", "closed"),
    (443, "nofile.test/", "closed"),
    (443, "unknown.test/", "closed"),
    (443, "suites.test/", "closed"),
    (8443, "own.api.test/", "a v1"),
    // GatewaySecretReferenceGrantSpecific, …MissingReferenceGrant, GatewayInvalidTLSConfiguration
    (8443, "granted.api.test/", "granted v1"),
    (8443, "denied.api.test/", "closed"),
    (8443, "absent.api.test/", "closed"),
    (8443, "broken.api.test/", "closed"),
    (8443, "strange.api.test/", "closed"),
    (8443, "other.api.test/", "b v1"),
    // TLSRouteTerminateSimpleSameNamespace, and without a route
    (8443, "a.bytes.test", "a bytes"),
    (8443, "b.bytes.test", "closed"),
    (8443, "no-route.through.test/", "closed"),
];

/// The same with certificates of clients: `b` is the one that is asked for.
const CLIENTS: [(u16, &str, Option<&str>, &str); 15] = [
    (443, "mutual.test/", None, "closed"),
    (443, "mutual.test/", Some("b"), "b v1"),
    (443, "mutual.test/", Some("stranger"), "closed"),
    (443, "optional.test/", None, "b v1"),
    (443, "optional.test/", Some("b"), "b v1"),
    (443, "optional.test/", Some("stranger"), "closed"),
    (443, "named.test/", Some("b"), "closed"),
    // GatewayFrontendClientCertificateValidation, …InsecureFallback
    (9443, "any.test/", None, "closed"),
    (9443, "any.test/", Some("b"), "a v1"),
    (9443, "any.test/", Some("stranger"), "closed"),
    (9444, "any.test/", None, "a v1"),
    (9444, "any.test/", Some("b"), "a v1"),
    (9444, "any.test/", Some("stranger"), "a v1"),
    (9445, "any.test/", None, "closed"),
    (9445, "any.test/", Some("b"), "closed"),
];

/// The status of resources: where to look, and what is there.
const STATUSES: [(&str, &str, &str); 12] = [
    (
        "Gateway api",
        "/conditions",
        "Accepted=True/ListenersNotValid Programmed=True/Programmed InsecureFrontendValidationMode=True/ConfigurationChanged",
    ),
    (
        "Gateway api",
        "/listeners/0/conditions",
        "Accepted=True/Accepted Conflicted=False/NoConflicts ResolvedRefs=True/ResolvedRefs Programmed=True/Programmed",
    ),
    (
        "Gateway api",
        "/listeners/1/conditions",
        "Accepted=True/Accepted Conflicted=False/NoConflicts ResolvedRefs=True/ResolvedRefs Programmed=True/Programmed",
    ),
    (
        "Gateway api",
        "/listeners/2/conditions",
        "Accepted=True/Accepted Conflicted=False/NoConflicts ResolvedRefs=False/RefNotPermitted Programmed=False/Invalid",
    ),
    (
        "Gateway api",
        "/listeners/3/conditions",
        "Accepted=True/Accepted Conflicted=False/NoConflicts ResolvedRefs=False/InvalidCertificateRef Programmed=False/Invalid",
    ),
    (
        "Gateway api",
        "/listeners/4/conditions",
        "Accepted=True/Accepted Conflicted=False/NoConflicts ResolvedRefs=False/InvalidCertificateRef Programmed=False/Invalid",
    ),
    (
        "Gateway api",
        "/listeners/5/conditions",
        "Accepted=True/Accepted Conflicted=False/NoConflicts ResolvedRefs=False/InvalidCertificateRef Programmed=False/Invalid",
    ),
    (
        "Gateway api",
        "/listeners/10/conditions",
        "Accepted=True/Accepted Conflicted=True/ProtocolConflict ResolvedRefs=True/ResolvedRefs Programmed=False/Invalid",
    ),
    (
        "Gateway api",
        "/listeners/13/conditions",
        "Accepted=False/NoValidCACertificate Conflicted=False/NoConflicts ResolvedRefs=False/InvalidCACertificateRef Programmed=False/Invalid",
    ),
    (
        "Gateway clashing",
        "/listeners/0/conditions",
        "Accepted=True/Accepted Conflicted=True/HostnameConflict ResolvedRefs=True/ResolvedRefs Programmed=False/Invalid",
    ),
    (
        "Gateway clashing",
        "/listeners/1/conditions",
        "Accepted=True/Accepted Conflicted=False/NoConflicts ResolvedRefs=True/ResolvedRefs Programmed=True/Programmed",
    ),
    (
        "Gateway clashing",
        "/listeners/2/conditions",
        "Accepted=True/Accepted Conflicted=True/ProtocolConflict ResolvedRefs=True/ResolvedRefs Programmed=False/Invalid",
    ),
];

fn ends_tls(envoy: Option<&OsStr>) {
    let mut world = World::start(envoy);
    let mut wrong = Vec::new();
    for (port, target, expected) in CASES {
        // Secrets come after listeners.
        if expected != "closed" {
            patiently(&format!("{target} on {port}: {expected}"), || {
                (world.ask(port, target, Manner::default()) == expected).then_some(())
            });
        }
        let found = world.ask(port, target, Manner::default());
        if found != expected {
            wrong.push(format!("{port} {target}: {found}, not {expected}"));
        }
    }
    for (port, target, client, expected) in CLIENTS {
        let manner = Manner {
            shows: client.map(|name| world.pair(name)),
            ..Manner::default()
        };
        let found = world.ask(port, target, manner);
        if found != expected {
            wrong.push(format!(
                "{port} {target} {client:?}: {found}, not {expected}"
            ));
        }
    }
    let only = |version| Manner {
        version: Some(version),
        ..Manner::default()
    };
    for (target, manner, expected) in [
        ("new.test/", only(&TLS12), "closed"),
        ("new.test/", only(&TLS13), "a v1"),
        ("a.test/", only(&TLS12), "a v1"),
    ] {
        let found = world.ask(443, target, manner);
        if found != expected {
            wrong.push(format!(
                "{target} {:?}: {found}, not {expected}",
                manner.version
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let offers = Manner {
        offers: &["h2", "http/1.1"],
        ..Manner::default()
    };
    let connection = world.connect(443, "a.test", offers).unwrap();
    assert_eq!(connection.agreed().as_deref(), Some("h2"));
    // Backends are told who the client is, whatever it says itself.
    let shown = Manner {
        shows: Some(world.pair("b")),
        ..Manner::default()
    };
    let mut connection = world.connect(443, "mutual.test", shown).unwrap();
    let (_, body) = connection.get("/").unwrap();
    let header = body
        .lines()
        .find(|line| line.contains("x-forwarded-client-cert="));
    let header = header.unwrap_or_else(|| panic!("no certificate in {body}"));
    assert!(
        header.contains("Hash=") && header.contains("Cert=") && header.contains("DNS=b.test"),
        "{header}"
    );

    for (host, location) in [("a.test", Some("https://a.test/x?y")), ("b.test", None)] {
        let found = world.location(host, "/x?y");
        assert_eq!(found.as_deref(), location, "{host}");
    }
    let mut elsewhere = world
        .connect(8443, "own.api.test", Manner::default())
        .unwrap();
    let (status, _) = elsewhere.get("/redirect").unwrap();
    assert_eq!(status, 302);

    for (name, path, expected) in STATUSES {
        assert_eq!(world.status(name, path), expected, "{name} {path}");
    }
    let problems = world.problems();
    for said in [
        "gateway.yaml:14:41: Gateway edge/shops: server https-missing lets nobody in: there is no Secret edge/nothing",
        "Gateway edge/shops: server https-broken lets nobody in: Secret edge/broken (secrets.yaml:",
        "Secret edge/broken cannot be used: its key cannot be used with its certificate",
    ] {
        assert!(problems.contains(said), "{said} in:\n{problems}");
    }
    // Its authorities are in a Secret of their own.
    assert!(!problems.contains("Secret backend"), "{problems}");
    secrets_change(&mut world);
}

/// Connections stay while certificates are replaced; one that cannot be used harms nobody else.
fn secrets_change(world: &mut World) {
    let open = |world: &World, name: &str| world.connect(443, name, Manner::default()).unwrap();
    let mut old = open(world, "a.test");
    let mut other = open(world, "b.test");
    let answers = |connection: &mut Connection, who: &str| {
        let (status, body) = connection.get("/").expect("it is still open");
        assert_eq!((status, text(&body, "backend")), (200, Some(who)));
    };
    answers(&mut old, "v1");
    answers(&mut other, "v2");
    world.replace("a", "a2");
    patiently("the new certificate", || {
        (world.ask(443, "a.test/", Manner::default()) == "a2 v1").then_some(())
    });
    answers(&mut old, "v1");
    answers(&mut other, "v2");

    // The key is that of another certificate.
    world.spoil("a");
    patiently("the host to be closed", || {
        (world.ask(443, "a.test/", Manner::default()) == "closed").then_some(())
    });
    answers(&mut other, "v2");
    assert_eq!(world.ask(443, "b.test/", Manner::default()), "b v2");
    let problems = world.problems();
    let said = "Secret edge/a cannot be used: its key cannot be used with its certificate";
    assert!(problems.contains(said), "{problems}");

    // Base64 that is none: the file's last good content stays.
    world.replace("a", "a");
    patiently("the first certificate", || {
        (world.ask(443, "a.test/", Manner::default()) == "a v1").then_some(())
    });
    world.garble("a");
    patiently("the complaint", || {
        world.problems().contains("encoded in Base64").then_some(())
    });
    assert_eq!(world.ask(443, "a.test/", Manner::default()), "a v1");
    answers(&mut other, "v2");
    assert!(
        !world.problems().contains("PRIVATE"),
        "keys are shown to nobody"
    );
}
