//! All cases of h2spec, by its own numbers, with the test that has each.

/// What the rows of [`CASES`] are looked for in.
const SOURCES: [&str; 3] = [
    include_str!("rfc9113_conformance.rs"),
    include_str!("rfc9113_h2spec.rs"),
    include_str!("rfc9113_h2spec_requests.rs"),
];

#[test]
fn every_case_has_its_test() {
    let mut found = Vec::new();
    for source in SOURCES {
        let mut test = "";
        for line in source.lines() {
            if let Some(name) = line.strip_prefix("fn ") {
                test = name.split('(').next().expect("a name");
            }
            found.extend(numbers(line).map(|number| (number, test)));
        }
    }
    let missing: Vec<_> = CASES.iter().filter(|case| !found.contains(case)).collect();
    assert!(missing.is_empty(), "no test has {missing:?}");
    let unknown: Vec<_> = found.iter().filter(|case| !CASES.contains(case)).collect();
    assert!(unknown.is_empty(), "h2spec has no {unknown:?}");
}

/// The numbers of cases in a line: book, section and case, with slashes between.
fn numbers(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|c: char| !c.is_ascii_alphanumeric() && !"/.".contains(c));
    words.map(|word| word.trim_end_matches('.')).filter(|word| {
        let parts: Vec<_> = word.split('/').collect();
        matches!(parts[..], ["generic" | "http2" | "hpack", section, case]
            if section.starts_with(|c: char| c.is_ascii_digit()) && case.parse::<u8>().is_ok())
    })
}

