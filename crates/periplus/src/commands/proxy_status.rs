//! Which proxies are connected to the control plane, and whether they run on what they were sent.

use serde_json::Value;

use super::client::Failure;
use super::control_plane::{ControlFlags, Output};
use super::output::{self, Column, Looks, Style, Table, Tone, clean, left, right};

/// Flags.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "SYNCED: it runs on what it was sent last. STALE: it has not acknowledged that. ERROR: it has \
                        refused it. NOT SENT: nothing of this type was there to send.\n\n\
                        Exit codes: 0 all that are shown are in sync, 1 some are not, or there is no such proxy, 2 \
                        usage, 3 no control plane, 4 no answer in time."
)]
pub(crate) struct Args {
    /// One proxy, as the list names it, or the beginning of its name: what it has of each type
    #[arg(value_name = "PROXY")]
    proxy: Option<String>,

    /// A column for each type
    #[arg(short, long)]
    verbose: bool,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    looks: Looks,

    #[command(flatten)]
    control: ControlFlags,
}

/// The types, by istiod's names and by those of xDS.
const TYPES: [(&str, &str); 5] = [
    ("cluster", "CDS"),
    ("listener", "LDS"),
    ("endpoint", "EDS"),
    ("route", "RDS"),
    ("secret", "SDS"),
];

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (rows, server) = super::block_on(async {
        let client = args.control.client()?;
        let rows: Vec<Value> = client.get("/debug/syncz").await?;
        Ok((rows, client.server().to_owned()))
    })?;
    let host = server.split("://").last().unwrap_or(&server).to_owned();
    let style = args.looks.style();
    let (shown, text) = match &args.proxy {
        None => {
            let text = match args.verbose {
                true => by_type(&rows, &host, style),
                false => summary(&rows, &host, style),
            };
            (rows, text)
        }
        Some(name) => {
            let row = find(&rows, name)?;
            let text = one(&row, style);
            (vec![row], text)
        }
    };
    output::print(&match (args.output, &args.proxy, shown.first()) {
        (Output::Json, Some(_), Some(row)) => output::json(row)?,
        (Output::Json, ..) => output::json(&shown)?,
        (Output::Table, ..) => text,
    })?;
    if shown.is_empty() {
        eprintln!("note: no proxy is connected");
    }
    match shown
        .iter()
        .any(|row| TYPES.iter().any(|(key, _)| is_bad(status(row, key))))
    {
        true => Err(super::outcome::Exit(1).into()),
        false => Ok(()),
    }
}

/// The proxy of a name, or the only one whose name begins so.
pub(super) fn find(rows: &[Value], name: &str) -> Result<Value, Failure> {
    let exact = rows.iter().position(|row| text(row, "proxy") == name);
    let begins = |row: &Value| text(row, "proxy").starts_with(name);
    let found = match exact {
        Some(at) => vec![at],
        None => (rows.iter().enumerate())
            .filter(|(_, row)| begins(row))
            .map(|(at, _)| at)
            .collect(),
    };
    let names = |at: &[usize]| -> String {
        let names = at.iter().map(|at| text(&rows[*at], "proxy"));
        names.collect::<Vec<_>>().join(", ")
    };
    let all: Vec<usize> = (0..rows.len()).collect();
    match (found.as_slice(), rows.is_empty()) {
        ([at], _) => Ok(rows[*at].clone()),
        ([], true) => Err(Failure::Nothing(format!(
            "no proxy `{name}` is connected: none is"
        ))),
        ([], false) => Err(Failure::Nothing(format!(
            "no proxy `{name}` is connected: there are {}",
            names(&all)
        ))),
        (several, _) => Err(Failure::Nothing(format!(
            "`{name}` may be any of {}: write more of it",
            names(several)
        ))),
    }
}

fn summary(rows: &[Value], host: &str, style: Style) -> String {
    let mut table = Table::new(&[
        left("NAME"),
        left("CLUSTER"),
        left("ISTIOD"),
        left("VERSION"),
        left("SUBSCRIBED TYPES"),
    ]);
    for row in rows {
        let has = |key: &&(&str, &str)| !row["resources"][key.0].is_null();
        let types: Vec<_> = TYPES.iter().filter(has).map(|(_, name)| *name).collect();
        let mut subscribed = format!("{} ({})", types.len(), types.join(","));
        let mut tone = Tone::Plain;
        for wanted in ["STALE", "ERROR"] {
            let such = TYPES.iter().filter(|(key, _)| status(row, key) == wanted);
            let such: Vec<_> = such.map(|(_, name)| *name).collect();
            if !such.is_empty() {
                subscribed += &format!(", {wanted}: {}", such.join(","));
                tone = Tone::Bad;
            }
        }
        let mut cells = head(row, host);
        cells.push((tone, subscribed));
        table.row(cells);
    }
    table.render(style)
}

/// Name, cluster, control plane and version.
fn head(row: &Value, host: &str) -> Vec<(Tone, String)> {
    let cells = [
        text(row, "proxy"),
        text(row, "cluster_id"),
        host,
        text(row, "istio_version"),
    ];
    cells.map(|cell| (Tone::Plain, clean(cell))).into()
}

fn by_type(rows: &[Value], host: &str, style: Style) -> String {
    let mut columns: Vec<Column> = ["NAME", "CLUSTER", "ISTIOD", "VERSION"].map(left).into();
    columns.extend(TYPES.iter().map(|(_, name)| left(name)));
    let mut table = Table::new(&columns);
    for row in rows {
        let mut cells = head(row, host);
        cells.extend(TYPES.iter().map(|(key, _)| {
            let status = status(row, key);
            (tone(status), status.to_owned())
        }));
        table.row(cells);
    }
    table.render(style)
}

/// What one proxy has of each type, and what it has refused.
fn one(row: &Value, style: Style) -> String {
    let mut table = Table::new(&[
        left("TYPE"),
        left("STATUS"),
        right("NAMES"),
        left("SENT"),
        left("ACKED"),
        left("LAST ERROR"),
    ]);
    for (key, name) in TYPES {
        let resource = &row["resources"][key];
        let status = status(row, key);
        // Who asks for no names asks for all.
        let names = match (resource.is_null(), resource["names"].as_u64()) {
            (true, _) => "-".to_owned(),
            (false, None) => "all".to_owned(),
            (false, Some(count)) => count.to_string(),
        };
        table.row(vec![
            (Tone::Plain, name.to_owned()),
            (tone(status), status.to_owned()),
            (Tone::Plain, names),
            (Tone::Plain, clean(text(resource, "sentVersion"))),
            (Tone::Plain, clean(text(resource, "ackedVersion"))),
            (Tone::Bad, clean(text(resource, "lastError"))),
        ]);
    }
    let notes = row["notes"].as_array().into_iter().flatten();
    let notes = notes.filter_map(Value::as_str);
    let notes = notes.map(|note| format!("note: {}\n", clean(note)));
    table.render(style) + &notes.collect::<String>()
}

fn status<'a>(row: &'a Value, key: &str) -> &'a str {
    row["resources"][key]["status"]
        .as_str()
        .unwrap_or("NOT SENT")
}

/// Whether a proxy does not run on what it was sent.
pub(super) fn is_bad(status: &str) -> bool {
    matches!(status, "STALE" | "ERROR")
}

fn tone(status: &str) -> Tone {
    match status {
        status if is_bad(status) => Tone::Bad,
        "NOT SENT" => Tone::Faint,
        _ => Tone::Plain,
    }
}

/// A text of an object; empty if there is none.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}
