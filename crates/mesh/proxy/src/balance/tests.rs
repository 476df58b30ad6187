//! Who is chosen how often, and who stays the same.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::snapshot::{
    Balancing, Cluster, Endpoint, Fallback, HostStatus, LeastRequest, Locality, PeakEwma, RingHash,
    RingHashFunction, Selector, SlowStart, Spread, Subsets,
};

/// Chance with a seed, and a clock that is set by hand.
struct Dice {
    random: RefCell<fastrand::Rng>,
    now: Cell<u64>,
}

impl Chance for Dice {
    fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    fn now(&self) -> u64 {
        self.now.get()
    }
}

#[derive(Default)]
struct Busy(Vec<(Cell<u32>, Latency)>);

impl Load for Busy {
    fn active(&self, index: usize) -> u32 {
        self.0[index].0.get()
    }

    fn latency(&self, index: usize) -> &Latency {
        &self.0[index].1
    }
}

/// A cluster with a picker over it.
struct World {
    cluster: Cluster,
    picker: Picker,
    busy: Busy,
    dice: Dice,
}

fn endpoint(number: u16) -> Endpoint {
    Endpoint::new(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), number))
}

fn cluster(balancing: Balancing, weights: &[u32]) -> Cluster {
    let endpoints = (1..).zip(weights).map(|(number, weight)| Endpoint {
        weight: *weight,
        ..endpoint(number)
    });
    Cluster {
        balancing,
        endpoints: endpoints.collect(),
        ..Cluster::default()
    }
}

impl World {
    fn new(cluster: Cluster) -> Self {
        Self::with_seed(cluster, 0)
    }

    fn with_seed(cluster: Cluster, seed: usize) -> Self {
        let picker = Picker::new(
            cluster.members().plan(),
            cluster.balancing,
            cluster.spread.slow_start,
            Arc::default(),
            seed,
        );
        Self {
            busy: Busy(
                cluster
                    .endpoints
                    .iter()
                    .map(|_| Default::default())
                    .collect(),
            ),
            picker,
            dice: Dice {
                random: RefCell::new(fastrand::Rng::with_seed(7)),
                now: Cell::new(super::now()),
            },
            cluster,
        }
    }

    fn pick(&self, ask: Ask<'_>) -> Option<usize> {
        self.picker.pick(ask, &self.busy, &self.dice)
    }

    fn hash(&self, hash: u64) -> Option<u16> {
        let ask = Ask {
            hash: Some(hash),
            ..Ask::default()
        };
        self.pick(ask)
            .map(|index| self.cluster.endpoints[index].address.port())
    }

    fn counts(&self, picks: usize) -> Vec<usize> {
        let mut counts = vec![0; self.cluster.endpoints.len()];
        for _ in 0..picks {
            counts[self.pick(Ask::default()).expect("an endpoint")] += 1;
        }
        counts
    }
}

const RING: Balancing = Balancing::RingHash(RingHash {
    min_size: 1024,
    max_size: 8 * 1024 * 1024,
    function: RingHashFunction::XxHash,
});
const MAGLEV: Balancing = Balancing::Maglev { table_size: 65_537 };

fn least_request() -> Balancing {
    Balancing::LeastRequest(LeastRequest::default())
}

#[test]
fn round_robin_is_exact_with_and_without_weights() {
    let counts = |weights: &[u32], picks, seed| {
        World::with_seed(cluster(Balancing::RoundRobin, weights), seed).counts(picks)
    };
    for seed in 0..5 {
        assert_eq!(counts(&[1, 1, 1], 9, seed), [3, 3, 3]);
        assert_eq!(counts(&[5, 1, 2], 16, seed), [10, 2, 4]);
    }
}

