use serde_json::Value;

use super::dump::{Dump, origin};
use super::{Which, text};
use crate::commands::output::{Table, Tone, clean, left};

/// Flags.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) which: Which,

    /// Those of services whose full name contains this
    #[arg(long, value_name = "TEXT")]
    fqdn: Option<String>,

    /// Those of this port
    #[arg(long, value_name = "PORT")]
    port: Option<String>,

    /// Those of this subset
    #[arg(long, value_name = "NAME")]
    subset: Option<String>,

    /// Those of this direction: inbound or outbound
    #[arg(long, value_name = "DIRECTION")]
    direction: Option<String>,
}

/// What the name of a cluster says, by Istio's convention `DIRECTION|PORT|SUBSET|FQDN`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named<'a> {
    pub(super) direction: &'a str,
    pub(super) port: &'a str,
    pub(super) subset: &'a str,
    pub(super) fqdn: &'a str,
}

impl<'a> Named<'a> {
    pub(super) fn parse(name: &'a str) -> Self {
        let parts: Vec<&str> = name.splitn(4, '|').collect();
        match parts[..] {
            [direction, port, subset, fqdn] => Self {
                direction,
                port,
                subset,
                fqdn,
            },
            _ => Self {
                direction: "",
                port: "",
                subset: "",
                fqdn: name,
            },
        }
    }
}

impl Args {
    pub(super) fn chosen(&self, dump: &Dump) -> Vec<Value> {
        let wanted = |wanted: &Option<String>, part: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == part)
        };
        let is_chosen = |cluster: &Value| {
            let named = Named::parse(text(cluster, "name"));
            self.fqdn
                .as_ref()
                .is_none_or(|part| named.fqdn.contains(part))
                && wanted(&self.port, named.port)
                && wanted(&self.subset, named.subset)
                && wanted(&self.direction, named.direction)
        };
        let mut clusters = dump.clusters();
        clusters.retain(is_chosen);
        clusters
    }
}

pub(super) fn table(clusters: &[Value]) -> Table {
    let mut table = Table::new(&[
        left("SERVICE FQDN"),
        left("PORT"),
        left("SUBSET"),
        left("DIRECTION"),
        left("TYPE"),
        left("DESTINATION RULE"),
    ]);
    let or_dash = |text: &str| match text {
        "" => "-".to_owned(),
        text => clean(text),
    };
    for cluster in clusters {
        let named = Named::parse(text(cluster, "name"));
        // Envoy leaves out what has the value zero, and that is STATIC.
        let kind = match text(cluster, "type") {
            "" if cluster["cluster_type"].is_object() => text(&cluster["cluster_type"], "name"),
            "" => "STATIC",
            kind => kind,
        };
        table.row(vec![
            (Tone::Plain, clean(named.fqdn)),
            (Tone::Plain, or_dash(named.port)),
            (Tone::Plain, or_dash(named.subset)),
            (Tone::Plain, or_dash(named.direction)),
            (Tone::Plain, clean(kind)),
            (Tone::Plain, clean(&origin(cluster))),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_four_parts_or_none() {
        let named = Named::parse("outbound|9080|v1|reviews.default.svc.cluster.local");
        assert_eq!((named.port, named.subset), ("9080", "v1"));
        assert_eq!(named.fqdn, "reviews.default.svc.cluster.local");
        assert_eq!(Named::parse("xds-grpc").fqdn, "xds-grpc");
    }
}
