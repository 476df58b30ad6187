//! A builder that went back is as it was.

use periplus_model::Batch;
use periplus_segment::{Builder, EncodeOptions, Segment};
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
