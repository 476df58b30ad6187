//! Selectors that select nothing, and workloads that two resources select where one counts.

use std::collections::{BTreeMap, BTreeSet};

use periplus_resources::{Labels, Meta};

use super::super::code::{self, Code};
use super::super::{Index, Problem};
use crate::proxy::is_subset;

/// A workload that the resources describe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workload<'a> {
    pub(super) namespace: &'a str,
    pub(super) labels: &'a Labels,
}

/// Those of WorkloadEntries, of Pods, and those that ServiceEntries list.
pub(super) fn workloads(index: &Index) -> Vec<Workload<'_>> {
    let entries = index.workloads().iter().map(|entry| Workload {
        namespace: &entry.meta.namespace,
        labels: &entry.spec.labels,
    });
    let pods = index.pods().iter().map(|pod| Workload {
        namespace: &pod.meta.namespace,
        labels: &pod.meta.labels,
    });
    let listed = index.services().flat_map(|service| {
        let endpoints = service.endpoints.iter();
        endpoints.map(|endpoint| Workload {
            namespace: &service.meta.namespace,
            labels: &endpoint.labels,
        })
    });
    entries.chain(pods).chain(listed).collect()
}

/// A resource with a selector.
#[derive(Clone, Copy, Debug)]
struct Selecting<'a> {
    meta: &'a Meta,
    labels: &'a Labels,
}

pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
    let workloads = workloads(index);
    let sidecars = index.sidecars().iter().map(|entry| {
        let meta = &entry.meta;
        (meta, entry.spec.selector.as_ref())
    });
    let telemetries = index.telemetries.iter().map(|entry| {
        let labels = &entry.spec.selector;
        let meta = &entry.meta;
        (meta, (!labels.is_empty()).then_some(labels))
    });
    let selecting = |(meta, labels): (_, Option<_>)| {
        Some(Selecting {
            meta,
            labels: labels?,
        })
    };
    let selecting_sidecars: Vec<_> = sidecars.clone().filter_map(selecting).collect();
    let selecting_telemetries: Vec<_> = telemetries.filter_map(selecting).collect();
    check_overlap(
        &selecting_sidecars,
        &workloads,
        code::CONFLICTING_SIDECARS,
        problems,
    );
    check_overlap(
        &selecting_telemetries,
        &workloads,
        code::CONFLICTING_TELEMETRIES,
        problems,
    );

    let mut of_all: BTreeMap<&str, &Meta> = BTreeMap::new();
    for (meta, _) in sidecars.filter(|(_, labels)| labels.is_none()) {
        let Some(first) = of_all.get(meta.namespace.as_str()) else {
            of_all.insert(&meta.namespace, meta);
            continue;
        };
        let message = format!(
            "{first} ({}) is for all of namespace {} too: {meta} has no effect, give it a `workloadSelector` or \
             remove it",
            first.source, meta.namespace
        );
        let problem = Problem::error(&meta.source, meta.source.position, message);
        problems.push(problem.code(code::SEVERAL_SIDECARS));
    }

    let policies = index.authorization_policies.iter();
    let policies = policies.map(|entry| (&entry.meta, &entry.spec.selector));
    let tokens = index.request_authentications().iter();
    let tokens = tokens.map(|entry| (&entry.meta, &entry.spec.selector));
    let peers = index.peer_authentications.iter();
    let peers = peers.map(|entry| (&entry.meta, &entry.spec.selector));
    let all = policies.chain(tokens).chain(peers);
    let all = all.map(|(meta, labels)| Selecting { meta, labels });
    let all = all.filter(|it| !it.labels.is_empty());
    let all: Vec<_> = all
        .chain(selecting_telemetries)
        .chain(selecting_sidecars)
        .collect();
    check_selected(index, &all, &workloads, problems);
}

/// Of several resources that select one workload the first counts.
fn check_overlap(
    all: &[Selecting<'_>],
    workloads: &[Workload<'_>],
    code: Code,
    problems: &mut Vec<Problem>,
) {
    let by_label = by_label(all);
    let mut told: BTreeSet<(usize, usize)> = BTreeSet::new();
    for workload in workloads {
        let mut selecting: Vec<usize> = candidates(&by_label, workload)
            .filter(|at| {
                let one = all[*at];
                one.meta.namespace == workload.namespace && is_subset(one.labels, workload.labels)
            })
            .collect();
        selecting.sort_unstable();
        if let [first, rest @ ..] = selecting.as_slice() {
            told.extend(rest.iter().map(|other| (*other, *first)));
        }
    }
    for (other, first) in told {
        let (meta, first) = (all[other].meta, all[first].meta);
        let message = format!(
            "{first} ({}) selects the same workloads as {meta}, and only one counts: tell them apart by labels",
            first.source
        );
        let problem = Problem::error(&meta.source, meta.source.position, message);
        problems.push(problem.code(code));
    }
}

/// Selectors without workloads. Gateways are known by the selectors of Gateways alone.
fn check_selected(
    index: &Index,
    all: &[Selecting<'_>],
    workloads: &[Workload<'_>],
    problems: &mut Vec<Problem>,
) {
    if workloads.is_empty() {
        // Nothing is known of workloads here: the files are rules alone.
        return;
    }
    let root = &index.mesh().root_namespace;
    let by_label = by_label(all);
    let mut selected = BTreeSet::new();
    for workload in workloads {
        selected.extend(candidates(&by_label, workload).filter(|at| {
            let one = all[*at];
            (one.meta.namespace == workload.namespace || one.meta.namespace == *root)
                && is_subset(one.labels, workload.labels)
        }));
    }
    for (at, one) in all.iter().enumerate() {
        let mut gateways = index.gateways().iter().map(|entry| &entry.spec.selector);
        let is_of_gateway =
            gateways.any(|it| is_subset(it, one.labels) || is_subset(one.labels, it));
        if selected.contains(&at) || is_of_gateway {
            continue;
        }
        let labels: Vec<_> = one
            .labels
            .iter()
            .map(|(k, v)| format!("{k}: {v}"))
            .collect();
        let meta = one.meta;
        let place = match meta.namespace == *root {
            true => "of the mesh".to_owned(),
            false => format!("of namespace {}", meta.namespace),
        };
        let message = format!(
            "no workload {place} has the labels {{{}}} that {meta} selects: it has no effect",
            labels.join(", ")
        );
        let problem = Problem::warning(&meta.source, meta.source.position, message);
        problems.push(problem.code(code::NO_WORKLOADS));
    }
}

/// Resources by one label of theirs: of a large mesh not every selector is held against every workload.
type ByLabel<'a> = BTreeMap<(&'a str, &'a str), Vec<usize>>;

fn by_label<'a>(all: &[Selecting<'a>]) -> ByLabel<'a> {
    let mut by_label = ByLabel::new();
    for (at, one) in all.iter().enumerate() {
        // The last in order: it tells more workloads apart than `app`, the first, often does.
        if let Some((key, value)) = one.labels.last_key_value() {
            by_label.entry((key, value)).or_default().push(at);
        }
    }
    by_label
}

fn candidates<'a>(
    by_label: &'a ByLabel<'_>,
    workload: &'a Workload<'_>,
) -> impl Iterator<Item = usize> + 'a {
    let labels = workload.labels.iter();
    let found = labels.filter_map(|(key, value)| by_label.get(&(key.as_str(), value.as_str())));
    found.flatten().copied()
}
