//! `stats_config.stats_tags`: what of a name becomes a label in the text format of Prometheus.

use regex::Regex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::file::{Problem, problem};

/// The labels of metrics.
#[derive(Clone, Debug)]
pub struct Tags {
    pub(crate) names: LabelNames,
    /// Others, by their names: the first group is taken out of the last part of a name, the second one, if there is
    /// one, is the value.
    pub(crate) others: Vec<(String, Regex)>,
}

/// What the labels are called that the parts of a name become; a part without one stays in the name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelNames {
    pub(crate) cluster: Option<&'static str>,
    pub(crate) tcp: Option<&'static str>,
    pub(crate) http: Option<&'static str>,
    pub(crate) listener: Option<&'static str>,
    /// The prefix of the connection managers of a listener.
    pub(crate) listener_http: Option<&'static str>,
    pub(crate) code: Option<&'static str>,
    pub(crate) class: Option<&'static str>,
    /// A class is `2xx`, and not `2` of a metric whose name ends with `_xx`.
    pub(crate) has_whole_classes: bool,
}

impl LabelNames {
    /// Envoy's default tags.
    const ENVOYS: Self = Self {
        cluster: Some("envoy_cluster_name"),
        tcp: Some("envoy_tcp_prefix"),
        http: Some("envoy_http_conn_manager_prefix"),
        listener: Some("envoy_listener_address"),
        listener_http: Some("envoy_http_conn_manager_prefix"),
        code: Some("envoy_response_code"),
        class: Some("envoy_response_code_class"),
        has_whole_classes: false,
    };
}

/// The tags of Istio's bootstrap file that are parts of names here, and their regular expressions there.
const OF_PARTS: [(&str, &str); 7] = [
    (
        "cluster_name",
        r"^cluster\.((.+?(\..+?\.svc\.cluster\.local)?)\.)",
    ),
    ("tcp_prefix", r"^tcp\.((.*?)\.)\w+?$"),
    ("response_code", r"_rq(_(\d{3}))$"),
    ("response_code_class", r"_rq(_(\dxx))$"),
    (
        "http_conn_manager_listener_prefix",
        r"^listener(?=\.).*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
    ),
    (
        "http_conn_manager_prefix",
        r"^http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
    ),
    (
        "listener_address",
        r"^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
    ),
];

/// Those that are found in what is left of a name.
const OF_RULES: [(&str, &str); 3] = [
    ("authz_enforce_result", r"rbac(\.(allowed|denied))"),
    ("authz_dry_run_action", r"(\.istio_dry_run_(allow|deny)_)"),
    ("authz_dry_run_result", r"(\.shadow_(allowed|denied))"),
];

/// `stats_tags` as Istio's bootstrap file has it.
pub(super) fn istios() -> Value {
    let tags = OF_PARTS.iter().chain(&OF_RULES);
    tags.map(|(name, regex)| json!({"tag_name": name, "regex": regex}))
        .collect()
}

impl Default for Tags {
    fn default() -> Self {
        Self {
            names: LabelNames::ENVOYS,
            others: Vec::new(),
        }
    }
}

