use serde_json::Value;

use super::dump::{Dump, origin};
use super::{Which, text};
use crate::commands::output::{Table, Tone, clean, left};

/// Flags.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) which: Which,

    /// Those of this route configuration
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl Args {
    pub(super) fn chosen(&self, dump: &Dump) -> Vec<Value> {
        let is_chosen = |routes: &Value| {
            self.name
                .as_ref()
                .is_none_or(|name| text(routes, "name") == name)
        };
        let mut routes = dump.routes();
        routes.retain(is_chosen);
        routes
    }
}

pub(super) fn table(configurations: &[Value]) -> Table {
    let mut table = Table::new(&[
        left("NAME"),
        left("VHOST NAME"),
        left("DOMAINS"),
        left("MATCH"),
        left("VIRTUAL SERVICE"),
    ]);
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for configuration in configurations {
        for host in items(&configuration["virtual_hosts"]) {
            for route in items(&host["routes"]) {
                let service = match origin(&route) {
                    origin if origin.is_empty() => answer(&route),
                    origin => origin,
                };
                table.row(vec![
                    (Tone::Plain, clean(text(configuration, "name"))),
                    (Tone::Plain, clean(text(&host, "name"))),
                    (Tone::Plain, clean(&domains(&host))),
                    (Tone::Plain, clean(&path(&route))),
                    (Tone::Plain, clean(&service)),
                ]);
            }
        }
    }
    table
}

/// The first domain, and how many more there are.
fn domains(host: &Value) -> String {
    let domains = host["domains"].as_array();
    let mut domains = domains.into_iter().flatten().filter_map(Value::as_str);
    let first = domains.next().unwrap_or_default();
    match domains.count() {
        0 => first.to_owned(),
        more => format!("{first} + {more} more..."),
    }
}

/// The path that a route takes, as istioctl writes it, and a mark if it asks for more than that.
pub(super) fn path(route: &Value) -> String {
    let conditions = &route["match"];
    let shown = ["prefix", "path", "path_separated_prefix"]
        .iter()
        .find_map(|key| {
            let text = conditions[*key].as_str()?;
            Some(match *key {
                "path" => text.to_owned(),
                _ => format!("{text}*"),
            })
        });
    let regex = conditions["safe_regex"]["regex"].as_str();
    let shown = shown.or_else(|| Some(format!("regex {}", regex?)));
    let mut shown = shown.unwrap_or_else(|| "*".to_owned());
    let headers = conditions["headers"].as_array().into_iter().flatten();
    for header in headers {
        shown += &format!(" {}", text(header, "name"));
    }
    let parameters = conditions["query_parameters"]
        .as_array()
        .into_iter()
        .flatten();
    for parameter in parameters {
        shown += &format!(" ?{}", text(parameter, "name"));
    }
    shown
}

/// What a route without a VirtualService says, if it is not to go on.
fn answer(route: &Value) -> String {
    let status = route["direct_response"]["status"].as_u64();
    let cluster = route["route"]["cluster"].as_str();
    match (status, cluster) {
        (Some(status), _) => status.to_string(),
        (None, Some("BlackHoleCluster")) => "404".to_owned(),
        _ => String::new(),
    }
}
