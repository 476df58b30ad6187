use std::collections::BTreeMap;

use periplus_model::Value;

use crate::{Flags, Trace};

/// A trace in a search's list of results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The span that stands for the trace; `None` only if there are no spans.
    pub root: Option<RootSummary>,
    /// When the first span starts, after clock-skew adjustment.
    pub start_unix_nano: u64,
    /// From the first start to the last end.
    pub duration_nano: u64,
    /// How many spans; identical copies count once.
    pub spans: u64,
    /// How many of them failed.
    pub errors: u64,
    /// How many spans lie on the longest way from a root down.
    pub depth: u64,
    /// Its services, sorted by name.
    pub services: Vec<ServiceSummary>,
}

/// The span that stands for a trace: its root, or the earliest span if the root is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootSummary {
    /// Its service.
    pub service: String,
    /// Its name.
    pub operation: String,
    /// Whether its own parent has not arrived.
    pub missing: bool,
    /// Its HTTP status code as text, from `http.response.status_code` or `http.status_code`.
    pub status_code: Option<String>,
}

/// A service's part in a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceSummary {
    /// Its name.
    pub name: String,
    /// How many spans it reported.
    pub spans: u64,
    /// How many of them failed.
    pub errors: u64,
}

const STATUS_CODES: [&str; 2] = ["http.response.status_code", "http.status_code"];

/// The attributes of spans that a [`Summary`] depends on.
pub const SUMMARY_ATTRIBUTES: &[&str] = &[STATUS_CODES[0], STATUS_CODES[1], "error"];

/// What a list of traces shows of this one. Of its spans' attributes only those with the keys
/// [`SUMMARY_ATTRIBUTES`] count, unless two spans have the same id.
pub fn summary(trace: &Trace) -> Summary {
    let mut by_group = vec![(0, 0); trace.groups.len()];
    let mut depth = 0;
    let counted = |flags: Flags| !flags.contains(Flags::DUPLICATE);
    for row in trace.rows.iter().filter(|row| counted(row.flags)) {
        let (spans, errors) = &mut by_group[row.group];
        *spans += 1;
        *errors += u64::from(row.flags.contains(Flags::ERROR));
        depth = depth.max(row.depth as u64 + 1);
    }
    let mut by_service: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (group, (spans, errors)) in trace.groups.iter().zip(by_group) {
        if spans > 0 {
            let service = by_service.entry(group.resource.service_name()).or_default();
            service.0 += spans;
            service.1 += errors;
        }
    }
    Summary {
        root: trace.root.map(|root| root_summary(trace, root)),
        start_unix_nano: trace.start_unix_nano,
        duration_nano: trace.duration_nano(),
        spans: by_service.values().map(|(spans, _)| spans).sum(),
        errors: by_service.values().map(|(_, errors)| errors).sum(),
        depth,
        services: by_service
            .into_iter()
            .map(|(name, (spans, errors))| ServiceSummary {
                name: name.to_owned(),
                spans,
                errors,
            })
            .collect(),
    }
}

fn root_summary(trace: &Trace, root: usize) -> RootSummary {
    let row = &trace.rows[root];
    let span = trace.span(row);
    RootSummary {
        service: trace.service(row).to_owned(),
        operation: span.name.clone(),
        missing: row.flags.contains(Flags::PARENT_MISSING),
        status_code: STATUS_CODES
            .into_iter()
            .find_map(|key| match span.attribute(key)? {
                Value::Int(code) => Some(code.to_string()),
                Value::String(code) => Some(code.clone()),
                _ => None,
            }),
    }
}
