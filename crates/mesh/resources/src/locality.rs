use std::collections::BTreeMap;
use std::fmt;

use crate::meta::Labels;
use crate::view::{Object, Shape, View};

/// Where a workload or a proxy runs. What is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// The region.
    pub region: String,
    /// The zone of it.
    pub zone: String,
    /// The part of the zone.
    pub sub_zone: String,
}

impl Locality {
    /// `REGION/ZONE/SUBZONE`, the last ones of which may be left out; Kubernetes has no `/` in labels, and `.` instead.
    pub fn parse(text: &str) -> Self {
        let separator = if text.contains('/') { '/' } else { '.' };
        let mut parts = text.splitn(3, separator).map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self {
            region: next(),
            zone: next(),
            sub_zone: next(),
        }
    }

    /// What the label `istio-locality` says.
    pub fn of_labels(labels: &Labels) -> Self {
        labels
            .get("istio-locality")
            .map(|text| Self::parse(text))
            .unwrap_or_default()
    }

    /// What Kubernetes' labels of a machine say.
    pub fn of_machine(labels: &Labels) -> Self {
        let text = |names: [&str; 2]| {
            let mut told = names.iter().filter_map(|name| labels.get(*name));
            told.next().cloned().unwrap_or_default()
        };
        Self {
            region: text([
                "topology.kubernetes.io/region",
                "failure-domain.beta.kubernetes.io/region",
            ]),
            zone: text([
                "topology.kubernetes.io/zone",
                "failure-domain.beta.kubernetes.io/zone",
            ]),
            sub_zone: text(["topology.istio.io/subzone", ""]),
        }
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is one of `REGION/ZONE/SUBZONE`, `REGION/ZONE/*`, `REGION/*` or `*`.
    pub fn is_in(&self, pattern: &str) -> bool {
        let own = [&self.region, &self.zone, &self.sub_zone];
        let mut parts = pattern.split('/');
        for own in own {
            match parts.next() {
                Some("*") | None => return true,
                Some(part) if part != own => return false,
                Some(_) => {}
            }
        }
        true
    }

    /// How far away another one is: 0 is the same, 1 the same zone, 2 the same region, 3 any other.
    pub fn distance(&self, other: &Self) -> u32 {
        if self.region != other.region {
            3
        } else if self.zone != other.zone {
            2
        } else {
            u32::from(self.sub_zone != other.sub_zone)
        }
    }

    /// The value of a label of a workload that runs there.
    pub fn label<'a>(&'a self, labels: &'a Labels, name: &str) -> Option<&'a str> {
        let told = match name {
            "topology.kubernetes.io/region" => &self.region,
            "topology.kubernetes.io/zone" => &self.zone,
            "topology.istio.io/subzone" => &self.sub_zone,
            name => return labels.get(name).map(String::as_str),
        };
        let own = labels.get(name).unwrap_or(told);
        (!own.is_empty()).then_some(own)
    }
}

/// With its separators, as [`Locality::parse`] reads it.
impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.region, self.zone, self.sub_zone)
    }
}

/// `localityLbSetting`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalityBalancing {
    /// `enabled`, if it is said.
    pub enabled: Option<bool>,
    /// How it is done.
    pub kind: LocalityKind,
}

/// How localities are preferred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalityKind {
    /// The nearest first.
    #[default]
    Nearest,
    /// `distribute`: shares by locality, for proxies in those that a pattern is for.
    Distribute(Vec<(String, BTreeMap<String, u32>)>),
    /// `failover`: the nearest first, and of the other regions this one before those.
    Failover(Vec<(String, String)>),
    /// `failoverPriority`: those with the most of these labels in common, from the first one on. A label with a
    /// value, as `NAME=VALUE`, is compared with that instead of the proxy's own.
    Labels(Vec<String>),
}

const SETTING: Shape = Shape {
    known: &["enabled", "distribute", "failover", "failoverPriority"],
    refused: &[],
};
const DISTRIBUTE: Shape = Shape {
    known: &["from", "to"],
    refused: &[],
};

