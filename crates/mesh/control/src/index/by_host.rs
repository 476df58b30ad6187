use std::collections::HashMap;

use periplus_resources::Host;

/// Where in a list those are that are for a host, so that nobody has to look at all of them.
#[derive(Debug, Default)]
pub(super) struct ByHost {
    exact: HashMap<Host, Vec<usize>>,
    wildcards: Vec<usize>,
}

impl<'a> FromIterator<(usize, &'a Host)> for ByHost {
    /// The places rise; one may have several hosts.
    fn from_iter<I: IntoIterator<Item = (usize, &'a Host)>>(hosts: I) -> Self {
        let mut by_host = Self::default();
        for (place, host) in hosts {
            match host.is_wildcard() {
                true => by_host.wildcards.push(place),
                false => by_host.exact.entry(host.clone()).or_default().push(place),
            }
        }
        by_host
    }
}

impl ByHost {
    /// The places of all that may cover a host, in their order.
    pub(super) fn places(&self, host: &Host) -> impl Iterator<Item = usize> {
        let exact = self.exact.get(host).into_iter().flatten();
        let mut places: Vec<usize> = exact.chain(&self.wildcards).copied().collect();
        places.sort_unstable();
        places.dedup();
        places.into_iter()
    }
}
