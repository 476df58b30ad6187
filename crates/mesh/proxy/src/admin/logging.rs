//! `/logging`: what the proxy logs, by component, changed while it runs.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;

/// Says what is logged from now on, as a filter of `tracing-subscriber`; an error says what is wrong with it.
pub type SetFilter = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// How the program logs.
#[derive(Clone)]
pub struct LogControl {
    /// What it logs at first: a level, or a filter of `tracing-subscriber`.
    pub filter: String,
    /// Changes that.
    pub set: Arc<SetFilter>,
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogControl")
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

/// The components and their modules, by Envoy's names where there are such.
const COMPONENTS: [(&str, &[&str]); 13] = [
    ("admin", &["periplus_proxy::admin"]),
    ("config", &["periplus_proxy::config", "periplus_xds"]),
    ("connection", &["periplus_proxy::accept"]),
    ("dns", &["periplus_proxy::agent::dns"]),
    ("ext_authz", &["periplus_proxy::policy::authz"]),
    ("health_checker", &["periplus_proxy::health"]),
    ("http", &["periplus_proxy::exchange"]),
    ("http2", &["periplus_proxy::http2"]),
    ("jwt", &["periplus_proxy::policy::jwt"]),
    (
        "main",
        &[
            // Names are compared from their beginning on: `periplus` alone would be everything.
            "periplus::commands",
            "periplus::logging",
            "periplus_proxy::agent",
            "periplus_proxy::worker",
            "periplus_identity",
        ],
    ),
    ("tcp_proxy", &["periplus_proxy::tcp"]),
    ("tracing", &["periplus_proxy::export"]),
    ("upstream", &["periplus_proxy::upstream"]),
];

const USAGE: &str = "\
usage: /logging?<name>=<level> (change single level)
usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)
usage: /logging?level=<level> (change all levels)
levels: trace debug info warning error critical off
";

/// The levels, as they were asked for.
#[derive(Debug)]
pub(crate) struct Levels {
    control: Option<LogControl>,
    chosen: Mutex<Chosen>,
}

#[derive(Clone, Debug, Default)]
struct Chosen {
    /// In place of what is logged at first.
    all: Option<Level>,
    /// Besides that.
    of: BTreeMap<&'static str, Level>,
}

/// Envoy's name of a level, and ours.
type Level = (&'static str, &'static str);

const LEVELS: [Level; 7] = [
    ("trace", "trace"),
    ("debug", "debug"),
    ("info", "info"),
    ("warning", "warn"),
    ("error", "error"),
    // There is nothing beyond an error.
    ("critical", "error"),
    ("off", "off"),
];

impl Levels {
    pub(crate) fn new(control: Option<LogControl>) -> Self {
        Self {
            control,
            chosen: Mutex::default(),
        }
    }

    /// What a request to `/logging` is answered: what it changes holds at once, or nothing of it.
    pub(super) fn answer(&self, query: &HashMap<String, String>) -> (StatusCode, String) {
        let Some(control) = &self.control else {
            let text = "this program's log cannot be changed while it runs\n";
            return (StatusCode::NOT_IMPLEMENTED, text.to_owned());
        };
        let mut current = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut chosen = current.clone();
        if let Err(message) = chosen.change(query) {
            return (
                StatusCode::BAD_REQUEST,
                format!("error: {message}\n{USAGE}"),
            );
        }
        if !query.is_empty() {
            if let Err(reason) = (control.set)(&chosen.filter(&control.filter)) {
                let message = format!("error: {reason}\n");
                return (StatusCode::INTERNAL_SERVER_ERROR, message);
            }
            *current = chosen;
        }
        (StatusCode::OK, current.list(&control.filter))
    }
}

