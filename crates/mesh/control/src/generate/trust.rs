//! The trust domains of principals: a name of the mesh's own stands for the same account under each of its aliases,
//! as in Istio.

use periplus_resources::{MeshConfig, Values};

/// Istio's name for the trust domain of the mesh, whatever that is called.
const LOCAL: &str = "cluster.local";

/// `trustDomain`, and `trustDomainAliases`.
#[derive(Clone, Copy)]
pub(super) struct Trust<'a>(&'a MeshConfig);

impl<'a> Trust<'a> {
    pub(super) fn of(mesh: &'a MeshConfig) -> Self {
        Self(mesh)
    }

    fn domains(self) -> impl Iterator<Item = &'a str> {
        let mesh = self.0;
        let all = std::iter::once(&mesh.trust_domain).chain(&mesh.trust_domain_aliases);
        all.map(String::as_str)
    }

    /// Principals with those that mean the same.
    pub(super) fn principals(self, values: &Values) -> Values {
        each(values, |value| self.expand(value))
    }

    /// Trust domains: one of the mesh's stands for all of them, a pattern only for what it matches.
    pub(super) fn expanded(self, values: &Values) -> Values {
        each(values, |value| {
            match self.domains().any(|known| known == value) {
                true => self.domains().map(str::to_owned).collect(),
                false => vec![value.to_owned()],
            }
        })
    }

    fn expand(self, principal: &str) -> Vec<String> {
        let as_it_is = || vec![principal.to_owned()];
        // Nothing else says whose trust domain is meant.
        let Some((domain, account)) = principal
            .split_once('/')
            .filter(|(domain, account)| *domain != "*" && account.split('/').count() == 4)
        else {
            return as_it_is();
        };
        if domain != LOCAL && !self.domains().any(|known| fits(domain, known)) {
            return as_it_is();
        }
        let named = |known: &str| match domain.strip_prefix('*') {
            Some(suffix) if known.ends_with(suffix) => principal.to_owned(),
            _ => format!("{known}/{account}"),
        };
        self.domains().map(named).collect()
    }
}

/// What each value stands for, once.
fn each(values: &Values, meanings: impl Fn(&str) -> Vec<String>) -> Values {
    let expanded = |values: &[String]| {
        let mut kept: Vec<String> = Vec::new();
        for value in values.iter().flat_map(|value| meanings(value)) {
            if !kept.contains(&value) {
                kept.push(value);
            }
        }
        kept
    };
    Values {
        one_of: expanded(&values.one_of),
        none_of: expanded(&values.none_of),
    }
}

/// Whether a trust domain of a policy, which may have `*` at one end, may be this one.
fn fits(domain: &str, known: &str) -> bool {
    match (domain.strip_prefix('*'), domain.strip_suffix('*')) {
        (Some(suffix), _) => known.ends_with(suffix),
        (_, Some(prefix)) => known.starts_with(prefix),
        _ => domain == known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_of_the_mesh_are_those_of_its_aliases_too() {
        let mesh = MeshConfig {
            trust_domain: "new-td".to_owned(),
            trust_domain_aliases: vec!["old-td".to_owned(), "older.example".to_owned()],
            ..MeshConfig::default()
        };
        let accounts = |domains: &[&str]| -> Vec<String> {
            let name = |domain: &&str| format!("{domain}/ns/foo/sa/bar");
            domains.iter().map(name).collect()
        };
        let all = accounts(&["new-td", "old-td", "older.example"]);
        for (principal, expected) in [
            ("new-td/ns/foo/sa/bar", all.clone()),
            ("older.example/ns/foo/sa/bar", all.clone()),
            // Istio's name for whatever the mesh is called.
            ("cluster.local/ns/foo/sa/bar", all),
            ("elsewhere/ns/foo/sa/bar", accounts(&["elsewhere"])),
            // It is kept where it fits, and written out where it does not.
            ("*-td/ns/foo/sa/bar", accounts(&["*-td", "older.example"])),
            ("*/ns/foo/sa/bar", accounts(&["*"])),
            ("*", vec!["*".to_owned()]),
            ("*/sa/bar", vec!["*/sa/bar".to_owned()]),
            (
                "new-td/ns/foo/sa/*",
                vec![
                    "new-td/ns/foo/sa/*".to_owned(),
                    "old-td/ns/foo/sa/*".to_owned(),
                    "older.example/ns/foo/sa/*".to_owned(),
                ],
            ),
            ("new-td/*", vec!["new-td/*".to_owned()]),
        ] {
            let values = |one_of: Vec<String>| Values {
                one_of: one_of.clone(),
                none_of: one_of,
            };
            let made = Trust::of(&mesh).principals(&values(vec![principal.to_owned()]));
            assert_eq!(made.one_of, expected, "{principal}");
            assert_eq!(made.none_of, expected, "{principal}");
        }
        for (domain, expected) in [
            ("old-td", &["new-td", "old-td", "older.example"][..]),
            ("elsewhere", &["elsewhere"]),
            // Only for accounts it is another name of the mesh.
            ("cluster.local", &["cluster.local"]),
            ("*-td", &["*-td"]),
            ("*", &["*"]),
        ] {
            let values = Values {
                one_of: vec![domain.to_owned()],
                none_of: vec![domain.to_owned(); 2],
            };
            let made = Trust::of(&mesh).expanded(&values);
            assert_eq!(made.one_of, expected, "{domain}");
            assert_eq!(made.none_of, expected, "{domain}");
        }
    }
}
