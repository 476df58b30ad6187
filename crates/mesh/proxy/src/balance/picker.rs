//! A worker's way through a plan: whose turn it is.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::balance::edf::Edf;
use crate::balance::elsewhere::Elsewhere;
use crate::balance::plan::{Choice, Group, Places};
use crate::balance::set::{Set, Table};
use crate::balance::{Criteria, Plan};
use crate::net::Source;
use crate::snapshot::{Balancing, LeastRequest, PeakEwma, SlowStart, Wanted};
use crate::stats::ClusterStats;

/// What a request brings along that decides about its endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ask<'a> {
    /// Where the client wanted to go, for clusters of type ORIGINAL_DST.
    pub(crate) original: Option<SocketAddr>,
    /// The address of the host that it asks for, for clusters whose endpoints are such hosts.
    pub(crate) looked_up: Option<SocketAddr>,
    /// The client's own address, if endpoints are to see that.
    pub(crate) source: Option<Source>,
    /// What its hash policies made of it.
    pub(crate) hash: Option<u64>,
    /// How many endpoints were passed over that this hash leads to.
    pub(crate) passed_over: u32,
    /// The subset that its route asks for.
    pub(crate) criteria: Option<&'a Criteria>,
    /// Which circuit breakers it is subject to.
    pub(crate) is_high_priority: bool,
    /// The endpoint that its session has.
    pub(crate) wanted: Option<&'a Wanted>,
}

/// Where a picker gets randomness and time from.
pub(crate) trait Chance {
    /// 64 random bits.
    fn random(&self) -> u64;

    /// Microseconds since the process began, as [`super::members::now`] has it.
    fn now(&self) -> u64;
}

/// How busy the endpoints of a cluster are, by their places in its list.
pub(crate) trait Load {
    /// Requests under way.
    fn active(&self, index: usize) -> u32;

    /// How fast it answers.
    fn latency(&self, index: usize) -> &Latency;
}

/// How fast an endpoint answers: a mean that follows a worse answer at once, and a better one slowly.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    /// In milliseconds; zero is unknown.
    mean: Cell<f64>,
    /// When it was last changed.
    at: Cell<u64>,
}

/// The state of a policy over a plan.
#[derive(Debug)]
pub(crate) struct Picker {
    plan: Arc<Plan>,
    policy: Balancing,
    slow_start: Option<SlowStart>,
    stats: Arc<ClusterStats>,
    /// One for each set of the plan.
    turns: Vec<Turn>,
    /// One for each choice among localities.
    localities: Vec<RefCell<Option<Edf>>>,
    seed: usize,
    /// There is nothing to choose from.
    only: Option<usize>,
}

/// Whose turn it is in a set.
#[derive(Debug)]
struct Turn {
    next: Cell<usize>,
    /// Turns by weight, from when they are first needed.
    edf: RefCell<Option<Edf>>,
    /// All have been healthy for long enough.
    is_warm: Cell<bool>,
}

impl Picker {
    /// `seed` is where turns begin, so that workers do not walk in step.
    pub(crate) fn new(
        plan: Arc<Plan>,
        policy: Balancing,
        slow_start: Option<SlowStart>,
        stats: Arc<ClusterStats>,
        seed: usize,
    ) -> Self {
        let turn = |set: &Set| Turn {
            next: Cell::new(seed % set.len().max(1)),
            edf: RefCell::default(),
            is_warm: Cell::new(slow_start.is_none()),
        };
        Self {
            turns: plan.sets.iter().map(turn).collect(),
            localities: (0..plan.schedules).map(|_| RefCell::default()).collect(),
            only: plan.only(),
            plan,
            policy,
            slow_start,
            stats,
            seed,
        }
    }

    /// Chooses an endpoint: its place in the cluster's list.
    #[inline]
    pub(crate) fn pick(
        &self,
        ask: Ask<'_>,
        load: &impl Load,
        chance: &impl Chance,
    ) -> Option<usize> {
        if let (Some(only), None) = (self.only, ask.criteria) {
            return Some(only);
        }
        let candidates = self.plan.candidates(ask.criteria);
        if let Some(group) = candidates.first
            && let Some(found) = self.pick_of_group(group, ask, load, chance)
        {
            if ask.criteria.is_some() {
                self.count_subset(candidates.is_subset);
            }
            return Some(found);
        }
        let second = candidates.second?;
        self.pick_of_group(second, ask, load, chance)
    }

    #[cold]
    fn count_subset(&self, is_subset: bool) {
        if is_subset {
            self.stats.lb_subsets_selected.increment();
        } else {
            self.stats.lb_subsets_fallback.increment();
        }
    }

