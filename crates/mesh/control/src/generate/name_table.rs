//! What names stand for, for proxies that answer their workloads' questions for addresses (Istio's NDS).

use std::collections::BTreeMap;
use std::net::IpAddr;

use periplus_resources::Kind;
use periplus_xds::name_table::{KUBERNETES, NameInfo, NameTable};

use super::Imports;
use crate::index::{Index, Service};
use crate::proxy::{Proxy, Role};

/// The registry of services that ServiceEntries describe.
const EXTERNAL: &str = "External";

/// The addresses of each service that a proxy's workload may call: its own, or of a headless one those of its
/// endpoints. A service without addresses has none here: whoever is asked else may know some.
pub(crate) fn name_table(index: &Index, proxy: &Proxy) -> NameTable {
    let sidecar = match proxy.role {
        Role::Sidecar => index.sidecar_for(proxy).map(|entry| &entry.spec),
        Role::Router => None,
    };
    let imports = Imports(sidecar);
    let services = index.seen_from(&proxy.namespace, |namespace, host| {
        imports.covers(namespace, host)
    });
    let mut table = BTreeMap::new();
    for service in services {
        let mut addresses = addresses(service);
        addresses.retain(|address| address.is_ipv4() == proxy.ip.is_ipv4());
        if addresses.is_empty() {
            continue;
        }
        let is_of_kubernetes = service.meta.kind == Kind::Service;
        let of_kubernetes = |text: &String| match is_of_kubernetes {
            true => text.clone(),
            false => String::new(),
        };
        let info = NameInfo {
            ips: addresses.iter().map(ToString::to_string).collect(),
            registry: if is_of_kubernetes {
                KUBERNETES
            } else {
                EXTERNAL
            }
            .to_owned(),
            shortname: of_kubernetes(&service.meta.name),
            namespace: of_kubernetes(&service.meta.namespace),
        };
        table.insert(service.host.as_str().to_owned(), info);
    }
    NameTable { table }
}

fn addresses(service: &Service) -> Vec<IpAddr> {
    if !service.is_headless() {
        return service.spec.addresses.clone();
    }
    let endpoints = service.endpoints.iter();
    let mut addresses: Vec<_> = endpoints.filter_map(|one| one.address.ip()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::Node;
    use envoy_types::pb::google::protobuf::value::Kind;
    use envoy_types::pb::google::protobuf::{Struct, Value};
    use periplus_resources::{MeshConfig, parse_resources};

    use super::*;

    const RESOURCES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: shop}
spec:
  hosts: [api.example]
  addresses: [240.0.0.1, '2001:db8::1', 240.0.0.2]
  ports: [{number: 80, name: http}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild, namespace: shop}
spec: {hosts: ['*.api.example'], addresses: [240.0.0.3], ports: [{number: 80, name: http}], resolution: NONE}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: nowhere, namespace: shop}
spec: {hosts: [nowhere.example], ports: [{number: 80, name: http}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: private, namespace: other}
spec: {hosts: [private.example], addresses: [240.0.0.9], exportTo: ['.'], ports: [{number: 80, name: http}], resolution: DNS}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: data}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 5432, name: tcp}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: db-1, namespace: data}
spec: {address: 10.0.0.2, labels: {app: db}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: db-0, namespace: data}
spec: {address: 10.0.0.1, labels: {app: db}}
";

    fn told(more: &str) -> Vec<String> {
        let parsed = parse_resources("a.yaml", &format!("{RESOURCES}{more}"));
        assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
        let index = Index::certified(&parsed.resources, MeshConfig::default());
        let captures = Value {
            kind: Some(Kind::StringValue("true".to_owned())),
        };
        let proxy = Proxy::from_node(&Node {
            id: "sidecar~10.1.1.1~a.shop~shop.svc.cluster.local".to_owned(),
            metadata: Some(Struct {
                fields: [("DNS_CAPTURE".to_owned(), captures)].into(),
            }),
            ..Node::default()
        });
        let proxy = proxy.expect("a node");
        assert!(proxy.captures_dns);
        let table = name_table(&index, &proxy).table.into_iter();
        let line = |(host, info): (String, NameInfo)| {
            let NameInfo {
                ips,
                registry,
                shortname,
                namespace,
            } = info;
            format!(
                "{host} {} {registry} {shortname}.{namespace}",
                ips.join(" ")
            )
        };
        table.map(line).collect()
    }

    #[test]
    fn each_service_that_may_be_called_has_its_addresses() {
        assert_eq!(
            told(""),
            [
                "*.api.example 240.0.0.3 External .",
                "api.example 240.0.0.1 240.0.0.2 External .",
                "db.data.svc.cluster.local 10.0.0.1 10.0.0.2 Kubernetes db.data",
                "web.shop.svc.cluster.local 10.96.0.1 Kubernetes web.shop",
            ]
        );
        let sidecar = "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec: {egress: [{hosts: ['./*']}]}
";
        let own = told(sidecar);
        assert!(own.iter().all(|line| !line.starts_with("db.")), "{own:?}");
        assert_eq!(own.len(), 3);
    }
}
