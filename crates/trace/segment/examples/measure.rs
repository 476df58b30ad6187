//! What spans cost: CPU time to take, sort and encode them, bytes in memory and in a segment.
//!
//! `cargo run --release -p periplus-segment --example measure -- [demo|tracegen] [spans]`

use periplus_segment::{Builder, EncodeOptions};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let workload = arguments.next().unwrap_or_else(|| "demo".to_owned());
    let spans = arguments.next().and_then(|n| n.parse().ok());
    let spans: usize = spans.unwrap_or(500_000);
    let requests = match workload.as_str() {
        "demo" => periplus_workload::demo(spans, periplus_workload::START_UNIX_NANO),
        "tracegen" => periplus_workload::tracegen(spans / 10, 9, 10),
        other => panic!("there is no workload {other}; there are demo and tracegen"),
    };
    let bytes: usize = requests.iter().map(Vec::len).sum();
    println!(
        "{workload}: {spans} spans, {:.1} bytes of OTLP each",
        per_span(bytes, spans)
    );
    let builder = timed("walk and build", spans, 5, || {
        let mut builder = Builder::new();
        for request in &requests {
            let refused = builder.append_otlp(request).expect("valid requests");
            assert!(refused.is_empty());
        }
        builder
    });
    assert_eq!(builder.span_count(), spans);
    println!(
        "    {} traces, {:.1} bytes of heap per span",
        builder.trace_count(),
        per_span(builder.heap_bytes(), spans)
    );
    for group_spans in [2_048, 4_096, 8_192, 16_384] {
        let options = EncodeOptions::default().with_group_spans(group_spans);
        let what = format!("sort and encode, groups of {group_spans}");
        let segment = timed(&what, spans, 2, || builder.encode(&options));
        println!("    {:.2} bytes per span", per_span(segment.len(), spans));
    }
}

fn per_span(total: usize, spans: usize) -> f64 {
    total as f64 / spans as f64
}

/// Runs it a few times and prints the least CPU time.
fn timed<T>(what: &str, spans: usize, times: usize, mut run: impl FnMut() -> T) -> T {
    let mut best = f64::MAX;
    let mut result = run();
    for _ in 0..times {
        let begin = cpu_nano();
        result = run();
        best = best.min((cpu_nano() - begin) as f64);
    }
    println!("{what:<40} {:>8.1} ns/span", best / spans as f64);
    result
}

/// The CPU time of this thread, as Linux counts it.
fn cpu_nano() -> u64 {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has it");
    let nano = times.split(' ').next().and_then(|nano| nano.parse().ok());
    nano.expect("a number of nanoseconds")
}