    #[inline]
    fn pick_of_group(
        &self,
        group: &Group,
        ask: Ask<'_>,
        load: &impl Load,
        chance: &impl Chance,
    ) -> Option<usize> {
        let hash = if self.policy.is_by_hash() {
            Some(ask.hash.unwrap_or_else(|| chance.random()))
        } else {
            None
        };
        let choice = if group.by_percent.is_empty() {
            group.choices.first()?
        } else {
            let percent = hash.unwrap_or_else(|| chance.random()) % 100;
            let choice = *group.by_percent.get(percent as usize)?;
            group.choices.get(usize::from(choice))?
        };
        self.pick_of_choice(choice, hash, ask, (load, chance))
    }

    /// Chooses an endpoint for another attempt: not of the priorities that `elsewhere` leaves out.
    #[cold]
    pub(crate) fn pick_elsewhere(
        &self,
        elsewhere: &Elsewhere<'_>,
        ask: Ask<'_>,
        load: &impl Load,
        chance: &impl Chance,
    ) -> Option<usize> {
        let group = self.plan.candidates(ask.criteria).first;
        let Some((group, avoided)) = group.and_then(|group| {
            let avoided = elsewhere.avoided(&group.priorities)?;
            Some((group, avoided))
        }) else {
            return self.pick(ask, load, chance);
        };
        let choice = avoided.choice(&group.priorities, chance.random())?;
        self.pick_of_choice(choice, None, ask, (load, chance))
    }

    #[inline]
    fn pick_of_choice(
        &self,
        choice: &Choice,
        hash: Option<u64>,
        ask: Ask<'_>,
        (load, chance): (&impl Load, &impl Chance),
    ) -> Option<usize> {
        if choice.panics {
            self.stats.lb_healthy_panic.increment();
        }
        let at = self.place(choice)?;
        let set = &self.plan.sets[at];
        let within = match (set.len(), hash) {
            (0, _) => return None,
            (1, _) => 0,
            (_, Some(hash)) => by_hash(set, hash, ask.passed_over)?,
            _ => self.pick_of_set(set, &self.turns[at], load, chance)?,
        };
        Some(set.members[within] as usize)
    }

    /// The set that is next.
    #[inline]
    fn place(&self, choice: &Choice) -> Option<usize> {
        match &choice.places {
            Places::One(set) => Some(*set),
            Places::None => None,
            Places::Localities {
                schedule,
                sets,
                weights,
            } => {
                let mut edf = self.localities[*schedule].borrow_mut();
                let weight_of = |index: usize| weights[index];
                let edf = edf
                    .get_or_insert_with(|| Edf::new(sets.len(), self.seed % sets.len(), weight_of));
                edf.next(weight_of).map(|index| sets[index])
            }
        }
    }

    #[inline]
    fn pick_of_set(
        &self,
        set: &Set,
        turn: &Turn,
        load: &impl Load,
        chance: &impl Chance,
    ) -> Option<usize> {
        let n = set.len();
        match &self.policy {
            Balancing::RoundRobin if self.is_plain(set, turn, chance) => {
                let index = turn.next.get();
                turn.next.set(if index + 1 == n { 0 } else { index + 1 });
                Some(index)
            }
            Balancing::RoundRobin => self.by_weight(set, turn, chance, |_| 1.0),
            Balancing::LeastRequest(options) if self.is_plain(set, turn, chance) => {
                Some(least_loaded(set, options, load, chance))
            }
            Balancing::LeastRequest(options) => {
                let bias = options.bias;
                self.by_weight(set, turn, chance, |index| {
                    let active = load.active(set.members[index] as usize);
                    (f64::from(active) + 1.0).powf(bias).recip()
                })
            }
            Balancing::PeakEwma(options) => Some(fastest(set, options, load, chance)),
            Balancing::Random | Balancing::RingHash(_) | Balancing::Maglev { .. } => {
                Some(match &set.table {
                    Table::Alias(alias) => alias.choose(chance.random()),
                    _ => reduce(chance.random(), n),
                })
            }
        }
    }

    /// Whether all have the same weight, and none of them starts slowly.
    #[inline]
    fn is_plain(&self, set: &Set, turn: &Turn, chance: &impl Chance) -> bool {
        set.is_even && (turn.is_warm.get() || self.warms_up(set, turn, chance))
    }

