//! Whom a policy is for.

use crate::gateway_api;
use crate::meta::{Labels, check_name};
use crate::view::{Object, Shape, View};

/// The label of the proxies of a Gateway of Gateway API.
pub const GATEWAY_NAME_LABEL: &str = "gateway.networking.k8s.io/gateway-name";

const SELECTOR: Shape = Shape {
    known: &["matchLabels"],
    refused: &[],
};
const REFERENCE: Shape = Shape {
    known: &["group", "kind", "name", "namespace"],
    refused: &[("sectionName", "a policy is for all listeners of a Gateway")],
};

/// Reads `selector`, or the Gateway that `targetRefs` or the older `targetRef` names: its proxies have a label.
/// Whether it is such a one is told beside its labels.
pub(crate) fn read_target(object: &Object<'_>, namespace: &str) -> Option<(Labels, bool)> {
    let mut targets = object.items("targetRefs");
    targets.extend(object.get("targetRef").cloned());
    let present = object.present(&["selector", "targetRef", "targetRefs"]);
    match targets.as_slice() {
        [] => Some((read_match_labels(object)?, false)),
        _ if present.len() > 1 => {
            object.fail(format!("`{}` exclude each other", present.join("`, `")));
            None
        }
        [only] => {
            let name = read_gateway(only, namespace)?;
            let labels = Labels::from([(GATEWAY_NAME_LABEL.to_owned(), name)]);
            Some((labels, true))
        }
        [_, second, ..] => {
            second.fail("a policy is for one Gateway here: write another one for this one");
            None
        }
    }
}

/// The name of a Gateway in the same namespace.
fn read_gateway(view: &View<'_>, namespace: &str) -> Option<String> {
    let object = view.object(&REFERENCE)?;
    let group = object.optional("group", View::text)?.unwrap_or_default();
    let kind = object.require("kind")?.some_text()?;
    if (group.as_str(), kind.as_str()) != (gateway_api::GROUP, "Gateway") {
        view.fail(format!(
            "`{kind}` of group `{group}`: only a `Gateway` of `{}` has proxies of its own, there are no waypoints; select \
             workloads with `selector`",
            gateway_api::GROUP
        ));
        return None;
    }
    if let Some(other) = object.optional("namespace", View::text)?
        && other != namespace
    {
        view.fail(format!(
            "a policy of namespace `{namespace}` is for Gateways of it, not of `{other}`"
        ));
        return None;
    }
    let name = object.require("name")?;
    let text = name.some_text()?;
    check_name(name, &text).then_some(text)
}

/// Reads `selector.matchLabels`.
pub(crate) fn read_match_labels(object: &Object<'_>) -> Option<Labels> {
    let Some(view) = object.get("selector") else {
        return Some(Labels::new());
    };
    let selector = view.object(&SELECTOR)?;
    let labels = selector.get("matchLabels").map(View::text_map);
    let labels = labels.unwrap_or_default();
    if let Some((key, value)) = labels
        .iter()
        .find(|(key, value)| key.contains('*') || value.contains('*'))
    {
        view.fail(format!(
            "`{key}: {value}`: wildcards are not allowed in selectors"
        ));
        return None;
    }
    Some(labels)
}
