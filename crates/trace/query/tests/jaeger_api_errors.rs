//! Error shapes, status codes and texts of Jaeger's API.

mod support;

use serde_json::json;
use support::Server;

#[tokio::test]
async fn a_missing_trace_is_404_in_jaegers_words() {
    let server = Server::start().await;
    let answer = server.get("/api/traces/123456").await;
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.text(),
        "{\"data\":null,\"total\":0,\"limit\":0,\"offset\":0,\
         \"errors\":[{\"code\":404,\"msg\":\"trace not found\"}]}\n"
    );
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn bad_parameters_are_400_with_the_texts_of_go() {
    let server = Server::start().await;
    for (path, message) in [
        ("/api/traces", "parameter 'service' is required"),
        ("/api/traces?service=", "parameter 'service' is required"),
        ("/api/operations", "parameter 'service' is required"),
        (
            "/api/traces?service=s&start=x",
            "unable to parse param 'start': strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "/api/traces?service=s&end=1.5",
            "unable to parse param 'end': strconv.ParseInt: parsing \"1.5\": invalid syntax",
        ),
        (
            "/api/traces?service=s&start=99999999999999999999",
            "unable to parse param 'start': strconv.ParseInt: parsing \"99999999999999999999\": value out of range",
        ),
        (
            "/api/traces?service=s&minDuration=20",
            "unable to parse param 'minDuration': time: missing unit in duration \"20\"",
        ),
        (
            "/api/traces?service=s&maxDuration=20x",
            "unable to parse param 'maxDuration': time: unknown unit \"x\" in duration \"20x\"",
        ),
        (
            "/api/traces?service=s&minDuration=20ms&maxDuration=10ms",
            "'maxDuration' should be greater than 'minDuration'",
        ),
        (
            "/api/traces?service=s&limit=many",
            "strconv.ParseInt: parsing \"many\": invalid syntax",
        ),
        (
            "/api/traces?service=s&limit=3000000000",
            "strconv.ParseInt: parsing \"3000000000\": value out of range",
        ),
        (
            "/api/traces?service=s&tag=justkey",
            "malformed 'tag' parameter, expecting key:value, received: justkey",
        ),
        (
            "/api/traces?service=s&tags=%7B%22a%22%3Atrue%7D",
            "malformed 'tags' parameter, cannot unmarshal JSON: \
             json: cannot unmarshal bool into Go value of type string",
        ),
        (
            "/api/traces?service=s&raw=perhaps",
            "unable to parse param 'raw': strconv.ParseBool: parsing \"perhaps\": invalid syntax",
        ),
        (
            "/api/traces?traceID=xyz",
            "cannot parse traceID param: strconv.ParseUint: parsing \"xyz\": invalid syntax",
        ),
        (
            "/api/traces/123?raw=foobar",
            "unable to parse param 'raw': strconv.ParseBool: parsing \"foobar\": invalid syntax",
        ),
        (
            "/api/traces/123?start=a",
            "unable to parse param 'start': strconv.ParseInt: parsing \"a\": invalid syntax",
        ),
        (
            "/api/traces/123?end=b",
            "unable to parse param 'end': strconv.ParseInt: parsing \"b\": invalid syntax",
        ),
        (
            "/api/traces/chumbawumba",
            "strconv.ParseUint: parsing \"chumbawumba\": invalid syntax",
        ),
        (
            "/api/traces/0123456789012345678901234567890123",
            "TraceID cannot be longer than 32 hex characters: 0123456789012345678901234567890123",
        ),
        (
            "/api/dependencies?endTs=x",
            "unable to parse param 'endTs': strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "/api/dependencies?lookback=1h",
            "unable to parse param 'lookback': strconv.ParseInt: parsing \"1h\": invalid syntax",
        ),
        (
            "/api/metrics/latencies?service=s",
            "unable to parse param 'quantile': strconv.ParseFloat: parsing \"\": invalid syntax",
        ),
        (
            "/api/metrics/calls",
            "unable to parse param 'service': please provide at least one service name",
        ),
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(
            answer.json(),
            json!({
                "data": null, "total": 0, "limit": 0, "offset": 0,
                "errors": [{"code": 400, "msg": message}],
            }),
            "{path}"
        );
    }
}

#[tokio::test]
async fn what_is_not_there_says_so_as_jaeger_does() {
    let server = Server::start().await;
    for (method, path, status, message) in [
        (
            "POST",
            "/api/archive/123",
            500,
            "archive span storage was not configured",
        ),
        (
            "DELETE",
            "/api/traces",
            405,
            "/api/traces does not take DELETE",
        ),
    ] {
        let answer = server.send(method, path, "", b"").await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert_eq!(answer.json()["errors"][0]["code"], status, "{path}");
        assert_eq!(answer.message(), message, "{path}");
    }
}

#[tokio::test]
async fn a_path_that_nobody_serves_is_404_in_the_words_of_gos_router() {
    let server = Server::start().await;
    for path in [
        "/api",
        "/api/nothing",
        "/api/traces/1/2",
        "/api/services/a",
        "/api/metrics/nothing?service=s",
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.text(), "404 page not found\n", "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test]
async fn head_answers_without_a_body() {
    let server = Server::with_bookinfo().await;
    let answer = server.send("HEAD", "/api/services", "", b"").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, b"");
}

#[tokio::test]
async fn strange_requests_do_no_harm() {
    let server = Server::with_bookinfo().await;
    for path in [
        "/api/traces/..%2f..%2fetc%2fpasswd",
        "/api/services/..%2f..%2fetc/operations",
        "/api/services/%00%ff/operations",
        "/api/traces?service=%00&operation=%ff%fe&tag=%3A",
        "/api/traces?service=s&limit=2147483647&start=-9223372036854775808&end=9223372036854775807",
        "/api/traces?service=s&minDuration=-9223372036854775808ns&maxDuration=-1h",
        "/api/dependencies?endTs=-1&lookback=9223372036854775807",
        "/api/traces/%F0%9F%92%A9%F0%9F%92%A9",
    ] {
        let answer = server.get(path).await;
        assert!(
            matches!(answer.status, 200 | 400 | 404),
            "{path}: {}",
            answer.status
        );
        assert!(answer.json().is_object(), "{path}");
    }
    for path in ["/api/traces", "/api/nothing"] {
        let long = format!("{path}?service={}", "x".repeat(17_000));
        let answer = server.get(&long).await;
        assert_eq!(answer.status, 414, "{path}");
        assert_eq!(answer.json()["errors"][0]["code"], 414, "{path}");
        assert!(answer.message().contains("17008 bytes"), "{path}");
    }
    assert_eq!(server.get("/api/services").await.status, 200);
}
