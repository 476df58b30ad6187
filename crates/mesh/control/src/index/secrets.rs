//! Kubernetes' Secrets, as far as they hold certificates.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use periplus_identity::{PairError, check_authorities, check_pair, check_revocation_lists};
use periplus_resources::{At, Meta, Position, Private, Secret, did_you_mean};

use super::{Entry, Index, Problem};

/// The end of the name of a Secret that holds the authorities for another one.
pub(crate) const AUTHORITIES: &str = "-cacert";

/// The Secrets, by namespace and name.
#[derive(Debug, Default)]
pub(crate) struct Secrets(BTreeMap<(String, String), Known>);

/// A Secret, and what is wrong with it.
#[derive(Debug)]
struct Known {
    meta: Meta,
    spec: Secret,
    broken_pair: Option<String>,
    broken_authorities: Option<String>,
    broken_lists: Option<String>,
    parts: Vec<Part>,
}

/// What is in a Secret and holds for a time.
#[derive(Debug)]
pub(crate) struct Part {
    /// Its key.
    pub(crate) key: &'static str,
    /// What it is.
    pub(crate) what: &'static str,
    pub(crate) from: SystemTime,
    pub(crate) until: SystemTime,
}

impl Part {
    fn new(
        (key, what): (&'static str, &'static str),
        (from, until): (SystemTime, SystemTime),
    ) -> Self {
        Self {
            key,
            what,
            from,
            until,
        }
    }
}

impl Secrets {
    /// Whether proxies get the same of both.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let mut pairs = self.0.iter().zip(&other.0);
        self.0.len() == other.0.len()
            && pairs.all(|((name, one), (other_name, other))| {
                name == other_name && one.spec == other.spec
            })
    }

    pub(super) fn add(&mut self, Entry { meta, spec }: Entry<Secret>) {
        let mut parts = Vec::new();
        let pair = spec.certificate.as_ref();
        let pair = pair.map(|(chain, key)| check_pair(chain, key.expose()));
        if let Some(Ok(facts)) = &pair {
            let dates = (facts.not_before, facts.not_after);
            parts.push(Part::new(("tls.crt", "its certificate"), dates));
        }
        let authorities = spec.authorities.as_deref().map(check_authorities);
        if let Some(Ok(all)) = &authorities {
            // One of several replaces another.
            let dates = all.iter().map(|facts| (facts.not_before, facts.not_after));
            let last = dates.max_by_key(|(_, until)| *until);
            parts.extend(last.map(|dates| Part::new(("ca.crt", "its last authority"), dates)));
        }
        let lists = spec.revoked.as_deref().map(check_revocation_lists);
        if let Some(Ok(all)) = &lists {
            // Each of them is needed.
            let dates = all.iter().map(|list| (list.this_update, list.next_update));
            let first = dates.min_by_key(|(_, until)| *until);
            let what = ("ca.crl", "its list of revoked certificates");
            parts.extend(first.map(|dates| Part::new(what, dates)));
        }
        let name = (meta.namespace.clone(), meta.name.clone());
        let known = Known {
            meta,
            spec,
            broken_pair: broken(pair),
            broken_authorities: broken(authorities),
            broken_lists: broken(lists),
            parts,
        };
        self.0.insert(name, known);
    }

    /// The certificate and the key of a Secret.
    ///
    /// # Errors
    ///
    /// Why there are none.
    pub(crate) fn certificate(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<&(String, Private), String> {
        let known = self.find(namespace, name)?;
        if let Some(reason) = &known.broken_pair {
            return Err(known.says(reason));
        }
        let pair = known.spec.certificate.as_ref();
        pair.ok_or_else(|| {
            known.says("it has no certificate with its key: expected `tls.crt` and `tls.key`")
        })
    }

    /// The authorities that a Secret names, and the lists of what they have revoked: those of the one with its name and
    /// `-cacert`, else its own.
    ///
    /// # Errors
    ///
    /// Why there are none.
    pub(crate) fn authorities(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<(&str, Option<&str>), String> {
        let beside = self.find(namespace, &format!("{name}{AUTHORITIES}"));
        let known = beside.or_else(|_| self.find(namespace, name))?;
        if let Some(reason) = &known.broken_authorities {
            return Err(known.says(&format!("`ca.crt`: {reason}")));
        }
        // Without them somebody would get in who must not.
        if let Some(reason) = &known.broken_lists {
            return Err(known.says(&format!("`ca.crl`: {reason}")));
        }
        let pem = known.spec.authorities.as_deref();
        let pem = pem.ok_or_else(|| {
            known.says("it has no certificates of authorities: expected `ca.crt`")
        })?;
        Ok((pem, known.spec.revoked.as_deref()))
    }

    /// The namespaces that have a Secret of this name, or one with the authorities for it.
    pub(super) fn places(&self, name: &str) -> BTreeSet<String> {
        let beside = format!("{name}{AUTHORITIES}");
        let named = self.0.keys();
        let named = named.filter(|(_, known)| *known == name || *known == beside);
        named.map(|(namespace, _)| namespace.clone()).collect()
    }

    /// What is wrong with Secrets, whoever uses them.
    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
        for known in self.0.values() {
            let Known { meta, spec, .. } = known;
            let reasons = [
                &known.broken_pair,
                &known.broken_authorities,
                &known.broken_lists,
            ];
            for reason in reasons.into_iter().flatten() {
                let message = format!("{meta} cannot be used: {reason}");
                problems.push(Problem::error(&meta.source, spec.at.0, message));
            }
        }
    }

    /// What is in Secrets and holds for a time, with where each is written.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&Meta, Position, &Part)> {
        let all = self.0.values();
        all.flat_map(|known| {
            let At(position) = known.spec.at;
            known
                .parts
                .iter()
                .map(move |part| (&known.meta, position, part))
        })
    }

    fn find(&self, namespace: &str, name: &str) -> Result<&Known, String> {
        let key = (namespace.to_owned(), name.to_owned());
        self.0.get(&key).ok_or_else(|| {
            let names = self.0.keys().filter(|(own, _)| own == namespace);
            let hint = did_you_mean(name, names.map(|(_, name)| name.as_str()));
            format!("there is no Secret {namespace}/{name}{hint}")
        })
    }
}

fn broken<T>(checked: Option<Result<T, PairError>>) -> Option<String> {
    checked?.err().map(|error| error.to_string())
}

impl Known {
    fn says(&self, reason: &str) -> String {
        format!("{} ({}): {reason}", self.meta, self.meta.source)
    }
}

impl Index {
    /// The Secrets.
    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }
}
