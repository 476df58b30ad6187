//! `stats.PluginConfig`: what a mesh wants of Istio's metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::google::protobuf::Any;
use periplus_xds::istio_stats::{PluginConfig, TYPES};
use prost::Message;

use super::check::{At, Refused, short_type};
use crate::telemetry::istio::{LabelValue, Metric, MetricRules};

/// Whether a filter is one of these.
pub(super) fn is_one(config: &Any) -> bool {
    TYPES.contains(&short_type(&config.type_url))
}

/// What it wants; none if it wants nothing else than there is.
pub(super) fn compile(config: &Any, at: &At<'_>) -> Result<Option<Arc<MetricRules>>, Refused> {
    let config = PluginConfig::decode(config.value.as_slice())
        .map_err(|error| at.refuse(format!("it is not a valid stats.PluginConfig: {error}")))?;
    if let Some(defined) = config.definitions.first() {
        let reason = format!("{:?}: there are no metrics but Istio's own", defined.name);
        return Err(at.field("definitions").index(0).refuse(reason));
    }
    let mut rules = MetricRules::new(config.disable_host_header_fallback);
    for (index, wanted) in config.metrics.iter().enumerate() {
        let at = at.field("metrics");
        let at = &at.index(index);
        let metrics = match wanted.name.as_str() {
            "" => Metric::ALL.to_vec(),
            name => match Metric::of(name) {
                Some(metric) => vec![metric],
                None => {
                    let reason = format!("{name:?} is not known");
                    return Err(at.field("name").refuse(reason));
                }
            },
        };
        let mut set = BTreeMap::new();
        for (name, expression) in &wanted.dimensions {
            let at = at.field("dimensions");
            let at = &at.field(name);
            if !is_label(name) {
                return Err(at.refuse("it is no name for a label"));
            }
            let value = LabelValue::parse(expression).map_err(|reason| at.refuse(reason))?;
            set.insert(name.clone(), value);
        }
        for metric in metrics {
            let rule = rules.of_mut(metric);
            rule.is_dropped |= wanted.drop;
            for name in &wanted.tags_to_remove {
                rule.set.remove(name);
                rule.removed.insert(name.clone());
            }
            for (name, value) in &set {
                rule.removed.remove(name);
                rule.set.insert(name.clone(), value.clone());
            }
        }
    }
    Ok((rules != MetricRules::default()).then(|| Arc::new(rules)))
}

/// Whether Prometheus takes a name for a label.
fn is_label(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(is_word)
        && name
            .bytes()
            .next()
            .is_some_and(|first| !first.is_ascii_digit())
        && !name.starts_with("__")
        // Histograms have it already.
        && name != "le"
}

#[cfg(test)]
mod tests {
    use periplus_xds::istio_stats::MetricConfig;

    use super::*;

    fn compiled(metrics: Vec<MetricConfig>) -> Result<Option<Arc<MetricRules>>, String> {
        let config = PluginConfig {
            metrics,
            ..PluginConfig::default()
        };
        let config = config.packed();
        assert!(is_one(&config));
        compile(&config, &At::ROOT).map_err(|refused| refused.to_string())
    }

    fn of(name: &str) -> MetricConfig {
        MetricConfig {
            name: name.to_owned(),
            ..MetricConfig::default()
        }
    }

    #[test]
    fn later_ones_go_over_earlier_ones() {
        assert_eq!(compiled(vec![of("")]), Ok(None));
        let rules = compiled(vec![
            MetricConfig {
                tags_to_remove: vec!["a".to_owned()],
                dimensions: BTreeMap::from([("b".to_owned(), "'1'".to_owned())]),
                ..of("")
            },
            MetricConfig {
                tags_to_remove: vec!["b".to_owned()],
                dimensions: BTreeMap::from([("a".to_owned(), "request.method".to_owned())]),
                ..of("requests_total")
            },
            MetricConfig {
                drop: true,
                ..of("tcp_sent_bytes_total")
            },
        ]);
        let rules = rules.expect("valid").expect("some");
        let requests = rules.of(Metric::Requests);
        assert_eq!(requests.removed.iter().collect::<Vec<_>>(), ["b"]);
        assert_eq!(requests.set["a"], LabelValue::Method);
        let bytes = rules.of(Metric::RequestBytes);
        assert!(bytes.removed.contains("a") && bytes.set.contains_key("b"));
        assert!(rules.of(Metric::Sent).is_dropped && !rules.of(Metric::Received).is_dropped);
    }

    #[test]
    fn the_host_of_requests_may_be_passed_over() {
        let config = PluginConfig {
            disable_host_header_fallback: true,
            ..PluginConfig::default()
        };
        let rules = compile(&config.packed(), &At::ROOT).expect("valid");
        assert!(rules.expect("some").ignores_host);
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let with = |name: &str, value: &str| MetricConfig {
            dimensions: BTreeMap::from([(name.to_owned(), value.to_owned())]),
            ..of("")
        };
        for (config, expected) in [
            (of("orders"), "metrics[0].name: \"orders\" is not known"),
            (
                with("a-b", "'1'"),
                "metrics[0].dimensions.a-b: it is no name for a label",
            ),
            (
                with("a", "x.y"),
                "metrics[0].dimensions.a: `x.y`: `x.y` is not supported: request.path",
            ),
        ] {
            let refused = compiled(vec![config]).expect_err("refused");
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
