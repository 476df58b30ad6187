use std::fmt::{Display, Write as _};

use periplus_xds::server::Histogram;

/// A page in Prometheus' text format.
#[derive(Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.line(name, value);
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.line(name, value);
    }

    /// One gauge for each value of a label.
    pub(super) fn gauges<'a, V: Display>(
        &mut self,
        (name, label): (&str, &str),
        help: &str,
        values: impl IntoIterator<Item = (&'a str, V)>,
    ) {
        self.head(name, "gauge", help);
        self.labelled((name, label), values);
    }

    /// One counter for each value of a label.
    pub(super) fn counters<'a>(
        &mut self,
        (name, label): (&str, &str),
        help: &str,
        values: impl IntoIterator<Item = (&'a str, u64)>,
    ) {
        self.head(name, "counter", help);
        self.labelled((name, label), values);
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        self.buckets(name, "", histogram);
    }

    /// One histogram for each type.
    pub(super) fn histograms<'a>(
        &mut self,
        name: &str,
        help: &str,
        of_types: impl IntoIterator<Item = (&'a str, &'a Histogram)>,
    ) {
        self.head(name, "histogram", help);
        for (kind, histogram) in of_types {
            self.buckets(name, &format!("type=\"{}\"", escaped(kind)), histogram);
        }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn buckets(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let comma = if labels.is_empty() { "" } else { "," };
        for (bound, count) in histogram.up_to() {
            let series = format!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}}");
            self.line(&series, count);
        }
        let series = format!("{name}_bucket{{{labels}{comma}le=\"+Inf\"}}");
        self.line(&series, histogram.count());
        let labels = match labels {
            "" => String::new(),
            labels => format!("{{{labels}}}"),
        };
        self.line(&format!("{name}_sum{labels}"), histogram.sum());
        self.line(&format!("{name}_count{labels}"), histogram.count());
    }

    fn labelled<'a, V: Display>(
        &mut self,
        (name, label): (&str, &str),
        values: impl IntoIterator<Item = (&'a str, V)>,
    ) {
        for (of, value) in values {
            self.line(&format!("{name}{{{label}=\"{}\"}}", escaped(of)), value);
        }
    }

    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    pub(super) fn line(&mut self, series: &str, value: impl Display) {
        let _ = writeln!(self.text, "{series} {value}");
    }
}

/// A label's value.
pub(super) fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
