//! The redirection of a workload's connections to its proxy: Istio's rules, flags and environment.

mod apply;
mod dns;
mod nft;
mod options;
mod rules;

use std::path::PathBuf;

use anyhow::Context as _;

use self::options::{Mode, Options};
use self::rules::{Family, tables};
use super::output;

/// What the names of our chains begin with.
const PREFIX: &str = "ISTIO_";
/// The addresses of this host that IPv6 knows.
const IPV6_ADDRESSES: &str = "/proc/net/if_inet6";

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The proxy's port for connections from this workload
    #[arg(
        short = 'p',
        long,
        value_name = "PORT",
        env = "ENVOY_PORT",
        default_value_t = 15001
    )]
    pub(crate) envoy_port: u16,

    /// The proxy's port for connections to this workload
    #[arg(
        short = 'z',
        long,
        value_name = "PORT",
        env = "INBOUND_CAPTURE_PORT",
        default_value_t = 15006
    )]
    pub(crate) inbound_capture_port: u16,

    /// The port of HBONE tunnels, which are not redirected
    #[arg(
        short = 'e',
        long,
        value_name = "PORT",
        env = "INBOUND_TUNNEL_PORT",
        default_value_t = 15008
    )]
    pub(crate) inbound_tunnel_port: u16,

    /// The user that the proxy runs as, whose connections are not redirected; several with commas
    #[arg(
        short = 'u',
        long,
        value_name = "UIDS",
        env = "PROXY_UID",
        default_value = "1337"
    )]
    pub(crate) proxy_uid: String,

    /// The same by group [default: those of --proxy-uid]
    #[arg(short = 'g', long, value_name = "GIDS", env = "PROXY_GID")]
    pub(crate) proxy_gid: Option<String>,

    /// How connections to this workload reach the proxy
    #[arg(
        short = 'm',
        long,
        env = "ISTIO_INBOUND_INTERCEPTION_MODE",
        default_value = "REDIRECT"
    )]
    pub(crate) istio_inbound_interception_mode: Mode,

    /// Ports of this workload that are redirected, with commas; * for all, empty for none
    #[arg(
        short = 'b',
        long,
        value_name = "PORTS",
        env = "ISTIO_INBOUND_PORTS",
        default_value = "*"
    )]
    pub(crate) istio_inbound_ports: String,

    /// Ports of this workload that are not redirected, if all others are
    #[arg(
        short = 'd',
        long,
        value_name = "PORTS",
        env = "ISTIO_LOCAL_EXCLUDE_PORTS",
        default_value = "15090,15021,15020"
    )]
    pub(crate) istio_local_exclude_ports: String,

    /// Destinations (CIDR, with commas) that are redirected; * for all, empty for none
    #[arg(
        short = 'i',
        long,
        value_name = "CIDRS",
        env = "ISTIO_SERVICE_CIDR",
        default_value = "*"
    )]
    pub(crate) istio_service_cidr: String,

    /// Destinations that are not redirected
    #[arg(
        short = 'x',
        long,
        value_name = "CIDRS",
        env = "ISTIO_SERVICE_EXCLUDE_CIDR",
        default_value = ""
    )]
    pub(crate) istio_service_exclude_cidr: String,

    /// Destination ports that are redirected whatever the address
    #[arg(
        short = 'q',
        long,
        value_name = "PORTS",
        env = "ISTIO_OUTBOUND_PORTS",
        default_value = ""
    )]
    pub(crate) istio_outbound_ports: String,

    /// Destination ports that are not redirected
    #[arg(
        short = 'o',
        long,
        value_name = "PORTS",
        env = "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE",
        default_value = ""
    )]
    pub(crate) istio_local_outbound_ports_exclude: String,

    /// Interfaces whose connections are not redirected
    #[arg(
        short = 'c',
        long,
        value_name = "NAMES",
        env = "ISTIO_EXCLUDE_INTERFACES",
        default_value = ""
    )]
    pub(crate) istio_exclude_interfaces: String,

    /// Interfaces of virtual machines: what comes in by them counts as outbound
    #[arg(
        short = 'k',
        long,
        value_name = "NAMES",
        env = "KUBE_VIRT_INTERFACES",
        default_value = ""
    )]
    pub(crate) kube_virt_interfaces: String,

    /// The mark of inbound connections (TPROXY)
    #[arg(
        short = 't',
        long,
        value_name = "MARK",
        env = "ISTIO_INBOUND_TPROXY_MARK",
        default_value_t = 1337
    )]
    pub(crate) istio_inbound_tproxy_mark: u32,

    /// The routing table of marked connections (TPROXY)
    #[arg(
        short = 'r',
        long,
        value_name = "TABLE",
        env = "ISTIO_INBOUND_TPROXY_ROUTE_TABLE",
        default_value_t = 133
    )]
    pub(crate) istio_inbound_tproxy_route_table: u32,

    /// Drop packets that belong to no connection, instead of resetting it
    #[arg(long, env = "INVALID_DROP")]
    pub(crate) drop_invalid: bool,

    /// Write the rules with nft instead of iptables
    #[arg(long, env = "NATIVE_NFTABLES")]
    pub(crate) native_nftables: bool,

    /// Redirect questions to the servers of --resolv-conf to the proxy's port for them, 15053
    #[arg(long, env = "REDIRECT_DNS")]
    pub(crate) redirect_dns: bool,

    /// With --redirect-dns: questions to all servers
    #[arg(long, env = "CAPTURE_ALL_DNS")]
    pub(crate) capture_all_dns: bool,

    /// Where the workload's DNS servers are named
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf")]
    pub(crate) resolv_conf: PathBuf,

    /// Rules for IPv6 too: auto, if this host has an address of it
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) ipv6: Ipv6,

    /// Print the rules instead of writing them
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,

    /// Take the rules away again
    #[arg(long)]
    pub(crate) cleanup: bool,
}

