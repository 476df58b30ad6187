//! The rules: what is redirected to the proxy, and what is not. Their order is their meaning.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use super::dns;
use super::options::{Block, Mode, Options, Selection};

/// The mark of the proxy's own packets to this workload's address (TPROXY).
const OUTBOUND_MARK: u32 = 1338;

/// IPv4 or IPv6: their rules differ in addresses only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    /// The programs that read, write and delete its rules.
    pub(super) fn program(self, kind: &str) -> String {
        let six = if self == Self::V6 { "6" } else { "" };
        format!("ip{six}tables{kind}")
    }

    /// The flag of `ip`.
    pub(super) const fn flag(self) -> &'static str {
        match self {
            Self::V4 => "-4",
            Self::V6 => "-6",
        }
    }

    const fn loopback(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.1/32",
            Self::V6 => "::1/128",
        }
    }

    /// Where the proxy connects from to the application that it serves.
    const fn passthrough(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.6/32",
            Self::V6 => "::6/128",
        }
    }

    fn has(self, block: &Block) -> bool {
        self.is_of(block.address)
    }

    /// Whether this is an address of it.
    pub(super) const fn is_of(self, address: IpAddr) -> bool {
        matches!(
            (self, address),
            (Self::V4, IpAddr::V4(_)) | (Self::V6, IpAddr::V6(_))
        )
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A table of the kernel, and what goes into it.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) rules: Vec<Rule>,
}

/// A rule at the end of a chain.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) chain: &'static str,
    pub(super) text: String,
}

impl Rule {
    /// Whether its chain is the kernel's.
    pub(super) fn is_in_builtin_chain(&self) -> bool {
        !self.chain.starts_with(super::PREFIX)
    }
}

impl Table {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            rules: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, chain: &'static str, text: impl Into<String>) {
        let text = text.into();
        self.rules.push(Rule { chain, text });
    }

    /// Its chains of our own, in the order of their first rules.
    fn chains(&self) -> Vec<&'static str> {
        let mut chains = Vec::new();
        for rule in &self.rules {
            if !rule.is_in_builtin_chain() && !chains.contains(&rule.chain) {
                chains.push(rule.chain);
            }
        }
        chains
    }

    /// The input of `iptables-restore --noflush`.
    pub(super) fn restore_text(&self) -> String {
        let mut text = format!("*{}\n", self.name);
        for chain in self.chains() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, ":{chain} - [0:0]");
        }
        for rule in &self.rules {
            let _ = writeln!(text, "-A {} {}", rule.chain, rule.text);
        }
        text.push_str("COMMIT\n");
        text
    }
}

/// All tables of a family that have rules.
pub(super) fn tables(options: &Options, family: Family) -> Vec<Table> {
    let mut tables = vec![
        mangle(options, family),
        nat(options, family),
        dns::raw(options, family),
    ];
    tables.retain(|table| !table.rules.is_empty());
    tables
}

fn nat(options: &Options, family: Family) -> Table {
    let mut table = Table::new("nat");
    rerouted_interfaces(&mut table, options, family);
    excluded_interfaces(&mut table, options);
    let tunnel = options.tunnel_port;
    table.add(
        "ISTIO_INBOUND",
        format!("-p tcp --dport {tunnel} -j RETURN"),
    );
    for (chain, port) in [
        ("ISTIO_REDIRECT", options.outbound_port),
        ("ISTIO_IN_REDIRECT", options.inbound_port),
    ] {
        table.add(chain, format!("-p tcp -j REDIRECT --to-ports {port}"));
    }
    if options.mode == Mode::Redirect {
        inbound(&mut table, options);
    }
    output(&mut table, options, family);
    table
}

/// Connections to this workload.
fn inbound(table: &mut Table, options: &Options) {
    if options.inbound_ports.is_none() {
        return;
    }
    table.add("PREROUTING", "-p tcp -j ISTIO_INBOUND");
    let capture = |table: &mut Table, ports: &str| match options.mode {
        Mode::Redirect => {
            table.add(
                "ISTIO_INBOUND",
                format!("-p tcp {ports}-j ISTIO_IN_REDIRECT"),
            );
        }
        Mode::Tproxy => {
            let known = "-m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT";
            table.add("ISTIO_INBOUND", format!("-p tcp {ports}{known}"));
            table.add("ISTIO_INBOUND", format!("-p tcp {ports}-j ISTIO_TPROXY"));
        }
    };
    match &options.inbound_ports {
        Selection::All => {
            for port in &options.excluded_inbound_ports {
                table.add("ISTIO_INBOUND", format!("-p tcp --dport {port} -j RETURN"));
            }
            capture(table, "");
        }
        Selection::These(ports) => {
            for port in ports {
                capture(table, &format!("--dport {port} "));
            }
        }
    }
}

