use super::*;

const SECOND: u64 = 1_000_000_000;
const T0: u64 = 1_795_332_558 * SECOND;

fn options() -> AdaptiveOptions {
    AdaptiveOptions {
        calculation_delay: Duration::ZERO,
        initial_sampling_probability: 0.1,
        ..AdaptiveOptions::default()
    }
}

fn probability(adaptive: &mut Adaptive, service: &str, operation: &str) -> Option<f64> {
    let operations = adaptive.strategy(service).operations?.per_operation;
    let found = operations
        .into_iter()
        .find(|entry| entry.operation == operation)?;
    // Without the noise of its last digits.
    Some((found.probability * 1e9).round() / 1e9)
}

/// A minute in which so many roots come, each of a client that obeys what it was told.
fn minute(adaptive: &mut Adaptive, now: &mut u64, roots: u64, sampler: Sampler) {
    for _ in 0..roots {
        adaptive.record("shop", "/buy", sampler);
    }
    *now += 60 * SECOND;
    assert!(adaptive.tick(*now));
}

#[test]
fn probabilities_follow_the_traffic() {
    let mut adaptive = Adaptive::new(options());
    let mut now = T0;
    adaptive.tick(now);
    // (sampled roots in a minute, with the probability told before) → the next probability
    for (roots, expected) in [
        (600, 0.01),  // 10 per second: a tenth
        (60, 0.01),   // on target
        (77, 0.01),   // within 30 %
        (41, 0.0146), // below
        (6, 0.0293),  // never more than twice as much at once
        (0, 0.0293),  // not asked for: nothing has come, and nothing says that they obey
    ] {
        let told = probability(&mut adaptive, "shop", "/buy").unwrap_or(0.1);
        minute(&mut adaptive, &mut now, roots, Sampler::Probabilistic(told));
        let next = probability(&mut adaptive, "shop", "/buy").unwrap();
        assert!((next - expected).abs() < 1e-4, "{roots}: {next}");
    }
}

#[test]
fn probabilities_stay_in_bounds() {
    let mut adaptive = Adaptive::new(options());
    let mut now = T0;
    adaptive.tick(now);
    for _ in 0..5 {
        let told = probability(&mut adaptive, "shop", "/buy").unwrap_or(0.1);
        minute(&mut adaptive, &mut now, 1, Sampler::Probabilistic(told));
    }
    assert_eq!(probability(&mut adaptive, "shop", "/buy"), Some(1.0));
    for _ in 0..3 {
        let told = probability(&mut adaptive, "shop", "/buy").unwrap();
        minute(
            &mut adaptive,
            &mut now,
            60_000,
            Sampler::Probabilistic(told),
        );
    }
    assert_eq!(probability(&mut adaptive, "shop", "/buy"), Some(1e-5));
}

#[test]
fn roots_that_do_not_say_count_with_what_was_told() {
    let mut adaptive = Adaptive::new(options());
    let mut now = T0;
    adaptive.tick(now);
    // Nobody of this service has asked: it is not sampled by us.
    minute(&mut adaptive, &mut now, 600, Sampler::Untold);
    assert_eq!(probability(&mut adaptive, "shop", "/buy"), None);
    assert_eq!(
        (adaptive.stats().roots, adaptive.stats().foreign_roots),
        (0, 600)
    );
    // Now it has.
    minute(&mut adaptive, &mut now, 600, Sampler::Untold);
    assert_eq!(probability(&mut adaptive, "shop", "/buy"), Some(0.01));
    minute(&mut adaptive, &mut now, 600, Sampler::Untold);
    // Until it asks again it obeys the old probability, and nothing changes.
    minute(&mut adaptive, &mut now, 600, Sampler::Untold);
    assert_eq!(probability(&mut adaptive, "shop", "/buy"), Some(0.001));
    assert_eq!(adaptive.stats().roots, 1_800);
}

