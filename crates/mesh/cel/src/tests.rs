use std::borrow::Cow;

use super::*;

/// A request of which little is known.
struct Request;

impl Subject for Request {
    fn attribute(&self, attribute: Attribute) -> Option<Value<'_>> {
        Some(match attribute {
            Attribute::RequestUrlPath => "/api/v1beta3/x".into(),
            Attribute::RequestMethod => "GET".into(),
            Attribute::RequestHost => "héllo.example".into(),
            Attribute::ResponseCode => Value::Int(404),
            Attribute::ConnectionMtls => Value::Bool(true),
            Attribute::DestinationPort => Value::Int(9080),
            _ => return None,
        })
    }

    fn header(&self, of: Headers, name: &str) -> Option<Cow<'_, str>> {
        let value = match (of, name) {
            (Headers::Request, "x-team") => "red",
            (Headers::Request, "x-count") => "17",
            (Headers::Response, "x-cache") => "hit",
            _ => return None,
        };
        Some(value.into())
    }
}

#[test]
fn values() {
    for (expression, expected) in [
        // What Istio's and Envoy's documentation has.
        ("response.code >= 400", "true"),
        ("string(destination.port)", "9080"),
        ("request.host", "héllo.example"),
        (
            "connection.mtls && request.url_path.contains('v1beta3')",
            "true",
        ),
        (
            "!has(request.useragent) || !(request.useragent.startsWith('Amazon-Route53-Health-Check-Service'))",
            "true",
        ),
        (
            "(connection.mtls && request.headers['x-log-mtls'] == 'true') || request.url_path.contains('v1beta3')",
            "true",
        ),
        // Operators, weaker ones outside.
        ("true || false && false", "true"),
        ("(true || false) && false", "false"),
        ("!true == false", "true"),
        ("!!connection.mtls", "true"),
        ("1 + 2 - 4 == -1", "true"),
        ("response.code - -1", "405"),
        ("-response.code", "-404"),
        ("'a' + \"b\" < 'ac'", "true"),
        ("false < true", "true"),
        ("response.code < 500 ? 'fine' : 'broken'", "fine"),
        ("response.code > 500 ? 1 : response.code > 400 ? 2 : 3", "2"),
        ("response.code in [200, 404]", "true"),
        ("request.method in ['PUT', 'POST',]", "false"),
        ("response.code in []", "false"),
        // Headers, whatever the case of their names.
        ("request.headers['X-Team']", "red"),
        ("response.headers[\"x-cache\"] == 'hit'", "true"),
        ("'x-team' in request.headers", "true"),
        ("'x-none' in request.headers", "false"),
        ("has(request.headers.host)", "false"),
        ("int(request.headers['x-count']) + 1", "18"),
        // Functions.
        ("size(request.host)", "13"),
        ("request.host.size() == 13", "true"),
        (
            "request.url_path.startsWith('/api') && request.url_path.endsWith('x')",
            "true",
        ),
        ("request.url_path.matches('v[0-9]+beta')", "true"),
        ("request.url_path.matches('^v')", "false"),
        ("'it\\'s \\\\ \\n'", "it's \\ \n"),
        ("string(connection.mtls)", "true"),
        ("has(request.url_path)", "true"),
    ] {
        let parsed = Expression::parse(expression).expect(expression);
        let value = parsed.value(&Request).map(|value| value.to_string());
        assert_eq!(value.as_deref(), Some(expected), "{expression}");
    }
}

#[test]
fn errors_at_a_request_spread_unless_the_other_side_decides() {
    for (expression, expected) in [
        ("request.useragent == 'x'", None),
        ("!(request.useragent == 'x')", None),
        ("request.headers['x-none'] == 'x' || true", Some(true)),
        ("true || request.headers['x-none'] == 'x'", Some(true)),
        ("request.headers['x-none'] == 'x' || false", None),
        ("request.headers['x-none'] == 'x' && false", Some(false)),
        ("request.headers['x-none'] == 'x' && true", None),
        ("request.useragent in ['a']", None),
        ("int(request.method) == 1", None),
        ("9223372036854775807 + 1 > 0", None),
        (
            "has(request.useragent) ? request.useragent == 'x' : true",
            Some(true),
        ),
    ] {
        let parsed = Expression::condition(expression).expect(expression);
        let value = parsed.value(&Request);
        assert_eq!(value, expected.map(Value::Bool), "{expression}");
        assert_eq!(parsed.holds(&Request), expected == Some(true));
    }
}

