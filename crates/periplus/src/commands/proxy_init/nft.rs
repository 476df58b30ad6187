//! The same rules in the form of nftables: tables of both families under Istio's names, written and taken
//! away as a whole.

use std::fmt::Write as _;

use anyhow::bail;

use super::options::Options;
use super::rules::{Family, Rule, tables};

/// Tables and what their built-in chains are: a mark set on output has to change the route.
const TABLES: [(&str, [(&str, &str); 2]); 3] = [
    (
        "mangle",
        [
            ("prerouting", "type filter hook prerouting priority -150"),
            ("output", "type route hook output priority -150"),
        ],
    ),
    (
        "nat",
        [
            ("prerouting", "type nat hook prerouting priority -100"),
            ("output", "type nat hook output priority -100"),
        ],
    ),
    (
        "raw",
        [
            ("prerouting", "type filter hook prerouting priority -300"),
            ("output", "type filter hook output priority -300"),
        ],
    ),
];

/// A rule in nftables' words.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    chain: String,
    text: String,
    /// It names addresses.
    is_of_family: bool,
}

/// The input of `nft -f -` that replaces what an earlier run has left.
pub(super) fn script(options: &Options, families: &[Family]) -> anyhow::Result<String> {
    let mut script = removal();
    for (name, hooks) in TABLES {
        let mut lines = Vec::new();
        for family in families {
            let all = tables(options, *family);
            let own = all.iter().find(|table| table.name == name);
            let rules = own.map(|table| table.rules.as_slice()).unwrap_or_default();
            let translated = rules.iter().map(|rule| translate(rule, *family));
            lines = merge(lines, translated.collect::<anyhow::Result<_>>()?);
        }
        if !lines.is_empty() {
            write_table(&mut script, name, hooks, &lines);
        }
    }
    Ok(script)
}

/// The input of `nft -f -` that takes the tables away, whether or not they are there.
pub(super) fn removal() -> String {
    let tables = TABLES.iter().map(|(name, _)| {
        format!("add table inet istio-proxy-{name}\ndelete table inet istio-proxy-{name}\n")
    });
    tables.collect()
}

fn write_table(script: &mut String, name: &str, hooks: [(&str, &str); 2], lines: &[Line]) {
    let table = format!("inet istio-proxy-{name}");
    // Writing to a string cannot fail.
    let _ = writeln!(script, "add table {table}");
    let mut chains: Vec<&str> = Vec::new();
    let named = lines.iter().map(|line| line.chain.as_str());
    let jumped_to = lines
        .iter()
        .filter_map(|line| line.text.rsplit_once("jump "));
    for chain in named.chain(jumped_to.map(|(_, chain)| chain)) {
        if !chains.contains(&chain) {
            chains.push(chain);
        }
    }
    for chain in chains {
        let _ = match hooks.iter().find(|(hook, _)| *hook == chain) {
            Some((_, hook)) => writeln!(script, "add chain {table} {chain} {{ {hook} ; }}"),
            None => writeln!(script, "add chain {table} {chain}"),
        };
    }
    for line in lines {
        let _ = writeln!(script, "add rule {table} {} {}", line.chain, line.text);
    }
}

/// The rules of two families, each in its order; what both have is there once.
fn merge(first: Vec<Line>, second: Vec<Line>) -> Vec<Line> {
    if first.is_empty() {
        return second;
    }
    let mut merged = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter().peekable(), second.into_iter().peekable());
    loop {
        while let Some(line) = first.next_if(|line| line.is_of_family) {
            merged.push(line);
        }
        while let Some(line) = second.next_if(|line| line.is_of_family) {
            merged.push(line);
        }
        // Only one of them may have it, such as the jump to rules for servers of that family.
        let is_of_both = first.peek() == second.peek();
        let is_of_first = first
            .peek()
            .is_some_and(|line| !second.clone().any(|other| other == *line));
        let line = match is_of_both || is_of_first {
            true => first.next(),
            false => second.next().or_else(|| first.next()),
        };
        if is_of_both {
            second.next();
        }
        match line {
            Some(line) => merged.push(line),
            None => return merged,
        }
    }
}

fn chain_name(chain: &str) -> String {
    chain.to_ascii_lowercase().replace('_', "-")
}