/// Connections from this workload.
fn output(table: &mut Table, options: &Options, family: Family) {
    let chain = "ISTIO_OUTPUT";
    let (loopback, passthrough) = (family.loopback(), family.passthrough());
    table.add("OUTPUT", "-j ISTIO_OUTPUT");
    for port in &options.excluded_outbound_ports {
        table.add(chain, format!("-p tcp --dport {port} -j RETURN"));
        table.add(chain, format!("-p udp --dport {port} -j RETURN"));
    }
    table.add(chain, format!("-o lo -s {passthrough} -j RETURN"));
    let captures_dns = !options.dns.is_none();
    for owner in owners(options) {
        // The proxy calls its own workload: as if from outside. What it asks a DNS server there is no such call.
        let tunnel = options.tunnel_port;
        let others = match captures_dns && owner.starts_with("--uid") {
            true => format!("-m multiport ! --dports 53,{tunnel}"),
            false => format!("! --dport {tunnel}"),
        };
        table.add(
            chain,
            format!("-o lo ! -d {loopback} -p tcp {others} -m owner {owner} -j ISTIO_IN_REDIRECT"),
        );
        // The application calls itself, unless loopback is among what is captured, or a DNS server there.
        if !options.captures_loopback() {
            let others = match captures_dns {
                true => "-p tcp ! --dport 53 ",
                false => "",
            };
            table.add(chain, format!("-o lo {others}-m owner ! {owner} -j RETURN"));
        }
        // What the proxy sends has been captured before.
        table.add(chain, format!("-m owner {owner} -j RETURN"));
    }
    dns::nat(table, options, family);
    table.add(chain, format!("-d {loopback} -j RETURN"));
    for block in options.excluded_blocks.iter().filter(|b| family.has(b)) {
        table.add(chain, format!("-d {block} -j RETURN"));
    }
    for port in &options.outbound_ports {
        table.add(chain, format!("-p tcp --dport {port} -j ISTIO_REDIRECT"));
    }
    match &options.blocks {
        Selection::All => table.add(chain, "-j ISTIO_REDIRECT"),
        Selection::These(blocks) => {
            for block in blocks.iter().filter(|b| family.has(b)) {
                table.add(chain, format!("-d {block} -j ISTIO_REDIRECT"));
            }
        }
    }
}

/// Traffic of virtual machines behind these interfaces counts as outbound.
fn rerouted_interfaces(table: &mut Table, options: &Options, family: Family) {
    let interfaces = || options.rerouted_interfaces.iter().rev();
    match &options.blocks {
        Selection::All => {
            for interface in interfaces() {
                table.add("PREROUTING", format!("-i {interface} -j ISTIO_REDIRECT"));
            }
        }
        Selection::These(blocks) => {
            for block in blocks.iter().rev().filter(|b| family.has(b)) {
                for interface in interfaces() {
                    let text = format!("-i {interface} -d {block} -j ISTIO_REDIRECT");
                    table.add("PREROUTING", text);
                }
            }
        }
    }
    for interface in interfaces() {
        table.add("PREROUTING", format!("-i {interface} -j RETURN"));
    }
}

fn excluded_interfaces(table: &mut Table, options: &Options) {
    for interface in &options.excluded_interfaces {
        table.add("PREROUTING", format!("-i {interface} -j RETURN"));
        table.add("OUTPUT", format!("-o {interface} -j RETURN"));
    }
}

pub(super) fn owners(options: &Options) -> impl Iterator<Item = String> {
    let users = options.users.iter().map(|uid| format!("--uid-owner {uid}"));
    let groups = options
        .groups
        .iter()
        .map(|gid| format!("--gid-owner {gid}"));
    users.chain(groups)
}

fn mangle(options: &Options, family: Family) -> Table {
    let mut table = Table::new("mangle");
    if options.mode == Mode::Tproxy {
        excluded_interfaces(&mut table, options);
    }
    if options.drop_invalid {
        let invalid = "-m conntrack --ctstate INVALID -j ISTIO_DROP";
        table.add("PREROUTING", invalid);
        table.add("ISTIO_DROP", "-j DROP");
    }
    if options.mode == Mode::Tproxy {
        transparent(&mut table, options, family);
    }
    table
}

