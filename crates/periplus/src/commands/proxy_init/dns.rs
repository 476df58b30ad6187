//! The capture of DNS: an application's questions go to the proxy, and the proxy's own to the servers.

use std::net::IpAddr;

use anyhow::{Context as _, ensure};

use super::Args;
use super::options::Options;
use super::rules::{Family, Table, owners};

/// Where the proxy answers questions.
const PORT: u16 = 15053;
/// Connections of UDP are told apart by zones, since both have the same addresses and ports: what the proxy and
/// the servers say to each other, and what the application and the proxy do.
const OF_SERVERS: u8 = 1;
const OF_APPLICATION: u8 = 2;

/// Whose questions are captured, by the servers that they are for.
#[derive(Debug)]
pub(super) enum Captured {
    None,
    All,
    For(Vec<IpAddr>),
}

impl Captured {
    pub(super) fn of(args: &Args) -> anyhow::Result<Self> {
        ensure!(
            args.redirect_dns || !args.capture_all_dns,
            "--capture-all-dns says what --redirect-dns redirects: give that too"
        );
        if !args.redirect_dns {
            return Ok(Self::None);
        }
        if args.capture_all_dns {
            return Ok(Self::All);
        }
        let file = args.resolv_conf.display();
        let text = std::fs::read_to_string(&args.resolv_conf)
            .with_context(|| format!("--redirect-dns: cannot read {file}"))?;
        let servers = servers(&text);
        ensure!(
            !servers.is_empty(),
            "--redirect-dns: {file} names no server, say --capture-all-dns to capture all questions"
        );
        Ok(Self::For(servers))
    }

    pub(super) const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// What a rule says of each server's address, behind `-s` or `-d`; nothing if it is for all of them.
    fn matches(&self, flag: &str, family: Family) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::All => vec![String::new()],
            Self::For(servers) => {
                let servers = servers.iter().filter(|server| family.is_of(**server));
                let bits = if family == Family::V4 { 32 } else { 128 };
                servers
                    .map(|server| format!(" {flag} {server}/{bits}"))
                    .collect()
            }
        }
    }
}

/// The servers of a resolv.conf(5); a zone behind an address is left out, since no rule can name it.
fn servers(text: &str) -> Vec<IpAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words
            .next()
            .filter(|word| *word == "nameserver")
            .and(words.next())?;
        address.split('%').next()?.parse().ok()
    });
    servers.collect()
}

/// Questions are redirected, over TCP and over UDP.
pub(super) fn nat(table: &mut Table, options: &Options, family: Family) {
    let servers = options.dns.matches("-d", family);
    if servers.is_empty() {
        return;
    }
    table.add("ISTIO_OUTPUT", "-j ISTIO_OUTPUT_DNS");
    for protocol in ["tcp", "udp"] {
        for server in &servers {
            let text = format!("-p {protocol} --dport 53{server} -j REDIRECT --to-ports {PORT}");
            table.add("ISTIO_OUTPUT_DNS", text);
        }
    }
}

/// Zones for what is said over UDP.
pub(super) fn raw(options: &Options, family: Family) -> Table {
    let mut table = Table::new("raw");
    if options.dns.is_none() {
        return table;
    }
    let chain = "ISTIO_OUTPUT_DNS";
    table.add("OUTPUT", "-j ISTIO_OUTPUT_DNS");
    for owner in owners(options) {
        for (port, zone) in [
            ("--dport 53".to_owned(), OF_SERVERS),
            (format!("--sport {PORT}"), OF_APPLICATION),
        ] {
            let text = format!("-p udp {port} -m owner {owner} -j CT --zone {zone}");
            table.add(chain, text);
        }
    }
    let to = options.dns.matches("-d", family);
    let from = options.dns.matches("-s", family);
    if !to.is_empty() {
        table.add("PREROUTING", "-j ISTIO_INBOUND");
    }
    for (to, from) in to.iter().zip(&from) {
        let text = format!("-p udp --dport 53{to} -j CT --zone {OF_APPLICATION}");
        table.add(chain, text);
        let text = format!("-p udp --sport 53{from} -j CT --zone {OF_SERVERS}");
        table.add("ISTIO_INBOUND", text);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_those_of_the_file() {
        let text = "# nameserver 1.1.1.1\nsearch a b\nnameserver 10.0.0.53\n nameserver\tfe80::1%eth0\nnameserver x\n";
        let expected: [IpAddr; 2] = ["10.0.0.53", "fe80::1"].map(|text| text.parse().expect("one"));
        assert_eq!(servers(text), expected);
    }
}
