//! A resource in its two forms: the one in use, and the one that still waits for something.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// A resource with what it waits for.
#[derive(Debug)]
pub(crate) struct Slot<S, A> {
    pub(crate) active: Option<Active<S, A>>,
    pub(crate) warming: Option<Warming<S>>,
    /// Of the body that was accepted last.
    pub(super) hash: u64,
}

#[derive(Debug)]
pub(crate) struct Active<S, A> {
    pub(crate) spec: S,
    pub(crate) built: Arc<A>,
}

#[derive(Debug)]
pub(crate) struct Warming<S> {
    pub(crate) spec: S,
    /// When it is used as it is; `None` for never.
    pub(super) give_up: Option<Instant>,
}

impl<S, A> Slot<S, A> {
    /// Takes the warming form into use when it is ready or has waited for long enough.
    pub(super) fn promote(
        &mut self,
        now: Instant,
        is_ready: impl Fn(&S) -> bool,
        build: impl Fn(&S) -> A,
    ) {
        let Some(warming) = self.warming.take() else {
            return;
        };
        let waited = warming.give_up.is_some_and(|give_up| give_up <= now);
        if waited || is_ready(&warming.spec) {
            let built = Arc::new(build(&warming.spec));
            let spec = warming.spec;
            self.active = Some(Active { spec, built });
        } else {
            self.warming = Some(warming);
        }
    }
}

/// Takes a new form, which warms beside the one in use.
pub(super) fn put<S, A>(
    slots: &mut BTreeMap<String, Slot<S, A>>,
    name: String,
    spec: S,
    hash: u64,
    give_up: Option<Instant>,
) {
    let slot = slots.entry(name).or_insert(Slot {
        active: None,
        warming: None,
        hash,
    });
    slot.hash = hash;
    slot.warming = Some(Warming { spec, give_up });
}

pub(super) fn specs<S, A>(slots: &BTreeMap<String, Slot<S, A>>) -> impl Iterator<Item = &S> {
    slots.values().flat_map(|slot| {
        let active = slot.active.as_ref().map(|active| &active.spec);
        let warming = slot.warming.as_ref().map(|warming| &warming.spec);
        active.into_iter().chain(warming)
    })
}

pub(super) fn active<S, A>(
    slots: &BTreeMap<String, Slot<S, A>>,
) -> impl Iterator<Item = (&String, &Arc<A>)> {
    slots
        .iter()
        .filter_map(|(name, slot)| Some((name, &slot.active.as_ref()?.built)))
}
