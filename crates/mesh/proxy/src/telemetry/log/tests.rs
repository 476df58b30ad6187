//! Formats, filters and the files.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use rustls::{CipherSuite, ProtocolVersion};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::time::TimeFormat;
use super::*;
use crate::clock::Clock;
use crate::flags::{Flag, Flags};
use crate::http1::head::{Limits, MOST_FIELDS};
use crate::http1::request::RequestHead;
use crate::policy::Metadata;
use crate::snapshot::{HeaderMatch, ValueMatch};
use crate::tls::{Agreed, Secured};
use crate::upstream::{Opened, Ready};

const HEAD: &str = "GET /a/b?c=d HTTP/1.1\r\nhost: reviews:9080\r\nuser-agent: curl\r\n\
    x-forwarded-for: 1.2.3.4, 10.0.0.7\r\nx-quoted: a\"b\\c\r\n\r\n";

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs something on the entry of a request that was answered with 200.
fn with_entry<T>(run: impl FnOnce(Entry<'_>) -> T) -> T {
    let mut text = HEAD.as_bytes().to_vec();
    let mut head = RequestHead::default();
    let limits = Limits {
        bytes: text.len() + 1,
        fields: MOST_FIELDS,
    };
    head.parse(&mut text, limits)
        .expect("valid")
        .expect("whole");
    let clock = Clock::new();
    let [peer, local] =
        ["10.0.0.1:4000", "10.0.0.2:9080"].map(|text| text.parse().expect("an address"));
    let mut metadata = Metadata::default();
    let deep = json!({"n": 1, "nothing": null});
    for (key, value) in [("text", json!("a \"b\"")), ("deep", deep)] {
        metadata.set("f", &key.into(), Rc::new(value));
    }
    run(Entry {
        metadata: Some(&metadata),
        request: Some(Request {
            head: &head,
            text: &text,
            sent: b"",
            id: Some(b"11111111-2222-9333-8444-555555555555"),
            is_edge: false,
        }),
        protocol: Some("HTTP/1.1"),
        response: b"HTTP/1.1 200 OK\r\nserver: envoy\r\nX-Envoy-Upstream-Service-Time: 3\r\n\r\n",
        trailers: b"grpc-status: 0\r\n",
        grpc: Some(0),
        status: 200,
        details: Some("via_upstream"),
        received: 7,
        sent: 11,
        request_complete: Some(2_000),
        response_begun: Some(4_500),
        response_sent: Some(9_000),
        attempts: 1,
        ..Entry::of_connection(&clock, (&peer, Some(&local)), 1_000, 9_000)
    })
}

fn text(format: &str, omits: bool) -> String {
    let template = Template::parse(format, omits).expect("a format");
    with_entry(|entry| {
        let mut out = Vec::new();
        template.append(&entry, &mut out);
        String::from_utf8(out).expect("UTF-8")
    })
}

#[test]
fn operators_say_what_they_say_with_envoy() {
    let cases = [
        ("100%% %PROTOCOL%", "100% HTTP/1.1"),
        (
            "%REQ(:METHOD)% %REQ(:PATH)% %REQ(:PATH):4% %REQ(:SCHEME)%",
            "GET /a/b?c=d /a/b http",
        ),
        ("%REQ(NOPE?USER-AGENT)% %REQ(NOPE?NEITHER)%", "curl -"),
        (
            "%PATH(NQ)% %PATH(WQ:PATH)% %PATH(NQ:ORIG)%",
            "/a/b /a/b?c=d -",
        ),
        ("%RESP(SERVER)% %RESP(:STATUS)% %RESP(no)%", "envoy 200 -"),
        (
            "%RESP(x-envoy-upstream-service-time)% %TRAILER(Grpc-Status)%",
            "3 0",
        ),
        (
            "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%",
            "200 - -",
        ),
        ("%BYTES_RECEIVED% %BYTES_SENT% %DURATION%", "7 11 8"),
        (
            "%REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%",
            "1 3 4",
        ),
        ("%COMMON_DURATION(DS_RX_BEG:US_RX_BEG:us)%", "3500"),
        (
            "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_PORT%",
            "10.0.0.7:0 0",
        ),
        (
            "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
            "10.0.0.1",
        ),
        (
            "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_PORT%",
            "10.0.0.2:9080 9080",
        ),
        (
            "%UPSTREAM_HOST% %UPSTREAM_CLUSTER% %UPSTREAM_REQUEST_ATTEMPT_COUNT%",
            "- - 1",
        ),
        (
            "%STREAM_ID% %TRACE_ID%",
            "11111111-2222-9333-8444-555555555555 -",
        ),
        ("%DYNAMIC_METADATA(a:b)% %FILTER_STATE(x:PLAIN)%", "- -"),
        (
            "%DYNAMIC_METADATA(f:text)% %DYNAMIC_METADATA(f:deep:n)% %DYNAMIC_METADATA(f:deep)%",
            "a \"b\" 1 {\"n\":1,\"nothing\":null}",
        ),
        (
            "%DYNAMIC_METADATA(f:deep:nothing)% %DYNAMIC_METADATA(f:text):1% %METADATA(DYNAMIC:f:text)%",
            "- a a \"b\"",
        ),
        (
            "%QUERY_PARAM(c)% %QUERY_PARAM(x)% %QUERY_PARAMS% %QUERY_PARAM(c):0%",
            "d - c=d ",
        ),
        ("%ENVIRONMENT(PERIPLUS_SURELY_NOT_SET)%", "-"),
        (
            "%GRPC_STATUS% %ROUTE_NAME% %ACCESS_LOG_TYPE%",
            "- - DownstreamEnd",
        ),
    ];
    for (format, expected) in cases {
        assert_eq!(text(format, false), expected, "{format}");
    }
    assert_eq!(text("[%REQ(NOPE)%|%RESPONSE_FLAGS%]", true), "[|-]");
}

#[test]
fn how_a_connection_to_an_endpoint_came_to_be_is_told() {
    let format = "%UPSTREAM_CONNECTION_ID% %UPSTREAM_CONNECTION_POOL_READY_DURATION% \
        %COMMON_DURATION(US_CX_BEG:US_CX_END:us)% %COMMON_DURATION(US_CX_END:US_HS_END:ns)% \
        %COMMON_DURATION(DS_RX_BEG:US_TX_BEG)% %COMMON_DURATION(US_TX_BEG:DS_RX_BEG:us)%";
    let template = Template::parse(format, false).expect("a format");
    let opened = Opened {
        number: 42,
        begun: 1_200,
        connected: 1_700,
        secured: Some(2_900),
    };
    let plain = Opened {
        secured: None,
        ..opened
    };
    for (connection, expected) in [
        (Some(opened), "42 2 500 1200000 2 -"),
        (Some(plain), "42 2 500 - 2 -"),
        (None, "0 2 - - - -"),
    ] {
        let ready = Ready {
            at: 3_500,
            connection,
        };
        let told = with_entry(|entry| {
            template.text(&Entry {
                upstream: Some(Upstream {
                    address: entry.peer,
                    text: None,
                    local: None,
                    secured: None,
                    is_connected: connection.is_some(),
                    protocol: None,
                    of_connection: Some((1_000, &ready)),
                }),
                whole: None,
                ..entry
            })
        });
        assert_eq!(told, expected);
    }
    assert_eq!(text(format, false), "0 - - - - -");
}

#[test]
fn whose_tls_has_failed_is_told() {
    let format = "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%|%UPSTREAM_TRANSPORT_FAILURE_REASON%";
    let template = Template::parse(format, false).expect("a format");
    let told = with_entry(|entry| {
        template.text(&Entry {
            transport_failure: Some("TLS error: no certificate"),
            ..entry
        })
    });
    assert_eq!(told, "TLS error: no certificate|-");
}

#[test]
fn what_no_format_can_say_is_refused_by_name() {
    let cases = [
        ("%CUSTOM_FLAGS%", "%CUSTOM_FLAGS% is not supported"),
        (
            "%UPSTREAM_TLS_SESSION_ID%",
            "%UPSTREAM_TLS_SESSION_ID% is not supported: the library for TLS does not tell the ids of sessions",
        ),
        ("%REQ%", "%REQ% needs the name of a header"),
        (
            "%REQ(A?B?C)%",
            "\"A?B?C\": there can be one alternative only",
        ),
        ("%REQ(A):x%", "%REQ(A):x%: \"x\" is not a length"),
        ("%PROTOCOL(x)%", "%PROTOCOL% takes no argument"),
        ("%START_TIME(%Q)%", "the time format %Q is not supported"),
        (
            "%COMMON_DURATION(US_RX_BODY_BEG:DS_TX_END:ms)%",
            "%COMMON_DURATION%: US_RX_BODY_BEG is not supported",
        ),
        ("%DURATION", "an operator is not closed: \"%DURATION\""),
    ];
    for (format, expected) in cases {
        let refused = Template::parse(format, false).expect_err(format);
        assert_eq!(refused, expected);
    }
}

#[test]
fn times_are_written_as_strftime_does() {
    // 2026-11-29T04:18:32.664783Z
    let at = 1_795_925_912_664_783;
    let cases = [
        ("", "2026-11-29T04:18:32.664Z"),
        ("%s.%3f %f %6f", "1795925912.664 664783000 664783"),
        (
            "%Y/%m/%d %H-%M-%S %z %Z %%",
            "2026/11/29 04-18-32 +0000 UTC %",
        ),
        ("%F %T %y %j %e", "2026-11-29 04:18:32 26 333 29"),
        ("%a %A %b %B", "Sun Sunday Nov November"),
        ("%E0S %E6S", "32 32.664783"),
    ];
    for (format, expected) in cases {
        let mut out = Vec::new();
        TimeFormat::parse(format)
            .expect(format)
            .append(at, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected, "{format}");
    }
}

#[test]
fn the_usual_time_is_that_of_its_format() {
    let clock = Clock::new();
    let format = TimeFormat::parse("").expect("the default");
    // The second changes, forth and back.
    for at in [
        0,
        999_999,
        1_000_000,
        86_400_000_000,
        31,
        40_000_000_000_000,
    ] {
        let (mut quick, mut whole) = (Vec::new(), Vec::new());
        format.append_at(&clock, at, &mut quick);
        format.append(clock.wall(at), &mut whole);
        assert_eq!(
            String::from_utf8_lossy(&quick),
            String::from_utf8_lossy(&whole)
        );
    }
}

#[test]
fn whatever_json_does_not_take_as_it_is_is_escaped() {
    for byte in 0..=0x7f_u8 {
        for at in 0..20 {
            let mut text = b"abcdefghijklmnopqrst".to_vec();
            text[at] = byte;
            let text = String::from_utf8(text).expect("ASCII");
            let node = Node::from(Template::parse("%REQ(A)%%REQ(B)%", true).expect("a format"));
            let key = (text.clone(), node);
            let object = BTreeMap::from([key, ("z".to_owned(), Node::Fixed("1".to_owned()))]);
            let json = Json {
                object: object.into(),
                omits: false,
            };
            let mut out = Vec::new();
            with_entry(|entry| json.append(&entry, &mut out));
            let line: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
            assert_eq!(line[&text], "");
            assert!(out.ends_with(b"}\n"));
        }
    }
}

#[test]
fn json_has_sorted_keys_and_types() {
    let template = |text: &str| Node::from(Template::parse(text, false).expect("a format"));
    let nested = BTreeMap::from([("none".to_owned(), template("%REQ(NOPE)%"))]);
    let object = BTreeMap::from([
        ("z".to_owned(), template("code %RESPONSE_CODE%")),
        ("code".to_owned(), template("%RESPONSE_CODE%")),
        ("none".to_owned(), template("%REQ(NOPE)%")),
        ("fixed".to_owned(), Node::Fixed("1.5".to_owned())),
        ("quoted".to_owned(), template("%REQ(X-QUOTED)%")),
        (
            "list".to_owned(),
            Node::List(vec![template("%PROTOCOL%"), Node::Object(nested.into())]),
        ),
    ]);
    let line = |omits: bool| {
        let json = Json {
            object: object.clone().into(),
            omits,
        };
        with_entry(|entry| {
            let mut out = Vec::new();
            Format::Json(json).append(&entry, &mut out);
            String::from_utf8(out).expect("UTF-8")
        })
    };
    assert_eq!(
        line(false),
        "{\"code\":200,\"fixed\":1.5,\"list\":[\"HTTP/1.1\",{\"none\":null}],\"none\":null,\
         \"quoted\":\"a\\\"b\\\\c\",\"z\":\"code 200\"}\n"
    );
    assert_eq!(
        line(true),
        "{\"code\":200,\"fixed\":1.5,\"list\":[\"HTTP/1.1\"],\"quoted\":\"a\\\"b\\\\c\",\
         \"z\":\"code 200\"}\n"
    );
}

#[test]
fn filters_take_what_they_name() {
    let at_least = |value| Comparison {
        op: Op::AtLeast,
        value,
    };
    let expression =
        |text: &str| Filter::Expression(periplus_cel::Expression::condition(text).expect(text));
    let header = |name: &str, invert| {
        Filter::Header(HeaderMatch {
            name: name.into(),
            value: ValueMatch::Present,
            missing_is_empty: false,
            invert,
        })
    };
    let cases = [
        (Filter::All, true),
        (Filter::Status(at_least(200)), true),
        (Filter::Status(at_least(201)), false),
        (Filter::Duration(at_least(8)), true),
        (Filter::Duration(at_least(9)), false),
        (Filter::Traceable, true),
        (Filter::Share(500_000), true),
        (Filter::Share(499_999), false),
        (Filter::Flags(vec![Flag::UF, Flag::NR]), true),
        (Filter::Flags(vec![Flag::UF]), false),
        (Filter::Flags(Vec::new()), true),
        (header("user-agent", false), true),
        (header("user-agent", true), false),
        (Filter::And(vec![Filter::All, header("nope", false)]), false),
        (Filter::Or(vec![Filter::All, header("nope", false)]), true),
        (
            Filter::Grpc {
                statuses: vec![0],
                exclude: true,
            },
            false,
        ),
        (
            expression(
                "response.headers['server'] == 'envoy' && response.trailers['grpc-status'] == '0'",
            ),
            true,
        ),
        (
            expression("source.port == 0 && source.address == '10.0.0.7:0'"),
            true,
        ),
        (
            expression("request.size == 7 && request.id.startsWith('1111')"),
            true,
        ),
        (
            expression("has(upstream.address) || has(xds.cluster_name)"),
            false,
        ),
        (expression("request.referer == ''"), false),
    ];
    for (filter, expected) in cases {
        let takes = with_entry(|mut entry| {
            let mut flags = Flags::default();
            flags.set(Flag::NR);
            entry.flags = flags;
            filter.takes(&entry, &|| 499_999)
        });
        assert_eq!(takes, expected, "{filter:?}");
    }
}

#[test]
fn files_are_rotated_and_lines_that_cannot_be_written_are_counted() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let destination = Destination::of_path(path("log").to_str().expect("UTF-8"));
    let gone = Destination::of_path(path("no/such/log").to_str().expect("UTF-8"));
    let full = Destination::of_path("/dev/full");
    let (logs, thread) = Logs::start().expect("a thread");
    logs.hand_over(destination.clone(), b"one\n".to_vec(), 1);
    let counts = |logs: &Logs| {
        let mut counts = BTreeMap::new();
        logs.visit(&mut |name, value| {
            counts.insert(name, value);
        });
        counts
    };
    while counts(&logs)["access_log.lines_written"] == 0 {
        std::thread::yield_now();
    }
    std::fs::rename(path("log"), path("log.1")).expect("rename");
    logs.reopen();
    logs.hand_over(destination, b"two\nthree\n".to_vec(), 2);
    logs.hand_over(gone, b"lost\n".to_vec(), 1);
    logs.hand_over(full, b"lost\nlost\n".to_vec(), 2);
    assert_eq!(logs.stop(thread, PATIENCE), 0);
    let read = |name: &str| std::fs::read_to_string(path(name)).expect("a file");
    assert_eq!(read("log.1"), "one\n");
    assert_eq!(read("log"), "two\nthree\n");
    let counts = counts(&logs);
    assert_eq!(counts["access_log.lines_written"], 3);
    assert_eq!(counts["access_log.lines_dropped"], 3);
    assert_eq!(counts["filesystem.write_failed"], 2);
    assert_eq!(counts["filesystem.reopen_failed"], 1);
}

