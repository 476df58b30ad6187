//! What commands print: tables for people, JSON and CSV for programs.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

/// Flags that say how to print.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Looks {
    /// No colours, as with NO_COLOR; they are for terminals only in any case
    #[arg(long)]
    no_color: bool,

    /// Nothing but ASCII in what is drawn
    #[arg(long)]
    ascii: bool,
}

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) color: bool,
    pub(super) ascii: bool,
    /// Columns, if somebody looks at them.
    pub(super) width: Option<usize>,
}

impl Looks {
    /// What the flags and the surroundings say.
    pub(super) fn style(self) -> Style {
        let terminal = io::stdout().is_terminal();
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let forced = std::env::var_os("CLICOLOR_FORCE")
            .is_some_and(|value| !value.is_empty() && value != "0");
        let columns = std::env::var("COLUMNS")
            .ok()
            .and_then(|text| text.parse().ok());
        let measured = || {
            let (width, _) = terminal_size::terminal_size()?;
            terminal.then_some(usize::from(width.0))
        };
        Style {
            color: !self.no_color && !set("NO_COLOR") && (terminal || forced),
            ascii: self.ascii,
            width: columns.filter(|width| *width > 0).or_else(measured),
        }
    }
}

/// Something that stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Faint,
    Strong,
    Critical,
    Bad,
}

impl Style {
    /// The text in its colour, if there are colours.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            _ if !self.color || text.is_empty() => return text.to_owned(),
            Tone::Faint => "2",
            Tone::Strong => "1",
            Tone::Critical => "33",
            Tone::Bad => "31",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// The first text, or the second where only ASCII is wanted.
    pub(super) fn pick<'a>(self, text: &'a str, ascii: &'a str) -> &'a str {
        if self.ascii { ascii } else { text }
    }

    /// The text in so many columns, the end cut off if it has more.
    pub(super) fn cut(self, text: &str, columns: usize) -> String {
        if text.chars().count() <= columns {
            return text.to_owned();
        }
        let end = self.pick("…", "~");
        let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
        kept + end
    }
}

/// A text that came from elsewhere, without what would steer the terminal.
pub(super) fn clean(text: &str) -> String {
    let safe = |c: char| match c {
        '\t' | '\n' | '\r' => ' ',
        // Also what turns the direction of writing around.
        c if c.is_control() => '?',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => '?',
        c => c,
    };
    text.chars().map(safe).collect()
}

/// A table: a head, and rows of as many cells.
#[derive(Debug)]
pub(super) struct Table {
    head: Vec<Column>,
    rows: Vec<Vec<(Tone, String)>>,
}

/// A column's name and where its cells stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    name: &'static str,
    right: bool,
}

/// A column of texts.
pub(super) const fn left(name: &'static str) -> Column {
    Column { name, right: false }
}

/// A column of numbers.
pub(super) const fn right(name: &'static str) -> Column {
    Column { name, right: true }
}

impl Table {
    pub(super) fn new(head: &[Column]) -> Self {
        Self {
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, cells: Vec<(Tone, String)>) {
        self.rows.push(cells);
    }

    /// Its lines. Where there is a width, the last column bears the loss.
    pub(super) fn render(&self, style: Style) -> String {
        let widths: Vec<usize> = (self.head.iter().enumerate())
            .map(|(at, column)| {
                let cells = self.rows.iter().map(|row| row[at].1.chars().count());
                cells.max().unwrap_or(0).max(column.name.len())
            })
            .collect();
        let mut out = String::new();
        let head: Vec<(Tone, String)> = (self.head.iter())
            .map(|column| (Tone::Strong, column.name.to_owned()))
            .collect();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut used = 0;
            for (at, ((tone, text), width)) in row.iter().zip(&widths).enumerate() {
                let last = at + 1 == row.len();
                let room = style.width.map(|all| all.saturating_sub(used).max(1));
                let text = match room {
                    Some(room) if last => style.cut(text, room),
                    _ => text.clone(),
                };
                let space = " ".repeat(width.saturating_sub(text.chars().count()));
                let painted = style.paint(*tone, &text);
                if self.head[at].right {
                    out.push_str(&space);
                    out.push_str(&painted);
                } else {
                    out.push_str(&painted);
                    if !last {
                        out.push_str(&space);
                    }
                }
                if !last {
                    out.push_str("  ");
                }
                used += width + 2;
            }
            out.push('\n');
        }
        out
    }
}