/// Says in nftables' words what a rule says in those of iptables.
fn translate(rule: &Rule, family: Family) -> anyhow::Result<Line> {
    let ip = match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    let mut words = rule.text.split(' ');
    let (mut parts, mut is_of_family) = (Vec::new(), false);
    let (mut not, mut protocol, mut module) = ("", "", "");
    while let Some(word) = words.next() {
        match word {
            "!" => {
                not = "!= ";
                continue;
            }
            "-m" => {
                module = words.next().unwrap_or_default();
                continue;
            }
            "-j" => {
                parts.push(target(&mut words, ip)?);
                continue;
            }
            _ => {}
        }
        let value = words.next().unwrap_or_default();
        parts.push(match word {
            "-p" => {
                protocol = value;
                format!("meta l4proto {not}{value}")
            }
            "--dport" => format!("{protocol} dport {not}{value}"),
            "--dports" => format!("{protocol} dport {not}{{ {} }}", value.replace(',', ", ")),
            "--sport" => format!("{protocol} sport {not}{value}"),
            "-s" => format!("{ip} saddr {not}{value}"),
            "-d" => format!("{ip} daddr {not}{value}"),
            "-i" => format!("iifname {not}\"{}\"", value.replace('+', "*")),
            "-o" => format!("oifname {not}\"{}\"", value.replace('+', "*")),
            "--uid-owner" => format!("meta skuid {not}{value}"),
            "--gid-owner" => format!("meta skgid {not}{value}"),
            "--ctstate" => format!("ct state {not}{}", value.to_ascii_lowercase()),
            "--mark" if module == "connmark" => format!("ct mark {not}{value}"),
            "--mark" => format!("meta mark {not}{value}"),
            other => bail!("nftables has no word for {other} in {:?}", rule.text),
        });
        is_of_family |= matches!(word, "-s" | "-d");
        not = "";
    }
    let text = parts.join(" ");
    Ok(Line {
        chain: chain_name(rule.chain),
        is_of_family: is_of_family || text.contains("tproxy "),
        text,
    })
}

/// What a rule does with its packets: the words behind `-j`.
fn target<'a>(words: &mut impl Iterator<Item = &'a str>, ip: &str) -> anyhow::Result<String> {
    let target = words.next().unwrap_or_default();
    let rest: Vec<_> = words.collect();
    Ok(match (target, rest.as_slice()) {
        ("RETURN" | "ACCEPT" | "DROP", []) => target.to_ascii_lowercase(),
        ("REDIRECT", ["--to-ports", port]) => format!("redirect to :{port}"),
        ("MARK", ["--set-mark", mark]) => format!("meta mark set {mark}"),
        ("CONNMARK", ["--save-mark"]) => "ct mark set meta mark".to_owned(),
        ("CONNMARK", ["--restore-mark"]) => "meta mark set ct mark".to_owned(),
        ("CT", ["--zone", zone]) => format!("ct zone set {zone}"),
        ("TPROXY", ["--tproxy-mark", mark, "--on-port", port]) => {
            let mark = mark.split('/').next().unwrap_or_default();
            format!("tproxy {ip} to :{port} meta mark set {mark} accept")
        }
        (chain, []) if chain.starts_with(super::PREFIX) => format!("jump {}", chain_name(chain)),
        (other, rest) => bail!("nftables has no target like {other} {rest:?}"),
    })
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

    #[test]
    fn rules_are_those_of_istio() {
        for (line, families, expected) in [
            (
                "",
                &[Family::V4, Family::V6][..],
                include_str!("golden/default.nft"),
            ),
            (
                "-m TPROXY -c not-istio-nic -x 1.1.0.0/16 -i 9.9.0.0/16 -d= --drop-invalid",
                &[Family::V4, Family::V6],
                include_str!("golden/tproxy.nft"),
            ),
            (
                "-p 12345 -z 54321 -u 3,4 -g 1,2 -b 4000,5000 -i 1.1.0.0/16,fd00::/8 -q 32000 -o 5432 -k eth3 -c wl+",
                &[Family::V4],
                include_str!("golden/selected.nft"),
            ),
            (
                "--redirect-dns --resolv-conf DIR/resolv.conf -u 3,4 -g 1,2 -b= -i=",
                &[Family::V4, Family::V6],
                include_str!("golden/dns.nft"),
            ),
            (
                "--redirect-dns --resolv-conf DIR/one-server.conf -b= -i=",
                &[Family::V4, Family::V6],
                include_str!("golden/one-server.nft"),
            ),
        ] {
            let dir = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/src/commands/proxy_init/golden"
            );
            let line = line.replace("DIR", dir);
            let words = std::iter::once("proxy-init").chain(line.split_whitespace());
            let args = Cli::try_parse_from(words).expect("valid flags").args;
            let options = Options::of(&args).expect("valid options");
            let script = script(&options, families).expect("a script");
            assert_eq!(script, expected, "{line}");
        }
    }
}
