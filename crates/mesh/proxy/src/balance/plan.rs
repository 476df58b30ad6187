//! What there is to choose from: priorities, localities, subsets and sets of endpoints, worked out whenever
//! the cluster or the health of an endpoint changes.

use std::collections::HashMap;

use crate::balance::levels::{Level, Loads};
use crate::balance::members::{Condition, Counts, Host, HostFlag};
use crate::balance::set::Set;
use crate::balance::subset::{Criteria, default_members, members_by_text};
use crate::snapshot::{Cluster, Fallback, Labels};

/// Everything that a pick looks at.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) counts: Counts,
    pub(super) sets: Vec<Set>,
    /// How many choices are made among localities first.
    pub(super) schedules: usize,
    /// All endpoints.
    all: Group,
    subsets: Option<SubsetPlans>,
}

#[derive(Debug, PartialEq)]
struct SubsetPlans {
    by_text: HashMap<Box<str>, Group>,
    default: Option<Group>,
    any_in_panic: bool,
    /// What serves whoever asks for nothing.
    nothing: Criteria,
}

/// Some endpoints, by priority.
#[derive(Debug, PartialEq)]
pub(super) struct Group {
    pub(super) choices: Vec<Choice>,
    /// For each percent of the load: which choice. Empty if there is one for all.
    pub(super) by_percent: Box<[u8]>,
    /// By priority, if there are several: what they can take, for attempts that avoid some.
    pub(super) priorities: Box<[Priority]>,
}

/// What a priority can take, whether or not it gets something: of its healthy endpoints, and of its degraded ones.
#[derive(Debug, PartialEq)]
pub(super) struct Priority {
    /// In percent of all load.
    pub(super) available: [u32; 2],
    pub(super) choices: [Choice; 2],
}

/// Where a part of the load goes.
#[derive(Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) panics: bool,
    pub(super) places: Places,
}

#[derive(Debug, PartialEq)]
pub(super) enum Places {
    /// There is nobody.
    None,
    One(usize),
    /// First a locality is chosen, by its weight.
    Localities {
        schedule: usize,
        sets: Vec<usize>,
        weights: Vec<f64>,
    },
}

/// The groups for a request: the first that has somebody serves it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidates<'a> {
    pub(super) first: Option<&'a Group>,
    pub(super) second: Option<&'a Group>,
    /// The first is the subset that was asked for.
    pub(super) is_subset: bool,
}

impl Plan {
    /// `hosts` are the states of the cluster's endpoints.
    pub(crate) fn new<'a>(cluster: &Cluster, hosts: impl Iterator<Item = &'a Host>) -> Self {
        let hosts: Vec<&Host> = hosts.collect();
        let mut builder = Builder::new(cluster, hosts);
        let everybody: Vec<u32> = (0..cluster.endpoints.len() as u32).collect();
        let by_locality = cluster.spread.by_locality;
        let all = builder.group(&everybody, by_locality);
        let subsets = cluster.spread.subsets.as_ref().map(|subsets| {
            let by_locality = by_locality && subsets.by_locality;
            let by_text = members_by_text(subsets, &cluster.endpoints)
                .into_iter()
                .map(|(text, members)| (text, builder.group(&members, by_locality)))
                .collect();
            let default = default_members(subsets, &cluster.endpoints);
            SubsetPlans {
                by_text,
                default: (!default.is_empty()).then(|| builder.group(&default, by_locality)),
                any_in_panic: subsets.any_in_panic,
                nothing: Criteria::new(&Labels::default(), subsets),
            }
        });
        Self {
            counts: builder.counts(),
            sets: builder.sets,
            schedules: builder.schedules,
            all,
            subsets,
        }
    }

    /// The endpoints that a request may go to.
    #[inline]
    pub(super) fn candidates(&self, criteria: Option<&Criteria>) -> Candidates<'_> {
        match (&self.subsets, criteria) {
            (Some(subsets), criteria) => {
                subsets.candidates(&self.all, criteria.unwrap_or(&subsets.nothing))
            }
            (None, _) => Candidates {
                first: Some(&self.all),
                second: None,
                is_subset: false,
            },
        }
    }

    /// The endpoint of a cluster that has one, whatever a request brings along but a subset.
    pub(super) fn only(&self) -> Option<usize> {
        let Group {
            choices,
            by_percent,
            ..
        } = &self.all;
        let choice = choices.first()?;
        if self.subsets.is_some() || !by_percent.is_empty() || choice.panics {
            return None;
        }
        match &choice.places {
            Places::One(set) => match &self.sets[*set].members[..] {
                [only] => Some(*only as usize),
                _ => None,
            },
            _ => None,
        }
    }

    #[cfg(test)]
    /// The places in the cluster's list of all endpoints that get requests without a subset.
    pub(crate) fn in_use(&self) -> Vec<usize> {
        let mut places = Vec::new();
        let choices = self.all.choices.iter();
        for set in choices.flat_map(|choice| choice.places.sets()) {
            places.extend(self.sets[*set].members.iter().map(|index| *index as usize));
        }
        places.sort_unstable();
        places.dedup();
        places
    }
}