impl LocalityBalancing {
    pub(crate) fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&SETTING)?;
        let forms = ["distribute", "failover", "failoverPriority"];
        let kind = match object.present(&forms).as_slice() {
            [] => LocalityKind::Nearest,
            ["distribute"] => {
                let all = object.items("distribute");
                LocalityKind::Distribute(all.iter().map(read_shares).collect::<Option<_>>()?)
            }
            ["failover"] => {
                let all = object.items("failover");
                let one = |view: &View<'_>| {
                    let object = view.object(&DISTRIBUTE)?;
                    let region = |name| read_region(&object, name);
                    Some((region("from")?, region("to")?))
                };
                LocalityKind::Failover(all.iter().map(one).collect::<Option<_>>()?)
            }
            ["failoverPriority"] => {
                let all = object.items("failoverPriority");
                LocalityKind::Labels(all.iter().map(View::some_text).collect::<Option<_>>()?)
            }
            several => {
                object.fail(format!("`{}` exclude each other", several.join("` and `")));
                return None;
            }
        };
        Some(Self {
            enabled: object.optional("enabled", View::bool)?,
            kind,
        })
    }
}

/// One of `distribute`: a pattern, and percentages by patterns.
fn read_shares(view: &View<'_>) -> Option<(String, BTreeMap<String, u32>)> {
    let object = view.object(&DISTRIBUTE)?;
    let from = read_pattern(object.require("from")?)?;
    let to = object.require("to")?;
    let mut shares = BTreeMap::new();
    for (key, view) in to.entries() {
        let share = u32::try_from(view.number(1, 100)?).ok()?;
        if !is_pattern(&key.text) {
            view.fail(format!("`{}`: {PATTERN}", key.text));
            return None;
        }
        shares.insert(key.text.clone(), share);
    }
    let sum: u32 = shares.values().sum();
    if sum != 100 {
        to.fail(format!("the shares add up to {sum}, and not to 100"));
        return None;
    }
    Some((from, shares))
}

const PATTERN: &str = "expected `REGION/ZONE/SUBZONE`, the end of which may be `*`";

fn read_pattern(view: &View<'_>) -> Option<String> {
    let text = view.some_text()?;
    if !is_pattern(&text) {
        view.fail(format!("`{text}`: {PATTERN}"));
        return None;
    }
    Some(text)
}

/// Nothing follows a `*`, and no part is empty.
fn is_pattern(text: &str) -> bool {
    let parts: Vec<_> = text.split('/').collect();
    let (_, before) = parts.split_last().unwrap_or((&"", &[]));
    parts.len() <= 3 && !parts.contains(&"") && !before.contains(&"*")
}

fn read_region(object: &Object<'_>, name: &str) -> Option<String> {
    let view = object.require(name)?;
    let text = view.some_text()?;
    if text.contains(['/', '*']) {
        view.fail(format!("`{text}`: expected a region"));
        return None;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localities_and_patterns() {
        let own = Locality::parse("eu/eu-1/rack");
        assert_eq!(own, Locality::parse("eu.eu-1.rack"));
        assert_eq!(own.to_string(), "eu/eu-1/rack");
        for (pattern, expected) in [
            ("*", true),
            ("eu/*", true),
            ("eu", true),
            ("eu/eu-1/*", true),
            ("eu/eu-1/rack", true),
            ("eu/eu-2/*", false),
            ("us/*", false),
            ("eu/eu-1/other", false),
        ] {
            assert_eq!(own.is_in(pattern), expected, "{pattern}");
        }
        for (other, expected) in [
            ("eu/eu-1/rack", 0),
            ("eu/eu-1", 1),
            ("eu/eu-2/rack", 2),
            ("us", 3),
        ] {
            assert_eq!(own.distance(&Locality::parse(other)), expected, "{other}");
        }
    }
}