#[test]
fn random_follows_the_weights() {
    let counts = World::new(cluster(Balancing::Random, &[9, 1])).counts(10_000);
    assert!((8_800..9_200).contains(&counts[0]), "{counts:?}");
    let counts = World::new(cluster(Balancing::Random, &[1, 1, 1])).counts(9_000);
    assert!(
        counts.iter().all(|count| (2_800..3_200).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn least_request_prefers_the_idle() {
    let world = World::new(cluster(least_request(), &[1, 1]));
    world.busy.0[0].0.set(5);
    let busy = world.counts(1000)[0];
    assert!(
        (180..320).contains(&busy),
        "both choices fall on it: {busy}"
    );
    let wide = Balancing::LeastRequest(LeastRequest {
        choices: 8,
        bias: 1.0,
    });
    let world = World::new(cluster(wide, &[1, 1]));
    world.busy.0[0].0.set(5);
    assert!(world.counts(1000)[0] < 20, "one in 256");
}

#[test]
fn least_request_with_weights_divides_them_by_the_load() {
    let world = World::new(cluster(least_request(), &[2, 1]));
    assert_eq!(world.counts(300), [200, 100]);
    world.busy.0[0].0.set(3);
    let world = {
        world.counts(50);
        world
    };
    // 2 / 4 against 1.
    let counts = world.counts(300);
    assert!((95..=105).contains(&counts[0]), "{counts:?}");
    let blind = Balancing::LeastRequest(LeastRequest {
        choices: 2,
        bias: 0.0,
    });
    let world = World::new(cluster(blind, &[2, 1]));
    world.busy.0[0].0.set(3);
    assert_eq!(world.counts(300), [200, 100]);
}

#[test]
fn no_endpoint_is_none() {
    for policy in [
        Balancing::RoundRobin,
        least_request(),
        Balancing::Random,
        RING,
        MAGLEV,
    ] {
        assert_eq!(World::new(cluster(policy, &[])).pick(Ask::default()), None);
    }
}

#[test]
fn the_faster_endpoint_gets_more_and_the_slow_one_is_forgiven() {
    let options = PeakEwma::default();
    let world = World::new(cluster(Balancing::PeakEwma(options), &[1, 1, 1]));
    let now = world.dice.now.get();
    for (index, took) in [(0, 5.0), (1, 5.0), (2, 500.0)] {
        world.busy.0[index].1.observe(took, now, &options);
    }
    let counts = world.counts(1000);
    assert_eq!(counts[2], 0, "any of the others is faster");
    assert!(counts[0] > 400 && counts[1] > 400, "{counts:?}");
    // Its load counts too.
    world.busy.0[0].0.set(200);
    assert!(world.counts(1000)[2] > 200);
    world.busy.0[0].0.set(0);
    // A worse answer counts at once, a better one little by little, and old ones hardly.
    world.dice.now.set(now + 60_000_000);
    for index in 0..2 {
        world.busy.0[index]
            .1
            .observe(5.0, now + 60_000_000, &options);
    }
    assert!(world.counts(1000)[2] > 300, "it was slow a minute ago");
}

#[test]
fn an_endpoint_that_has_answered_nothing_gets_one_request_at_a_time() {
    let options = PeakEwma::default();
    let world = World::new(cluster(Balancing::PeakEwma(options), &[1, 1]));
    world.busy.0[0]
        .1
        .observe(50.0, world.dice.now.get(), &options);
    assert_eq!(world.counts(100), [0, 100], "10 ms are expected of it");
    world.busy.0[1].0.set(1);
    assert_eq!(world.counts(100), [100, 0]);
}

#[test]
fn those_who_are_new_start_slowly() {
    let mut slow = cluster(Balancing::RoundRobin, &[1, 1]);
    slow.spread.slow_start = Some(SlowStart {
        window: Duration::from_secs(100),
        aggression: 1.0,
        min_weight: 0.1,
    });
    let world = World::new(slow);
    let began = world.cluster.members().host(1).healthy_since();
    world.dice.now.set(began + 10_000_000);
    assert_eq!(world.counts(100), [50, 50], "both are as new");

    let slow = Cluster {
        members: MembersCell::default(),
        ..world.cluster
    };
    let members = slow.members();
    members.host(1).begins_healthy();
    let since = members.host(1).healthy_since();
    // As if the first had been healthy for ever.
    members.host(0).set_healthy_since(0);
    members.refresh(&slow);
    let world = World::new(slow);
    for (after, share) in [
        (0, 9),
        (50_000_000, 33),
        (90_000_000, 47),
        (200_000_000, 50),
    ] {
        world.dice.now.set(since + after);
        world.counts(20);
        let counts = world.counts(100);
        assert!(
            (share - 2..=share + 2).contains(&counts[1]),
            "{counts:?} after {after}"
        );
    }
}

#[test]
fn aggression_bends_the_start() {
    let at = |aggression: f64| {
        let slow = SlowStart {
            window: Duration::from_secs(10),
            aggression,
            min_weight: 0.1,
        };
        (slow.factor(2_500_000, 0) * 1000.0).round()
    };
    assert_eq!((at(1.0), at(2.0), at(0.5)), (250.0, 500.0, 100.0));
}

/// The chi-square statistic of hashes over endpoints stays below what chance allows.
#[test]
fn hashes_spread_by_weight() {
    for policy in [RING, MAGLEV] {
        let weights = [1, 2, 3, 4];
        let world = World::new(cluster(policy, &weights));
        let mut counts = [0_f64; 4];
        let total = 20_000_u64;
        for key in 0..total {
            let hash = xxh64(&key.to_le_bytes(), 0);
            counts[usize::from(world.hash(hash).expect("an endpoint")) - 1] += 1.0;
        }
        for (count, weight) in counts.iter().zip(weights) {
            let expected = total as f64 * f64::from(weight) / 10.0;
            // The ring has a thousand places: a tenth of them is 10 percent off now and then.
            let slack = if policy == MAGLEV { 0.05 } else { 0.15 };
            assert!(
                (count / expected - 1.0).abs() < slack,
                "{policy:?}: {counts:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Removing one endpoint moves its own keys, and few others.
    #[test]
    fn removal_moves_little(hosts in 3_usize..12, gone in 0_usize..12, murmur in any::<bool>()) {
        let gone = gone % hosts;
        let function = if murmur { RingHashFunction::Murmur2 } else { RingHashFunction::XxHash };
        // So many places for each, however many endpoints there are.
        let ring = |hosts: usize| Balancing::RingHash(RingHash {
            min_size: 100 * hosts as u64,
            function,
            ..RingHash::default()
        });
        let policies = [(ring(hosts), ring(hosts - 1), 0.0), (MAGLEV, MAGLEV, 0.1)];
        for (policy, policy_after, others) in policies {
            let before = World::new(cluster(policy, &vec![1; hosts]));
            let mut less = Cluster {
                balancing: policy_after,
                ..before.cluster.clone()
            };
            let left = less.endpoints.remove(gone).address.port();
            let after = World::new(less);
            let keys = 4000_u64;
            let (mut moved, mut own) = (0_u32, 0_u32);
            for key in 0..keys {
                let hash = xxh64(&key.to_le_bytes(), 3);
                let (was, is) = (before.hash(hash).unwrap(), after.hash(hash).unwrap());
                own += u32::from(was == left);
                moved += u32::from(was != left && was != is);
            }
            prop_assert!(f64::from(moved) <= others * keys as f64, "{moved} others moved");
            prop_assert!(f64::from(own) < 1.6 * keys as f64 / hosts as f64);
        }
    }
}

/// Two priorities: the second takes over as the first fails, as Envoy's documentation has it.
#[test]
fn priorities_fail_over() {
    let shares = |unhealthy: usize| {
        let mut all = cluster(Balancing::Random, &[1; 20]);
        for endpoint in &mut all.endpoints[10..] {
            endpoint.priority = 1;
        }
        for endpoint in &mut all.endpoints[..unhealthy] {
            endpoint.status = HostStatus::Unhealthy;
        }
        let counts = World::new(all).counts(10_000);
        let first: usize = counts[..10].iter().sum();
        (first as f64 / 100.0).round()
    };
    assert_eq!(shares(0), 100.0);
    assert_eq!(shares(2), 100.0, "80 % times 1.4");
    for (unhealthy, expected) in [(5, 70.0), (8, 28.0), (10, 0.0)] {
        let share = shares(unhealthy);
        assert!((share - expected).abs() <= 2.0, "{unhealthy}: {share}");
    }
}

#[test]
fn degraded_endpoints_help_out() {
    let mut some = cluster(Balancing::Random, &[1; 4]);
    some.endpoints[0].status = HostStatus::Degraded;
    assert_eq!(
        World::new(some.clone()).counts(400)[0],
        0,
        "75 % times 1.4 is enough"
    );
    some.endpoints[1].status = HostStatus::Degraded;
    let counts = World::new(some).counts(10_000);
    assert!(
        (1300..1700).contains(&counts[0]),
        "half of 30 %: {counts:?}"
    );
}

#[test]
fn localities_share_by_weight() {
    let locality = |zone: &str, weight| Locality {
        zone: zone.to_owned(),
        weight,
        ..Locality::default()
    };
    let mut all = cluster(Balancing::RoundRobin, &[1; 5]);
    all.localities = vec![locality("a", 1), locality("b", 3), locality("c", 0)];
    for (index, place) in [(1, 1), (2, 1), (3, 1), (4, 2)] {
        all.endpoints[index].locality = place;
    }
    assert_eq!(
        World::new(all.clone()).counts(50),
        [10; 5],
        "not by locality"
    );
    all.spread.by_locality = true;
    assert_eq!(World::new(all.clone()).counts(120), [30, 30, 30, 30, 0]);
    // Two of three are gone: 1.4 / 3 of the weight are left.
    all.endpoints[1].status = HostStatus::Unhealthy;
    all.endpoints[2].status = HostStatus::Unhealthy;
    let counts = World::new(all.clone()).counts(2400);
    assert!((995..1005).contains(&counts[0]), "1 of 2.4: {counts:?}");
    all.balancing = MAGLEV;
    let world = World::new(all);
    let to_first =
        (0..10_000_u64).filter(|key| world.hash(xxh64(&key.to_le_bytes(), 0)) == Some(1));
    let share = to_first.count();
    assert!(
        (2300..2700).contains(&share),
        "hashes know no partial health: {share}"
    );
}

#[test]
fn panic_uses_all_or_none() {
    let mut all = cluster(Balancing::RoundRobin, &[1; 4]);
    for endpoint in &mut all.endpoints[1..] {
        endpoint.status = HostStatus::Unhealthy;
    }
    assert_eq!(World::new(all.clone()).counts(8), [2; 4]);
    let strict = Cluster {
        spread: Spread {
            panic_threshold: 25,
            ..Spread::default()
        },
        ..all.clone()
    };
    assert_eq!(World::new(strict).counts(8), [8, 0, 0, 0]);
    all.spread.fails_in_panic = true;
    assert_eq!(World::new(all).pick(Ask::default()), None);
}

#[test]
fn subsets_and_their_fallbacks() {
    let label = |name: &str, value: &str| (name.to_owned(), format!("{value:?}"));
    let mut all = cluster(Balancing::RoundRobin, &[1; 4]);
    for (index, version) in [(0, "v1"), (1, "v1"), (2, "v2"), (3, "v3")] {
        let stage = if index == 3 { "canary" } else { "prod" };
        all.endpoints[index].labels = vec![label("stage", stage), label("version", version)];
    }
    let selector = |keys: &[&str], fallback| Selector {
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        fallback,
    };
    let subsets = Subsets {
        selectors: vec![
            selector(&["version"], None),
            selector(&["stage", "version"], Some(Fallback::Any)),
        ],
        fallback: Fallback::DefaultSubset,
        default_subset: vec![label("stage", "canary")],
        ..Subsets::default()
    };
    all.spread.subsets = Some(subsets.clone());
    let world = World::new(all.clone());
    let chosen = |world: &World, subsets: &Subsets, labels: &[(String, String)]| {
        let criteria = Criteria::new(&labels.to_vec(), subsets);
        let ask = Ask {
            criteria: Some(&criteria),
            ..Ask::default()
        };
        let mut found: Vec<_> = (0..8).filter_map(|_| world.pick(ask)).collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    let (v1, v9) = (label("version", "v1"), label("version", "v9"));
    let (prod, v3) = (label("stage", "prod"), label("version", "v3"));
    assert_eq!(chosen(&world, &subsets, std::slice::from_ref(&v1)), [0, 1]);
    assert_eq!(
        chosen(&world, &subsets, std::slice::from_ref(&v9)),
        [3],
        "the default subset"
    );
    assert_eq!(
        chosen(&world, &subsets, &[prod.clone(), v1.clone()]),
        [0, 1]
    );
    assert_eq!(
        chosen(&world, &subsets, &[prod, v3]),
        [0, 1, 2, 3],
        "of that selector"
    );
    assert_eq!(chosen(&world, &subsets, &[]), [3]);
    assert_eq!(chosen(&world, &subsets, &[label("x", "y")]), [3]);
    assert_eq!(
        chosen(&world, &subsets, &[v1.clone(), label("x", "y")]),
        [3]
    );
    let lenient = Subsets {
        allows_redundant_keys: true,
        ..subsets.clone()
    };
    assert_eq!(chosen(&world, &lenient, &[v1, label("x", "y")]), [0, 1]);
    let none = Subsets {
        fallback: Fallback::None,
        ..subsets
    };
    all.spread.subsets = Some(none.clone());
    assert_eq!(chosen(&World::new(all), &none, &[v9]), [0_usize; 0]);
}

#[test]
fn what_fails_is_left_out_and_what_leaves_and_fails_does_not_count() {
    let mut all = cluster(Balancing::RoundRobin, &[1; 4]);
    all.spread.panic_threshold = 60;
    let members = all.members();
    members.host(0).set(HostFlag::Ejected);
    members.refresh(&all);
    assert_eq!(members.generation(), 1);
    assert_eq!(
        World::new(all.clone()).cluster.members().generation(),
        0,
        "a copy is its own"
    );
    let picker = |all: &Cluster| {
        let mut found = all.members().plan().in_use();
        found.dedup();
        found
    };
    assert_eq!(picker(&all), [1, 2, 3]);
    members.host(1).set(HostFlag::FailedCheck);
    members.refresh(&all);
    assert_eq!(picker(&all), [0, 1, 2, 3], "panic");
    members.host(1).set(HostFlag::Leaving);
    members.refresh(&all);
    assert_eq!(picker(&all), [2, 3], "two of three are enough");
}
