use periplus_insight::{RootSummary, ServiceSummary, Summary, summary};

use crate::build::{MS, T0, assemble, client, server, span};

#[test]
fn a_summary_says_what_a_list_shows() {
    let trace = assemble([
        client("gateway", 1)
            .at(0, 50)
            .with("http.status_code", "200"),
        server("page", 2).below(1).at(5, 45),
        client("page", 3).below(2).at(10, 40).failed(),
        server("page", 2).below(1).at(5, 45),
    ]);
    let service = |name: &str, spans, errors| ServiceSummary {
        name: name.to_owned(),
        spans,
        errors,
    };
    assert_eq!(
        summary(&trace),
        Summary {
            root: Some(RootSummary {
                service: "gateway".to_owned(),
                operation: "op-1".to_owned(),
                missing: false,
                status_code: Some("200".to_owned()),
            }),
            start_unix_nano: T0,
            duration_nano: 50 * MS,
            spans: 3,
            errors: 1,
            depth: 3,
            services: vec![service("gateway", 1, 0), service("page", 2, 1)],
        }
    );
}

#[test]
fn the_earliest_span_stands_for_a_missing_root() {
    let trace = assemble([
        server("b", 2).below(9).at(5, 45),
        server("a", 3)
            .below(9)
            .at(1, 4)
            .with("http.response.status_code", 503_i64),
    ]);
    let root = summary(&trace).root.expect("a root");
    assert_eq!((root.service.as_str(), root.missing), ("a", true));
    assert_eq!(root.status_code.as_deref(), Some("503"));
}

#[test]
fn no_spans_make_an_empty_summary() {
    assert_eq!(summary(&assemble([])), Summary::default());
    assert_eq!(summary(&assemble([span("a", 1)])).depth, 1);
}
