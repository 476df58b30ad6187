//! The parameters of a search, with the Zipkin server's words for what is wrong with them.

use std::collections::BTreeMap;

use periplus_model::TraceId;

use crate::params::Params;

/// The most parts that an `annotationQuery` is split into.
const MAX_TERMS: usize = 100;

/// `GET /api/v2/traces`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    /// Names are in lower case; empty is any.
    pub(super) service: String,
    pub(super) remote_service: String,
    pub(super) span_name: String,
    /// Tags and their values; a word without a value is a tag's key or an annotation.
    pub(super) annotations: BTreeMap<String, Option<String>>,
    /// Microseconds.
    pub(super) min_duration: Option<i64>,
    pub(super) max_duration: Option<i64>,
    pub(super) window: Window,
    pub(super) limit: i64,
}

/// Milliseconds since the Unix epoch, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
}

impl Window {
    /// Up to `endTs`, which is `default_end_ms` if it is absent, from `lookback` before it on.
    pub(super) fn of(
        params: &Params<'_>,
        default_end_ms: Option<i64>,
        default_lookback_ms: i64,
    ) -> Result<Self, String> {
        let end = number(params, "endTs")?.or(default_end_ms);
        let Some(end_ms) = end else {
            return Err("Required parameter 'endTs' is missing".to_owned());
        };
        let lookback_ms = number(params, "lookback")?.unwrap_or(default_lookback_ms);
        if end_ms <= 0 {
            return Err("endTs <= 0".to_owned());
        }
        if lookback_ms <= 0 {
            return Err("lookback <= 0".to_owned());
        }
        Ok(Self {
            start_ms: end_ms.saturating_sub(lookback_ms),
            end_ms,
        })
    }

    /// Whether microseconds lie in it.
    pub(super) fn contains(self, micros: u64) -> bool {
        let micros = i128::from(micros);
        let bound = |ms: i64| i128::from(ms) * 1000;
        bound(self.start_ms) <= micros && micros <= bound(self.end_ms)
    }
}

impl Request {
    pub(super) fn of(
        params: &Params<'_>,
        now_ms: i64,
        default_lookback_ms: i64,
    ) -> Result<Self, String> {
        let lower = |name| params.first(name).to_lowercase();
        let min_duration = number(params, "minDuration")?;
        let max_duration = number(params, "maxDuration")?;
        let limit = number(params, "limit")?.unwrap_or(10);
        let window = Window::of(params, Some(now_ms), default_lookback_ms)?;
        if limit <= 0 {
            return Err("limit <= 0".to_owned());
        }
        match (min_duration, max_duration) {
            (Some(..=0), _) => return Err("minDuration <= 0".to_owned()),
            (None, Some(_)) => {
                return Err("maxDuration is only valid with minDuration".to_owned());
            }
            (Some(min), Some(max)) if max < min => {
                return Err("maxDuration < minDuration".to_owned());
            }
            _ => {}
        }
        Ok(Self {
            service: lower("serviceName"),
            remote_service: lower("remoteServiceName"),
            span_name: Some(lower("spanName"))
                .filter(|name| name != "all")
                .unwrap_or_default(),
            annotations: annotation_query(params.first("annotationQuery")),
            min_duration,
            max_duration,
            window,
            limit,
        })
    }
}

/// `word and key=value`: the first `=` splits. Of a repeated key the last value counts, and a word
/// never takes a value away.
fn annotation_query(text: &str) -> BTreeMap<String, Option<String>> {
    let mut terms = BTreeMap::new();
    for term in text.splitn(MAX_TERMS, " and ").map(str::trim) {
        match term.split_once('=') {
            _ if term.is_empty() => {}
            // Without a key it is a word.
            Some((key, value)) if !key.is_empty() => {
                terms.insert(key.to_owned(), Some(value.to_owned()));
            }
            _ => {
                terms.entry(term.to_owned()).or_insert(None);
            }
        }
    }
    terms
}

/// A number; absent and empty are none.
pub(super) fn number(params: &Params<'_>, name: &str) -> Result<Option<i64>, String> {
    match params.first(name) {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| format!("parameter '{name}' is no number: {text}")),
    }
}

/// A trace's id: 1 to 32 hex digits in lower case.
pub(super) fn trace_id(raw: &str) -> Result<TraceId, String> {
    let text = raw.trim_end();
    if text.is_empty() {
        return Err("traceId is empty".to_owned());
    }
    if text.len() > 32 {
        return Err("traceId.length > 32".to_owned());
    }
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    match text.parse::<TraceId>() {
        Ok(id) if text.bytes().all(is_hex) => match id.is_zero() {
            true => Err("traceId is all zeros".to_owned()),
            false => Ok(id),
        },
        _ => Err(format!("{text} should be lower-hex encoded with no prefix")),
    }
}

