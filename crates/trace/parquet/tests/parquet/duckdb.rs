//! DuckDB over an export gives our answers.

mod answers;
mod data;
mod peer;

use serde_json::{Value as Json, json};

use answers::Ours;
use data::Engine;
use peer::DuckDb;

/// A question: what DuckDB is asked, and what we say.
struct Case {
    name: &'static str,
    sql: &'static str,
    ours: fn(&Ours) -> Json,
}

const CASES: &[Case] = &[
    Case {
        name: "spans by service",
        sql: "SELECT service_name, count(*) FROM spans GROUP BY 1 ORDER BY 1",
        ours: |o| o.by_service(|spans| json!(spans.len())),
    },
    Case {
        name: "services",
        sql: "SELECT DISTINCT service_name FROM spans WHERE service_name <> '' ORDER BY 1",
        ours: |o| o.services(),
    },
    Case {
        name: "operations of a service",
        sql: "SELECT DISTINCT name, kind FROM spans WHERE service_name = 'checkout' ORDER BY name,
              list_position(['internal', 'server', 'client', 'producer', 'consumer'], kind)",
        ours: |o| o.operations("checkout"),
    },
    Case {
        name: "error rate by operation",
        sql: "SELECT service_name, name, count(*),
                     count(*) FILTER (status_code = 'error') / count(*)
              FROM spans GROUP BY 1, 2 ORDER BY 1, 2",
        ours: |o| o.error_rate_by_operation(),
    },
    Case {
        name: "p95 by service",
        sql: "SELECT service_name, quantile_disc(duration_nano, 0.95) FROM spans
              GROUP BY 1 ORDER BY 1",
        ours: |o| o.by_service(answers::p95),
    },
    Case {
        name: "requests, errors and the longest in each 10 s",
        sql: "SELECT start_unix_nano // 10_000_000_000, count(*),
                     count(*) FILTER (status_code = 'error'), max(duration_nano)
              FROM spans GROUP BY 1 ORDER BY 1",
        ours: |o| o.red(),
    },
    Case {
        name: "one trace",
        sql: "SELECT group_index, span_index, span_id, parent_span_id, name, kind,
                     start_unix_nano, end_unix_nano
              FROM spans WHERE trace_id = $trace_id ORDER BY group_index, span_index",
        ours: |o| o.one_trace(),
    },
    Case {
        name: "an attribute that is a number",
        sql: "SELECT DISTINCT trace_id FROM spans
              WHERE attributes['http.response.status_code'].int_value = 500 ORDER BY 1",
        ours: |o| o.ids(answers::span_int("http.response.status_code", 500)),
    },
    Case {
        name: "an attribute that is a text",
        sql: "SELECT DISTINCT trace_id FROM spans
              WHERE attributes['network.protocol.version'].string_value = '1.1' ORDER BY 1",
        ours: |o| o.ids(answers::span_text("network.protocol.version", "1.1")),
    },
    Case {
        name: "a part of a text",
        sql: "SELECT DISTINCT trace_id FROM spans
              WHERE contains(attributes['url.full'].string_value, 'currency=JPY') ORDER BY 1",
        ours: |o| o.ids(answers::span_contains("url.full", "currency=JPY")),
    },
    Case {
        name: "an attribute of the resource",
        sql: "SELECT DISTINCT trace_id FROM spans
              WHERE resource.attributes['service.name'].string_value = 'cart' ORDER BY 1",
        ours: |o| o.ids(answers::resource_text("service.name", "cart")),
    },
    Case {
        name: "an attribute of an event",
        sql: "SELECT DISTINCT trace_id FROM (SELECT trace_id, unnest(events) AS event FROM spans)
              WHERE contains(event.attributes['exception.type'].string_value, 'Exception')
              ORDER BY 1",
        ours: |o| o.ids(answers::event_contains("exception.type", "Exception")),
    },
    Case {
        name: "several conditions on one span",
        sql: "SELECT DISTINCT trace_id FROM spans
              WHERE service_name = 'frontend' AND kind = 'server' AND duration_nano >= 50_000_000
              ORDER BY 1",
        ours: |o| o.ids(answers::slow_server("frontend", 50_000_000)),
    },
    Case {
        name: "traces without something",
        sql: "SELECT trace_id FROM spans GROUP BY 1
              HAVING bool_or(service_name = 'cart') AND NOT bool_or(status_code = 'error')
              ORDER BY 1",
        ours: |o| o.ids(answers::without_errors("cart")),
    },
    Case {
        name: "the newest 20 traces of a service",
        sql: "SELECT trace_id FROM spans GROUP BY 1 HAVING bool_or(service_name = 'payment')
              ORDER BY min(start_unix_nano) DESC LIMIT 20",
        ours: |o| o.newest("payment", 20),
    },
    Case {
        name: "children and their parents",
        sql: "SELECT p.service_name, p.name, c.service_name, c.name, count(*)
              FROM spans c JOIN spans p ON c.trace_id = p.trace_id AND c.parent_span_id = p.span_id
              GROUP BY ALL ORDER BY ALL",
        ours: |o| o.children(),
    },
    Case {
        name: "who calls whom",
        sql: "SELECT p.service_name, c.service_name, count(*),
                     count(*) FILTER (c.status_code = 'error'
                                      OR p.kind = 'client' AND p.status_code = 'error')
              FROM spans c JOIN spans p ON c.trace_id = p.trace_id AND c.parent_span_id = p.span_id
              WHERE p.service_name <> c.service_name GROUP BY ALL ORDER BY ALL",
        ours: |o| o.dependencies(),
    },
    Case {
        name: "the convenient columns",
        sql: "SELECT http_method, http_status_code, count(*) FROM spans
              GROUP BY ALL ORDER BY ALL NULLS FIRST",
        ours: |o| o.http(),
    },
    Case {
        name: "values of every type",
        sql: "SELECT attributes['empty'] IS NOT NULL, attributes['text'].string_value,
                     attributes['true'].bool_value, attributes['int'].int_value,
                     attributes['double'].double_value, hex(attributes['bytes'].bytes_value),
                     attributes['list'].json_value ->> '$[1]',
                     attributes['map'].json_value ->> '$.inner.deep', attributes['absent'],
                     links[1].span_id, links[1].attributes['why'].string_value,
                     duration_nano, flags, epoch_us(start_time)
              FROM spans WHERE name = 'every type'",
        ours: |_| data::every_type_in_sql(),
    },
    Case {
        name: "a key that is there twice",
        sql: "SELECT len(map_keys(attributes)), cardinality(attributes) FROM spans WHERE name = 'twice'",
        ours: |_| json!([[2, 2]]),
    },
];

