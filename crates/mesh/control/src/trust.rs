//! Who may have secrets.

use envoy_types::pb::envoy::config::core::v3::Node;
use periplus_identity::{PeerId, ServiceAccount};

use crate::index::Index;
use crate::proxy::{Proxy, Role, is_subset};

/// What is known of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It has shown the certificate of an account.
    Account(ServiceAccount),
    /// It is on this machine, where whoever can connect can read the files too.
    Local,
    /// Nothing.
    Stranger,
}

impl Known {
    /// By what its connection over TLS has shown, if it is one, and whether it comes from this machine.
    pub(crate) fn of(shown: Option<&PeerId>, is_local: bool) -> Self {
        let address = shown.map(|shown| shown.address.ip().to_canonical());
        let is_local = address.map_or(is_local, |address| address.is_loopback());
        match shown.and_then(|shown| shown.id.as_ref()) {
            Some(id) => Self::Account(id.account().clone()),
            None if is_local => Self::Local,
            None => Self::Stranger,
        }
    }
}

/// Whether a peer may have the secrets of the node that it says it is. What a node says of itself, its labels too, proves
/// nothing: an account gets those of a gateway if the resources describe a workload that runs as it, and that each of the
/// Gateways selects whose secrets it would get.
pub(crate) fn may_have_secrets(index: &Index, node: &Node, known: &Known) -> Result<(), String> {
    let account = match known {
        Known::Local => return Ok(()),
        Known::Stranger => {
            return Err(
                "it is not on this machine, and shows no certificate of its namespace".into(),
            );
        }
        Known::Account(account) => account,
    };
    let proxy = Proxy::from_node(node)?;
    if proxy.namespace != account.namespace() {
        return Err(format!(
            "its certificate is that of {account}, of another namespace"
        ));
    }
    // Those of sidecars are names of files.
    if proxy.role == Role::Sidecar {
        return Ok(());
    }
    let own: Vec<_> = (index.accounts())
        .filter(|one| one.meta.namespace == account.namespace() && one.account == account.name())
        .collect();
    let mut gateways = index.gateways_of(&proxy).peekable();
    if gateways.peek().is_none() {
        return Err("no Gateway selects it".to_owned());
    }
    let mut others = gateways.filter(|entry| {
        let selector = &entry.spec.selector;
        !own.iter().any(|one| is_subset(selector, one.labels))
    });
    match others.next() {
        None => Ok(()),
        Some(entry) => Err(format!(
            "nothing says that a gateway of {} runs as {account}: describe it as a WorkloadEntry with `serviceAccount: {}` \
             and the labels that the Gateway selects",
            entry.meta,
            account.name()
        )),
    }
}

#[cfg(test)]
mod tests {
    use periplus_resources::{MeshConfig, parse_resources};

    use super::*;

    const RESOURCES: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: shop, namespace: edge}
spec:
  selector: {istio: shop}
  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: shop}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: bank, namespace: edge}
spec:
  selector: {istio: bank}
  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: bank}}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: shop, namespace: edge}
