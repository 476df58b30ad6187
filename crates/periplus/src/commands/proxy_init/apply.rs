//! The programs that talk to the kernel: iptables and ip.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail};

use super::PREFIX;
use super::options::{Mode, Options};
use super::rules::{Family, tables};
use crate::commands::output;

const TABLES: [&str; 3] = ["mangle", "nat", RAW];
/// The table that only the capture of DNS needs: a kernel may be without it.
const RAW: &str = "raw";
/// How long a rule is looked for that was written more than once.
const MOST_COPIES: usize = 100;

/// Something for `ip` to add, and to take away again.
pub(super) struct IpCommand {
    pub(super) add: Vec<String>,
    delete: Vec<String>,
}

/// What the rules need of addresses and routes.
pub(super) fn ip_commands(options: &Options, family: Family) -> Vec<IpCommand> {
    let command = |what: String, verbs: [&str; 2]| {
        let words = |verb| {
            let line = format!("{} {}", family.flag(), what.replace("VERB", verb));
            line.split(' ').map(str::to_owned).collect()
        };
        IpCommand {
            add: words(verbs[0]),
            delete: words(verbs[1]),
        }
    };
    let verbs = ["add", "del"];
    let mut commands = Vec::new();
    if family == Family::V6 {
        // 127.0.0.6 needs nothing: all of 127.0.0.0/8 is on loopback.
        commands.push(command("addr VERB ::6/128 dev lo".to_owned(), verbs));
    }
    if options.mode == Mode::Tproxy {
        let (mark, table) = (options.mark, options.route_table);
        commands.push(command(
            format!("rule VERB fwmark {mark} lookup {table}"),
            verbs,
        ));
        commands.push(command(
            format!("route VERB local default dev lo table {table}"),
            verbs,
        ));
    }
    commands
}

/// Writes the rules.
pub(super) fn write(options: &Options, family: Family) -> anyhow::Result<()> {
    write_ip(options, family)?;
    let program = family.program("-restore");
    let rules: String = tables(options, family)
        .iter()
        .map(|table| table.restore_text())
        .collect();
    feed(&program, &["--noflush", "--wait"], &rules)
}

/// Writes what the rules need of addresses and routes.
pub(super) fn write_ip(options: &Options, family: Family) -> anyhow::Result<()> {
    for command in ip_commands(options, family) {
        expect("ip", run("ip", &command.add)?)?;
    }
    Ok(())
}

/// Runs a program on an input.
pub(super) fn feed(program: &str, arguments: &[&str], input: &str) -> anyhow::Result<()> {
    let mut process = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| missing(program, error))?;
    if let Some(mut pipe) = process.stdin.take() {
        // Where it has ended early, its own words say more.
        let _ = pipe.write_all(input.as_bytes());
    }
    expect(program, process.wait_with_output()?)?;
    Ok(())
}

/// Takes away what [`write`] has written, and chains of ours whoever has. Only says so if it is `dry`.
pub(super) fn clean(options: &Options, family: Family, dry: bool) -> anyhow::Result<()> {
    let program = family.program("");
    let delete = |table: &str, action: &str, words: &[&str]| {
        let mut line = vec!["--wait", "-t", table, action];
        line.extend(words);
        if dry {
            output::print(&format!("{program} {}\n", line.join(" ")))?;
            return anyhow::Ok(false);
        }
        Ok(run(&program, &line)?.status.success())
    };
    for table in TABLES {
        let saved = run(&family.program("-save"), &["-t", table])?;
        if table == RAW && options.dns.is_none() && !saved.status.success() {
            continue;
        }
        let saved = expect("iptables-save", saved)?;
        let chains: Vec<&str> = saved
            .lines()
            .filter_map(|line| line.strip_prefix(':')?.split(' ').next())
            .filter(|chain| chain.starts_with(PREFIX))
            .collect();
        if chains.is_empty() {
            continue;
        }
        // Rules that name no chain of ours: only their text tells that they are ours.
        let ours = tables(options, family);
        let ours = ours.iter().filter(|ours| ours.name == table);
        for rule in ours.flat_map(|ours| &ours.rules) {
            if rule.is_in_builtin_chain() && !rule.text.contains(PREFIX) {
                let mut words = vec![rule.chain];
                words.extend(rule.text.split(' '));
                for _ in 0..MOST_COPIES {
                    if !delete(table, "-D", &words)? {
                        break;
                    }
                }
            }
        }
        for line in saved.lines() {
            let Some(rule) = line.strip_prefix("-A ") else {
                continue;
            };
            if !rule.starts_with(PREFIX) && rule.contains(&format!(" {PREFIX}")) {
                delete(table, "-D", &rule.split(' ').collect::<Vec<_>>())?;
            }
        }
        for action in ["-F", "-X"] {
            for chain in &chains {
                delete(table, action, &[chain])?;
            }
        }
    }
    clean_ip(options, family, dry)
}

/// Takes away what [`write_ip`] has written. Only says so if it is `dry`.
pub(super) fn clean_ip(options: &Options, family: Family, dry: bool) -> anyhow::Result<()> {
    for command in ip_commands(options, family) {
        if dry {
            output::print(&format!("ip {}\n", command.delete.join(" ")))?;
        } else {
            // An error means that it is not there.
            run("ip", &command.delete)?;
        }
    }
    Ok(())
}

fn run(program: &str, arguments: &[impl AsRef<std::ffi::OsStr>]) -> anyhow::Result<Output> {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| missing(program, error))
}

fn missing(program: &str, error: std::io::Error) -> anyhow::Error {
    let package = match program {
        "ip" => "iproute2",
        "nft" => "nftables",
        _ => "iptables",
    };
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            anyhow::anyhow!("{program} is not there: install the package {package}")
        }
        _ => anyhow::Error::new(error).context(format!("cannot run {program}")),
    }
}

/// What the program has said, if it went well.
fn expect(program: &str, output: Output) -> anyhow::Result<String> {
    if output.status.success() {
        return String::from_utf8(output.stdout).context("what it says is not text");
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    let lacks_rights = [
        "Permission denied",
        "Operation not permitted",
        "you must be root",
    ];
    if lacks_rights.iter().any(|words| said.contains(words)) {
        bail!(
            "{program} may not change the rules: run this as root, or with the capabilities NET_ADMIN and NET_RAW\n{said}"
        );
    }
    bail!("{program} has failed: {said}");
}
