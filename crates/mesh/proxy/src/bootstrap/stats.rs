//! `stats_config`: which counters, gauges and histograms are shown, and with which buckets.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::file::{Problem, problem};
use super::tags::{TagSpecifier, Tags};
use crate::snapshot::whole;
use crate::stats::{Bounds, USUAL};

/// Which of Envoy's names are shown; Istio's metrics are in any case.
#[derive(Clone, Debug, Default)]
pub struct StatsMatcher {
    inclusion: Option<Vec<Pattern>>,
    exclusion: Vec<Pattern>,
}

#[derive(Clone, Debug)]
enum Pattern {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    Regex(Regex),
}

impl StatsMatcher {
    pub(crate) fn takes_all(&self) -> bool {
        self.inclusion.is_none() && self.exclusion.is_empty()
    }

    pub(crate) fn takes(&self, name: &str) -> bool {
        let has = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.is_match(name));
        let is_included = self.inclusion.as_deref().is_none_or(has);
        is_included && !has(&self.exclusion)
    }
}

impl PartialEq for StatsMatcher {
    fn eq(&self, other: &Self) -> bool {
        // Regular expressions are the same if their text is.
        format!("{self:?}") == format!("{other:?}")
    }
}

/// Which bounds the buckets of histograms have, by Envoy's names of these; Istio's begin with `istiocustom.`.
#[derive(Clone, Debug, Default)]
pub struct HistogramBounds(Arc<[(Pattern, Arc<Bounds>)]>);

impl HistogramBounds {
    /// Those of the first that matches, else Envoy's own.
    pub(crate) fn of(&self, name: &str) -> &Arc<Bounds> {
        let mut all = self.0.iter();
        let found = all.find(|(pattern, _)| pattern.is_match(name));
        found.map_or_else(|| &*USUAL, |(_, bounds)| bounds)
    }
}

