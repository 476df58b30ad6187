//! The limits, by domain: files of the form of Envoy's rate limit service.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;
use thiserror::Error;

use crate::window::Unit;

/// Deeper, nobody nests descriptors.
const MAX_DEPTH: usize = 16;
/// More limits than these are a mistake.
const MAX_LIMITS: usize = 100_000;

/// Why limits cannot be used.
#[derive(Debug, Error)]
pub enum LimitsError {
    /// The file is not of the form.
    #[error("{file}: {problem}")]
    Form {
        /// Which.
        file: String,
        /// What is wrong, and where.
        problem: String,
    },
    /// A descriptor makes no sense.
    #[error("{file}: descriptor {key}: {problem}")]
    Descriptor {
        /// Which file.
        file: String,
        /// The keys down to it.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    domain: String,
    #[serde(default)]
    descriptors: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Descriptor {
    key: String,
    value: Option<String>,
    rate_limit: Option<RateLimit>,
    #[serde(default)]
    descriptors: Vec<Descriptor>,
    #[serde(default)]
    shadow_mode: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RateLimit {
    unit: Option<String>,
    requests_per_unit: Option<u32>,
    #[serde(default)]
    unlimited: bool,
    #[serde(default)]
    name: String,
}

/// So many requests in so much time.
#[derive(Debug)]
pub struct Limit {
    /// The domain, and the keys of the descriptor.
    pub key: String,
    /// What clients are told of it.
    pub name: String,
    /// So many; none if they are counted by nobody.
    pub most: Option<(u32, Unit)>,
    /// What is too much is let through, and counted.
    pub is_shadow: bool,
    pub(crate) hits: AtomicU64,
    pub(crate) over: AtomicU64,
}

impl Limit {
    pub(crate) fn new(key: String, most: Option<(u32, Unit)>) -> Self {
        Self {
            key,
            name: String::new(),
            most,
            is_shadow: false,
            hits: AtomicU64::new(0),
            over: AtomicU64::new(0),
        }
    }

    /// How often it was asked about, and how often that was too much.
    pub fn counts(&self) -> (u64, u64) {
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (value(&self.hits), value(&self.over))
    }
}

#[derive(Debug, Default)]
struct Level {
    /// Those for one value of a key, and those for all others.
    children: HashMap<(String, Option<String>), Node>,
    /// Those for values that begin so.
    prefixes: Vec<(String, String, Node)>,
}

#[derive(Debug, Default)]
struct Node {
    limit: Option<Arc<Limit>>,
    below: Level,
}

/// All limits.
#[derive(Debug, Default)]
pub struct Limits {
    domains: HashMap<String, Level>,
    all: Vec<Arc<Limit>>,
}

impl Limits {
    /// Reads files: name and text. Each is of one domain.
    ///
    /// # Errors
    ///
    /// What is wrong with one of them.
    pub fn read<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, LimitsError> {
        let mut limits = Self::default();
        for (file, text) in files {
            let form = |problem: String| LimitsError::Form {
                file: file.to_owned(),
                problem,
            };
            let read: File =
                serde_saphyr::from_str(text).map_err(|error| form(error.to_string()))?;
            if read.domain.is_empty() {
                return Err(form("domain must not be empty".to_owned()));
            }
            if limits.domains.contains_key(&read.domain) {
                return Err(form(format!(
                    "the domain {:?} is in another file",
                    read.domain
                )));
            }
            let mut reader = Reader {
                file,
                all: &mut limits.all,
            };
            let level = reader.level(read.descriptors, &read.domain, 0)?;
            limits.domains.insert(read.domain, level);
        }
        Ok(limits)
    }

    /// The limit of a descriptor: each of its entries leads one level down, by its value, else by the beginning of
    /// that, else by its key alone.
    pub fn find<'a>(
        &self,
        domain: &str,
        entries: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Option<&Arc<Limit>> {
        let mut level = self.domains.get(domain)?;
        let mut limit = None;
        for (key, value) in entries {
            let child = |value: Option<&str>| {
                let key = (key.to_owned(), value.map(str::to_owned));
                level.children.get(&key)
            };
            let mut prefixes = level.prefixes.iter();
            let node = child(Some(value))
                .or_else(|| {
                    let found = prefixes
                        .find(|(of, prefix, _)| of == key && value.starts_with(prefix.as_str()));
                    found.map(|(.., node)| node)
                })
                .or_else(|| child(None))?;
            limit = node.limit.as_ref();
            level = &node.below;
        }
        limit
    }

    /// All of them.
    pub fn all(&self) -> &[Arc<Limit>] {
        &self.all
    }
}

struct Reader<'a> {
    file: &'a str,
    all: &'a mut Vec<Arc<Limit>>,
}

impl Reader<'_> {
    fn level(
        &mut self,
        descriptors: Vec<Descriptor>,
        above: &str,
        depth: usize,
    ) -> Result<Level, LimitsError> {
        let mut level = Level::default();
        for descriptor in descriptors {
            let Descriptor { key, value, .. } = &descriptor;
            let value = value.clone().filter(|value| !value.is_empty());
            let shown = value
                .as_ref()
                .map_or(String::new(), |value| format!("_{value}"));
            let path = format!("{above}.{key}{shown}");
            let fail = |problem: &str| {
                Err(LimitsError::Descriptor {
                    file: self.file.to_owned(),
                    key: path.clone(),
                    problem: problem.to_owned(),
                })
            };
            if key.is_empty() {
                return fail("its key must not be empty");
            }
            if depth == MAX_DEPTH {
                return fail("it is too deep");
            }
            if self.all.len() == MAX_LIMITS {
                return fail("there are too many");
            }
            let key = key.clone();
            let limit = match &descriptor.rate_limit {
                Some(limit) => match read_limit(limit) {
                    Ok(most) => Some(Arc::new(Limit {
                        name: limit.name.clone(),
                        is_shadow: descriptor.shadow_mode,
                        ..Limit::new(path.clone(), most)
                    })),
                    Err(problem) => return fail(&problem),
                },
                None => None,
            };
            self.all.extend(limit.clone());
            let node = Node {
                limit,
                below: self.level(descriptor.descriptors, &path, depth + 1)?,
            };
            if let Some(prefix) = value.as_ref().and_then(|value| value.strip_suffix('*')) {
                level.prefixes.push((key, prefix.to_owned(), node));
            } else if level.children.insert((key, value), node).is_some() {
                return Err(LimitsError::Descriptor {
                    file: self.file.to_owned(),
                    key: path,
                    problem: "it is there twice".to_owned(),
                });
            }
        }
        Ok(level)
    }
}

fn read_limit(limit: &RateLimit) -> Result<Option<(u32, Unit)>, String> {
    match (limit.unlimited, &limit.unit, limit.requests_per_unit) {
        (true, None, None) => Ok(None),
        (true, ..) => {
            Err("what is `unlimited` has no `unit` and no `requests_per_unit`".to_owned())
        }
        (false, Some(unit), Some(most)) => {
            let unit = Unit::named(unit).ok_or_else(|| {
                let known: Vec<_> = Unit::ALL.iter().map(|(name, _)| *name).collect();
                format!("unknown unit `{unit}`, known are {}", known.join(", "))
            })?;
            Ok(Some((most, unit)))
        }
        (false, ..) => Err("a `rate_limit` needs `unit` and `requests_per_unit`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: {unit: minute, requests_per_unit: 10}
- key: user
  value: ada
  rate_limit: {unlimited: true}
- key: path
  value: /api*
  rate_limit: {unit: HOUR, requests_per_unit: 5, name: api}
  shadow_mode: true
- key: destination
  value: ratings
  descriptors:
  - key: remote_address
    rate_limit: {unit: second, requests_per_unit: 1}
";

    #[test]
    fn descriptors_lead_to_limits() {
        let limits = Limits::read([("shop.yaml", FILE)]).unwrap();
        let find = |entries: &[(&str, &str)]| {
            let found = limits.find("shop", entries.iter().copied());
            found.map(|limit| (limit.key.as_str(), limit.most))
        };
        for (entries, expected) in [
            (
                &[("user", "bob")][..],
                Some(("shop.user", Some((10, Unit::Minute)))),
            ),
            (&[("user", "ada")], Some(("shop.user_ada", None))),
            (
                &[("path", "/api/1")],
                Some(("shop.path_/api*", Some((5, Unit::Hour)))),
            ),
            (&[("path", "/other")], None),
            (&[("destination", "ratings")], None),
            (
                &[("destination", "ratings"), ("remote_address", "10.0.0.1")],
                Some((
                    "shop.destination_ratings.remote_address",
                    Some((1, Unit::Second)),
                )),
            ),
            // A descriptor with more entries is another one.
            (&[("user", "bob"), ("path", "/api")], None),
            (&[], None),
        ] {
            assert_eq!(find(entries), expected, "{entries:?}");
        }
        assert!(limits.find("other", [("user", "bob")]).is_none());
        assert_eq!(limits.all().len(), 4);
        let api = limits.find("shop", [("path", "/api")]).unwrap();
        assert!(api.is_shadow && api.name == "api");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let with = |descriptor: &str| format!("domain: d\ndescriptors:\n- {descriptor}\n");
        for (text, said) in [
            ("domain: ''\n".to_owned(), "domain must not be empty"),
            ("domain: d\nlimits: []\n".to_owned(), "limits"),
            (with("{key: ''}"), "its key must not be empty"),
            (
                with("{key: a, rate_limit: {unit: fortnight, requests_per_unit: 1}}"),
                "unknown unit `fortnight`, known are second, minute",
            ),
            (
                with("{key: a, rate_limit: {unit: day}}"),
                "needs `unit` and `requests_per_unit`",
            ),
            (
                with("{key: a, rate_limit: {unlimited: true, unit: day}}"),
                "what is `unlimited`",
            ),
            (
                with("{key: a}\n- {key: a}"),
                "descriptor d.a: it is there twice",
            ),
            (
                with(
                    "{key: a, rate_limit: {unit: day, requests_per_unit: 1, replaces: [{name: b}]}}",
                ),
                "replaces",
            ),
        ] {
            let error = Limits::read([("file.yaml", text.as_str())]).unwrap_err();
            let error = error.to_string();
            assert!(
                error.starts_with("file.yaml: ") && error.contains(said),
                "{error}"
            );
        }
        let twice = [("a.yaml", "domain: d\n"), ("b.yaml", "domain: d\n")];
        let error = Limits::read(twice).unwrap_err().to_string();
        assert!(error.contains("is in another file"), "{error}");
    }
}
