//! What works, or seems to, and is hardly what was meant: the analyzers of `istioctl analyze` that apply here.

mod authorizers;
mod credentials;
mod dynamic_dns;
mod gateways;
mod logs;
mod matches;
mod mesh_config;
mod names;
mod selectors;
mod tracing;

pub(super) use self::credentials::check_gateway;
pub(super) use self::names::{check_annotations, check_networks};
use super::{Index, Problem};

pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
    authorizers::check(index, problems);
    selectors::check(index, problems);
    gateways::check(index, problems);
    credentials::check(index, problems);
    for entry in index.virtual_services() {
        matches::check(entry, problems);
    }
    names::check(index, problems);
    dynamic_dns::check(index, problems);
    tracing::check(index, problems);
    mesh_config::check(index, problems);
    logs::check(index, problems);
}