impl Chosen {
    fn change(&mut self, query: &HashMap<String, String>) -> Result<(), String> {
        let mut asked = query.iter();
        let Some((name, value)) = asked.next() else {
            return Ok(());
        };
        if asked.next().is_some() {
            return Err("invalid number of parameters".to_owned());
        }
        match name.as_str() {
            "level" => {
                self.all = Some(level(value)?);
                self.of.clear();
            }
            "paths" => {
                for path in value.split(',') {
                    let (name, of) = path
                        .split_once(':')
                        .ok_or_else(|| format!("`{path}` is no name:level"))?;
                    self.set(name, of)?;
                }
            }
            name => self.set(name, value)?,
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let known = COMPONENTS.iter().find(|(known, _)| *known == name);
        let (known, _) = known.ok_or_else(|| {
            let all = COMPONENTS.map(|(known, _)| known).join(" ");
            format!("unknown logger `{name}`, known are {all}")
        })?;
        self.of.insert(known, level(value)?);
        Ok(())
    }

    /// As `tracing-subscriber` takes it: what is more special goes before.
    fn filter(&self, first: &str) -> String {
        let mut text = match self.all {
            Some((_, level)) => level.to_owned(),
            None => first.to_owned(),
        };
        for (name, modules) in COMPONENTS {
            let own = self.of.get(name).map(|(_, level)| *level);
            // Its module is a part of one of `main`, whose level is not its own.
            let beside = (name == "dns" && self.of.contains_key("main"))
                .then(|| self.all.map_or_else(|| plain(first), |(_, level)| level));
            let Some(level) = own.or(beside) else {
                continue;
            };
            for module in modules {
                text.extend([",", module, "=", level]);
            }
        }
        text
    }

    fn list(&self, first: &str) -> String {
        let mut text = "active loggers:\n".to_owned();
        for (name, _) in COMPONENTS {
            let own = self.of.get(name).copied().or(self.all);
            let level = own.map_or(first, |(level, _)| level);
            text.extend(["  ", name, ": ", level, "\n"]);
        }
        text
    }
}

/// The level of a filter for what it does not name.
fn plain(filter: &str) -> &str {
    let mut parts = filter.split(',').map(str::trim);
    parts
        .find(|part| !part.is_empty() && !part.contains(['=', ':', '[']))
        .unwrap_or("error")
}

fn level(name: &str) -> Result<Level, String> {
    let name = if name == "warn" { "warning" } else { name };
    let known = LEVELS.into_iter().find(|(known, _)| *known == name);
    known.ok_or_else(|| format!("unknown logger level `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_changed_alone_together_and_all_at_once() {
        let filters = Arc::<Mutex<Vec<String>>>::default();
        let seen = filters.clone();
        let levels = Levels::new(Some(LogControl {
            filter: "info".to_owned(),
            set: Arc::new(move |filter| {
                seen.lock().expect("lock").push(filter.to_owned());
                Ok(())
            }),
        }));
        let ask = |query: &[(&str, &str)]| {
            let query = query
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            levels.answer(&query.collect())
        };
        let (status, list) = ask(&[]);
        assert_eq!(status, StatusCode::OK);
        assert!(
            list.starts_with("active loggers:\n  admin: info\n"),
            "{list}"
        );
        assert_eq!(ask(&[("dns", "debug")]).0, StatusCode::OK);
        let (_, list) = ask(&[("paths", "dns:off,http2:warn")]);
        assert!(
            list.contains("  dns: off\n") && list.contains("  http2: warning\n"),
            "{list}"
        );
        assert_eq!(ask(&[("paths", "dns:info,main:off")]).0, StatusCode::OK);
        let (_, list) = ask(&[("level", "critical")]);
        assert!(list.contains("  dns: critical\n"), "{list}");
        assert_eq!(
            *filters.lock().expect("lock"),
            [
                "info,periplus_proxy::agent::dns=debug",
                "info,periplus_proxy::agent::dns=off,periplus_proxy::http2=warn",
                "info,periplus_proxy::agent::dns=info,periplus_proxy::http2=warn,periplus::commands=off,\
                 periplus::logging=off,periplus_proxy::agent=off,periplus_proxy::worker=off,periplus_identity=off",
                "error",
            ]
        );
        for (query, expected) in [
            (
                &[("wasm", "debug")][..],
                "unknown logger `wasm`, known are admin config",
            ),
            (&[("dns", "loud")], "unknown logger level `loud`"),
            (&[("paths", "dns:debug,http2")], "`http2` is no name:level"),
            (
                &[("dns", "debug"), ("http2", "debug")],
                "invalid number of parameters",
            ),
        ] {
            let (status, text) = ask(query);
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert!(text.contains(expected) && text.ends_with(USAGE), "{text}");
        }
        assert_eq!(
            filters.lock().expect("lock").len(),
            4,
            "nothing has changed"
        );
    }
}