impl PartialEq for Tags {
    fn eq(&self, other: &Self) -> bool {
        // Regular expressions are the same if their text is.
        format!("{self:?}") == format!("{other:?}")
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TagSpecifier {
    #[serde(alias = "tagName")]
    tag_name: String,
    regex: Option<String>,
}

impl Tags {
    /// `use_all_default_tags`, and `stats_tags`.
    pub(super) fn check(
        all_defaults: Option<bool>,
        given: Vec<TagSpecifier>,
    ) -> Result<Self, Problem> {
        const AT: &str = "stats_config.stats_tags";
        if all_defaults != Some(false) {
            return match given.is_empty() {
                true => Ok(Self::default()),
                false => Err(problem(
                    "stats_config.use_all_default_tags",
                    "it must be false where there are stats_tags",
                )),
            };
        }
        let mut tags = Self {
            names: LabelNames {
                has_whole_classes: true,
                ..LabelNames::default()
            },
            others: Vec::new(),
        };
        for (index, TagSpecifier { tag_name, regex }) in given.into_iter().enumerate() {
            let at = format!("{AT}[{index}]");
            let is_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if tag_name.is_empty() || !tag_name.bytes().all(is_label) {
                let at = format!("{at}.tag_name");
                return Err(problem(&at, "it must be a name for a label"));
            }
            let at = format!("{at}.regex");
            let Some(regex) = regex else {
                return Err(problem(
                    &at,
                    "it must be given; other forms are not supported",
                ));
            };
            if let Some((name, istios)) = OF_PARTS.iter().find(|(name, _)| *name == tag_name) {
                if regex != *istios {
                    let reason = format!("for {name:?} it must be that of Istio: {istios}");
                    return Err(problem(&at, reason));
                }
                *tags.names.of(name) = Some(name);
                continue;
            }
            let compiled = Regex::new(&regex).map_err(|error| problem(&at, error.to_string()))?;
            if compiled.captures_len() < 2 {
                return Err(problem(&at, "it must have a group, which is taken out"));
            }
            tags.others.push((tag_name, compiled));
        }
        Ok(tags)
    }

    /// Takes the other tags out of the last part of a name, and gives their names and values.
    pub(crate) fn take_others(&self, stat: &mut String) -> Vec<(&str, String)> {
        let mut taken = Vec::new();
        for (name, regex) in &self.others {
            let Some(found) = regex.captures(stat) else {
                continue;
            };
            let Some(all) = found.get(1) else {
                continue;
            };
            let value = found.get(2).unwrap_or(all).as_str().to_owned();
            let range = all.range();
            stat.replace_range(range, "");
            taken.push((name.as_str(), value));
        }
        taken
    }
}

impl LabelNames {
    fn of(&mut self, tag: &str) -> &mut Option<&'static str> {
        match tag {
            "cluster_name" => &mut self.cluster,
            "tcp_prefix" => &mut self.tcp,
            "response_code" => &mut self.code,
            "response_code_class" => &mut self.class,
            "http_conn_manager_listener_prefix" => &mut self.listener_http,
            "http_conn_manager_prefix" => &mut self.http,
            _ => &mut self.listener,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(all_defaults: Option<bool>, tags: Value) -> Result<Tags, Problem> {
        Tags::check(
            all_defaults,
            serde_json::from_value(tags).expect("its shape"),
        )
    }

    #[test]
    fn istios_tags_are_known_and_others_are_found_in_names() {
        let mut all = istios();
        let cache = json!({"regex": r"(cache\.(.+?)\.)", "tag_name": "cache"});
        all.as_array_mut().expect("a list").push(cache);
        let tags = read(Some(false), all).expect("valid");
        assert_eq!(tags.names.cluster, Some("cluster_name"));
        assert!(tags.names.has_whole_classes);
        let mut stat = "rbac.istio_dry_run_allow_.shadow_denied".to_owned();
        let taken = tags.take_others(&mut stat);
        let expected = [
            ("authz_dry_run_action", "allow".to_owned()),
            ("authz_dry_run_result", "denied".to_owned()),
        ];
        assert_eq!((taken.as_slice(), stat.as_str()), (&expected[..], "rbac"));
        let none = read(Some(false), json!([])).expect("valid");
        assert_eq!(none.names.cluster, None);
        assert_eq!(read(None, json!([])), Ok(Tags::default()));
    }

    #[test]
    fn what_is_not_done_is_refused_with_its_place() {
        let tag = |name: &str, regex: &str| json!([{"tag_name": name, "regex": regex}]);
        for (all_defaults, tags, place) in [
            (None, tag("a", "(b)"), "stats_config.use_all_default_tags"),
            (
                Some(false),
                tag("", "(b)"),
                "stats_config.stats_tags[0].tag_name",
            ),
            (
                Some(false),
                tag("a", "("),
                "stats_config.stats_tags[0].regex",
            ),
            (
                Some(false),
                tag("a", "b"),
                "stats_config.stats_tags[0].regex",
            ),
            (
                Some(false),
                tag("cluster_name", "^cluster(.*)"),
                "stats_config.stats_tags[0].regex",
            ),
            (
                Some(false),
                json!([{"tag_name": "a"}]),
                "stats_config.stats_tags[0].regex",
            ),
        ] {
            assert_eq!(read(all_defaults, tags).expect_err("refused").0, place);
        }
    }
}
