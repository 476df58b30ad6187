use super::Destination;
use super::policy::percentage;
use crate::view::{Object, Shape, View};

/// Where copies of requests go; nobody waits for the answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Where to.
    pub destination: Destination,
    /// Of so many requests, of a million.
    pub share: u32,
}

/// As if nothing was said: all of them.
const ALL: u32 = 1_000_000;

/// The most copies that proxies make of one request.
const MOST: usize = 16;

/// Reads `mirror` and `mirrors`; what gets no request is left out.
pub(super) fn read(object: &Object<'_>, namespace: &str) -> Option<Vec<Mirror>> {
    const MIRROR: Shape = Shape {
        known: &["destination", "percentage"],
        refused: &[],
    };
    let one = object.optional("mirror", |view| Destination::read(view, namespace))?;
    let share = object.optional("mirrorPercentage", percentage)?;
    let items = object.items("mirrors");
    if one.is_some() && !items.is_empty() {
        object.fail("`mirror` and `mirrors` exclude each other");
        return None;
    }
    if one.is_none() && share.is_some() {
        object.fail("`mirrorPercentage` says nothing without `mirror`");
        return None;
    }
    if (one.is_some() || !items.is_empty()) && object.get("route").is_none() {
        object.fail("requests are mirrored where they are routed: `route` is missing");
        return None;
    }
    let mut mirrors: Vec<_> = one
        .map(|destination| Mirror {
            destination,
            share: share.unwrap_or(ALL),
        })
        .into_iter()
        .collect();
    for item in &items {
        let object = item.object(&MIRROR)?;
        let destination = Destination::read(object.require("destination")?, namespace)?;
        let share = object.optional("percentage", |view: &View<'_>| percentage(view))?;
        mirrors.push(Mirror {
            destination,
            share: share.unwrap_or(ALL),
        });
    }
    mirrors.retain(|mirror| mirror.share > 0);
    if mirrors.len() > MOST {
        object.fail(format!(
            "requests are mirrored to at most {MOST} destinations"
        ));
        return None;
    }
    Some(mirrors)
}
