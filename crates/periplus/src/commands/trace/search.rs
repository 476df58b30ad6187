use serde::{Deserialize, Serialize};

use crate::commands::client::{Client, Failure, ServerFlags, query};
use crate::commands::instant;
use crate::commands::output::{self, Looks, Style, Table, Tone, clean, left, right};

/// Flags that say which traces.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::commands) struct SearchFlags {
    /// A query line, such as: service=checkout 'duration>1s' error (all of docs/periplus-api.md)
    #[arg(value_name = "QUERY")]
    query: Vec<String>,

    /// How far back to look, such as 1h or 7d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = crate::commands::duration::parse)]
    since: std::time::Duration,
}

impl SearchFlags {
    /// The query line.
    pub(in crate::commands) fn line(&self) -> String {
        self.query.join(" ")
    }

    /// When to begin, in µs since 1970.
    pub(in crate::commands) fn start_us(&self) -> u64 {
        let since = u64::try_from(self.since.as_micros()).unwrap_or(u64::MAX);
        instant::now_us().saturating_sub(since)
    }
}

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    search: SearchFlags,

    /// Traces at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,

    /// How to print them
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    /// End with code 1 if there are none
    #[arg(long)]
    fail_on_empty: bool,

    #[command(flatten)]
    looks: Looks,

    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    /// One document
    Json,
    /// A trace in each line
    Jsonl,
    /// A trace in each line
    Csv,
    /// Nothing but ids, for `periplus trace get`
    Ids,
}

/// `GET /api/periplus/v1/search`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(in crate::commands) struct Found {
    pub(in crate::commands) traces: Vec<Item>,
    #[serde(default)]
    pub(in crate::commands) truncated: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) partial: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) next: Option<String>,
}

/// A trace in a list.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Item {
    pub(in crate::commands) trace_id: String,
    root: Root,
    pub(in crate::commands) start_us: u64,
    duration_us: u64,
    pub(in crate::commands) spans: u64,
    errors: u64,
    depth: u64,
    services: Vec<Service>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status_code: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Root {
    service: String,
    operation: String,
    missing: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Service {
    name: String,
    spans: u64,
    errors: u64,
}

impl Found {
    /// Asks the server.
    pub(in crate::commands) async fn load(
        client: &Client,
        line: &str,
        start_us: u64,
        limit: usize,
        after: &str,
    ) -> Result<Self, Failure> {
        let query = query(&[
            ("q", line),
            ("start", &start_us.to_string()),
            ("limit", &limit.to_string()),
            ("after", after),
        ]);
        client.get(&format!("/api/periplus/v1/search{query}")).await
    }
}

impl Item {
    const CSV_HEAD: [&'static str; 11] = [
        "traceId",
        "startUs",
        "durationUs",
        "spans",
        "errors",
        "depth",
        "services",
        "rootService",
        "rootOperation",
        "rootMissing",
        "statusCode",
    ];

    fn csv(&self) -> [String; 11] {
        let names: Vec<&str> = self
            .services
            .iter()
            .map(|service| service.name.as_str())
            .collect();
        [
            self.trace_id.clone(),
            self.start_us.to_string(),
            self.duration_us.to_string(),
            self.spans.to_string(),
            self.errors.to_string(),
            self.depth.to_string(),
            names.join(";"),
            self.root.service.clone(),
            self.root.operation.clone(),
            self.root.missing.to_string(),
            self.status_code.clone().unwrap_or_default(),
        ]
    }

    /// Cells of the table of traces.
    fn cells(&self, style: Style) -> Vec<(Tone, String)> {
        let bad = if self.errors > 0 {
            Tone::Bad
        } else {
            Tone::Plain
        };
        vec![
            (Tone::Plain, instant::text(self.start_us)),
            (Tone::Plain, output::duration(self.duration_us, style)),
            (Tone::Plain, self.spans.to_string()),
            (bad, self.errors.to_string()),
            (Tone::Plain, self.status_code.clone().unwrap_or_default()),
            (Tone::Faint, self.trace_id.clone()),
            (bad, self.title(style)),
        ]
    }

    fn title(&self, style: Style) -> String {
        let missing = if self.root.missing {
            style.pick(" ◌", " ?")
        } else {
            ""
        };
        format!(
            "{} {}{missing}",
            clean(&self.root.service),
            clean(&self.root.operation)
        )
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.server.client(None)?;
    let line = args.search.line();
    let found = Found::load(&client, &line, args.search.start_us(), args.limit, "").await?;
    let nothing = "no trace matches: look further back with --since, or ask for less";
    if found.traces.is_empty() && args.fail_on_empty {
        return Err(Failure::Nothing(nothing.to_owned()).into());
    }
    output::print(&render(&found, args.output, args.looks.style())?)?;
    if let Some(reason) = &found.partial {
        eprintln!("note: the search ended early, these are the newest: {reason}");
    } else if found.truncated {
        eprintln!("note: there are more; --limit shows more of them");
    }
    if found.traces.is_empty() {
        eprintln!("note: {nothing}");
    }
    Ok(())
}

fn render(found: &Found, output: Output, style: Style) -> anyhow::Result<String> {
    Ok(match output {
        Output::Table => {
            let mut table = Table::new(&[
                left("TIME (UTC)"),
                right("DURATION"),
                right("SPANS"),
                right("ERRORS"),
                right("HTTP"),
                left("TRACE"),
                left("ROOT"),
            ]);
            found
                .traces
                .iter()
                .for_each(|item| table.row(item.cells(style)));
            table.render(style)
        }
        Output::Json => output::json(found)?,
        Output::Jsonl => output::json_lines(&found.traces)?,
        Output::Csv => {
            let mut out = output::csv(&Item::CSV_HEAD.map(str::to_owned));
            found
                .traces
                .iter()
                .for_each(|item| out += &output::csv(&item.csv()));
            out
        }
        Output::Ids => (found.traces.iter())
            .map(|item| item.trace_id.clone() + "\n")
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_the_same_traces() {
        let found: Found = serde_json::from_str(
            r#"{"traces":[
              {"traceId":"463ac35c9f6413ad48485a3953bb6124","root":{"service":"gateway","operation":"GET /buy","missing":false},
               "startUs":1795332558270715,"durationUs":1240000,"spans":9,"errors":0,"depth":4,
               "services":[{"name":"gateway","spans":2,"errors":0},{"name":"shop","spans":7,"errors":0}],"statusCode":"200"},
              {"traceId":"00000000000000000000000000000abc","root":{"service":"shop","operation":"a,\"b\"\u001b[2J","missing":true},
               "startUs":1795332558000000,"durationUs":950,"spans":1,"errors":1,"depth":1,
               "services":[{"name":"shop","spans":1,"errors":1}]}],
              "limit":20,"truncated":true,"next":"x"}"#,
        )
        .unwrap();
        let plain = Style {
            color: false,
            ascii: false,
            width: None,
        };
        let narrow = Style {
            width: Some(90),
            ascii: true,
            ..plain
        };
        let mut all = String::new();
        for (output, style) in [
            (Output::Table, plain),
            (Output::Table, narrow),
            (Output::Csv, plain),
            (Output::Jsonl, plain),
            (Output::Ids, plain),
        ] {
            all += &format!(
                "--- {output:?} {:?}\n{}",
                style.width,
                render(&found, output, style).unwrap()
            );
        }
        insta::assert_snapshot!(all);
    }
}