/// The number of a case, and the test that has it under this number.
const CASES: [(&str, &str); 147] = [
    ("generic/1/1", "requests_in_every_form_are_answered"),
    ("generic/2/1", "what_is_allowed_disturbs_nobody"),
    ("generic/2/2", "what_is_allowed_disturbs_nobody"),
    ("generic/2/3", "what_is_allowed_disturbs_nobody"),
    ("generic/2/4", "what_is_allowed_disturbs_nobody"),
    ("generic/2/5", "what_is_allowed_disturbs_nobody"),
    ("generic/3.1/1", "requests_in_every_form_are_answered"),
    ("generic/3.1/2", "what_is_allowed_disturbs_nobody"),
    ("generic/3.1/3", "what_is_allowed_disturbs_nobody"),
    ("generic/3.2/1", "requests_in_every_form_are_answered"),
    ("generic/3.2/2", "requests_in_every_form_are_answered"),
    ("generic/3.2/3", "requests_in_every_form_are_answered"),
    ("generic/3.3/1", "what_is_allowed_disturbs_nobody"),
    ("generic/3.3/2", "what_is_allowed_disturbs_nobody"),
    ("generic/3.3/3", "what_is_allowed_disturbs_nobody"),
    ("generic/3.3/4", "what_is_allowed_disturbs_nobody"),
    ("generic/3.3/5", "what_is_allowed_disturbs_nobody"),
    ("generic/3.4/1", "what_is_allowed_disturbs_nobody"),
    ("generic/3.5/1", "requests_in_every_form_are_answered"),
    ("generic/3.7/1", "what_is_allowed_disturbs_nobody"),
    ("generic/3.8/1", "what_is_allowed_disturbs_nobody"),
    ("generic/3.9/1", "what_is_allowed_disturbs_nobody"),
    ("generic/3.9/2", "what_is_allowed_disturbs_nobody"),
    ("generic/3.10/1", "requests_in_every_form_are_answered"),
    ("generic/3.10/2", "requests_in_every_form_are_answered"),
    ("generic/4/1", "requests_in_every_form_are_answered"),
    ("generic/4/2", "requests_in_every_form_are_answered"),
    ("generic/4/3", "requests_in_every_form_are_answered"),
    ("generic/4/4", "requests_in_every_form_are_answered"),
    (
        "generic/5/1",
        "every_representation_of_a_field_is_understood",
    ),
    (
        "generic/5/2",
        "every_representation_of_a_field_is_understood",
    ),
    (
        "generic/5/3",
        "every_representation_of_a_field_is_understood",
    ),
    (
        "generic/5/4",
        "every_representation_of_a_field_is_understood",
    ),
    (
        "generic/5/5",
        "every_representation_of_a_field_is_understood",
    ),
    (
        "generic/5/6",
        "every_representation_of_a_field_is_understood",
    ),
    (
        "generic/5/7",
        "every_representation_of_a_field_is_understood",
    ),
    (
        "generic/5/8",
        "every_representation_of_a_field_is_understood",
    ),
    (
        "generic/5/9",
        "every_representation_of_a_field_is_understood",
    ),
    (
        "generic/5/10",
        "every_representation_of_a_field_is_understood",
    ),
    (
        "generic/5/11",
        "every_representation_of_a_field_is_understood",
    ),
    (
        "generic/5/12",
        "every_representation_of_a_field_is_understood",
    ),
    (
        "generic/5/13",
        "every_representation_of_a_field_is_understood",
    ),
    (
        "generic/5/14",
        "every_representation_of_a_field_is_understood",
    ),
    (
        "generic/5/15",
        "every_representation_of_a_field_is_understood",
    ),
    (
        "http2/3.5/1",
        "a_connection_begins_with_settings_and_ends_behind_its_goaway",
    ),
    ("http2/3.5/2", "limits_and_beginnings"),
    ("http2/4.1/1", "what_is_unknown_is_ignored"),
    ("http2/4.1/2", "what_is_allowed_disturbs_nobody"),
    ("http2/4.1/3", "what_is_allowed_disturbs_nobody"),
    ("http2/4.2/1", "requests_in_every_form_are_answered"),
    ("http2/4.2/2", "errors_of_the_connection"),
    ("http2/4.2/3", "offences_end_the_stream_or_the_connection"),
    ("http2/4.3/1", "offences_end_the_stream_or_the_connection"),
    ("http2/4.3/2", "offences_end_the_stream_or_the_connection"),
    ("http2/4.3/3", "offences_end_the_stream_or_the_connection"),
    ("http2/5.1/1", "errors_of_the_connection"),
    ("http2/5.1/2", "errors_of_the_connection"),
    ("http2/5.1/3", "errors_of_the_connection"),
    ("http2/5.1/4", "offences_end_the_stream_or_the_connection"),
    ("http2/5.1/5", "errors_of_the_connection"),
    ("http2/5.1/6", "offences_end_the_stream_or_the_connection"),
    ("http2/5.1/7", "offences_end_the_stream_or_the_connection"),
    ("http2/5.1/8", "a_closed_stream_takes_nothing_any_more"),
    ("http2/5.1/9", "a_closed_stream_takes_nothing_any_more"),
    ("http2/5.1/10", "offences_end_the_stream_or_the_connection"),
    ("http2/5.1/11", "a_closed_stream_takes_nothing_any_more"),
    ("http2/5.1/12", "a_closed_stream_takes_nothing_any_more"),
    ("http2/5.1/13", "a_closed_stream_takes_nothing_any_more"),
    ("http2/5.1.1/1", "errors_of_the_connection"),
    ("http2/5.1.1/2", "errors_of_the_connection"),
    ("http2/5.1.2/1", "limits_and_beginnings"),
    ("http2/5.3.1/1", "offences_end_the_stream_or_the_connection"),
    ("http2/5.3.1/2", "offences_end_the_stream_or_the_connection"),
    (
        "http2/5.4.1/1",
        "a_connection_begins_with_settings_and_ends_behind_its_goaway",
    ),
    ("http2/5.4.1/2", "errors_of_the_connection"),
    ("http2/5.5/1", "what_is_unknown_is_ignored"),
    ("http2/5.5/2", "offences_end_the_stream_or_the_connection"),
    ("http2/6.1/1", "errors_of_the_connection"),
    ("http2/6.1/2", "errors_of_the_connection"),
    ("http2/6.1/3", "errors_of_the_connection"),
    ("http2/6.2/1", "offences_end_the_stream_or_the_connection"),
    ("http2/6.2/2", "offences_end_the_stream_or_the_connection"),
    ("http2/6.2/3", "errors_of_the_connection"),
    ("http2/6.2/4", "offences_end_the_stream_or_the_connection"),
    ("http2/6.3/1", "errors_of_the_connection"),
    ("http2/6.3/2", "offences_end_the_stream_or_the_connection"),
    ("http2/6.4/1", "errors_of_the_connection"),
    ("http2/6.4/2", "errors_of_the_connection"),
    ("http2/6.4/3", "errors_of_the_connection"),
    ("http2/6.5/1", "errors_of_the_connection"),
    ("http2/6.5/2", "errors_of_the_connection"),
    ("http2/6.5/3", "errors_of_the_connection"),
    ("http2/6.5.2/1", "errors_of_the_connection"),
    ("http2/6.5.2/2", "errors_of_the_connection"),
    ("http2/6.5.2/3", "errors_of_the_connection"),
    ("http2/6.5.2/4", "offences_end_the_stream_or_the_connection"),
    ("http2/6.5.2/5", "what_is_allowed_disturbs_nobody"),
    ("http2/6.5.3/1", "windows_of_streams_are_heeded"),
    ("http2/6.5.3/2", "windows_of_streams_are_heeded"),
    ("http2/6.7/1", "what_is_unknown_is_ignored"),
    ("http2/6.7/2", "what_is_allowed_disturbs_nobody"),
    ("http2/6.7/3", "errors_of_the_connection"),
    ("http2/6.7/4", "errors_of_the_connection"),
    ("http2/6.8/1", "errors_of_the_connection"),
    ("http2/6.9/1", "errors_of_the_connection"),
    (
        "http2/6.9/2",
        "malformed_requests_are_errors_of_their_stream",
    ),
    ("http2/6.9/3", "errors_of_the_connection"),
    ("http2/6.9.1/1", "windows_of_streams_are_heeded"),
    ("http2/6.9.1/2", "errors_of_the_connection"),
    ("http2/6.9.1/3", "offences_end_the_stream_or_the_connection"),
    ("http2/6.9.2/1", "windows_of_streams_are_heeded"),
    ("http2/6.9.2/2", "windows_of_streams_are_heeded"),
    ("http2/6.9.2/3", "errors_of_the_connection"),
    ("http2/6.10/1", "requests_in_every_form_are_answered"),
    ("http2/6.10/2", "offences_end_the_stream_or_the_connection"),
    ("http2/6.10/3", "offences_end_the_stream_or_the_connection"),
    ("http2/6.10/4", "offences_end_the_stream_or_the_connection"),
    ("http2/6.10/5", "offences_end_the_stream_or_the_connection"),
    ("http2/6.10/6", "offences_end_the_stream_or_the_connection"),
    ("http2/7/1", "what_is_allowed_disturbs_nobody"),
    ("http2/7/2", "what_is_allowed_disturbs_nobody"),
    (
        "http2/8.1/1",
        "malformed_requests_are_errors_of_their_stream",
    ),
    (
        "http2/8.1.2/1",
        "malformed_requests_are_errors_of_their_stream",
    ),
    (
        "http2/8.1.2.1/1",
        "malformed_requests_are_errors_of_their_stream",
    ),
    (
        "http2/8.1.2.1/2",
        "malformed_requests_are_errors_of_their_stream",
    ),
    (
        "http2/8.1.2.1/3",
        "a_pseudo_header_field_among_trailers_goes_nowhere",
    ),
    (
        "http2/8.1.2.1/4",
        "malformed_requests_are_errors_of_their_stream",
    ),
    (
        "http2/8.1.2.2/1",
        "malformed_requests_are_errors_of_their_stream",
    ),
    (
        "http2/8.1.2.2/2",
        "malformed_requests_are_errors_of_their_stream",
    ),
    (
        "http2/8.1.2.3/1",
        "malformed_requests_are_errors_of_their_stream",
    ),
    (
        "http2/8.1.2.3/2",
        "malformed_requests_are_errors_of_their_stream",
    ),
    (
        "http2/8.1.2.3/3",
        "malformed_requests_are_errors_of_their_stream",
    ),
    (
        "http2/8.1.2.3/4",
        "malformed_requests_are_errors_of_their_stream",
    ),
    (
        "http2/8.1.2.3/5",
        "malformed_requests_are_errors_of_their_stream",
    ),
    (
        "http2/8.1.2.3/6",
        "offences_end_the_stream_or_the_connection",
    ),
    (
        "http2/8.1.2.3/7",
        "malformed_requests_are_errors_of_their_stream",
    ),
    (
        "http2/8.1.2.6/1",
        "malformed_requests_are_errors_of_their_stream",
    ),
    (
        "http2/8.1.2.6/2",
        "offences_end_the_stream_or_the_connection",
    ),
    ("http2/8.2/1", "errors_of_the_connection"),
    ("hpack/2.3.3/1", "errors_of_the_connection"),
    ("hpack/2.3.3/2", "offences_end_the_stream_or_the_connection"),
    ("hpack/4.2/1", "offences_end_the_stream_or_the_connection"),
    ("hpack/5.2/1", "offences_end_the_stream_or_the_connection"),
    ("hpack/5.2/2", "offences_end_the_stream_or_the_connection"),
    ("hpack/5.2/3", "offences_end_the_stream_or_the_connection"),
    ("hpack/6.1/1", "offences_end_the_stream_or_the_connection"),
    ("hpack/6.3/1", "errors_of_the_connection"),
];
