use super::parse;

/// Lines, and what they look like when they are shown.
const LINES: &[(&str, &str)] = &[
    ("", "*"),
    (
        "service=checkout http.status_code>=500 duration>1s !error",
        "service=checkout http.status_code>=500 duration>1s NOT (status=error OR span.error=true)",
    ),
    (
        "service:payment status:error dur>50ms",
        "service=payment status=error duration>50ms",
    ),
    (
        "http.status_code=500 error=true",
        "http.status_code=500 (status=error OR span.error=true)",
    ),
    ("error=false", "NOT (status=error OR span.error=true)"),
    ("error=oops", ".\"error\"=oops"),
    (
        "op:GET* -kind:client",
        "name=~\"(?s)GET.*\" NOT kind=client",
    ),
    ("span.kind=server", "kind=server"),
    ("root", "NOT span:parentID?"),
    ("db.system? !cache.hit", "db.system? NOT cache.hit?"),
    ("k=*", "k?"),
    ("a=1 OR b=2 c=3", "a=1 OR b=2 c=3"),
    ("(a=1 OR b=2) AND c=3", "(a=1 OR b=2) c=3"),
    ("NOT (a=1 b=2)", "NOT (a=1 b=2)"),
    ("name =~ \"GET /\\d+\"", "name=~\"GET /\\\\d+\""),
    ("name~GET.+ name!~x", "name=~\"GET.+\" name!~\"x\""),
    ("name contains \"a b\"", "name contains \"a b\""),
    (
        ".\"a key\"=1 span.\"x y\"<2 resource.k8s.pod!=z",
        ".\"a key\"=1 span.\"x y\"<2 resource.k8s.pod!=z",
    ),
    (
        "k=int:5 l=double:0.5 m=bool:true n=\"text\" o=untyped:\"a b\"",
        "k=int:5 l=double:0.5 m=bool:true n=\"text\" o=untyped:\"a b\"",
    ),
    ("k=text:5 url=http://a/?b=c", "k=text:5 url=http://a/?b=c"),
    (
        "duration>=1h30m duration<1.5s duration>90s dur<1500us",
        "duration>=5400s duration<1500ms duration>90s duration<1500us",
    ),
    ("event:timeSinceStart<-5ms", "event:timeSinceStart<-5ms"),
    (
        "trace:duration>1s trace:rootService=gateway trace:spans>100",
        "trace:duration>1s trace:rootService=gateway trace:spans>100",
    ),
    (
        "{service=a} {error} NOT {service=b}",
        "{service=a} {status=error OR span.error=true} NOT {service=b}",
    ),
    (
        "service=a k=1 {error}",
        "{status=error OR span.error=true} {service=a k=1}",
    ),
    ("{a=1} OR ({b=1} {c=1})", "{a=1} OR {b=1} {c=1}"),
    ("{a=1}", "a=1"),
    (
        "service=a ancestor{service=b parent{root}}",
        "service=a ancestor{service=b parent{NOT span:parentID?}}",
    ),
    (
        "child{error} >= 2",
        "child{status=error OR span.error=true}>=2",
    ),
    (
        "event{event:name=exception exception.type=IO} !link{link:spanID=a}>1",
        "event{event:name=exception exception.type=IO} NOT link{link:spanID=a}>1",
    ),
    ("!trace{}", "NOT trace{*}"),
    ("{a=1} >> {b=1}", "b=1 ancestor{a=1}"),
    ("{a=1} > {b=1} !~ {c=1}", "c=1 NOT sibling{b=1 parent{a=1}}"),
    (
        "{a=1} << {b=1} {c=1} < {d=1}",
        "{b=1 descendant{a=1}} {d=1 child{c=1}}",
    ),
];

