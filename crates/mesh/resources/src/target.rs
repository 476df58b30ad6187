use crate::diagnostic::At;
use crate::gateway_api::GROUP;
use crate::view::{Object, Shape, View};

/// One of `targetRefs`: a Gateway of Gateway API in the resource's own namespace, whose proxies it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Where it is named.
    pub at: At,
}

const TARGET: Shape = Shape {
    known: &["group", "kind", "name", "namespace"],
    refused: &[],
};

/// As in Istio.
const MOST: usize = 16;

impl Target {
    /// Reads `targetRefs`, or `targetRef`; they stand in place of `selector`.
    pub(crate) fn read_all(object: &Object<'_>, namespace: &str) -> Option<Vec<Self>> {
        let present = object.present(&["selector", "targetRef", "targetRefs"]);
        if present.len() > 1 {
            object.fail("`selector`, `targetRef` and `targetRefs` exclude each other");
            return None;
        }
        let mut targets = object.items("targetRefs");
        if targets.len() > MOST {
            object.fail(format!("`targetRefs` has more than {MOST} items"));
            return None;
        }
        targets.extend(object.get("targetRef").cloned());
        if object.get("targetRefs").is_some() && targets.is_empty() {
            object.fail("`targetRefs` must name at least one Gateway");
            return None;
        }
        targets
            .iter()
            .map(|view| Self::read(view, namespace))
            .collect()
    }

    fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        let object = view.object(&TARGET)?;
        let group = object.optional("group", View::text)?.unwrap_or_default();
        let kind = object.require("kind")?;
        let text = kind.some_text()?;
        let of = object.optional("namespace", View::some_text)?;
        if let Some(other) = of.filter(|of| of != namespace) {
            object.fail(format!(
                "namespace `{other}`: a target is in the resource's own namespace, {namespace}"
            ));
            return None;
        }
        match (group.as_str(), text.as_str()) {
            (GROUP, "Gateway") => {}
            ("", "Service") | ("networking.istio.io", "ServiceEntry") => {
                kind.fail(format!(
                    "a `{text}` is a target of waypoints, which there are not: select its workloads with `selector`"
                ));
                return None;
            }
            (GROUP, "GatewayClass") => {
                kind.fail("a `GatewayClass` is a target of waypoints, which there are not: name the `Gateway`");
                return None;
            }
            _ => {
                kind.fail(format!(
                    "`{text}` of group `{group}` is no target: expected `kind: Gateway` and `group: {GROUP}`"
                ));
                return None;
            }
        }
        Some(Self {
            name: object.require("name")?.some_text()?,
            at: At(view.at()),
        })
    }
}
