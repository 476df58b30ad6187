//! Subsets of endpoints, and the labels that make them.

use envoy_types::pb::envoy::config::cluster::v3::cluster::LbSubsetConfig;
use envoy_types::pb::envoy::config::cluster::v3::cluster::lb_subset_config::lb_subset_selector::LbSubsetSelectorFallbackPolicy as SelectorFallback;
use envoy_types::pb::envoy::config::cluster::v3::cluster::lb_subset_config::{
    LbSubsetFallbackPolicy, LbSubsetSelector,
};
use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::envoy::extensions::load_balancing_policies::subset::v3::Subset;
use envoy_types::pb::google::protobuf;
use envoy_types::pb::google::protobuf::value::Kind;
use prost::Message;

use super::check::{At, Refused, nothing_else};
use crate::snapshot::{Fallback, Labels, Selector, Subsets};

/// The metadata that balancing looks at.
const FILTER: &str = "envoy.lb";

/// None if there are no selectors: then there are no subsets either.
pub(super) fn compile(mut config: LbSubsetConfig, at: &At<'_>) -> Result<Option<Subsets>, Refused> {
    let policy = std::mem::take(&mut config.fallback_policy);
    let fallback = match LbSubsetFallbackPolicy::try_from(policy) {
        Ok(LbSubsetFallbackPolicy::NoFallback) => Fallback::None,
        Ok(LbSubsetFallbackPolicy::AnyEndpoint) => Fallback::Any,
        Ok(LbSubsetFallbackPolicy::DefaultSubset) => Fallback::DefaultSubset,
        Err(_) => return Err(at.field("fallback_policy").refuse("is not known")),
    };
    let at_selectors = &at.field("subset_selectors");
    let selectors = std::mem::take(&mut config.subset_selectors)
        .into_iter()
        .enumerate()
        .map(|(index, one)| selector(one, &at_selectors.index(index)))
        .collect::<Result<Vec<_>, _>>()?;
    let default_subset = config.default_subset.take();
    let subsets = Subsets {
        fallback,
        default_subset: default_subset.map(labels_of).unwrap_or_default(),
        allows_redundant_keys: false,
        by_locality: std::mem::take(&mut config.locality_weight_aware),
        any_in_panic: std::mem::take(&mut config.panic_mode_any),
        selectors,
    };
    nothing_else(&config, at)?;
    Ok((!subsets.selectors.is_empty()).then_some(subsets))
}

/// The same as an extension, whose fields have other numbers; `subset_lb_policy` has been taken.
pub(super) fn of_extension(mut config: Subset, at: &At<'_>) -> Result<Option<Subsets>, Refused> {
    let selectors = std::mem::take(&mut config.subset_selectors);
    let selectors = selectors.iter().map(|one| {
        // The messages of selectors are the same.
        LbSubsetSelector::decode(one.encode_to_vec().as_slice())
    });
    let selectors = selectors.collect::<Result<Vec<_>, _>>();
    let selectors = selectors.map_err(|error| {
        let at = at.field("subset_selectors");
        at.refuse(error.to_string())
    })?;
    let older = LbSubsetConfig {
        fallback_policy: std::mem::take(&mut config.fallback_policy),
        default_subset: config.default_subset.take(),
        subset_selectors: selectors,
        locality_weight_aware: std::mem::take(&mut config.locality_weight_aware),
        scale_locality_weight: std::mem::take(&mut config.scale_locality_weight),
        panic_mode_any: std::mem::take(&mut config.panic_mode_any),
        list_as_any: std::mem::take(&mut config.list_as_any),
        metadata_fallback_policy: std::mem::take(&mut config.metadata_fallback_policy),
    };
    let allows_redundant_keys = std::mem::take(&mut config.allow_redundant_keys);
    nothing_else(&config, at)?;
    let subsets = compile(older, at)?;
    Ok(subsets.map(|subsets| Subsets {
        allows_redundant_keys,
        ..subsets
    }))
}

fn selector(mut selector: LbSubsetSelector, at: &At<'_>) -> Result<Selector, Refused> {
    let at_policy = &at.field("fallback_policy");
    let policy = std::mem::take(&mut selector.fallback_policy);
    let fallback = match SelectorFallback::try_from(policy) {
        Ok(SelectorFallback::NotDefined) => None,
        Ok(SelectorFallback::NoFallback) => Some(Fallback::None),
        Ok(SelectorFallback::AnyEndpoint) => Some(Fallback::Any),
        Ok(SelectorFallback::DefaultSubset) => Some(Fallback::DefaultSubset),
        Ok(SelectorFallback::KeysSubset) => {
            return Err(at_policy.refuse("KEYS_SUBSET is not supported"));
        }
        Err(_) => return Err(at_policy.refuse("is not known")),
    };
    let mut keys = std::mem::take(&mut selector.keys);
    if keys.is_empty() {
        return Err(at.field("keys").refuse("there must be at least one"));
    }
    keys.sort_unstable();
    keys.dedup();
    nothing_else(&selector, at)?;
    Ok(Selector { keys, fallback })
}

/// The labels in metadata; what is for others is passed over.
pub(super) fn labels(metadata: Option<Metadata>) -> Labels {
    let of_filter = metadata.and_then(|mut metadata| metadata.filter_metadata.remove(FILTER));
    of_filter.map(labels_of).unwrap_or_default()
}

fn labels_of(fields: protobuf::Struct) -> Labels {
    let fields = fields.fields.into_iter();
    let mut labels: Labels = fields
        .map(|(name, value)| (name, json(value).to_string()))
        .collect();
    labels.sort_unstable();
    labels
}

fn json(value: protobuf::Value) -> serde_json::Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::NumberValue(number)) => number.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::BoolValue(flag)) => flag.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
        Some(Kind::StructValue(fields)) => {
            let fields = fields.fields.into_iter();
            fields.map(|(name, value)| (name, json(value))).collect()
        }
    }
}