/// Connections to this workload keep their addresses, and reach the proxy by their mark.
fn transparent(table: &mut Table, options: &Options, family: Family) {
    let (mark, port) = (options.mark, options.inbound_port);
    let (loopback, passthrough) = (family.loopback(), family.passthrough());
    if !options.inbound_ports.is_none() {
        table.add("ISTIO_DIVERT", format!("-j MARK --set-mark {mark}"));
        table.add("ISTIO_DIVERT", "-j ACCEPT");
        let mask = "0xffffffff";
        table.add(
            "ISTIO_TPROXY",
            format!(
                "! -d {loopback} -p tcp -j TPROXY --tproxy-mark {mark}/{mask} --on-port {port}"
            ),
        );
    }
    // What the proxy has marked, what it sends to its application, and what the application sends to
    // itself are not captured.
    for text in [
        format!("-p tcp -m mark --mark {mark} -j RETURN"),
        format!("-p tcp -s {passthrough} -i lo -j RETURN"),
        format!("-p tcp -i lo -m mark ! --mark {OUTBOUND_MARK} -j RETURN"),
    ] {
        table.add("ISTIO_INBOUND", text);
    }
    inbound(table, options);
    table.add(
        "PREROUTING",
        format!("-p tcp -m mark --mark {mark} -j CONNMARK --save-mark"),
    );
    table.add(
        "OUTPUT",
        format!("-p tcp -o lo -m mark --mark {mark} -j RETURN"),
    );
    for owner in owners(options) {
        table.add(
            "OUTPUT",
            format!(
                "! -d {loopback} -p tcp -o lo -m owner {owner} -j MARK --set-mark {OUTBOUND_MARK}"
            ),
        );
    }
    table.add(
        "OUTPUT",
        format!("-p tcp -m connmark --mark {mark} -j CONNMARK --restore-mark"),
    );
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::commands::proxy_init::Args;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn text(line: &str, family: Family) -> String {
        let dir = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/src/commands/proxy_init/golden"
        );
        let line = line.replace("DIR", dir);
        let words = std::iter::once("proxy-init").chain(line.split_whitespace());
        let words = words.map(|word| if word == "''" { "" } else { word });
        let args = Cli::try_parse_from(words).expect("valid flags").args;
        let options = Options::of(&args).expect("valid options");
        let tables = tables(&options, family);
        tables.iter().map(Table::restore_text).collect()
    }

    #[test]
    fn rules_are_those_of_istio() {
        for (line, family, expected) in [
            ("", Family::V4, include_str!("golden/default.rules")),
            ("", Family::V6, include_str!("golden/default-v6.rules")),
            (
                "-p 12345 -z 54321 -u 3,4 -g 1,2 -b 4000,5000 -i 1.1.0.0/16,fd00::/8 -q 32000,31000",
                Family::V4,
                include_str!("golden/selected.rules"),
            ),
            (
                "-d 22,15020 -x 9.9.0.0/16,fd00::/8 -o 5432 -c eth1,eth2 -k eth3,eth4",
                Family::V4,
                include_str!("golden/excluded.rules"),
            ),
            (
                "-b '' -i '' --drop-invalid",
                Family::V4,
                include_str!("golden/nothing.rules"),
            ),
            (
                "-i 127.1.2.3/32 -b ''",
                Family::V4,
                include_str!("golden/loopback.rules"),
            ),
            (
                "-m TPROXY -c not-istio-nic -x 1.1.0.0/16 -i 9.9.0.0/16 -d ''",
                Family::V4,
                include_str!("golden/tproxy.rules"),
            ),
            (
                "--redirect-dns --resolv-conf DIR/resolv.conf -u 3,4 -g 1,2 -b '' -i ''",
                Family::V4,
                include_str!("golden/dns.rules"),
            ),
            (
                "--redirect-dns --resolv-conf DIR/resolv.conf -u 3,4 -g 1,2 -b '' -i ''",
                Family::V6,
                include_str!("golden/dns-v6.rules"),
            ),
            (
                "--redirect-dns --capture-all-dns --resolv-conf /nonexistent -b '' -i ''",
                Family::V4,
                include_str!("golden/all-dns.rules"),
            ),
        ] {
            assert_eq!(text(line, family), expected, "{line}");
        }
    }
}
