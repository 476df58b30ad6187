//! What every engine must do, written against `dyn SpanStore`.
//!
//! The acceptance cases of Jaeger's storage integration suite are all here
//! (`internal/storage/integration`), and what this contract promises beyond them. The times are
//! those of yesterday, so that an engine with a retention keeps the spans. An engine joins with a
//! line in `tests/conformance.rs`.

pub(crate) mod build;
mod calls;
mod content;
mod filters;
mod jaeger;
mod jaeger_cases;
mod lists;
mod order;
mod pages;
mod red;
mod relatives;

pub(crate) use calls::*;
pub(crate) use content::*;
pub(crate) use filters::*;
pub(crate) use jaeger::*;
pub(crate) use lists::*;
pub(crate) use order::*;
pub(crate) use pages::*;
pub(crate) use red::*;
pub(crate) use relatives::*;

/// A test per case for one engine: `conformance!(name, an expression that makes an empty store)`.
macro_rules! conformance {
    ($engine:ident, $make:expr) => {
        conformance! { $engine, $make;
            services_are_sorted_and_each_is_listed_once
            operations_are_listed_by_service_and_kind
            a_trace_comes_back_whole
            an_unknown_trace_is_not_an_error
            a_large_trace_comes_back_whole
            spans_with_the_same_id_are_all_kept
            a_trace_that_arrives_in_pieces_is_one
            a_batch_may_mix_traces
            odd_names_are_kept
            nothing_is_changed_on_the_way
            otlp_requests_are_taken_as_they_come
            rates_errors_and_durations_are_summed
            jaegers_find_traces_cases
            traces_are_found_without_a_service
            conditions_must_hold_on_one_span
            formulas_over_traces
            literals_compare_by_type
            intrinsics_compare
            scopes_are_looked_at_separately
            the_newest_traces_come_first_up_to_the_limit
            the_range_is_half_open_and_about_spans
            an_outline_has_what_it_was_asked_for
            a_dropped_search_disturbs_nothing
            a_search_beside_writers_answers_each_trace_once
            patterns_match_all_of_a_text
            ids_events_and_links_compare
            the_whole_trace_compares
            relatives_are_those_of_the_tree
            the_tree_is_that_of_the_whole_trace
            each_trace_is_on_one_page
            a_search_says_how_it_ended
            what_nobody_could_answer_is_refused
            attribute_keys_are_listed
            attribute_values_are_listed
            calls_are_summed_over_traces
            calls_count_if_their_span_starts_in_the_range
        }
    };
    ($engine:ident, $make:expr; $($case:ident)*) => {
        mod $engine {
            $(
                #[tokio::test]
                async fn $case() {
                    let store = std::sync::Arc::new($make);
                    crate::suite::$case(store).await;
                }
            )*
        }
    };
}
