//! The text waterfall of a trace.

use std::collections::BTreeMap;

use super::skeleton::{SpanOut, TraceOut, Warning};
use crate::commands::instant;
use crate::commands::output::{Style, Tone, clean, duration};

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) style: Style,
    /// Spans that lie deeper are left out.
    pub(super) depth: Option<usize>,
    /// Only spans on the critical path, and what leads to them.
    pub(super) critical_only: bool,
    /// Only spans whose service or operation contains this, and what leads to them.
    pub(super) find: Option<&'a str>,
}

/// Columns if nobody says how many there are.
const DEFAULT_WIDTH: usize = 100;
const MIN_WIDTH: usize = 40;

/// Levels that are indented; deeper ones stand below each other.
const MAX_INDENT: usize = 24;

/// Parts of the critical path that are named.
const SHARES: usize = 5;

/// Draws the trace.
pub(super) fn render(trace: &TraceOut, warnings: &[Warning], view: View<'_>) -> String {
    let style = view.style;
    let width = style.width.unwrap_or(DEFAULT_WIDTH).max(MIN_WIDTH);
    let mut out = head(trace, style, width);
    if let Some(shares) = shares(trace, style) {
        out += &style.cut(&shares, width);
        out.push('\n');
    }
    let shown = shown(trace, view);
    let labels: Vec<String> = (trace.spans.iter())
        .map(|span| format!("{}{}", " ".repeat(span.depth.min(MAX_INDENT)), name(span)))
        .collect();
    let longest = (labels.iter().zip(&shown))
        .filter(|(_, shown)| **shown)
        .map(|(label, _)| label.chars().count())
        .max()
        .unwrap_or(0);
    let lanes = Lanes::new(longest, width);
    out += &style.paint(Tone::Faint, &lanes.axis(trace.duration_us, style));
    out.push('\n');
    for ((span, label), shown) in trace.spans.iter().zip(&labels).zip(&shown) {
        if *shown {
            out += &lanes.line(trace, span, label, style);
            out.push('\n');
        }
    }
    let hidden = shown.iter().filter(|shown| !**shown).count();
    if hidden > 0 {
        let note = format!("{hidden} of {} spans are not shown\n", trace.spans.len());
        out += &style.paint(Tone::Faint, &note);
    }
    for warning in warnings {
        let who = trace.spans.get(warning.row).map(name).unwrap_or_default();
        let line = format!("warning: {who}: {}", clean(&warning.text));
        out += &style.paint(Tone::Faint, &line);
        out.push('\n');
    }
    out
}

fn head(trace: &TraceOut, style: Style, width: usize) -> String {
    let root = trace.spans.first().map(name).unwrap_or_default();
    let errors = trace.spans.iter().filter(|span| span.error).count();
    let missing = trace
        .spans
        .iter()
        .filter(|span| span.parent_missing)
        .count();
    let services: std::collections::BTreeSet<&str> = trace
        .spans
        .iter()
        .map(|span| span.service.as_str())
        .collect();
    let mut facts = vec![
        duration(trace.duration_us, style),
        count(trace.spans.len(), "span"),
        count(services.len(), "service"),
    ];
    if errors > 0 {
        facts.push(format!(
            "{} {}",
            style.pick("✕", "!"),
            count(errors, "error")
        ));
    }
    if missing > 0 {
        facts.push(format!(
            "{} {}",
            style.pick("◌", "?"),
            count(missing, "missing parent")
        ));
    }
    let title = style.cut(&format!("{root}  {}", facts.join("  ")), width);
    let place = format!(
        "trace {}  {} UTC",
        trace.trace_id,
        instant::text(trace.start_us)
    );
    format!(
        "{}\n{}\n",
        style.paint(Tone::Strong, &title),
        style.paint(Tone::Faint, &style.cut(&place, width))
    )
}