/// Whether there are rules for IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Ipv6 {
    /// If this host has an address of it other than loopback and link-local ones
    Auto,
    /// Yes
    Always,
    /// No
    Never,
}

/// Writes the rules, prints them, or takes them away.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let options = Options::of(args)?;
    let mut families = vec![Family::V4];
    if has_ipv6(args.ipv6) {
        families.push(Family::V6);
    }
    if args.native_nftables {
        return with_nftables(&options, &families, args);
    }
    if args.dry_run && !args.cleanup {
        let text: String = families
            .into_iter()
            .map(|family| dry_run(&options, family))
            .collect();
        return output::print(&text);
    }
    for family in families {
        // What an earlier run has left would come first.
        apply::clean(&options, family, args.dry_run)
            .with_context(|| format!("cannot take away the rules of {family}"))?;
        if !args.cleanup {
            apply::write(&options, family)
                .with_context(|| format!("cannot write the rules of {family}"))?;
        }
    }
    Ok(())
}

/// The same with nftables, whose tables are replaced as a whole.
fn with_nftables(options: &Options, families: &[Family], args: &Args) -> anyhow::Result<()> {
    let script = match args.cleanup {
        true => nft::removal(),
        false => nft::script(options, families)?,
    };
    if args.dry_run {
        output::print(&format!("# nft -f -\n{script}"))?;
    } else {
        apply::feed("nft", &["-f", "-"], &script).context("cannot change the rules")?;
    }
    for family in families {
        if args.cleanup || !args.dry_run {
            apply::clean_ip(options, *family, args.dry_run)?;
        }
        if args.cleanup {
            continue;
        }
        if args.dry_run {
            for command in apply::ip_commands(options, *family) {
                output::print(&format!("# ip {}\n", command.add.join(" ")))?;
            }
        } else {
            apply::write_ip(options, *family)?;
        }
    }
    Ok(())
}

/// What would be written.
fn dry_run(options: &Options, family: Family) -> String {
    let mut text = format!("# {}\n", family.program("-restore --noflush"));
    for table in tables(options, family) {
        text += &table.restore_text();
    }
    for command in apply::ip_commands(options, family) {
        text += &format!("# ip {}\n", command.add.join(" "));
    }
    text
}

fn has_ipv6(when: Ipv6) -> bool {
    match when {
        Ipv6::Always => true,
        Ipv6::Never => false,
        Ipv6::Auto => {
            // Without IPv6 there is no such file.
            let addresses = std::fs::read_to_string(IPV6_ADDRESSES).unwrap_or_default();
            // ADDRESS INDEX LENGTH SCOPE FLAGS NAME: of global scope, and not on loopback.
            addresses.lines().any(|line| {
                let mut fields = line.split_whitespace();
                fields.nth(3) == Some("00") && fields.last() != Some("lo")
            })
        }
    }
}
