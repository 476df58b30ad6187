//! The tables, those lines included that we lose.

use std::time::Duration;

use super::corpus::Corpus;
use super::questions::{self, Answer, Answers};
use super::{crowd, ours, peers};

/// A line of the first table.
struct Line<'a> {
    name: &'a str,
    take_us: f64,
    compact_us: f64,
    bytes: f64,
    peak_mib: f64,
    note: String,
}

/// Prints what it cost to take the spans, and how long answers took.
pub(super) fn print(corpus: &Corpus, ours: Option<&ours::Result>, theirs: &[peers::Result]) {
    let spans = corpus.spans as f64;
    println!(
        "\n### {}: {} spans, {:.1} bytes of OTLP each\n",
        corpus.workload.name(),
        corpus.spans,
        corpus.bytes as f64 / spans
    );
    let mut lines = Vec::new();
    if let Some(ours) = ours {
        lines.push(line_of_ours(ours, spans));
    }
    lines.extend(theirs.iter().map(|result| line_of(result, spans)));
    print_lines(&lines);

    let mut columns: Vec<(&str, &Answers)> = Vec::new();
    if let Some(ours) = ours {
        columns.push(("Periplus, HTTP", &ours.http));
        columns.push(("Periplus, library", &ours.library));
    }
    columns.extend(theirs.iter().map(|r| (&*r.title, &r.answers)));
    print_answers(&columns);
    if let Some(ours) = ours {
        print_losses(&lines, &columns);
        print_crowd(ours);
    }
}

fn print_crowd(ours: &ours::Result) {
    let (crowd, spans_per_second) = &ours.crowd;
    println!(
        "\n{} at once, with traces by id, the newest 20 of a service and rare values in turns, while {spans_per_second:.0} \
         spans/s came in: {:.0} answers/s, p50 {} ms, p99 {} ms; {} of {} wrong.",
        crowd::PEOPLE,
        crowd.per_second,
        short(crowd.p50_ms),
        short(crowd.p99_ms),
        crowd.wrong,
        crowd.answers
    );
}

fn line_of_ours(ours: &ours::Result, spans: f64) -> Line<'static> {
    Line {
        name: "Periplus, OTLP/HTTP, fsync",
        take_us: per_span(ours.take_cpu, spans),
        compact_us: per_span(ours.settle_cpu, spans),
        bytes: ours.segment_bytes as f64 / spans,
        peak_mib: ours.peak_mib,
        note: format!(
            "{:.0} spans/s; {} requests, {} asked to come again; acknowledged after {:.1} ms (p99 {:.0} ms); {} segments, {:.1} B/span with all other files; {:.0} MiB after a restart and all questions",
            ours.spans_per_second,
            ours.requests,
            ours.refused,
            ours.ack_ms.0,
            ours.ack_ms.1,
            ours.segments,
            ours.directory_bytes as f64 / spans,
            ours.served_mib
        ),
    }
}

fn line_of(result: &peers::Result, spans: f64) -> Line<'_> {
    let micros = |seconds: f64| seconds * 1e6 / spans;
    Line {
        name: &result.title,
        take_us: micros(result.insert_cpu_s),
        compact_us: micros(result.compact_cpu_s),
        bytes: result.disk_bytes as f64 / spans,
        peak_mib: result.peak_kib as f64 / 1024.0,
        note: format!(
            "{}; {}; {:.0} spans/s into it",
            result.version,
            result.note,
            spans / result.insert_wall_s
        ),
    }
}

fn per_span(time: Duration, spans: f64) -> f64 {
    time.as_secs_f64() * 1e6 / spans
}