    #[cold]
    fn warms_up(&self, set: &Set, turn: &Turn, chance: &impl Chance) -> bool {
        let window = self
            .slow_start
            .map_or(0, |slow| slow.window.as_micros() as u64);
        let last = set.since.iter().copied().max().unwrap_or(0);
        let is_warm = chance.now() >= last.saturating_add(window);
        turn.is_warm.set(is_warm);
        is_warm
    }

    /// Turns by weight, times a factor of the moment.
    fn by_weight(
        &self,
        set: &Set,
        turn: &Turn,
        chance: &impl Chance,
        factor: impl Fn(usize) -> f64,
    ) -> Option<usize> {
        let slow = self.slow_start.filter(|_| !turn.is_warm.get());
        let now = slow.map_or(0, |_| chance.now());
        let weight_of = |index: usize| {
            let started = slow.map_or(1.0, |slow| slow.factor(now, set.since[index]));
            f64::from(set.weights[index]) * started * factor(index)
        };
        let mut edf = turn.edf.borrow_mut();
        let n = set.len();
        let edf = edf.get_or_insert_with(|| Edf::new(n, self.seed % n, weight_of));
        edf.next(weight_of)
    }
}

impl SlowStart {
    /// How much of its weight an endpoint gets.
    pub(super) fn factor(&self, now: u64, since: u64) -> f64 {
        let window = self.window.as_micros() as f64;
        // Envoy counts in milliseconds, and begins with the first.
        let time = (now.saturating_sub(since) as f64).max(1000.0) / window;
        if time >= 1.0 {
            return 1.0;
        }
        time.powf(self.aggression.recip()).max(self.min_weight)
    }
}

impl Latency {
    /// Takes an answer that took so long into account.
    pub(crate) fn observe(&self, took_ms: f64, now: u64, options: &PeakEwma) {
        let mean = self.decayed(now, options);
        let mean = if took_ms >= mean {
            took_ms
        } else {
            let keep = options.keeps(now.saturating_sub(self.at.get()));
            self.mean.get() * keep + took_ms * (1.0 - keep)
        };
        self.mean.set(mean.max(f64::MIN_POSITIVE));
        self.at.set(now);
    }

    /// A bad time is forgotten, or an endpoint that had one would never be asked again.
    fn decayed(&self, now: u64, options: &PeakEwma) -> f64 {
        self.mean.get() * options.keeps(now.saturating_sub(self.at.get()))
    }

    fn cost(&self, active: u32, now: u64, options: &PeakEwma) -> f64 {
        let active = f64::from(active);
        if self.mean.get() > 0.0 {
            self.decayed(now, options) * (active + 1.0)
        } else if active > 0.0 {
            options.penalty + active
        } else {
            options.default_rtt.as_secs_f64() * 1000.0
        }
    }
}

impl PeakEwma {
    /// How much of a mean is left after a time.
    fn keeps(&self, micros: u64) -> f64 {
        (-(micros as f64) / self.decay.as_micros() as f64).exp()
    }
}

/// As Envoy, further on along the ring, or where a very different hash leads to.
fn by_hash(set: &Set, hash: u64, passed_over: u32) -> Option<usize> {
    match &set.table {
        Table::Ring(ring) => ring.choose(hash, passed_over),
        Table::Maglev(maglev) => maglev.choose(match passed_over.checked_sub(1) {
            None => hash,
            Some(before) => hash ^ !u64::from(before),
        }),
        Table::None | Table::Alias(_) => None,
    }
}

/// The least loaded of a few random choices.
#[inline]
fn least_loaded(
    set: &Set,
    options: &LeastRequest,
    load: &impl Load,
    chance: &impl Chance,
) -> usize {
    let n = set.len();
    let active = |index: usize| load.active(set.members[index] as usize);
    let mut best = reduce(chance.random(), n);
    for _ in 1..options.choices {
        let other = reduce(chance.random(), n);
        if active(other) < active(best) {
            best = other;
        }
    }
    best
}

/// The one of two random choices that is expected to answer sooner.
fn fastest(set: &Set, options: &PeakEwma, load: &impl Load, chance: &impl Chance) -> usize {
    let n = set.len();
    let random = chance.random();
    let first = reduce(random, n);
    let step = 1 + reduce(chance.random(), n - 1);
    let second = (first + step) % n;
    let now = chance.now();
    let cost = |index: usize| {
        let place = set.members[index] as usize;
        load.latency(place).cost(load.active(place), now, options)
    };
    let (one, other) = (cost(first), cost(second));
    if other < one || (other == one && random & 1 == 1) {
        second
    } else {
        first
    }
}

/// A random number below `n`.
#[inline]
fn reduce(random: u64, n: usize) -> usize {
    ((u128::from(random) * n as u128) >> 64) as usize
}