#[test]
fn a_writer_that_is_behind_costs_lines_and_no_time() {
    let (logs, thread) = Logs::start().expect("a thread");
    assert_eq!(logs.stop(thread, PATIENCE), 0);
    logs.hand_over(Destination::Stderr, b"late\n".to_vec(), 1);
    let mut dropped = 0;
    logs.visit(&mut |name, value| {
        if name == "access_log.lines_dropped" {
            dropped = value;
        }
    });
    assert_eq!(dropped, 1);
}

#[test]
fn a_destination_that_takes_nothing_does_not_keep_the_proxy_from_ending() {
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("pipe");
    // It cannot be opened before somebody reads it, and nobody does.
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    let destination = Destination::of_path(pipe.to_str().expect("UTF-8"));
    let (logs, thread) = Logs::start().expect("a thread");
    for _ in 0..1_000 {
        logs.hand_over(destination.clone(), b"one\ntwo\n".to_vec(), 2);
    }
    let begin = Instant::now();
    let left = logs.stop(thread, Duration::from_millis(50));
    assert!(begin.elapsed() < PATIENCE);
    // What waits has room for 256, and one is being written.
    assert!((512..=514).contains(&left), "{left}");
    let mut dropped = 0;
    logs.visit(&mut |name, value| {
        if name == "access_log.lines_dropped" {
            dropped = value;
        }
    });
    assert_eq!(dropped, 2_000);
}

#[test]
fn what_tls_has_agreed_on_is_written_as_envoy_writes_it() {
    let secured = |version, cipher| Secured {
        peer: None,
        peer_issuers: Vec::new(),
        own: None,
        server_name: None,
        agreed: Some(Agreed { version, cipher }),
    };
    let client = secured(
        ProtocolVersion::TLSv1_3,
        CipherSuite::TLS13_AES_128_GCM_SHA256,
    );
    let endpoint = secured(
        ProtocolVersion::TLSv1_2,
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    );
    let format = "%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER% %UPSTREAM_TLS_VERSION% %UPSTREAM_TLS_CIPHER%";
    let template = Template::parse(format, false).expect("a format");
    let told = with_entry(|entry| {
        template.text(&Entry {
            secured: Some(&client),
            upstream: Some(Upstream {
                address: entry.peer,
                text: None,
                local: None,
                secured: Some(&endpoint),
                is_connected: true,
                protocol: None,
                of_connection: None,
            }),
            ..entry
        })
    });
    assert_eq!(
        told,
        "TLSv1.3 TLS_AES_128_GCM_SHA256 TLSv1.2 ECDHE-RSA-AES256-GCM-SHA384"
    );
    assert_eq!(text(format, false), "- - - -");
}
