//! The statuses as JSON, in the form that Kubernetes gives them.

use serde_json::{Value, json};

use super::status::{CONTROLLER, Condition, ListenerStatus, ParentStatus, ResourceStatus};

impl ResourceStatus {
    /// The resource, where it is written, and its `status`.
    pub(crate) fn page(&self) -> Value {
        let meta = &self.meta;
        let generation = meta.generation;
        let mut status = json!({});
        if !self.conditions.is_empty() {
            status["conditions"] = conditions(&self.conditions, generation);
        }
        if !self.listeners.is_empty() {
            let listeners = self.listeners.iter();
            status["listeners"] = listeners.map(|one| one.page(generation)).collect();
        }
        if !self.parents.is_empty() {
            let parents = self.parents.iter();
            status["parents"] = parents.map(|one| one.page(generation)).collect();
        }
        json!({
            "kind": meta.kind.name(),
            "namespace": meta.namespace,
            "name": meta.name,
            "file": &*meta.source.file,
            "line": meta.source.position.line,
            "status": status,
        })
    }
}

impl ListenerStatus {
    fn page(&self, generation: i64) -> Value {
        let kinds = self.supported_kinds.iter();
        let kinds = kinds.map(|kind| json!({"group": kind.group(), "kind": kind.name()}));
        json!({
            "name": self.name,
            "attachedRoutes": self.attached_routes,
            "supportedKinds": kinds.collect::<Vec<_>>(),
            "conditions": conditions(&self.conditions, generation),
        })
    }
}

impl ParentStatus {
    fn page(&self, generation: i64) -> Value {
        let parent = &self.parent;
        let (group, kind) = parent.kind.names();
        let mut reference = json!({
            "group": group,
            "kind": kind,
            "namespace": parent.namespace,
            "name": parent.name,
        });
        if let Some(section) = &parent.section {
            reference["sectionName"] = json!(section);
        }
        if let Some(port) = parent.port {
            reference["port"] = json!(port);
        }
        json!({
            "parentRef": reference,
            "controllerName": CONTROLLER,
            "conditions": conditions(&self.conditions, generation),
        })
    }
}

fn conditions(conditions: &[Condition], generation: i64) -> Value {
    let condition = |one: &Condition| {
        json!({
            "type": one.kind,
            "status": if one.holds { "True" } else { "False" },
            "reason": one.reason,
            "message": one.message,
            "observedGeneration": generation,
        })
    };
    conditions.iter().map(condition).collect()
}