spec: {address: 10.0.0.1, serviceAccount: shop, labels: {istio: shop, app: gateway}}
---
apiVersion: v1
kind: Pod
metadata: {name: bank, namespace: edge, labels: {istio: bank}}
spec: {serviceAccountName: bank}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: batch, namespace: edge}
spec: {address: 10.0.0.3, serviceAccount: batch, labels: {app: batch}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: elsewhere, namespace: other}
spec: {address: 10.0.0.4, serviceAccount: elsewhere, labels: {istio: shop}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: nobody, namespace: edge}
spec: {address: 10.0.0.5, labels: {istio: shop}}
";

    fn node(id: &str, labels: &[(&str, &str)]) -> Node {
        use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
        let text = |text: &str| Value {
            kind: Some(Kind::StringValue(text.to_owned())),
        };
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), text(value)));
        let labels = Value {
            kind: Some(Kind::StructValue(Struct {
                fields: labels.collect(),
            })),
        };
        Node {
            id: id.to_owned(),
            metadata: Some(Struct {
                fields: [("LABELS".to_owned(), labels)].into(),
            }),
            ..Node::default()
        }
    }

    #[test]
    fn only_the_account_of_the_gateways_workload_gets_its_keys() {
        let parsed = parse_resources("a.yaml", RESOURCES);
        assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
        let index = Index::certified(&parsed.resources, MeshConfig::default());
        let of = |namespace: &str, name: &str| {
            Known::Account(ServiceAccount::new(namespace, name).expect("an account"))
        };
        const GATEWAY: &str = "router~10.0.0.1~shop.edge~edge.svc.cluster.local";
        const SIDECAR: &str = "sidecar~10.0.0.3~batch.edge~edge.svc.cluster.local";
        let shop = &[("istio", "shop")][..];
        let bank = &[("istio", "bank")][..];
        let nobody = "nothing says that a gateway of Gateway";
        for (what, known, id, labels, refused) in [
            ("its own", of("edge", "shop"), GATEWAY, shop, None),
            ("a Pod's", of("edge", "bank"), GATEWAY, bank, None),
            (
                "another workload says that it is the gateway",
                of("edge", "batch"),
                GATEWAY,
                shop,
                Some(nobody),
            ),
            (
                "one gateway says that it is the other",
                of("edge", "shop"),
                GATEWAY,
                bank,
                Some(nobody),
            ),
            (
                "an account that no resource knows",
                of("edge", "spare"),
                GATEWAY,
                shop,
                Some(nobody),
            ),
            (
                "a workload that nobody gave an account",
                of("edge", "default"),
                GATEWAY,
                shop,
                Some(nobody),
            ),
            (
                "that of another namespace",
                of("other", "elsewhere"),
                GATEWAY,
                shop,
                Some("another namespace"),
            ),
            (
                "no Gateway is for it",
                of("edge", "shop"),
                GATEWAY,
                &[],
                Some("no Gateway selects it"),
            ),
            ("names of files", of("edge", "batch"), SIDECAR, &[], None),
            (
                "a sidecar of another namespace",
                of("other", "elsewhere"),
                SIDECAR,
                &[],
                Some("another namespace"),
            ),
            ("on this machine", Known::Local, GATEWAY, shop, None),
            (
                "from elsewhere without a certificate",
                Known::Stranger,
                GATEWAY,
                shop,
                Some("not on this machine"),
            ),
            (
                "no node",
                of("edge", "shop"),
                "router",
                shop,
                Some("node.id must be"),
            ),
        ] {
            let outcome = may_have_secrets(&index, &node(id, labels), &known);
            match (refused, &outcome) {
                (None, Ok(())) => {}
                (Some(expected), Err(said)) if said.contains(expected) => {}
                _ => panic!("{what}: {outcome:?}"),
            }
        }
    }

    #[test]
    fn a_peer_is_known_by_its_certificate_before_its_place() {
        let peer = |id: Option<&str>, address: &str| PeerId {
            id: id.map(|id| id.parse().expect("an id")),
            address: address.parse().expect("an address"),
        };
        let own = Some("spiffe://cluster.local/ns/edge/sa/shop");
        let account = Known::Account(ServiceAccount::new("edge", "shop").expect("an account"));
        for (shown, is_local, expected) in [
            (None, true, Known::Local),
            (None, false, Known::Stranger),
            (Some(peer(None, "127.0.0.1:1")), false, Known::Local),
            (
                Some(peer(None, "[::ffff:127.0.0.1]:1")),
                false,
                Known::Local,
            ),
            (Some(peer(None, "10.0.0.1:1")), true, Known::Stranger),
            (Some(peer(own, "127.0.0.1:1")), true, account.clone()),
            (Some(peer(own, "10.0.0.1:1")), false, account),
        ] {
            assert_eq!(Known::of(shown.as_ref(), is_local), expected, "{shown:?}");
        }
    }
}
