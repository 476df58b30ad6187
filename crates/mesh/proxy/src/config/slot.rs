//! A resource in its two forms: the one in use, and the one that still waits for something.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// A resource with what it waits for.
#[derive(Debug)]
pub(crate) struct Slot<S, A> {
    pub(crate) active: Option<Active<S, A>>,
    pub(crate) warming: Option<Warming<S, A>>,
    /// Of the body that was accepted last.
    pub(super) hash: u64,
}

#[derive(Debug)]
pub(crate) struct Active<S, A> {
    pub(crate) spec: S,
    pub(crate) built: Arc<A>,
}

#[derive(Debug)]
pub(crate) struct Warming<S, A> {
    pub(crate) spec: S,
    /// What it will be, once it needs nothing more than checks of its endpoints.
    pub(super) built: Option<Arc<A>>,
    /// When it is used as it is; `None` for never.
    pub(super) give_up: Option<Instant>,
}

impl<S, A> Slot<S, A> {
    /// Takes the warming form into use when it is ready or has waited for long enough.
    ///
    /// It is ready when its specification is, and what was made of it too.
    pub(super) fn promote(
        &mut self,
        now: Instant,
        is_ready: impl Fn(&S) -> bool,
        build: impl Fn(&S, Option<&A>) -> A,
        is_same: impl Fn(&A, &A) -> bool,
        is_built_ready: impl Fn(&A) -> bool,
    ) {
        let Some(mut warming) = self.warming.take() else {
            return;
        };
        let waited = warming.give_up.is_some_and(|give_up| give_up <= now);
        if !waited && !is_ready(&warming.spec) {
            self.warming = Some(warming);
            return;
        }
        let built = self.renewed(&mut warming, build, is_same);
        if waited || is_built_ready(&built) {
            let spec = warming.spec;
            self.active = Some(Active { spec, built });
        } else {
            self.warming = Some(warming);
        }
    }

    /// What the warming form is now: the same as before, unless something has changed.
    fn renewed(
        &self,
        warming: &mut Warming<S, A>,
        build: impl Fn(&S, Option<&A>) -> A,
        is_same: impl Fn(&A, &A) -> bool,
    ) -> Arc<A> {
        let active = self.active.as_ref().map(|active| &*active.built);
        let before = warming.built.as_deref().or(active);
        let built = build(&warming.spec, before);
        match &warming.built {
            Some(known) if is_same(known, &built) => known.clone(),
            _ => warming.built.insert(Arc::new(built)).clone(),
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
    slot.warming = Some(Warming {
        spec,
        built: None,
        give_up,
    });
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