#[test]
fn clients_that_do_not_obey_change_nothing() {
    let mut adaptive = Adaptive::new(options());
    let mut now = T0;
    adaptive.tick(now);
    minute(&mut adaptive, &mut now, 600, Sampler::Probabilistic(0.1));
    assert_eq!(probability(&mut adaptive, "shop", "/buy"), Some(0.01));
    minute(&mut adaptive, &mut now, 600, Sampler::Probabilistic(0.9));
    assert_eq!(probability(&mut adaptive, "shop", "/buy"), Some(0.01));
    minute(&mut adaptive, &mut now, 600, Sampler::Other);
    assert_eq!(adaptive.stats().foreign_roots, 600);
    // The lower bound says that they obey, and that too little is sampled.
    minute(&mut adaptive, &mut now, 2, Sampler::LowerBound(0.01));
    assert_eq!(probability(&mut adaptive, "shop", "/buy"), Some(0.02));
}

#[test]
fn late_spans_have_time_to_come() {
    let mut adaptive = Adaptive::new(AdaptiveOptions {
        calculation_delay: Duration::from_secs(120),
        ..options()
    });
    let mut now = T0;
    adaptive.tick(now);
    minute(&mut adaptive, &mut now, 600, Sampler::Probabilistic(0.1));
    minute(&mut adaptive, &mut now, 0, Sampler::Other);
    assert_eq!(probability(&mut adaptive, "shop", "/buy"), None);
    minute(&mut adaptive, &mut now, 0, Sampler::Other);
    assert_eq!(probability(&mut adaptive, "shop", "/buy"), Some(0.01));
    assert!(!adaptive.tick(now + SECOND));
    assert_eq!(adaptive.next_tick_unix_nano(), Some(now + 60 * SECOND));
}

#[test]
fn newer_buckets_weigh_more() {
    assert_eq!(weights(1), [1.0]);
    let three = weights(3);
    assert!((three[0] - 81.0 / 98.0).abs() < 1e-12 && (three[2] - 1.0 / 98.0).abs() < 1e-12);
}

#[test]
fn what_is_idle_is_forgotten() {
    let mut adaptive = Adaptive::new(options());
    let mut now = T0;
    adaptive.tick(now);
    minute(&mut adaptive, &mut now, 600, Sampler::Probabilistic(0.1));
    for _ in 0..10 {
        minute(&mut adaptive, &mut now, 0, Sampler::Other);
        assert_eq!(adaptive.stats().operations, 1);
    }
    minute(&mut adaptive, &mut now, 0, Sampler::Other);
    assert_eq!(
        (adaptive.stats().operations, adaptive.stats().services),
        (0, 0)
    );
}

#[test]
fn there_are_limits_and_what_is_over_them_is_counted() {
    let mut adaptive = Adaptive::new(AdaptiveOptions {
        max_services: 2,
        max_operations: 3,
        ..options()
    });
    for service in ["a", "b", "c"] {
        for operation in ["1", "2", "3", "4"] {
            adaptive.record(service, operation, Sampler::Probabilistic(0.1));
        }
    }
    adaptive.record("", "1", Sampler::Probabilistic(0.1));
    adaptive.record("a", "", Sampler::Probabilistic(0.1));
    assert_eq!(
        (adaptive.stats().roots, adaptive.stats().overflow_roots),
        (6, 6)
    );
}

#[test]
fn what_was_learnt_survives() {
    let mut adaptive = Adaptive::new(options());
    let mut now = T0;
    adaptive.tick(now);
    adaptive.strategy("shop");
    minute(&mut adaptive, &mut now, 600, Sampler::Untold);
    let told = probability(&mut adaptive, "shop", "/buy");
    let text = serde_json::to_string(&adaptive.state()).unwrap();
    let state: AdaptiveState = serde_json::from_str(&text).unwrap();
    assert_eq!(state, adaptive.state());
    let mut resumed = Adaptive::resume(options(), state);
    assert_eq!(probability(&mut resumed, "shop", "/buy"), told);
    resumed.record("shop", "/buy", Sampler::Untold);
    assert_eq!(resumed.stats().roots, 1);
    // Nonsense in a file is not served.
    let bad = r#"{"services":{"shop":{"/buy":{"probability":7.0}}}}"#;
    let mut resumed = Adaptive::resume(options(), serde_json::from_str(bad).unwrap());
    assert_eq!(probability(&mut resumed, "shop", "/buy"), None);
}
