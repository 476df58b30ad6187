//! The Bookinfo tutorial as a script: what its pages apply, and what they say is seen then. Once with our proxies, once
//! with Envoys, and both again with the YAML of Gateway API where the tutorial has it.

mod steps;
mod world;

use std::time::{Duration, Instant};

use self::steps::{STEPS, See, Step};
use self::world::{Rules, World};
use crate::gateway_api::backend;
use crate::secure_gateway::client::{Connection, Manner};
use crate::support::{Answer, patiently};

#[test]
fn bookinfo_tutorial() {
    follow(Rules::Istio, None);
}

#[test]
fn bookinfo_tutorial_with_gateway_api() {
    follow(Rules::GatewayApi, None);
}

#[test]
fn bookinfo_tutorial_with_envoys() {
    follow_with_envoys(Rules::Istio);
}

#[test]
fn bookinfo_tutorial_with_gateway_api_and_envoys() {
    follow_with_envoys(Rules::GatewayApi);
}

/// `PERIPLUS_ENVOY` names the binary. Without it the tests fail on CI, and elsewhere say so and pass.
fn follow_with_envoys(rules: Rules) {
    let Ok(envoy) = std::env::var("PERIPLUS_ENVOY") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "PERIPLUS_ENVOY must name an Envoy on CI"
        );
        eprintln!("not run: PERIPLUS_ENVOY does not name an Envoy");
        return;
    };
    follow(rules, Some(&envoy));
}

fn follow(rules: Rules, envoy: Option<&str>) {
    let mut world = World::start(rules, envoy);
    for step in STEPS {
        let Step {
            title,
            istio,
            api,
            seen,
        } = step;
        let applied = match (rules, api) {
            (Rules::GatewayApi, Some(api)) => api,
            _ => istio,
        };
        for text in *applied {
            world.apply(text);
        }
        for see in *seen {
            look(&world, title, *see);
        }
    }
    enters_by_tls(&mut world);
    breaks_the_circuit(&mut world);
    mirrors(&mut world);
}

/// Waits until something is seen, and that it stays.
fn look(world: &World, title: &str, see: See) {
    match see {
        See::Page(user, look, (least, most)) => {
            let user = user.map(|name| world.sign_in(name));
            // What takes its time is what it is; all else must be seen by every page.
            let times = if least > 0 { 1 } else { 12 };
            let mut last = String::new();
            let mut is_seen = || {
                let (found, time) = world.page(user.as_deref());
                let (least, most) = (Duration::from_millis(least), Duration::from_millis(most));
                last = format!("{found} after {time:?}");
                found == look && (least..most).contains(&time)
            };
            let seen = wait(|| (0..times).all(|_| is_seen()).then_some(()));
            assert!(seen.is_some(), "{title}: waited in vain for {look}: {last}");
        }
        See::Shares(shares) => {
            const PAGES: usize = 60;
            patiently(&format!("{title}: {shares:?}"), || {
                let mut counts = vec![0; shares.len()];
                for _ in 0..PAGES {
                    let (found, _) = world.page(None);
                    let at = shares.iter().position(|(look, _)| *look == found)?;
                    counts[at] += 1;
                }
                let is_near = |(count, (_, percent)): (&usize, &(_, usize))| {
                    (100 * count / PAGES).abs_diff(*percent) <= 20
                };
                counts.iter().zip(shares).all(is_near).then_some(())
            });
        }
    }
}

/// Tries for a while.
fn wait<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if let Some(found) = attempt() {
            return Some(found);
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    None
}

/// The ingress with a certificate: the page is the same.
fn enters_by_tls(world: &mut World) {
    let pair = world.let_in_by_tls();
    let page = patiently("the page over TLS", || {
        let mut connection =
            Connection::open(world.secure_port(), "bookinfo.test", Manner::default())?;
        assert!(pair.shows(&connection.certificate()));
        connection
            .get("/productpage")
            .filter(|(status, _)| *status == 200)
    });
    assert!(page.1.contains("Simple Bookstore App"), "{}", page.1);
    let mut connection =
        Connection::open(world.secure_port(), "bookinfo.test", Manner::default()).unwrap();
    assert_eq!(connection.get("/elsewhere").unwrap().0, 404);
}

/// One connection and one request that waits for it: of four requests at once some are refused at the caller.
fn breaks_the_circuit(world: &mut World) {
    world.apply(steps::ONE_CONNECTION);
    patiently("the circuit to break", || {
        let answers = world.call_httpbin_at_once(4);
        let is_refused = |answer: &&Answer| {
            answer.status == 503 && answer.header("x-envoy-overloaded") == Some("true")
        };
        let refused = answers.iter().filter(is_refused).count();
        let served = answers.iter().filter(|answer| answer.status == 200).count();
        (refused >= 2 && served >= 1 && refused + served == answers.len()).then_some(())
    });
    world.apply(steps::ANY_NUMBER_OF_CONNECTIONS);
    patiently("the circuit to be whole again", || {
        let answers = world.call_httpbin_at_once(4);
        answers
            .iter()
            .all(|answer| answer.status == 200)
            .then_some(())
    });
}

/// Clients hear v1; v2 hears them too.
fn mirrors(world: &mut World) {
    world.apply(match world.rules {
        Rules::Istio => steps::MIRRORED,
        Rules::GatewayApi => steps::MIRRORED_BY_API,
    });
    let heard = |version: &str| {
        let copy = (version.to_owned(), "/mirrored".to_owned());
        backend::heard().contains(&copy)
    };
    patiently("the copies", || {
        let answer = world.call_httpbin("/mirrored");
        // Until the rule is there, either version answers.
        if !answer.body.contains("backend=httpbin-v1") {
            return None;
        }
        (heard("httpbin-v1") && heard("httpbin-v2")).then_some(())
    });
}