fn print_lines(lines: &[Line<'_>]) {
    println!(
        "| engine | CPU µs/span to take | to compact | in all | spans/s per core | B/span on disk | MiB | |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for line in lines {
        let all = line.take_us + line.compact_us;
        println!(
            "| {} | {:.2} | {:.2} | **{all:.2}** | {:.0} | **{:.1}** | {:.0} | {} |",
            line.name,
            line.take_us,
            line.compact_us,
            1e6 / all,
            line.bytes,
            line.peak_mib,
            line.note
        );
    }
}

fn print_answers(columns: &[(&str, &Answers)]) {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    println!("\n| p50 / p99 ms (CPU ms) | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(columns.len()));
    for question in questions::ALL {
        let cells: Vec<String> = columns
            .iter()
            .map(|(_, answers)| answers.get(question).map_or("–".to_owned(), cell))
            .collect();
        println!("| {question} | {} |", cells.join(" | "));
    }
}

fn cell(answer: &Answer) -> String {
    if answer.failed.is_some() {
        return "**failed**".to_owned();
    }
    let wrong = match answer.wrong {
        0 => String::new(),
        n => format!(", **{n} of {} wrong**", answer.repetitions),
    };
    format!(
        "{} / {} ({}){wrong}",
        short(answer.p50_ms),
        short(answer.p99_ms),
        short(answer.cpu_ms)
    )
}

fn short(ms: f64) -> String {
    match ms {
        _ if ms < 1.0 => format!("{ms:.2}"),
        _ if ms < 100.0 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}

/// Everything in which a peer is better than we are; the first line and the first column are ours.
fn print_losses(lines: &[Line<'_>], columns: &[(&str, &Answers)]) {
    let mut losses = Vec::new();
    if let Some((ours, theirs)) = lines.split_first() {
        type Measure = fn(&Line<'_>) -> f64;
        let measures: [(&str, Measure); 3] = [
            ("CPU per span", |line| line.take_us + line.compact_us),
            ("bytes per span", |line| line.bytes),
            ("memory", |line| line.peak_mib),
        ];
        for (what, of) in measures {
            for their in theirs.iter().filter(|their| of(their) < of(ours)) {
                losses.push(format!(
                    "{what}: {:.1} against {:.1} of {}",
                    of(ours),
                    of(their),
                    their.name
                ));
            }
        }
    }
    // Our HTTP column against theirs; the library is in theirs' place when they are in process.
    let (ours, theirs) = (columns[0].1, columns.get(2..).unwrap_or_default());
    for question in questions::ALL {
        for (name, answers) in theirs {
            let Some(their) = right(answers, question) else {
                continue;
            };
            match right(ours, question) {
                None => losses.push(format!("{question}: we have no answer, {name} has")),
                Some(our) if our.p50_ms > their.p50_ms => losses.push(format!(
                    "{question}: {} ms against {} ms of {name}",
                    short(our.p50_ms),
                    short(their.p50_ms)
                )),
                Some(_) => {}
            }
        }
    }
    println!("\nWhere we lose:\n");
    if losses.is_empty() {
        println!("* nowhere in these tables");
    }
    for loss in losses {
        println!("* {loss}");
    }
}

/// The answer, if it came.
fn right<'a>(answers: &'a Answers, question: &str) -> Option<&'a Answer> {
    let answer = answers.get(question)?;
    answer.failed.is_none().then_some(answer)
}

/// What was promised and what was measured.
struct Gate {
    promise: String,
    measured: Option<(f64, String)>,
    limit: f64,
}

/// Prints what we promise; gives the number of promises that are missed.
pub(super) fn print_gates(corpus: &Corpus, ours: &ours::Result) -> usize {
    println!("\n| promise | measured | |\n|---|---|---|");
    let mut missed = 0;
    for gate in gates(corpus, ours) {
        let (measured, verdict) = match &gate.measured {
            None => ("no such answer".to_owned(), "missed"),
            Some((value, text)) if *value <= gate.limit => (text.clone(), "met"),
            Some((_, text)) => (text.clone(), "missed"),
        };
        missed += usize::from(verdict == "missed");
        println!("| {} | {measured} | {verdict} |", gate.promise);
    }
    missed
}

fn gates(corpus: &Corpus, ours: &ours::Result) -> Vec<Gate> {
    let spans = corpus.spans as f64;
    let all = per_span(ours.take_cpu + ours.settle_cpu, spans);
    let number = |value: f64, unit: &str| Some((value, format!("{value:.2} {unit}")));
    let p50 = |answers: &Answers, question: &str| {
        let answer = right(answers, question)?;
        let text = format!(
            "p50 {} ms, p99 {} ms",
            short(answer.p50_ms),
            short(answer.p99_ms)
        );
        Some((answer.p50_ms, text))
    };
    let http = |promise: &str, question, limit| Gate {
        promise: promise.to_owned(),
        measured: p50(&ours.http, question),
        limit,
    };
    let mut gates = vec![
        Gate {
            promise: "CPU per span in all ≤ 2.5 µs (400,000 spans/s per core)".to_owned(),
            measured: number(all, "µs"),
            limit: 2.5,
        },
        Gate {
            promise: "≤ 40 bytes per span on disk (of `demo`)".to_owned(),
            measured: number(ours.segment_bytes as f64 / spans, "B"),
            limit: 40.0,
        },
        Gate {
            promise: "trace by id, p99 ≤ 5 ms".to_owned(),
            measured: p50(&ours.http, questions::TRACE)
                .map(|(_, text)| (ours.http[questions::TRACE].p99_ms, text)),
            limit: 5.0,
        },
        http("absent id ≤ 1 ms", questions::ABSENT_TRACE, 1.0),
        http("newest 20 of a service ≤ 2 ms", questions::NEWEST, 2.0),
        http("rare value ≤ 10 ms", questions::RARE, 10.0),
        http("absent value ≤ 2 ms", questions::ABSENT_VALUE, 2.0),
        http("services ≤ 1 ms", questions::SERVICES, 1.0),
        http(
            "dependency graph of 1 h ≤ 10 ms",
            questions::DEPENDENCIES,
            10.0,
        ),
        http(
            "RED of 1 h of all operations ≤ 10 ms",
            questions::RED_HOUR,
            10.0,
        ),
        http(
            "RED of 1 h of a service, by the minute ≤ 10 ms",
            questions::RED_SERVICE,
            10.0,
        ),
        Gate {
            promise: "resident memory while spans are taken ≤ 300 MB".to_owned(),
            measured: number(ours.peak_mib * 1.048_576, "MB"),
            limit: 300.0,
        },
        Gate {
            promise: "open ≤ 200 ms".to_owned(),
            measured: Some((
                ours.ready_after.as_secs_f64() * 1e3,
                format!(
                    "{:.0} ms until the server is ready, {:.0} ms of them for the store",
                    ours.ready_after.as_secs_f64() * 1e3,
                    ours.opened.as_secs_f64() * 1e3
                ),
            )),
            limit: 200.0,
        },
    ];
    gates.push(Gate {
        promise: format!(
            "{} at once while spans are taken: none wrong",
            crowd::PEOPLE
        ),
        measured: number(ours.crowd.0.wrong as f64, "wrong"),
        limit: 0.0,
    });
    for question in ours::WHILE_LOADING {
        gates.push(Gate {
            promise: format!("{question} while spans are taken ≤ 2 × idle, p50 and p99"),
            measured: slowdown(ours, question),
            limit: 2.0,
        });
    }
    if corpus.facts.too_long.is_some() {
        gates.push(Gate {
            promise: "scan of 3 predicates ≥ 300 M spans/s per core".to_owned(),
            measured: right(&ours.library, questions::SCAN).map(|answer| {
                let nano = answer.cpu_ms * 1e6 / spans;
                (nano, format!("{:.0} M spans/s per core", 1e3 / nano))
            }),
            limit: 1e3 / 300.0,
        });
    }
    gates
}

/// By how much answers are slower while spans come in: the larger of median and 99th percentile.
fn slowdown(ours: &ours::Result, question: &str) -> Option<(f64, String)> {
    let idle = right(&ours.http, question)?;
    let busy = right(&ours.while_loading, question)?;
    let (p50, p99) = (busy.p50_ms / idle.p50_ms, busy.p99_ms / idle.p99_ms);
    let text = format!(
        "{p50:.1} × (p50 {} ms), {p99:.1} × (p99 {} ms)",
        short(busy.p50_ms),
        short(busy.p99_ms)
    );
    Some((p50.max(p99), text))
}
