//! `docs/segment-format.md` is enough to read segments: this reader was written from it, shares no code with
//! ours, and reads the same. Whatever the page does not allow is a panic.

mod columns;
mod encodings;
mod file;
mod rows;
mod sections;

use periplus_segment::Segment;

use crate::golden;
use crate::support::shown;
use file::File;

#[test]
fn the_page_is_enough_to_read_a_segment() {
    // Whether it has zones and filters of texts, which came later.
    for (name, zones) in [
        ("v1.seg", false),
        ("v1-columns.seg", true),
        ("v1-merged.seg", true),
    ] {
        let bytes = golden::file(name, Vec::new);
        let file = File::read(&bytes);
        let ours = Segment::open(bytes.clone()).expect("a sound segment");
        let traces = file.all();
        for (id, groups) in &traces {
            let trace = ours.trace(*id).expect("sound").expect("the trace");
            assert_eq!(shown(groups), shown(&trace), "{name}: {id}");
        }
        let spans = || traces.values().flatten();
        assert_eq!(
            (file.spans, file.traces),
            (spans().count() as u64, traces.len() as u64)
        );
        let info = ours.info();
        assert_eq!((file.spans, file.traces), (info.spans, info.traces));
        let ends = spans().map(|group| group.spans[0].end_unix_nano);
        assert_eq!(Some(file.last_end), ends.max(), "{name}");

        if zones {
            let pieces: usize = file.groups.iter().map(|group| group.traces).sum();
            assert!(pieces > traces.len(), "{name}: a trace in pieces");
            let mut columns = file.tables[0].columns.iter();
            assert!(
                columns.any(|column| column.ty == 7),
                "{name}: a residual column"
            );
        }

        file.check_index();
        assert_eq!(file.check_zones(), zones, "{name}");
        let operations = file.operations();
        let expected = sections::operations_of(spans());
        assert_eq!(operations, expected, "{name}");
        assert_eq!(
            file.points(),
            sections::points_of(spans(), &operations),
            "{name}"
        );
        let calls = ours.calls().expect("sound");
        let edges = calls.edges.iter().map(|edge| {
            let (caller, called) = (edge.parent.clone(), edge.child.clone());
            let minute = edge.start_unix_nano / 60_000_000_000;
            (minute, caller, called, edge.calls, edge.errors)
        });
        assert_eq!(
            file.calls(),
            (edges.collect(), calls.unsettled.clone()),
            "{name}"
        );
    }
}
