//! `BindConfig`: the addresses that connections to endpoints are made from.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::{Address, BindConfig, SocketAddress};

use super::check::{At, Refused, nothing_else};
use super::listener::socket_address;

pub(super) fn compile(mut config: BindConfig, at: &At<'_>) -> Result<Vec<IpAddr>, Refused> {
    let mut sources = Vec::new();
    if let Some(address) = config.source_address.take() {
        sources.push(source(address, &at.field("source_address"))?);
    }
    let at_extra = &at.field("extra_source_addresses");
    for (index, mut extra) in std::mem::take(&mut config.extra_source_addresses)
        .into_iter()
        .enumerate()
    {
        let at = &at_extra.index(index);
        let address = extra.address.take().unwrap_or_default();
        let address = source(address, &at.field("address"))?;
        nothing_else(&extra, at)?;
        if sources
            .iter()
            .any(|known: &IpAddr| known.is_ipv4() == address.is_ipv4())
        {
            return Err(at.refuse("there is an address of this family already"));
        }
        sources.push(address);
    }
    nothing_else(&config, at)?;
    Ok(sources)
}

fn source(address: SocketAddress, at: &At<'_>) -> Result<IpAddr, Refused> {
    let address = Address {
        address: Some(AddressKind::SocketAddress(address)),
    };
    let address = socket_address(Some(address), at)?;
    if address.port() != 0 {
        return Err(at.refuse("a port is not supported"));
    }
    Ok(address.ip())
}
