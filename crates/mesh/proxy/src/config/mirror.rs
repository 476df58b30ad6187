//! `RequestMirrorPolicy`.

use envoy_types::pb::envoy::config::route::v3::route_action::RequestMirrorPolicy;

use super::check::{At, Refused, flag, nothing_else};
use super::{fraction, rewrite};
use crate::snapshot::{Mirror, MirrorHost};

/// The most copies of one request.
const MOST: usize = 16;

/// Takes the policies of one level out of its message.
macro_rules! take_mirrors {
    ($message:ident, $at:expr) => {
        crate::config::mirror::compile(
            std::mem::take(&mut $message.request_mirror_policies),
            &$at.field("request_mirror_policies"),
        )?
    };
}
pub(super) use take_mirrors;

pub(super) fn compile(
    policies: Vec<RequestMirrorPolicy>,
    at: &At<'_>,
) -> Result<Vec<Mirror>, Refused> {
    if policies.len() > MOST {
        let reason = format!("{} policies, at most {MOST} are supported", policies.len());
        return Err(at.refuse(reason));
    }
    let policies = policies.into_iter().enumerate();
    let policy = |(index, policy)| one(policy, &at.index(index));
    policies.map(policy).collect()
}

fn one(mut policy: RequestMirrorPolicy, at: &At<'_>) -> Result<Mirror, Refused> {
    let share = policy.runtime_fraction.take();
    let share = share.map(|share| fraction::of_runtime(share, &at.field("runtime_fraction")));
    let keeps_host = std::mem::take(&mut policy.disable_shadow_host_suffix_append);
    let host = match std::mem::take(&mut policy.host_rewrite_literal) {
        none if none.is_empty() && keeps_host => MirrorHost::Kept,
        none if none.is_empty() => MirrorHost::Suffixed,
        host => MirrorHost::Literal(rewrite::authority(host, &at.field("host_rewrite_literal"))?),
    };
    let mirror = Mirror {
        cluster: std::mem::take(&mut policy.cluster),
        per_million: share.transpose()?,
        is_traced: flag(policy.trace_sampled.take(), true),
        host,
    };
    if mirror.cluster.is_empty() {
        return Err(at.field("cluster").refuse("it must be given"));
    }
    nothing_else(&policy, at)?;
    Ok(mirror)
}
