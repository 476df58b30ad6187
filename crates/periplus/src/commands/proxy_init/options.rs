//! The flags, checked: nothing in them can say more to iptables than it should.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Context as _, bail};

use super::Args;
use super::dns::Captured;

/// What is redirected.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) outbound_port: u16,
    pub(super) inbound_port: u16,
    pub(super) tunnel_port: u16,
    pub(super) users: Vec<u32>,
    pub(super) groups: Vec<u32>,
    pub(super) mode: Mode,
    pub(super) inbound_ports: Selection<u16>,
    pub(super) excluded_inbound_ports: Vec<u16>,
    pub(super) blocks: Selection<Block>,
    pub(super) excluded_blocks: Vec<Block>,
    pub(super) outbound_ports: Vec<u16>,
    pub(super) excluded_outbound_ports: Vec<u16>,
    pub(super) excluded_interfaces: Vec<Interface>,
    pub(super) rerouted_interfaces: Vec<Interface>,
    pub(super) mark: u32,
    pub(super) route_table: u32,
    pub(super) drop_invalid: bool,
    pub(super) dns: Captured,
}

/// How inbound connections reach the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// Their destination is rewritten
    #[value(name = "REDIRECT")]
    Redirect,
    /// They keep their addresses; the proxy listens with IP_TRANSPARENT
    #[value(name = "TPROXY")]
    Tproxy,
}

/// All of something, or some, or nothing.
#[derive(Debug)]
pub(super) enum Selection<T> {
    All,
    These(Vec<T>),
}

impl<T> Selection<T> {
    /// Whether nothing is selected.
    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::These(list) if list.is_empty())
    }
}

/// A block of addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) address: IpAddr,
    length: u8,
}

impl FromStr for Block {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (address, length) = text
            .split_once('/')
            .context("a block is written ADDRESS/LENGTH")?;
        let address: IpAddr = address.parse()?;
        let length = length.parse().context("no number of bits")?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if length > most {
            bail!("an address has {most} bits");
        }
        Ok(Self { address, length })
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// The name of a network interface; `+` at its end stands for any more letters.
#[derive(Clone, Debug)]
pub(super) struct Interface(String);

impl FromStr for Interface {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let is_name = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '"' | '\'' | '\\' | '!');
        // The kernel's IFNAMSIZ, with its terminator.
        if text.len() > 15 || !text.chars().all(is_name) || text.starts_with('-') {
            bail!("no name of an interface");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Options {
    pub(super) fn of(args: &Args) -> anyhow::Result<Self> {
        let users = list("--proxy-uid", &args.proxy_uid)?;
        let groups = match &args.proxy_gid {
            Some(groups) => list("--proxy-gid", groups)?,
            None => users.clone(),
        };
        let excluded_blocks = &args.istio_service_exclude_cidr;
        Ok(Self {
            outbound_port: args.envoy_port,
            inbound_port: args.inbound_capture_port,
            tunnel_port: args.inbound_tunnel_port,
            users,
            groups,
            mode: args.istio_inbound_interception_mode,
            inbound_ports: selection("--istio-inbound-ports", &args.istio_inbound_ports)?,
            excluded_inbound_ports: list(
                "--istio-local-exclude-ports",
                &args.istio_local_exclude_ports,
            )?,
            blocks: selection("--istio-service-cidr", &args.istio_service_cidr)?,
            excluded_blocks: list("--istio-service-exclude-cidr", excluded_blocks)?,
            outbound_ports: list("--istio-outbound-ports", &args.istio_outbound_ports)?,
            excluded_outbound_ports: list(
                "--istio-local-outbound-ports-exclude",
                &args.istio_local_outbound_ports_exclude,
            )?,
            excluded_interfaces: list(
                "--istio-exclude-interfaces",
                &args.istio_exclude_interfaces,
            )?,
            rerouted_interfaces: list("--kube-virt-interfaces", &args.kube_virt_interfaces)?,
            mark: args.istio_inbound_tproxy_mark,
            route_table: args.istio_inbound_tproxy_route_table,
            drop_invalid: args.drop_invalid,
            dns: Captured::of(args)?,
        })
    }

    /// Whether addresses of loopback are among those to be captured.
    pub(super) fn captures_loopback(&self) -> bool {
        match &self.blocks {
            Selection::All => false,
            Selection::These(blocks) => blocks.iter().any(|block| block.address.is_loopback()),
        }
    }
}

fn selection<T: FromStr<Err: Into<anyhow::Error>>>(
    flag: &str,
    text: &str,
) -> anyhow::Result<Selection<T>> {
    if text.trim() == "*" {
        return Ok(Selection::All);
    }
    Ok(Selection::These(list(flag, text)?))
}

/// The parts of a comma-separated list; blanks are left out.
fn list<T: FromStr<Err: Into<anyhow::Error>>>(flag: &str, text: &str) -> anyhow::Result<Vec<T>> {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let parsed = parts.map(|part| {
        let value = part.parse().map_err(Into::into);
        value.with_context(|| format!("{flag}: {part:?} is not valid"))
    });
    parsed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_iptables_could_misread_is_refused() {
        for text in [
            "10.0.0.0",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "host/8",
            "10.0.0.0/x",
        ] {
            assert!(list::<Block>("-i", text).is_err(), "{text}");
        }
        for text in [
            "eth0 -j ACCEPT",
            "a-name-too-long-for-it",
            "-eth0",
            "a/b",
            "a\nb",
            "!a",
        ] {
            assert!(list::<Interface>("-c", text).is_err(), "{text}");
        }
        for text in ["65536", "-1", "80:90", "x"] {
            assert!(list::<u16>("-o", text).is_err(), "{text}");
        }
        let error = list::<u16>("-o", "80,x").expect_err("refused");
        assert_eq!(error.to_string(), "-o: \"x\" is not valid");
        assert_eq!(list::<u16>("-o", " 80 ,, 81").expect("valid"), [80, 81]);
        assert!(selection::<u16>("-b", "").expect("valid").is_none());
        assert!(matches!(selection::<u16>("-b", "*"), Ok(Selection::All)));
    }
}
