//! Certificates and roots that are replaced under load, between sidecars of ours and to a real Envoy: no request
//! fails, no connection is lost, nothing is tried twice.
//!
//! `PERIPLUS_ROTATION_SECONDS` says for how long (`cargo xtask rotate`), and makes times like those of a mesh of it.

pub(crate) mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::{get, get_json, patiently};
use world::{Client, HOSTS, World};

/// How long certificates hold (they are renewed at half of it), and how long all of it takes at least.
#[derive(Clone, Copy)]
struct Times {
    leaf: Duration,
    most: Duration,
}

impl Times {
    fn wanted() -> Self {
        let seconds = std::env::var("PERIPLUS_ROTATION_SECONDS").ok();
        match seconds.map(|text| text.parse().unwrap()) {
            // A new certificate each ten seconds.
            Some(seconds) => Self {
                leaf: Duration::from_secs(20),
                most: Duration::from_secs(seconds),
            },
            None => Self {
                leaf: Duration::from_secs(2),
                most: Duration::from_secs(8),
            },
        }
    }
}

/// What signs, and how many roots are believed.
fn authority(monitoring: u16) -> (String, usize) {
    let page = get_json(monitoring, "/debug/certificates");
    let serial = page["authority"]["serial"].as_str().unwrap();
    (serial.to_owned(), page["roots"].as_array().unwrap().len())
}

/// Asks a host over and over on one connection that is never closed; how often.
fn load(outbound: u16, host: &'static str, done: &Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    let done = Arc::clone(done);
    std::thread::spawn(move || {
        let mut client = Client::connect(outbound);
        let mut count = 0;
        while !done.load(Ordering::Relaxed) {
            let answer = client.ask(host);
            assert_eq!(
                answer.as_ref().ok(),
                Some(&200),
                "{host} after {count} requests: {answer:?}"
            );
            count += 1;
            std::thread::park_timeout(Duration::from_millis(5));
        }
        count
    })
}

/// The sum of a counter over all clusters or listeners; that nobody has it is a mistake here.
fn sum(admin: u16, part: &str) -> u64 {
    let stats = get(admin, "/stats").body;
    let mut found = stats
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| name.contains(part))
        .peekable();
    assert!(found.peek().is_some(), "nothing counts {part}:\n{stats}");
    found.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
}

#[test]
fn certificates_and_a_root_are_replaced_under_load_and_nobody_notices() {
    let times = Times::wanted();
    // The root must not be due before the load is on: on a slow machine there is more time for that.
    let (world, old) = [3, 12, 60]
        .into_iter()
        .find_map(|seconds| {
            let world = World::start(times.leaf, Duration::from_secs(seconds));
            let (old, roots) = authority(world.monitoring);
            (roots == 1).then_some((world, old))
        })
        .expect("a start that is quicker than a minute");
    let servers = [Some(world.ours), world.envoy];
    let servers = || servers.iter().flatten();
    patiently("mutual TLS everywhere", || {
        let hosts = HOSTS.iter().take(if world.envoy.is_some() { 4 } else { 2 });
        let mut asked = hosts.map(|host| Client::connect(world.outbound).ask(host).ok());
        asked.all(|status| status == Some(200)).then_some(())
    });
    for server in servers() {
        assert_eq!(get(server.inbound, "/").status, 0, "plaintext is refused");
    }

    // Whoever has another's token gets neither a certificate nor a configuration by it.
    let thief = world.thief();
    patiently("both refusals", || {
        let page = get_json(world.monitoring, "/debug/certificates");
        let counts = [
            &page["refused"]["false_san"],
            &page["streamsRefused"]["foreign_node"],
        ];
        counts
            .iter()
            .all(|count| count.as_u64() > Some(0))
            .then_some(())
    });
    drop(thief);

    let began = Instant::now();
    let done = Arc::new(AtomicBool::new(false));
    let hosts = &HOSTS[..if world.envoy.is_some() { 4 } else { 2 }];
    let loads: Vec<_> = hosts
        .iter()
        .map(|host| load(world.outbound, host, &done))
        .collect();
    let shown = |admin: u16| get(admin, "/certs").body;
    let before: Vec<String> = servers().map(|server| shown(server.admin)).collect();
    let renewed = sum(world.admin, "identity.renewed");

    // Both roots are believed before the new one signs, and the old one goes last.
    let mut steps = vec![(old.clone(), 1)];
    let goal = |steps: &[(String, usize)]| {
        let (serial, roots) = steps.last().unwrap();
        *serial != old && *roots == 1
    };
    let limit = times.leaf * 6 + Duration::from_secs(90);
    while began.elapsed() < times.most || !goal(&steps) {
        assert!(began.elapsed() < times.most + limit, "{steps:?}");
        let failed = loads.iter().any(std::thread::JoinHandle::is_finished);
        assert!(!failed, "a client has failed after {:?}", began.elapsed());
        let step = authority(world.monitoring);
        if steps.last() != Some(&step) {
            steps.push(step);
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    done.store(true, Ordering::Relaxed);
    let counts: Vec<u64> = loads.into_iter().map(|load| load.join().unwrap()).collect();
    assert!(counts.iter().all(|count| *count > 100), "{counts:?}");

    let new = steps[2].0.clone();
    assert_ne!(new, old);
    let expected = [(&old, 1), (&old, 2), (&new, 2), (&new, 1)];
    let seen: Vec<_> = steps.iter().map(|(serial, n)| (serial, *n)).collect();
    assert_eq!(seen[..4], expected, "{steps:?}");
    let so_often = times.most.as_secs() / times.leaf.as_secs();
    assert!(sum(world.admin, "identity.renewed") - renewed >= so_often);
    for (server, before) in servers().zip(&before) {
        assert_ne!(shown(server.admin), *before, "it shows another one");
    }
    // Nothing was tried twice, or was near to failing.
    for counter in [
        "upstream_rq_retry",
        "upstream_cx_connect_fail",
        "ssl.fail_verify_error",
        "ssl.fail_verify_san",
        "ssl.connection_error",
        "identity.failed",
    ] {
        assert_eq!(sum(world.admin, counter), 0, "{counter}");
    }
    for server in servers() {
        // That of the plaintext above.
        assert!(sum(server.admin, "ssl.connection_error") <= 1);
        assert_eq!(sum(server.admin, "ssl.fail_verify_error"), 0);
    }
    // One connection has lasted, and where each request has its own, each has met the certificates of its time.
    for (host, count) in hosts.iter().zip(&counts) {
        let made = sum(world.admin, &format!("||{host}.upstream_cx_total"));
        match host.contains("once") {
            false => assert!(made <= 2, "{host}: {made} connections"),
            true => assert!(
                made >= *count,
                "{host}: {made} connections, {count} requests"
            ),
        }
    }
    let log = world.finish();
    for (said, times) in [
        ("the root ends soon: a new one is announced", 1),
        ("the new root signs from now on", 1),
        ("it is believed no more", 1),
        ("refused a certificate: the request asks for", 1),
        (
            "refused a proxy: default/client may not ask for the configuration of",
            1,
        ),
    ] {
        assert!(log.matches(said).count() >= times, "{said} in:\n{log}");
    }
    let page: Value = serde_json::json!({"steps": steps, "requests": counts});
    println!("{page}");
}
