//! Whom a policy is for.

use crate::diagnostic::At;
use crate::gateway_api;
use crate::meta::{Labels, check_name};
use crate::view::{Object, Shape, View};

/// The label of the proxies of a Gateway of Gateway API.
pub const GATEWAY_NAME_LABEL: &str = "gateway.networking.k8s.io/gateway-name";

/// One of `targetRefs`: a Gateway of Gateway API in the resource's own namespace, whose proxies it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Where it is named.
    pub at: At,
}

const SELECTOR: Shape = Shape {
    known: &["matchLabels"],
    refused: &[],
};
const REFERENCE: Shape = Shape {
    known: &["group", "kind", "name", "namespace"],
    refused: &[("sectionName", "a policy is for all listeners of a Gateway")],
};

/// How many Gateways one resource may name, as in Istio.
const MOST: usize = 16;

/// Reads `selector`, or the Gateways that `targetRefs` or the older `targetRef` name in its place.
pub(crate) fn read_target(object: &Object<'_>, namespace: &str) -> Option<(Labels, Vec<Target>)> {
    let mut targets = object.items("targetRefs");
    if targets.len() > MOST {
        object.fail(format!("`targetRefs` has more than {MOST} items"));
        return None;
    }
    targets.extend(object.get("targetRef").cloned());
    if targets.is_empty() {
        return Some((read_match_labels(object)?, Vec::new()));
    }
    let present = object.present(&["selector", "targetRef", "targetRefs"]);
    if present.len() > 1 {
        object.fail(format!("`{}` exclude each other", present.join("`, `")));
        return None;
    }
    let targets = targets.iter().map(|view| Target::read(view, namespace));
    Some((Labels::new(), targets.collect::<Option<_>>()?))
}

impl Target {
    /// A Gateway in the same namespace.
    fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
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
        check_name(name, &text).then(|| Self {
            name: text,
            at: At(view.at()),
        })
    }
}

/// Reads `selector.matchLabels`.
pub(crate) fn read_match_labels(object: &Object<'_>) -> Option<Labels> {
    let labels = object.optional("selector", read_selected)?;
    Some(labels.unwrap_or_default())
}

/// Reads the `matchLabels` of a selector.
pub(crate) fn read_selected(view: &View<'_>) -> Option<Labels> {
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