impl PartialEq for HistogramBounds {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

/// `histogram_bucket_settings` of what the annotation [`HISTOGRAM_BUCKETS`](super::HISTOGRAM_BUCKETS) says: a JSON object of
/// bounds by the beginnings of names.
///
/// # Errors
///
/// What is wrong with it.
pub fn histogram_settings(annotation: &str) -> Result<Value, String> {
    let by_prefix: BTreeMap<String, Vec<f64>> =
        serde_json::from_str(annotation).map_err(|error| {
            format!("{error}; write bounds by prefix, such as {{\"istiocustom\": [1, 10, 100]}}")
        })?;
    let settings = by_prefix.into_iter().map(|(prefix, buckets)| {
        check_bounds(&buckets).map_err(|message| format!("{prefix}: {message}"))?;
        Ok(json!({"match": {"prefix": prefix}, "buckets": buckets}))
    });
    settings.collect()
}

/// The most bounds of a histogram: each series has a count for each of them.
const MOST_BOUNDS: usize = 200;

fn check_bounds(bounds: &[f64]) -> Result<(), String> {
    if bounds.len() > MOST_BOUNDS {
        return Err(format!(
            "there may be {MOST_BOUNDS} bounds, and these are {}",
            bounds.len()
        ));
    }
    let mut sorted = bounds.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match bounds
        .iter()
        .find(|bound| !(bound.is_finite() && **bound > 0.0))
    {
        Some(bound) => Err(format!("{bound} is no bound, it must be more than 0")),
        None if bounds.is_empty() => Err("there must be at least one".to_owned()),
        None if sorted.windows(2).any(|pair| pair[0] == pair[1]) => {
            Err("one of them is there twice".to_owned())
        }
        None => Ok(()),
    }
}

impl Pattern {
    fn is_match(&self, name: &str) -> bool {
        match self {
            Self::Exact(text) => name == text,
            Self::Prefix(text) => name.starts_with(text),
            Self::Suffix(text) => name.ends_with(text),
            Self::Contains(text) => name.contains(text),
            Self::Regex(regex) => regex.is_match(name),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatsConfig {
    #[serde(alias = "statsMatcher")]
    stats_matcher: Option<Matcher>,
    #[serde(alias = "useAllDefaultTags")]
    use_all_default_tags: Option<bool>,
    #[serde(default, alias = "statsTags")]
    stats_tags: Vec<TagSpecifier>,
    #[serde(default, alias = "histogramBucketSettings")]
    histogram_bucket_settings: Vec<BucketSettings>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BucketSettings {
    r#match: StringMatcher,
    buckets: Vec<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Matcher {
    #[serde(alias = "rejectAll")]
    reject_all: Option<bool>,
    #[serde(alias = "inclusionList")]
    inclusion_list: Option<List>,
    #[serde(alias = "exclusionList")]
    exclusion_list: Option<List>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    patterns: Vec<StringMatcher>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StringMatcher {
    exact: Option<String>,
    prefix: Option<String>,
    suffix: Option<String>,
    contains: Option<String>,
    #[serde(alias = "safeRegex")]
    safe_regex: Option<SafeRegex>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SafeRegex {
    regex: String,
}

impl StatsConfig {
    pub(super) fn check(mut self) -> Result<(StatsMatcher, Tags, HistogramBounds), Problem> {
        let given = std::mem::take(&mut self.stats_tags);
        let tags = Tags::check(self.use_all_default_tags, given)?;
        let settings = std::mem::take(&mut self.histogram_bucket_settings);
        let settings = settings.into_iter().enumerate().map(|(index, one)| {
            let at = format!("stats_config.histogram_bucket_settings[{index}]");
            check_bounds(&one.buckets)
                .map_err(|message| problem(&format!("{at}.buckets"), message))?;
            let pattern = one.r#match.check(&format!("{at}.match"))?;
            Ok((pattern, Arc::new(Bounds::new(one.buckets))))
        });
        let bounds = HistogramBounds(settings.collect::<Result<_, Problem>>()?);
        Ok((self.matcher()?, tags, bounds))
    }

    fn matcher(self) -> Result<StatsMatcher, Problem> {
        const AT: &str = "stats_config.stats_matcher";
        let Some(matcher) = self.stats_matcher else {
            return Ok(StatsMatcher::default());
        };
        let list = |list: List, name: &str| -> Result<Vec<_>, Problem> {
            let patterns = list.patterns.into_iter().enumerate();
            patterns
                .map(|(index, pattern)| pattern.check(&format!("{AT}.{name}.patterns[{index}]")))
                .collect()
        };
        match (
            matcher.reject_all,
            matcher.inclusion_list,
            matcher.exclusion_list,
        ) {
            (None | Some(false), None, None) => Ok(StatsMatcher::default()),
            (Some(true), None, None) => Ok(StatsMatcher {
                inclusion: Some(Vec::new()),
                exclusion: Vec::new(),
            }),
            (None, Some(included), None) => Ok(StatsMatcher {
                inclusion: Some(list(included, "inclusion_list")?),
                exclusion: Vec::new(),
            }),
            (None, None, Some(excluded)) => Ok(StatsMatcher {
                inclusion: None,
                exclusion: list(excluded, "exclusion_list")?,
            }),
            _ => Err(problem(
                AT,
                "there must be one of reject_all, inclusion_list and exclusion_list",
            )),
        }
    }
}

impl StringMatcher {
    fn check(self, at: &str) -> Result<Pattern, Problem> {
        let compile = |source: &str| {
            let source = whole(source)?;
            Regex::new(&source).map_err(|error| error.to_string())
        };
        match (
            self.exact,
            self.prefix,
            self.suffix,
            self.contains,
            self.safe_regex,
        ) {
            (Some(text), None, None, None, None) => Ok(Pattern::Exact(text)),
            (None, Some(text), None, None, None) => Ok(Pattern::Prefix(text)),
            (None, None, Some(text), None, None) => Ok(Pattern::Suffix(text)),
            (None, None, None, Some(text), None) => Ok(Pattern::Contains(text)),
            (None, None, None, None, Some(SafeRegex { regex })) => match compile(&regex) {
                Ok(regex) => Ok(Pattern::Regex(regex)),
                Err(error) => Err(problem(&format!("{at}.safe_regex.regex"), error)),
            },
            _ => Err(problem(
                at,
                "there must be one of exact, prefix, suffix, contains and safe_regex",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(config: Value) -> Result<StatsMatcher, Problem> {
        let config: StatsConfig = serde_json::from_value(config).expect("its shape");
        Ok(config.check()?.0)
    }

    #[test]
    fn istios_inclusions_choose_names() {
        let listed = |list: &str, patterns: Value| {
            read(json!({"stats_matcher": {list: {"patterns": patterns}}})).expect("valid")
        };
        let istios = json!([
            {"prefix": "cluster_manager"},
            {"suffix": "rbac.allowed"},
            {"safe_regex": {"regex": r"http\.[a-z]*\.downstream_rq_5xx"}},
        ]);
        let (included, excluded) = (
            listed("inclusion_list", istios.clone()),
            listed("exclusion_list", istios),
        );
        for (name, is) in [
            ("cluster_manager.active_clusters", true),
            ("http.a.rbac.allowed", true),
            ("http.a.downstream_rq_5xx", true),
            ("listener.http.a.downstream_rq_5xx", false),
            ("cluster.a.upstream_rq_total", false),
        ] {
            assert_eq!(included.takes(name), is, "{name}");
            assert_eq!(excluded.takes(name), !is, "{name}");
        }
        assert!(StatsMatcher::default().takes("a"));
        let none = read(json!({"stats_matcher": {"reject_all": true}})).expect("valid");
        assert!(!none.takes("a"));
    }

    #[test]
    fn histograms_have_the_bounds_of_the_first_that_matches() {
        let annotation = r#"{"istiocustom": [10, 1], "cluster.a": [0.5], "cluster": [2]}"#;
        let settings = histogram_settings(annotation).expect("valid");
        let config = json!({"histogram_bucket_settings": settings});
        let config: StatsConfig = serde_json::from_value(config).expect("its shape");
        let (_, _, bounds) = config.check().expect("valid");
        let of = |name: &str| -> Vec<f64> {
            let bounds = bounds.of(name);
            bounds.iter().map(|bound| bound.value).collect()
        };
        assert_eq!(of("istiocustom.istio_request_bytes.reporter"), [1.0, 10.0]);
        // As in Istio they are in the order of the names, which is nobody's choice.
        assert_eq!(of("cluster.a.upstream_rq_time"), [2.0]);
        assert_eq!(of("http.a.downstream_rq_time").len(), 19);
        for (text, expected) in [
            (
                "{",
                "EOF while parsing an object at line 1 column 1; write bounds by prefix",
            ),
            (r#"{"a": []}"#, "a: there must be at least one"),
            (
                r#"{"a": [1, -1]}"#,
                "a: -1 is no bound, it must be more than 0",
            ),
            (r#"{"a": [1, 2, 1]}"#, "a: one of them is there twice"),
        ] {
            let wrong = histogram_settings(text).expect_err("refused");
            assert!(wrong.starts_with(expected), "{wrong}");
        }
    }

    #[test]
    fn what_says_two_things_is_refused_with_its_place() {
        let both =
            json!({"stats_matcher": {"reject_all": true, "inclusion_list": {"patterns": []}}});
        let pattern =
            |pattern: Value| json!({"stats_matcher": {"inclusion_list": {"patterns": [pattern]}}});
        let at = "stats_config.stats_matcher";
        for (config, place) in [
            (both, at.to_owned()),
            (
                pattern(json!({"prefix": "a", "suffix": "b"})),
                format!("{at}.inclusion_list.patterns[0]"),
            ),
            (
                json!({"histogram_bucket_settings": [{"match": {"prefix": "a"}, "buckets": [0]}]}),
                "stats_config.histogram_bucket_settings[0].buckets".to_owned(),
            ),
            (
                pattern(json!({"safe_regex": {"regex": "("}})),
                format!("{at}.inclusion_list.patterns[0].safe_regex.regex"),
            ),
        ] {
            assert_eq!(read(config).expect_err("refused").0, place);
        }
    }
}
