use std::fmt;
use std::sync::Arc;

/// A DNS name in lower case, or a wildcard: `*` or `*.example.org`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Arc<str>);

impl Host {
    /// Reads a host name, an IP address, or a wildcard.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, to stand behind "… is no host name: ".
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let name = text.to_ascii_lowercase();
        if name.is_empty() {
            return Err("it is empty");
        }
        if name.len() > 253 {
            return Err("it is longer than 253 characters");
        }
        if name == "*" || name.parse::<std::net::IpAddr>().is_ok() {
            return Ok(Self(name.into()));
        }
        let labels = name.strip_prefix("*.").unwrap_or(&name);
        if labels.contains('*') {
            return Err("a wildcard is `*` alone or the first label, as in `*.example.org`");
        }
        labels.split('.').try_for_each(check_label)?;
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for more than one name.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// The full name of a service that a resource in `namespace` calls by this name: names
    /// without a dot are services of the resource's own namespace.
    #[must_use]
    pub fn resolve(&self, namespace: &str) -> Self {
        if self.0.contains('.') || self.is_wildcard() || self.0.contains(':') {
            return self.clone();
        }
        Self(format!("{}.{namespace}.svc.cluster.local", self.0).into())
    }

    /// Whether every name that `other` stands for is also one of this one's.
    pub fn covers(&self, other: &Self) -> bool {
        match self.0.strip_prefix('*') {
            Some("") => true,
            Some(suffix) => other.0.ends_with(suffix) && other.0.len() > suffix.len(),
            None => self == other,
        }
    }

    /// How narrow it is: of two that cover a name, the greater one wins.
    pub fn specificity(&self) -> (bool, usize) {
        (!self.is_wildcard(), self.0.len())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

fn check_label(label: &str) -> Result<(), &'static str> {
    if label.is_empty() {
        return Err("a part between its dots is empty");
    }
    if label.len() > 63 {
        return Err("a part between its dots is longer than 63 characters");
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err("a part between its dots begins or ends with `-`");
    }
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !label.chars().all(valid) {
        return Err("it may hold letters, digits, `-` and dots only");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    #[test]
    fn reads_names() {
        for text in [
            "reviews", "a.b.c", "*", "*.local", "10.0.0.1", "::1", "x-1.y",
        ] {
            assert_eq!(host(text).as_str(), text);
        }
        assert_eq!(host("Reviews").as_str(), "reviews");
    }

    #[test]
    fn refuses_others() {
        let long = "a".repeat(64);
        for text in [
            "", ".", "a..b", "a b", "-a", "a-", "a/b", "*a.b", "a.*", "a:80", &long,
        ] {
            assert!(Host::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn short_names_belong_to_the_namespace() {
        assert_eq!(
            host("reviews").resolve("shop").as_str(),
            "reviews.shop.svc.cluster.local"
        );
        for text in ["reviews.shop", "*", "*.local", "::1"] {
            assert_eq!(host(text).resolve("shop").as_str(), text);
        }
    }

    #[test]
    fn wildcards_cover() {
        assert!(host("*").covers(&host("a.b")));
        assert!(host("*.b").covers(&host("a.b")));
        assert!(host("*.b").covers(&host("*.a.b")));
        assert!(!host("*.b").covers(&host("b")));
        assert!(!host("a.b").covers(&host("*.b")));
        assert!(host("a.b").specificity() > host("*.a.b.c").specificity());
        assert!(host("*.a.b").specificity() > host("*.b").specificity());
    }
}