impl SubsetPlans {
    fn candidates<'a>(&'a self, all: &'a Group, criteria: &Criteria) -> Candidates<'a> {
        let asked = criteria.text.as_ref();
        if let Some(group) = asked.and_then(|text| self.by_text.get(text)) {
            return Candidates {
                first: Some(group),
                second: None,
                is_subset: true,
            };
        }
        let first = match criteria.fallback {
            Fallback::None => None,
            Fallback::Any => Some(all),
            Fallback::DefaultSubset => self.default.as_ref(),
        };
        let has_fallback = criteria.fallback != Fallback::None;
        Candidates {
            first,
            second: (self.any_in_panic && has_fallback).then_some(all),
            is_subset: false,
        }
    }
}

#[cfg(test)]
impl Places {
    fn sets(&self) -> &[usize] {
        match self {
            Places::None => &[],
            Places::One(set) => std::slice::from_ref(set),
            Places::Localities { sets, .. } => sets,
        }
    }
}

struct Builder<'a> {
    cluster: &'a Cluster,
    hosts: Vec<&'a Host>,
    conditions: Vec<Condition>,
    sets: Vec<Set>,
    schedules: usize,
}

impl<'a> Builder<'a> {
    fn new(cluster: &'a Cluster, hosts: Vec<&'a Host>) -> Self {
        let endpoints = cluster.endpoints.iter().zip(&hosts);
        let conditions = endpoints.map(|(endpoint, host)| host.condition(endpoint));
        Self {
            conditions: conditions.collect(),
            cluster,
            hosts,
            sets: Vec::new(),
            schedules: 0,
        }
    }

    fn counts(&self) -> Counts {
        let count = |wanted| {
            let found = self.conditions.iter().filter(|one| **one == wanted);
            found.count() as u64
        };
        let everybody = 0..self.hosts.len() as u32;
        Counts {
            total: self.hosts.len() as u64 - count(Condition::Absent),
            healthy: count(Condition::Healthy),
            degraded: count(Condition::Degraded),
            excluded: everybody.filter(|index| self.is_excluded(*index)).count() as u64,
        }
    }

    fn condition(&self, index: u32) -> Condition {
        self.conditions[index as usize]
    }

    /// Whether an endpoint does not count, since it was not checked yet.
    fn is_excluded(&self, index: u32) -> bool {
        self.cluster.spread.ignores_unchecked && self.hosts[index as usize].has(HostFlag::Unchecked)
    }

    fn group(&mut self, members: &[u32], by_locality: bool) -> Group {
        let mut by_priority: Vec<Vec<u32>> = Vec::new();
        for index in members {
            let priority = self.cluster.endpoints[*index as usize].priority as usize;
            if by_priority.len() <= priority {
                by_priority.resize_with(priority + 1, Vec::new);
            }
            if self.condition(*index) != Condition::Absent {
                by_priority[priority].push(*index);
            }
        }
        let spread = &self.cluster.spread;
        let levels: Vec<Level> = by_priority.iter().map(|one| self.level(one)).collect();
        let loads = Loads::new(&levels, spread.overprovisioning, spread.panic_threshold);
        let mut group = Group {
            choices: Vec::new(),
            by_percent: Box::default(),
            priorities: Box::default(),
        };
        let mut by_percent = Vec::with_capacity(100);
        let sides = [
            (&loads.healthy, Condition::Healthy),
            (&loads.degraded, Condition::Degraded),
        ];
        for (side, wanted) in sides {
            for (priority, load) in side.iter().enumerate().filter(|(_, load)| **load > 0) {
                by_percent.resize(by_percent.len() + *load as usize, group.choices.len() as u8);
                let panics = loads.panics[priority];
                let places = self.places(&by_priority[priority], wanted, (panics, by_locality));
                group.choices.push(Choice { panics, places });
            }
        }
        if group.choices.len() > 1 {
            group.by_percent = by_percent.into();
        }
        // As in Envoy, policies that hash stay with what the hash says.
        if levels.len() > 1 && !self.cluster.balancing.is_by_hash() {
            let priorities = levels.iter().enumerate().map(|(priority, level)| {
                let panics = loads.panics[priority];
                let members = &by_priority[priority];
                let choice = |wanted| {
                    let places = self.places(members, wanted, (panics, by_locality));
                    Choice { panics, places }
                };
                Priority {
                    available: level.available(spread.overprovisioning),
                    choices: [Condition::Healthy, Condition::Degraded].map(choice),
                }
            });
            group.priorities = priorities.collect();
        }
        group
    }