#[test]
fn what_is_refused_says_why() {
    let deep = "(".repeat(40);
    for (expression, reason) in [
        ("", "it ends where a value is expected"),
        ("response.code >=", "it ends where a value is expected"),
        ("response.code 1", "`1` is not expected there"),
        ("response.code = 1", "'=' is not expected"),
        (
            "response.code == '404'",
            "`==` has what is a number on its one side and what is a text on the other",
        ),
        (
            "response.code && true",
            "`&&` is for what is true or false, and not for what is a number",
        ),
        ("!request.method", "`!` is for what is true or false"),
        (
            "request.method.startsWith(1)",
            "`startsWith` is for what is a text, and not for what is a number",
        ),
        ("response.code in ['404']", "`in` has what is a number"),
        ("'a' in 'abc'", "`in` wants a list"),
        (
            "request.headers",
            "`request.headers` wants the name of a header",
        ),
        (
            "request.headers[request.host]",
            "the name of a header stands in quotes",
        ),
        (
            "request.headers['']",
            "the name of a header stands in quotes",
        ),
        (
            "filter_state.x",
            "`filter_state.x` is not supported: request.path, request.url_path",
        ),
        (
            "upstream_peer.labels['app'].value",
            "`upstream_peer.labels` is not supported: request.path",
        ),
        ("request", "`request` is not supported"),
        ("request.time > 1", "`request.time` is not supported"),
        ("has('x')", "has(…) wants an attribute"),
        ("has(request.headers['x'])", "has(…) wants an attribute"),
        ("has()", "`)` stands where a value is expected"),
        (
            "timestamp('x')",
            "the function `timestamp` is not supported, has, string, int and size are",
        ),
        (
            "request.host.lowerAscii()",
            "`.lowerAscii()` is not supported",
        ),
        (
            "request.host.matches('(')",
            "\"(\" is no regular expression",
        ),
        (
            "request.host.matches(request.path)",
            "the pattern of `matches` has to be a text in quotes",
        ),
        ("response.code * 2", "`*` and `/` are not supported"),
        ("1.5 > 1", "numbers have digits only"),
        ("200u == 200", "numbers have digits only"),
        (
            "99999999999999999999 > 1",
            "99999999999999999999 is too large",
        ),
        ("'a", "a text does not end"),
        ("r'a'", "texts with the prefix `r` are not supported"),
        ("'\\x41'", "`\\x` is not supported in a text"),
        ("null", "`null` is not supported"),
        ("(true", "`)` is missing at its end"),
        ("{}", "`{` stands where a value is expected"),
        ("a | b", "'|' is not expected"),
        (deep.as_str(), "it is more than 32 brackets deep"),
    ] {
        let refused = Expression::parse(expression)
            .expect_err(expression)
            .to_string();
        assert!(refused.starts_with(reason), "{expression}: {refused}");
    }
    let long = format!("'{}'", "x".repeat(LONGEST));
    let refused = Expression::parse(&long).expect_err("long").to_string();
    assert_eq!(refused, "it has 4098 bytes, at most 4096 are supported");
    let number = Expression::condition("response.code").expect_err("a number");
    assert_eq!(
        number.to_string(),
        "it is a number, and not true or false as a condition has to be"
    );
}

#[test]
fn what_it_asks_for() {
    let parsed = Expression::parse("has(request.id) && 'b' in response.headers ? 'a' : string(1)");
    let parsed = parsed.expect("valid");
    assert!(parsed.asks(|asked| asked == Asked::Attribute(Attribute::RequestId)));
    assert!(parsed.asks(|asked| asked == Asked::Header(Headers::Response, "b")));
    assert!(!parsed.asks(|asked| matches!(asked, Asked::Header(Headers::Request, _))));
    assert!(parsed.makes_texts());
    assert!(!Expression::parse("1 + 1").expect("valid").makes_texts());
    assert!(Expression::parse("'a' + 'b'").expect("valid").makes_texts());
}