/// A line of CSV (RFC 4180).
pub(super) fn csv(cells: &[String]) -> String {
    let cell = |text: &String| match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.clone(),
    };
    let cells: Vec<String> = cells.iter().map(cell).collect();
    cells.join(",") + "\r\n"
}

/// A value as JSON, for programs and for people who look.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Values as JSON, each in a line.
pub(super) fn json_lines<T: Serialize>(values: &[T]) -> anyhow::Result<String> {
    let mut out = String::new();
    for value in values {
        out += &serde_json::to_string(value)?;
        out.push('\n');
    }
    Ok(out)
}

/// Writes to standard output. That nobody reads on (as behind `| head`) is no error, and the end.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

/// A duration in three digits or so: `950µs`, `41.3ms`, `1.24s`, `2m05s`.
pub(super) fn duration(micros: u64, style: Style) -> String {
    let digits = |value: f64, unit: &str| {
        let decimals = match value {
            ..10.0 => 2,
            ..100.0 => 1,
            _ => 0,
        };
        format!("{value:.decimals$}{unit}")
    };
    match micros {
        ..1_000 => format!("{micros}{}", style.pick("µs", "us")),
        1_000..999_500 => digits(micros as f64 / 1e3, "ms"),
        999_500..59_950_000 => digits(micros as f64 / 1e6, "s"),
        59_950_000..3_600_000_000 => {
            let seconds = micros / 1_000_000;
            format!("{}m{:02}s", seconds / 60, seconds % 60)
        }
        _ => {
            let minutes = micros / 60_000_000;
            format!("{}h{:02}m", minutes / 60, minutes % 60)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style {
        color: false,
        ascii: false,
        width: None,
    };

    #[test]
    fn durations_have_three_digits() {
        for (micros, expected) in [
            (0, "0µs"),
            (999, "999µs"),
            (1_000, "1.00ms"),
            (41_250, "41.2ms"),
            (206_000, "206ms"),
            (1_240_000, "1.24s"),
            (59_900_000, "59.9s"),
            (125_000_000, "2m05s"),
            (3_720_000_000, "1h02m"),
        ] {
            assert_eq!(duration(micros, PLAIN), expected);
        }
    }

    #[test]
    fn foreign_text_does_not_steer_the_terminal() {
        assert_eq!(clean("a\u{1b}[2J\nb\u{202e}c"), "a?[2J b?c");
    }

    #[test]
    fn tables_fit() {
        let mut table = Table::new(&[left("NAME"), right("N"), left("REST")]);
        table.row(vec![
            (Tone::Plain, "ab".into()),
            (Tone::Bad, "12".into()),
            (Tone::Plain, "something long".into()),
        ]);
        assert_eq!(
            table.render(PLAIN),
            "NAME   N  REST\nab    12  something long\n"
        );
        let narrow = Style {
            width: Some(16),
            color: true,
            ..PLAIN
        };
        assert_eq!(
            table.render(narrow),
            "\u{1b}[1mNAME\u{1b}[0m   \u{1b}[1mN\u{1b}[0m  \u{1b}[1mREST\u{1b}[0m\n\
             ab    \u{1b}[31m12\u{1b}[0m  somet…\n"
        );
    }

    #[test]
    fn csv_is_quoted_where_it_must_be() {
        let cells = ["a", "b,c", "d\"e", ""].map(str::to_owned);
        assert_eq!(csv(&cells), "a,\"b,c\",\"d\"\"e\",\r\n");
    }
}