#[test]
fn lines_are_read() {
    for (line, shown) in LINES {
        let filter = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(filter.to_string(), *shown, "{line}");
        assert_eq!(parse(shown).as_ref(), Ok(&filter), "{shown}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let deep = "(".repeat(100);
    let negated = "-".repeat(20_000);
    let long = "a=1 ".repeat(2_001);
    let cases = [
        (
            "a=",
            "expected a value, in quotes if it has spaces or braces, at character 3",
        ),
        (
            "ä foo=1",
            "expected an operator such as = or >= behind the key, or ? to ask for the key, at character 2",
        ),
        ("a=1 OR", "expected a condition behind OR, at character 7"),
        ("OR a=1", "expected a condition before OR, at character 1"),
        (
            "a=1 AND",
            "expected a condition on either side of AND, at character 5",
        ),
        ("(a=1", "this is not closed by ), at character 1"),
        (
            "a=1)",
            "nothing is open that this could close, at character 4",
        ),
        (
            "event{child{a=1}}",
            "event{…} and link{…} take no conditions on other spans or the trace inside, at character 1",
        ),
        ("{a=1", "this is not closed by }, at character 1"),
        ("a=\"b", "this quote is not closed, at character 3"),
        ("a=1 =2", "expected a condition, at character 5"),
        (
            "{a=1 {b=1}}",
            "a span holds no other one: use parent{…}, child{…}, ancestor{…}, descendant{…}, sibling{…} or trace{…}, at character 1",
        ),
        (
            "uncle{a=1}",
            "expected parent, child, ancestor, descendant, sibling, trace, event or link before {, at character 1",
        ),
        (
            "duration>5",
            "'5' is no duration: write 200ms or 1.5s, at character 10",
        ),
        (
            "duration>99999999999h",
            "'99999999999h' is no duration: write 200ms or 1.5s, at character 10",
        ),
        ("trace:spans>x", "'x' is no number, at character 13"),
        ("k=int:x", "'x' is no int, at character 3"),
        (
            "status=bad",
            "expected one of unset, ok, error, at character 8",
        ),
        (
            "name=~\"a(\"",
            "'a(' is no regular expression: unclosed group, at character 7",
        ),
        (
            "foo.\"a\"=1",
            "expected . or a scope such as span. before a quoted key, at character 1",
        ),
        (&deep, "nested more than 64 levels deep, at character 33"),
        (&negated, "more than 16384 bytes, at character 1"),
        (
            &negated[..1_000],
            "nested more than 64 levels deep, at character 64",
        ),
        (
            &long,
            "it has more than 2000 parts: ask for less at once, at character 1",
        ),
    ];
    for (line, expected) in cases {
        let error = parse(line).map(|filter| filter.to_string()).unwrap_err();
        assert_eq!(error.to_string(), expected, "{line}");
    }
}

#[test]
fn parentheses_that_change_nothing_leave_no_trace() {
    for (line, same) in [
        ("a? OR (b? OR c?)", "a? OR b? OR c?"),
        ("(a? (b? c?)) d?", "a? b? c? d?"),
        ("a? OR error", "a? OR status=error OR span.error=true"),
        ("{a?} OR ({b?} OR {c?})", "{a?} OR {b?} OR {c?}"),
        ("({a?} {b?}) {c?}", "{a?} {b?} {c?}"),
        ("a? OR (b? c?)", "a? OR b? c?"),
    ] {
        let filter = parse(line);
        assert_eq!(filter, parse(same), "{line}");
        assert_eq!(filter.map(|filter| filter.to_string()), Ok(same.to_owned()));
    }
}

proptest::proptest! {
    /// Nothing crashes, and what is read is shown in a way that means the same.
    #[test]
    fn any_line_is_read_or_refused(
        parts in proptest::collection::vec(proptest::sample::select(vec![
            "a", "b.c", "service", "span.", "trace:spans", "duration", "error", "root", "*", " ", " ",
            "=", "!=", "=~", "~", ">", ">>", "<", "!", "-", "?", ":", "\"", "\"x\"", "\\", "{", "}", "(",
            ")", " OR ", " AND ", "NOT ", "parent{", "child{", "5", "1s", "int:", "untyped:", "ä", "contains ",
        ]), 0..16)
    ) {
        let line = parts.concat();
        if let Ok(filter) = parse(&line) {
            let shown = filter.to_string();
            proptest::prop_assert_eq!(parse(&shown), Ok(filter), "{} as {}", line, shown);
        }
    }
}
