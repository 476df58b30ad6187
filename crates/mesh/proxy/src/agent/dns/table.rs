//! The names of the mesh, as the control plane tells them, in the forms in which applications ask for them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use periplus_xds::name_table::{KUBERNETES, NameInfo, NameTable};

/// Where the workload is: which short names it may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) namespace: String,
    /// Of its services, such as `svc.cluster.local`.
    pub(super) domain: String,
    /// The first domain that its resolver tries names in.
    pub(super) search: Option<String>,
}

impl Place {
    /// The place of a node, by its metadata's namespace and its id, which ends in the domain of the namespace.
    pub(super) fn new(namespace: &str, node_id: &str, search: Option<&str>) -> Self {
        let domain = node_id.rsplit('~').next().unwrap_or_default();
        let own = format!("{namespace}.");
        let domain = domain.strip_prefix(&own).unwrap_or(domain);
        Self {
            namespace: namespace.to_ascii_lowercase(),
            domain: domain.to_ascii_lowercase(),
            search: search.map(str::to_ascii_lowercase),
        }
    }
}

/// What names stand for. They are in lower case, and have no dot at their end.
#[derive(Debug, Default)]
pub(super) struct Table {
    names: HashMap<String, Entry>,
}

#[derive(Clone, Debug)]
enum Entry {
    Addresses(Arc<[IpAddr]>),
    /// The name in the first domain that is searched: it stands for the name itself, so that the resolver does not
    /// search on.
    InSearch,
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known<'a> {
    /// The name that it stands for.
    pub(super) alias: Option<&'a str>,
    pub(super) addresses: &'a [IpAddr],
}

impl Table {
    pub(super) fn of(told: &NameTable, place: &Place) -> Self {
        let mut table = Self::default();
        for (host, info) in &told.table {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            let addresses = info.ips.iter().filter_map(|ip| ip.parse().ok());
            let addresses: Arc<[IpAddr]> = addresses.collect();
            if addresses.is_empty() {
                continue;
            }
            let mut forms = vec![host];
            if info.registry == KUBERNETES {
                forms.extend(place.shorter(&forms[0], info));
            }
            for form in forms.into_iter().filter(|form| is_name(form)) {
                table.add(form, &addresses, place);
            }
        }
        table
    }

