//! A builder that went back is as it was.

use periplus_model::Batch;
use periplus_segment::{Builder, EncodeOptions, Segment, Turns};
use periplus_workload::demo_requests;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::round_trip::check;
use crate::support::{batch, by_trace, shown};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_was_rolled_back_leaves_no_trace(
        before in vec(batch(), 0..3),
        undone in vec(batch(), 1..3),
        after in vec(batch(), 0..3),
    ) {
        let append = |builder: &mut Builder, batches: &[Batch]| {
            for batch in batches {
                builder.append(batch).expect("room");
            }
        };
        let mut builder = Builder::new();
        append(&mut builder, &before);
        let mark = builder.mark();
        append(&mut builder, &undone);
        builder.rollback(mark);
        let mut plain = Builder::new();
        append(&mut plain, &before);
        prop_assert_eq!(builder.red(), plain.red());
        append(&mut builder, &after);
        append(&mut plain, &after);
        let kept = [before, after].concat();
        for (id, spans) in by_trace(&kept) {
            prop_assert_eq!(builder.trace(id).map(|trace| shown(&trace)), Some(spans));
        }
        let options = EncodeOptions::default();
        let bytes = builder.encode(&options);
        prop_assert_eq!(&bytes, &plain.encode(&options));
        check(&Segment::open(bytes).expect("sound"), &kept);
    }
}

/// A builder that others look at between two turns.
struct Watched<'b> {
    builder: &'b mut Builder,
    looks: Vec<usize>,
}

impl Turns for Watched<'_> {
    fn builder(&mut self) -> &mut Builder {
        self.builder
    }

    fn pause(&mut self) {
        self.looks.push(self.builder.span_count());
    }
}

#[test]
fn others_get_a_turn_while_a_request_comes_in_and_a_bad_end_takes_all_of_it_back() {
    let requests: Vec<Vec<u8>> = demo_requests(4_000, 1_760_000_000_000_000_000, 2_000).collect();
    let mut builder = Builder::new();
    builder.append_otlp(&requests[0]).expect("room");
    let before = builder.span_count();
    let bytes = builder.encode(&EncodeOptions::default());

    let mut cut = requests[1].clone();
    cut.truncate(cut.len() - 1);
    let mut watched = Watched {
        builder: &mut builder,
        looks: Vec::new(),
    };
    Builder::append_otlp_by(&mut watched, &cut).expect_err("it is cut off");
    assert!(watched.looks.len() >= 3, "{:?}", watched.looks);
    for pair in watched.looks.windows(2) {
        assert!(pair[0] >= before && (1..=256).contains(&(pair[1] - pair[0])));
    }
    assert_eq!(builder.span_count(), before);
    assert_eq!(builder.encode(&EncodeOptions::default()), bytes);

    let mut whole = Builder::new();
    for request in &requests {
        whole.append_otlp(request).expect("room");
    }
    let mut watched = Watched {
        builder: &mut builder,
        looks: Vec::new(),
    };
    Builder::append_otlp_by(&mut watched, &requests[1]).expect("room");
    let options = EncodeOptions::default();
    assert_eq!(builder.encode(&options), whole.encode(&options));
}
