//! SPIFFE ids in Istio's form.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    trust_domain: String,
    account: ServiceAccount,
}

/// An account of a namespace, which workloads run as.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceAccount {
    namespace: String,
    name: String,
}

/// A name that cannot be part of an id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Of a trust domain.
    #[error("`{0}` is no trust domain: use up to 255 lower-case letters, digits, `.`, `-` and `_`")]
    TrustDomain(String),
    /// Of a namespace.
    #[error("`{0}` is no namespace: use up to 63 lower-case letters, digits and `-`")]
    Namespace(String),
    /// Of an account.
    #[error("`{0}` is no service account: use up to 253 lower-case letters, digits, `-` and `.`")]
    Account(String),
    /// The text is of another form.
    #[error("`{0}` is not of the form spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT")]
    Form(String),
}

/// The account of whoever has none of its own, as in Kubernetes.
pub const DEFAULT_ACCOUNT: &str = "default";

fn is_name(text: &str, most: usize, others: &[u8]) -> bool {
    let is_alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let valid = |b: u8| is_alphanumeric(b) || others.contains(&b);
    let mut bytes = text.bytes();
    (1..=most).contains(&text.len())
        && text.bytes().all(valid)
        && bytes.next().is_some_and(is_alphanumeric)
        && text.bytes().last().is_some_and(is_alphanumeric)
}

/// Checks the name of a trust domain.
pub fn check_trust_domain(text: &str) -> Result<(), NameError> {
    match is_name(text, 255, b".-_") {
        true => Ok(()),
        false => Err(NameError::TrustDomain(text.to_owned())),
    }
}

impl ServiceAccount {
    /// An account; an empty name is that of the namespace's default account.
    pub fn new(namespace: &str, name: &str) -> Result<Self, NameError> {
        if !is_name(namespace, 63, b"-") {
            return Err(NameError::Namespace(namespace.to_owned()));
        }
        let name = if name.is_empty() {
            DEFAULT_ACCOUNT
        } else {
            name
        };
        if !is_name(name, 253, b"-.") {
            return Err(NameError::Account(name.to_owned()));
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl SpiffeId {
    /// The id of an account.
    pub fn new(trust_domain: &str, account: ServiceAccount) -> Result<Self, NameError> {
        check_trust_domain(trust_domain)?;
        Ok(Self {
            trust_domain: trust_domain.to_owned(),
            account,
        })
    }

    /// Its trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Its account.
    pub fn account(&self) -> &ServiceAccount {
        &self.account
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ServiceAccount { namespace, name } = &self.account;
        write!(f, "spiffe://{}/ns/{namespace}/sa/{name}", self.trust_domain)
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for SpiffeId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let form = || NameError::Form(text.to_owned());
        let rest = text.strip_prefix("spiffe://").ok_or_else(form)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let [trust_domain, "ns", namespace, "sa", name] = parts[..] else {
            return Err(form());
        };
        if name.is_empty() {
            return Err(form());
        }
        Self::new(trust_domain, ServiceAccount::new(namespace, name)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_written() {
        let text = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews";
        let id: SpiffeId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.account().to_string(), "default/bookinfo-reviews");
    }

    #[test]
    fn others_are_refused() {
        for text in [
            "",
            "spiffe://",
            "http://cluster.local/ns/a/sa/b",
            "spiffe://cluster.local/ns/a/sa/",
            "spiffe://cluster.local/ns/a/sa/b/c",
            "spiffe://cluster.local/ns/A/sa/b",
            "spiffe:///ns/a/sa/b",
            "spiffe://cluster.local/ns/a/sa/..",
            "spiffe://cluster.local/ns/a.b/sa/c",
            "spiffe://cluster.local/ns/a/sa/b?c",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text}");
        }
    }
}