fn count(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

fn name(span: &SpanOut) -> String {
    clean(format!("{} {}", span.service, span.operation).trim())
}

/// What the request waited for, by service.
fn shares(trace: &TraceOut, style: Style) -> Option<String> {
    let mut by_service: BTreeMap<&str, u64> = BTreeMap::new();
    for span in &trace.spans {
        *by_service.entry(&span.service).or_default() += span.critical_us;
    }
    let all: u64 = by_service.values().sum();
    if all == 0 {
        return None;
    }
    let mut shares: Vec<(&str, u64)> = by_service.into_iter().filter(|(_, us)| *us > 0).collect();
    shares.sort_by_key(|(_, us)| std::cmp::Reverse(*us));
    let percent = |us: u64| (us as f64 * 100.0 / all as f64).round();
    let named: Vec<String> = (shares.iter().take(SHARES))
        .map(|(service, us)| format!("{} {}%", clean(service), percent(*us)))
        .collect();
    let others: u64 = shares.iter().skip(SHARES).map(|(_, us)| us).sum();
    let between = style.pick(" · ", ", ");
    let mut line = format!("waited for: {}", named.join(between));
    if others > 0 {
        line += &format!("{between}others {}%", percent(others));
    }
    Some(line)
}

/// Which spans are drawn: those that the view asks for, and all on the way to them.
fn shown(trace: &TraceOut, view: View<'_>) -> Vec<bool> {
    let wanted = |span: &SpanOut| {
        (!view.critical_only || span.critical_us > 0)
            && view
                .find
                .is_none_or(|text| name(span).to_lowercase().contains(&text.to_lowercase()))
    };
    let mut shown = vec![false; trace.spans.len()];
    // Depth first: a span's ancestors are the last ones before it of every smaller depth.
    let mut way: Vec<usize> = Vec::new();
    for (at, span) in trace.spans.iter().enumerate() {
        way.truncate(span.depth);
        way.push(at);
        if wanted(span) {
            way.iter().for_each(|ancestor| shown[*ancestor] = true);
        }
    }
    if let Some(depth) = view.depth {
        for (shown, span) in shown.iter_mut().zip(&trace.spans) {
            *shown &= span.depth < depth;
        }
    }
    shown
}

/// Where the parts of a line stand.
struct Lanes {
    label: usize,
    bar: usize,
}

/// A duration, right-aligned, and what stands beside it.
const DURATION: usize = 8;

impl Lanes {
    fn new(longest: usize, width: usize) -> Self {
        let label = longest.min(width * 45 / 100).max(8);
        Self {
            label,
            bar: width.saturating_sub(label + DURATION + 4).max(10),
        }
    }

    fn axis(&self, all_us: u64, style: Style) -> String {
        let left = " ".repeat(self.label + DURATION + 4);
        let ticks = (self.bar / 14).clamp(1, 5);
        let mut line = String::new();
        for tick in 0..ticks {
            let text = match tick {
                0 => "0".to_owned(),
                _ => duration(all_us / ticks as u64 * tick as u64, style),
            };
            let at = self.bar * tick / ticks;
            line += &" ".repeat(at.saturating_sub(line.chars().count()));
            line += &text;
        }
        let end = duration(all_us, style);
        let room = self
            .bar
            .saturating_sub(line.chars().count() + end.chars().count());
        if room > 0 {
            line += &" ".repeat(room);
            line += &end;
        }
        left + &line
    }

    fn line(&self, trace: &TraceOut, span: &SpanOut, label: &str, style: Style) -> String {
        let label = style.cut(label, self.label);
        let space = " ".repeat(self.label - label.chars().count());
        let tone = if span.error { Tone::Bad } else { Tone::Plain };
        let mark = match (span.error, span.parent_missing) {
            (true, _) => style.pick("✕", "!"),
            (false, true) => style.pick("◌", "?"),
            (false, false) => " ",
        };
        format!(
            "{}{space} {:>DURATION$} {} {}",
            style.paint(tone, &label),
            duration(span.duration_us, style),
            style.paint(tone, mark),
            self.bar(trace, span, style)
        )
        .trim_end()
        .to_owned()
    }

    /// Full where the request waited for the span, shaded where it ran beside others.
    fn bar(&self, trace: &TraceOut, span: &SpanOut, style: Style) -> String {
        let all = u128::from(trace.duration_us.max(1));
        let cells = self.bar as u128;
        let start = span.start_us.saturating_sub(trace.start_us);
        let range = |start: u64, end: u64| {
            let first = (u128::from(start) * cells / all).min(cells - 1);
            let last = (u128::from(end) * cells)
                .div_ceil(all)
                .clamp(first + 1, cells);
            first..last
        };
        let own = range(start, start.saturating_add(span.duration_us));
        let waits: Vec<_> = span
            .critical
            .iter()
            .map(|(start, end)| range(*start, *end))
            .collect();
        let mut out = " ".repeat(usize::try_from(own.start).unwrap_or(0));
        let mut run: (Tone, String) = (Tone::Plain, String::new());
        for cell in own {
            let critical = waits.iter().any(|wait| wait.contains(&cell));
            let (tone, text) = match critical {
                true => (Tone::Critical, style.pick("█", "#")),
                false => (Tone::Faint, style.pick("░", "-")),
            };
            if tone != run.0 {
                out += &style.paint(run.0, &std::mem::take(&mut run.1));
                run.0 = tone;
            }
            run.1 += text;
        }
        out + &style.paint(run.0, &run.1)
    }
}

#[cfg(test)]
mod tests;