    fn level(&self, members: &[u32]) -> Level {
        let mut level = Level {
            hosts: members.len() as u64,
            ..Level::default()
        };
        for index in members {
            let weight = if self.cluster.spread.weighs_health {
                u64::from(self.cluster.endpoints[*index as usize].weight)
            } else {
                1
            };
            if !self.is_excluded(*index) {
                level.counted += 1;
                level.weight += weight;
            }
            match self.condition(*index) {
                Condition::Healthy => {
                    level.healthy += 1;
                    level.healthy_weight += weight;
                }
                Condition::Degraded => {
                    level.degraded += 1;
                    level.degraded_weight += weight;
                }
                Condition::Unhealthy | Condition::Absent => {}
            }
        }
        level
    }

    /// Where the part of a priority's load goes that is for endpoints in a condition.
    fn places(
        &mut self,
        members: &[u32],
        wanted: Condition,
        (panics, by_locality): (bool, bool),
    ) -> Places {
        if panics && self.cluster.spread.fails_in_panic {
            return Places::None;
        }
        let is_by_hash = self.cluster.balancing.is_by_hash();
        // Envoy's hashing policies know of no degraded endpoints.
        let wanted = if is_by_hash {
            Condition::Healthy
        } else {
            wanted
        };
        let eligible = |index: &u32| panics || self.condition(*index) == wanted;
        let fitting: Vec<u32> = members
            .iter()
            .copied()
            .filter(|one| eligible(one))
            .collect();
        if fitting.is_empty() {
            return Places::None;
        }
        if by_locality
            && is_by_hash
            && let Some(shares) = self.shares(&fitting)
        {
            let (fitting, shares): (Vec<u32>, Vec<f64>) = shares.into_iter().unzip();
            return Places::One(self.set(&fitting, Some(&shares)));
        }
        if by_locality
            && !is_by_hash
            && !panics
            && let Some(localities) = self.localities(members, &fitting)
        {
            return localities;
        }
        Places::One(self.set(&fitting, None))
    }

    fn set(&mut self, members: &[u32], shares: Option<&[f64]>) -> usize {
        self.sets
            .push(Set::new(self.cluster, &self.hosts, members, shares));
        self.sets.len() - 1
    }

    /// Each locality gets a share by its weight, less if few of it are healthy. None if no locality has a weight.
    fn localities(&mut self, members: &[u32], fitting: &[u32]) -> Option<Places> {
        let mut sets = Vec::new();
        let mut weights = Vec::new();
        for (locality, of_locality) in self.by_locality(fitting) {
            let counted = members
                .iter()
                .filter(|index| self.locality(**index) == locality && !self.is_excluded(**index));
            let counted = counted.count().max(1) as f64;
            let available = of_locality.len() as f64 / counted;
            let factor = f64::from(self.cluster.spread.overprovisioning) / 100.0;
            let weight = f64::from(self.weight(locality)) * (factor * available).min(1.0);
            if weight > 0.0 {
                sets.push(self.set(&of_locality, None));
                weights.push(weight);
            }
        }
        if sets.is_empty() {
            return None;
        }
        self.schedules += 1;
        Some(Places::Localities {
            schedule: self.schedules - 1,
            sets,
            weights,
        })
    }

    /// The shares of endpoints where a locality gets its own by its weight. None if no locality has a weight.
    fn shares(&self, fitting: &[u32]) -> Option<Vec<(u32, f64)>> {
        let localities = self.by_locality(fitting);
        // Those without healthy endpoints count too, as for Envoy.
        let total: f64 = self
            .cluster
            .localities
            .iter()
            .enumerate()
            .filter(|(at, _)| localities.iter().any(|(locality, _)| locality == at))
            .map(|(_, locality)| f64::from(locality.weight))
            .sum();
        if total == 0.0 {
            return None;
        }
        let mut shares = Vec::new();
        for (locality, members) in localities {
            let share = f64::from(self.weight(locality)) / total;
            let weight = |index: u32| f64::from(self.cluster.endpoints[index as usize].weight);
            let sum: f64 = members.iter().map(|index| weight(*index)).sum();
            if share > 0.0 {
                let of_locality = members.iter();
                shares.extend(of_locality.map(|index| (*index, share * weight(*index) / sum)));
            }
        }
        Some(shares)
    }

    fn by_locality(&self, members: &[u32]) -> Vec<(usize, Vec<u32>)> {
        let mut found: Vec<(usize, Vec<u32>)> = Vec::new();
        for index in members {
            let locality = self.locality(*index);
            match found.iter_mut().find(|(known, _)| *known == locality) {
                Some((_, members)) => members.push(*index),
                None => found.push((locality, vec![*index])),
            }
        }
        found
    }

    fn locality(&self, index: u32) -> usize {
        self.cluster.endpoints[index as usize].locality
    }

    fn weight(&self, locality: usize) -> u32 {
        let known = self.cluster.localities.get(locality);
        known.map_or(0, |locality| locality.weight)
    }
}