/// As Zipkin writes it: 16 digits if they are enough, else 32.
pub(super) fn shown(id: TraceId) -> String {
    match id.is_64_bit() {
        true => format!("{:016x}", id.low()),
        false => id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn parsed(query: &str) -> Result<Request, String> {
        Request::of(&Params::of(Some(query)), NOW_MS, 86_400_000)
    }

    #[test]
    fn every_parameter_has_its_default_and_its_unit() {
        let nothing = parsed("serviceName=&spanName=all&annotationQuery=&limit=").unwrap();
        let window = Window {
            start_ms: NOW_MS - 86_400_000,
            end_ms: NOW_MS,
        };
        assert_eq!(
            nothing,
            Request {
                limit: 10,
                window,
                ..Request::default()
            }
        );
        let all = parsed(
            "serviceName=Web&remoteServiceName=App&spanName=GET&minDuration=5&maxDuration=7\
             &endTs=2000&lookback=500&limit=3&annotationQuery=error",
        )
        .unwrap();
        assert_eq!(
            all,
            Request {
                service: "web".to_owned(),
                remote_service: "app".to_owned(),
                span_name: "get".to_owned(),
                annotations: [("error".to_owned(), None)].into(),
                min_duration: Some(5),
                max_duration: Some(7),
                window: Window {
                    start_ms: 1500,
                    end_ms: 2000
                },
                limit: 3,
            }
        );
        assert!(all.window.contains(1_500_000) && all.window.contains(2_000_000));
        assert!(!all.window.contains(1_499_999) && !all.window.contains(2_000_001));
    }

    #[test]
    fn annotation_queries_are_split_as_zipkin_splits_them() {
        type Terms = &'static [(&'static str, Option<&'static str>)];
        let cases: [(&str, Terms); 13] = [
            ("", &[]),
            ("error", &[("error", None)]),
            (" error ", &[("error", None)]),
            ("a=b", &[("a", Some("b"))]),
            ("a=b=c", &[("a", Some("b=c"))]),
            ("a=", &[("a", Some(""))]),
            ("=b", &[("=b", None)]),
            ("x and a=b", &[("a", Some("b")), ("x", None)]),
            ("x AND y", &[("x AND y", None)]),
            ("band and sand", &[("band", None), ("sand", None)]),
            ("a=1 and a=2", &[("a", Some("2"))]),
            ("a=1 and a", &[("a", Some("1"))]),
            ("a and a=1", &[("a", Some("1"))]),
        ];
        for (text, expected) in cases {
            let expected: BTreeMap<_, _> = (expected.iter())
                .map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)))
                .collect();
            assert_eq!(annotation_query(text), expected, "{text}");
        }
        let many = vec!["x"; 200].join(" and ");
        assert_eq!(annotation_query(&many).len(), 2, "the rest is one word");
    }

    #[test]
    fn errors_are_zipkins() {
        for (query, error) in [
            ("endTs=0", "endTs <= 0"),
            ("lookback=0", "lookback <= 0"),
            ("lookback=-1", "lookback <= 0"),
            ("limit=0", "limit <= 0"),
            ("minDuration=0", "minDuration <= 0"),
            (
                "maxDuration=1",
                "maxDuration is only valid with minDuration",
            ),
            ("minDuration=2&maxDuration=1", "maxDuration < minDuration"),
            ("limit=x", "parameter 'limit' is no number: x"),
            ("endTs=1.5", "parameter 'endTs' is no number: 1.5"),
        ] {
            assert_eq!(parsed(query).unwrap_err(), error, "{query}");
        }
    }

    #[test]
    fn ids_are_read_as_zipkin_reads_them() {
        for (text, id) in [
            ("1", "0000000000000001"),
            ("00000000000000001 ", "0000000000000001"),
            ("a0000000000000001", "000000000000000a0000000000000001"),
        ] {
            assert_eq!(trace_id(text).map(shown), Ok(id.to_owned()), "{text}");
        }
        let zeros = "0".repeat(32);
        let long = "1".repeat(33);
        for (text, error) in [
            ("", "traceId is empty"),
            (" ", "traceId is empty"),
            (&*long, "traceId.length > 32"),
            (&*zeros, "traceId is all zeros"),
            ("A", "A should be lower-hex encoded with no prefix"),
            ("0x1", "0x1 should be lower-hex encoded with no prefix"),
        ] {
            assert_eq!(trace_id(text), Err(error.to_owned()), "{text}");
        }
    }
}