/// Questions about what the engine with a disk keeps beside its spans. The rows come in any order.
const SERIES: &[Case] = &[
    Case {
        name: "rates and errors of the store's own series",
        sql: "SELECT service_name, name, replace(kind, 'unspecified', ''), count(*),
                     count(*) FILTER (status_code = 'error')
              FROM spans GROUP BY ALL",
        ours: |o| o.rates(),
    },
    Case {
        // docs/segment-format.md: a duration below 32 is its own bucket; else 32 for each power of two.
        name: "durations of the store's own series",
        sql: "WITH durations AS (
                  SELECT *, duration_nano::BIGINT AS d, length(bin(duration_nano::BIGINT)) - 1 AS p
                  FROM spans)
              SELECT service_name, name, replace(kind, 'unspecified', ''), (start_unix_nano // 10_000_000_000),
                     CASE WHEN d < 32 THEN d ELSE 32 * (p - 4) + (d >> (p - 5)) % 32 END, count(*)
              FROM durations GROUP BY ALL",
        ours: |o| o.durations(),
    },
];

#[test]
fn duckdb_gives_our_answers() {
    let Some(duckdb) = DuckDb::find() else {
        return;
    };
    let mut wrong = Vec::new();
    for engine in Engine::ALL {
        let ours = Ours::new(engine);
        let file = tempfile::NamedTempFile::new().unwrap();
        ours.export(file.path());
        let cases = CASES.iter().map(|case| (case, false));
        let series = SERIES.iter().map(|case| (case, true));
        let cases: Vec<_> = match engine {
            Engine::Memory => cases.collect(),
            _ => cases.chain(series).collect(),
        };
        let queries: Vec<_> = cases.iter().map(|(case, _)| case.sql).collect();
        let theirs = duckdb.ask(file.path(), &queries, &ours.trace_id());
        for ((case, in_any_order), theirs) in cases.into_iter().zip(theirs) {
            let ours = (case.ours)(&ours);
            let theirs = match theirs {
                Json::Array(rows) if in_any_order => answers::sorted(rows),
                theirs => theirs,
            };
            assert_ne!(ours, json!([]), "{}: the data has nothing of it", case.name);
            if ours != theirs {
                let name = case.name;
                wrong.push(format!(
                    "{engine:?}, {name}:\nours   {ours}\nduckdb {theirs}\n"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_duckdb_writes_comes_back() {
    let Some(duckdb) = DuckDb::find() else {
        return;
    };
    let ours = Ours::new(Engine::Merged);
    let dir = tempfile::tempdir().unwrap();
    let (written, copied) = (dir.path().join("a.parquet"), dir.path().join("b.parquet"));
    ours.export(&written);
    let copy = format!(
        "COPY (SELECT *, 1 AS mine FROM spans) TO '{}' (FORMAT parquet)",
        copied.display()
    );
    duckdb.ask(&written, &[&copy], &ours.trace_id());
    ours.assert_imports(&written, &[]);
    ours.assert_imports(&copied, &["mine"]);
}
