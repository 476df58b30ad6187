//! `UpgradeConfig`: which protocols requests may ask for.

use envoy_types::pb::envoy::config::route::v3::route_action::UpgradeConfig as OfRoute;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::UpgradeConfig as OfManager;

use super::check::{At, Refused, flag, nothing_else};
use crate::snapshot::Upgrade;

pub(super) fn of_manager(configs: Vec<OfManager>, at: &At<'_>) -> Result<Vec<Upgrade>, Refused> {
    let mut upgrades = Vec::new();
    for (index, mut config) in configs.into_iter().enumerate() {
        let at = &at.index(index);
        let upgrade = Upgrade {
            protocol: std::mem::take(&mut config.upgrade_type),
            is_enabled: flag(config.enabled.take(), true),
            is_terminated: false,
        };
        if !config.filters.is_empty() {
            let reason = "is not supported, the filters of the connection manager apply";
            return Err(at.field("filters").refuse(reason));
        }
        nothing_else(&config, at)?;
        add(&mut upgrades, upgrade, at)?;
    }
    Ok(upgrades)
}

pub(super) fn of_route(configs: Vec<OfRoute>, at: &At<'_>) -> Result<Vec<Upgrade>, Refused> {
    let mut upgrades = Vec::new();
    for (index, mut config) in configs.into_iter().enumerate() {
        let at = &at.index(index);
        let connect = config.connect_config.take();
        let upgrade = Upgrade {
            protocol: std::mem::take(&mut config.upgrade_type),
            is_enabled: flag(config.enabled.take(), true),
            is_terminated: connect.is_some(),
        };
        if let Some(connect) = connect {
            let at = &at.field("connect_config");
            if !upgrade.protocol.eq_ignore_ascii_case("CONNECT") {
                return Err(at.refuse("is for upgrade_type CONNECT only"));
            }
            nothing_else(&connect, at)?;
        }
        nothing_else(&config, at)?;
        add(&mut upgrades, upgrade, at)?;
    }
    Ok(upgrades)
}

fn add(upgrades: &mut Vec<Upgrade>, upgrade: Upgrade, at: &At<'_>) -> Result<(), Refused> {
    let at = at.field("upgrade_type");
    if upgrade.protocol.is_empty() {
        return Err(at.refuse("it must not be empty"));
    }
    // RFC 9298 and RFC 9484 need datagrams of HTTP/3.
    let protocol = &upgrade.protocol;
    if ["connect-udp", "connect-ip"]
        .iter()
        .any(|known| protocol.eq_ignore_ascii_case(known))
    {
        return Err(at.refuse(format!("{protocol:?} is not supported")));
    }
    if Upgrade::find(upgrades, protocol.as_bytes()).is_some() {
        return Err(at.refuse(format!("{protocol:?} is given twice")));
    }
    upgrades.push(upgrade);
    Ok(())
}