    fn add(&mut self, name: String, addresses: &Arc<[IpAddr]>, place: &Place) {
        if let Some(search) = &place.search
            && !is_in(&name, search)
        {
            let searched = format!("{name}.{search}");
            // A name that is one goes before one that is searched for.
            if is_name(&searched) {
                self.names.entry(searched).or_insert(Entry::InSearch);
            }
        }
        let entry = Entry::Addresses(Arc::clone(addresses));
        self.names.insert(name, entry);
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// What a name stands for; none if nobody has told of it.
    pub(super) fn find<'a>(&'a self, name: &'a str, place: &Place) -> Option<Known<'a>> {
        match self.lookup(name)? {
            Entry::Addresses(addresses) => Some(Known {
                alias: None,
                addresses,
            }),
            Entry::InSearch => {
                let search = place.search.as_deref()?;
                let alias = name.strip_suffix(search)?.strip_suffix('.')?;
                match self.lookup(alias)? {
                    Entry::Addresses(addresses) => Some(Known {
                        alias: Some(alias),
                        addresses,
                    }),
                    Entry::InSearch => None,
                }
            }
        }
    }

    /// The name itself, else the host with the longest end in common that begins with `*`.
    fn lookup(&self, name: &str) -> Option<&Entry> {
        if let Some(entry) = self.names.get(name) {
            return Some(entry);
        }
        let ends = name.match_indices('.').map(|(at, _)| &name[at..]);
        ends.map(|end| format!("*{end}"))
            .find_map(|wildcard| self.names.get(&wildcard))
    }
}

impl Place {
    /// The other forms of a service's name, which are those of Kubernetes.
    fn shorter(&self, host: &str, info: &NameInfo) -> Vec<String> {
        let (name, namespace) = (&info.shortname, &info.namespace);
        let is_told = !name.is_empty() && !namespace.is_empty();
        // Those of another domain could be taken for ours.
        if !is_told || self.domain.is_empty() || !is_in(host, &self.domain) {
            return Vec::new();
        }
        let name = format!("{name}.{namespace}").to_ascii_lowercase();
        let first = self.domain.split('.').next().unwrap_or_default();
        let mut forms = vec![format!("{name}.{first}")];
        if namespace.eq_ignore_ascii_case(&self.namespace) {
            forms.push(info.shortname.to_ascii_lowercase());
        }
        forms.push(name);
        forms
    }
}

/// Whether a name is within a domain.
fn is_in(name: &str, domain: &str) -> bool {
    let rest = name.strip_suffix(domain);
    rest.is_some_and(|rest| rest.ends_with('.'))
}

/// Whether a question can be about it, and an answer can name it.
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_graphic())
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(ips: &[&str], kubernetes: Option<(&str, &str)>) -> NameInfo {
        let (shortname, namespace) = kubernetes.unwrap_or_default();
        NameInfo {
            ips: ips.iter().map(ToString::to_string).collect(),
            registry: kubernetes.map_or("External", |_| KUBERNETES).to_owned(),
            shortname: shortname.to_owned(),
            namespace: namespace.to_owned(),
        }
    }

    #[test]
    fn names_are_found_in_each_form() {
        let mut told = NameTable::default();
        for (host, info) in [
            (
                "web.shop.svc.cluster.local",
                info(&["10.0.0.1", "fd00::1"], Some(("web", "shop"))),
            ),
            (
                "db.data.svc.cluster.local",
                info(&["10.0.0.2"], Some(("db", "data"))),
            ),
            (
                "far.shop.svc.other.local",
                info(&["10.0.0.3"], Some(("far", "shop"))),
            ),
            ("API.example.com.", info(&["240.0.0.1", "no address"], None)),
            ("*.example.com", info(&["240.0.0.2"], None)),
            ("*.deep.example.com", info(&["240.0.0.3"], None)),
            ("none.example.com", info(&["10.0.0.0/8"], None)),
            ("bad..name", info(&["10.0.0.4"], None)),
        ] {
            told.table.insert(host.to_owned(), info);
        }
        let node = "sidecar~10.9.9.9~a.shop~shop.svc.cluster.local";
        let place = Place::new("shop", node, Some("shop.svc.cluster.local"));
        let table = Table::of(&told, &place);
        let found = |name: &str| {
            let known = table.find(name, &place)?;
            let addresses: Vec<_> = known.addresses.iter().map(ToString::to_string).collect();
            let alias = known.alias.map(|alias| format!("{alias} "));
            Some(alias.unwrap_or_default() + &addresses.join(" "))
        };
        for (name, expected) in [
            ("web.shop.svc.cluster.local", Some("10.0.0.1 fd00::1")),
            ("web", Some("10.0.0.1 fd00::1")),
            ("web.shop", Some("10.0.0.1 fd00::1")),
            ("web.shop.svc", Some("10.0.0.1 fd00::1")),
            // Nobody writes that, and Istio makes no such form.
            ("web.shop.svc.cluster", None),
            // Its resolver tries these first.
            ("db.data.shop.svc.cluster.local", Some("db.data 10.0.0.2")),
            ("db.data.svc", Some("10.0.0.2")),
            ("db", None),
            ("db.data.svc.cluster.local", Some("10.0.0.2")),
            // Of another domain there is the whole name only.
            ("far.shop.svc.other.local", Some("10.0.0.3")),
            ("far.shop", None),
            ("far", None),
            ("api.example.com", Some("240.0.0.1")),
            (
                "api.example.com.shop.svc.cluster.local",
                Some("api.example.com 240.0.0.1"),
            ),
            ("x.example.com", Some("240.0.0.2")),
            ("x.y.example.com", Some("240.0.0.2")),
            (
                "x.y.example.com.shop.svc.cluster.local",
                Some("x.y.example.com 240.0.0.2"),
            ),
            ("x.deep.example.com", Some("240.0.0.3")),
            ("example.com", None),
            // A wildcard goes on for what has no address of its own, as in Istio.
            ("none.example.com", Some("240.0.0.2")),
            ("bad..name", None),
            ("", None),
        ] {
            assert_eq!(found(name).as_deref(), expected, "{name}");
        }
    }
}
