//! What this host says about names: `/etc/hosts` and `/etc/resolv.conf` (resolv.conf(5)).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The port of the DNS.
const PORT: u16 = 53;
/// The most servers that are asked, and the most domains that are searched, as in the system's own resolver.
const MAX_SERVERS: usize = 3;
const MAX_SEARCH: usize = 6;

/// Whom to ask, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct System {
    /// The text of `/etc/hosts`.
    pub(super) hosts: String,
    pub(super) servers: Vec<SocketAddr>,
    pub(super) search: Vec<String>,
    /// Names with so many dots are tried as they are first.
    pub(super) ndots: usize,
    /// For one answer of one server.
    pub(super) timeout: Duration,
    /// How often each server is asked.
    pub(super) attempts: u32,
}

impl System {
    /// As it is now; files that are not there say nothing.
    pub(super) fn read() -> Self {
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self::parse(text("/etc/hosts"), &text("/etc/resolv.conf"))
    }

    pub(super) fn parse(hosts: String, resolv: &str) -> Self {
        let mut system = Self {
            hosts,
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        };
        for line in resolv.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    if let Some(ip) = server {
                        system.servers.push((ip, PORT).into());
                    }
                }
                Some("search" | "domain") => {
                    let domains = words.map(|domain| domain.trim_end_matches('.').to_owned());
                    system.search = domains.filter(|domain| !domain.is_empty()).collect();
                }
                Some("options") => words.for_each(|option| system.set(option)),
                _ => {}
            }
        }
        if system.servers.is_empty() {
            // As resolv.conf(5) has it.
            system.servers.push(([127, 0, 0, 1], PORT).into());
        }
        system.servers.truncate(MAX_SERVERS);
        system.search.truncate(MAX_SEARCH);
        system
    }

    fn set(&mut self, option: &str) {
        let Some((name, Ok(value))) = option
            .split_once(':')
            .map(|(name, value)| (name, value.parse::<u32>()))
        else {
            return;
        };
        match name {
            "ndots" => self.ndots = value.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(value.clamp(1, 30).into()),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }

    /// The addresses in `/etc/hosts`.
    pub(super) fn known(&self, name: &str) -> Vec<IpAddr> {
        let name = name.trim_end_matches('.');
        let lines = self.hosts.lines().filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words
                .any(|word| word.eq_ignore_ascii_case(name))
                .then_some(address)
        });
        lines.collect()
    }

    /// The names to ask for, one after the other.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let mut all: Vec<_> = self
            .search
            .iter()
            .map(|domain| format!("{name}.{domain}"))
            .collect();
        let dots = name.matches('.').count();
        let at = if dots >= self.ndots { 0 } else { all.len() };
        all.insert(at, name.to_owned());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_the_manual_says() {
        let hosts =
            "127.0.0.1 localhost # and more\n::1 localhost ip6\nx y\n10.0.0.1\tWeb.example web";
        let resolv = "# none\nnameserver 10.0.0.53\nnameserver fd00::53\nnameserver x\ndomain old\n\
                      search a.example. b.example\noptions ndots:2 timeout:1 attempts:9 rotate x:y\n";
        let system = System::parse(hosts.to_owned(), resolv);
        let servers = ["10.0.0.53:53", "[fd00::53]:53"].map(|text| text.parse().expect("one"));
        assert_eq!(system.servers, servers);
        assert_eq!((system.ndots, system.attempts), (2, 5));
        assert_eq!(system.timeout, Duration::from_secs(1));
        let known = |name| {
            let found = system.known(name);
            let texts: Vec<_> = found.iter().map(ToString::to_string).collect();
            texts.join(" ")
        };
        assert_eq!(known("localhost"), "127.0.0.1 ::1");
        assert_eq!(known("web.EXAMPLE."), "10.0.0.1");
        assert_eq!(known("and"), "");
        for (name, expected) in [
            ("a", "a.a.example a.b.example a"),
            ("a.b", "a.b.a.example a.b.b.example a.b"),
            ("a.b.c", "a.b.c a.b.c.a.example a.b.c.b.example"),
            ("a.", "a."),
        ] {
            assert_eq!(system.candidates(name).join(" "), expected);
        }
        let empty = System::parse(String::new(), "");
        assert_eq!(empty.servers, ["127.0.0.1:53".parse().expect("one")]);
    }
}
