//! Where settings come from. Each setting is a flag; Jaeger's variables and a file are turned into
//! flags that stand before those of the command line. What counts more, the first first: the command
//! line, our own variables, Jaeger's variables, the file.

mod file;
mod jaeger_tls;
mod jaeger_v1;
mod jaeger_v2;
mod setting;

use std::collections::BTreeSet;
use std::env::VarError;
use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context as _, bail};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, FromArgMatches as _, Id};
use periplus_collect::access::{AccessConfig, TenantsConfig, TokenConfig};
use periplus_collect::forward::EndpointConfig;
use serde_json::Value;

use super::Args;
use setting::{Flag, Settings};

/// All that was said.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) args: Args,
    pub(super) access: AccessConfig,
    /// What is said about endpoints besides where they are.
    pub(super) endpoints: Vec<EndpointConfig>,
    /// Policies of tail sampling that stand in the file itself, as YAML.
    pub(super) tail_sampling: Option<String>,
    /// What has no effect, for the log.
    pub(super) notes: Vec<String>,
}

/// Adds to the command line what the variables and the file say.
///
/// # Errors
///
/// The file cannot be read, or something says what cannot be done.
pub(super) fn resolve(args: Args, matches: &ArgMatches) -> anyhow::Result<Config> {
    let variable = |name: &str| std::env::var(name).ok();
    if let Err(VarError::NotUnicode(_)) = std::env::var(DATA) {
        bail!("the variable {DATA} is not UTF-8: name the directory with --data");
    }
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    // The first is the program, the second the command.
    let line: Vec<OsString> = std::env::args_os().skip(2).collect();
    let command = command();
    let names: Vec<String> = names.collect();
    // A variable that is set to nothing names no file.
    let path = args.config.as_deref().filter(|path| !path.is_empty());
    let layers = gather(&command, matches, path.map(Path::new), &variable, &names)?;
    let args = if layers.flags.is_empty() {
        args
    } else {
        let program = OsString::from("periplus serve");
        let line = [program]
            .into_iter()
            .chain(layers.flags.into_iter().map(|(_, flag)| flag))
            .chain(line);
        let matches = command.clone().try_get_matches_from(line);
        // Each flag was right by itself.
        let matches = matches.map_err(|error| anyhow::anyhow!(message(&error)))?;
        Args::from_arg_matches(&matches)?
    };
    Ok(Config {
        args,
        access: AccessConfig {
            tenants: layers.tenants,
            tokens: layers.tokens.unwrap_or_default(),
        },
        endpoints: layers.endpoints,
        tail_sampling: layers.tail_sampling,
        notes: layers.notes,
    })
}

/// Names the directory of the spans.
const DATA: &str = "PERIPLUS_DATA";

fn command() -> Command {
    Args::augment_args(Command::new("periplus serve"))
}

/// Reads the variables and the file.
fn gather<'a>(
    command: &'a Command,
    matches: &ArgMatches,
    path: Option<&Path>,
    variable: &dyn Fn(&str) -> Option<String>,
    names: &[String],
) -> anyhow::Result<Layers<'a>> {
    let mut layers = Layers::over(command, matches, variable);
    // No variable of clap's: on the command line, --memory counts more.
    if let Some(directory) = variable(DATA).filter(|directory| !directory.is_empty()) {
        let mut settings = Settings::default();
        settings.flag("data", directory);
        layers.add(settings)?;
    }
    let ours = |name: &str| (command.get_arguments()).any(|arg| is_variable_of(arg, name));
    layers.add(jaeger_v1::read(variable, names, &ours)?)?;
    if variable("STRICT_TRACE_ID").is_some_and(|strict| strict.eq_ignore_ascii_case("false")) {
        let note = "Zipkin's STRICT_TRACE_ID=false has no effect: the store finds a trace by all bits of its id, \
                    so one of 64 bits and one of 128 are different ones; let all services send the same length";
        layers.notes.push(note.to_owned());
    }
    if let Some(path) = path {
        let name = path.display();
        let text = read(path).with_context(|| format!("cannot read {name}"))?;
        let found = file::read(&text, variable).with_context(|| format!("{name} is not usable"))?;
        (layers.add(found)).with_context(|| format!("{name} is not usable"))?;
    }
    // Named by a flag, it is another file.
    if layers.said.contains("tail_sampling") {
        layers.tail_sampling = None;
    }
    Ok(layers)
}

/// A file longer than this is refused.
const MAX_BYTES: u64 = 1 << 20;

fn read(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::metadata(path)?.len();
    if bytes > MAX_BYTES {
        bail!("it has {bytes} bytes; {MAX_BYTES} at most");
    }
    Ok(std::fs::read_to_string(path)?)
}

/// Settings from several places; what was said earlier counts more.
struct Layers<'a> {
    command: &'a Command,
    /// The flags that have been said.
    said: BTreeSet<String>,
    flags: Vec<(Id, OsString)>,
    tenants: Option<TenantsConfig>,
    tokens: Option<Vec<TokenConfig>>,
    endpoints: Vec<EndpointConfig>,
    tail_sampling: Option<String>,
    notes: Vec<String>,
}

impl<'a> Layers<'a> {
    /// Nothing yet below the command line and our own variables.
    fn over(
        command: &'a Command,
        matches: &ArgMatches,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let is_said = |arg: &&Arg| {
            let own = arg.get_env().and_then(|name| name.to_str());
            let source = matches.value_source(arg.get_id().as_str());
            source == Some(ValueSource::CommandLine)
                || own.is_some_and(|name| variable(name).is_some())
        };
        let said = command.get_arguments().filter(is_said);
        Self {
            command,
            said: said.map(|arg| arg.get_id().to_string()).collect(),
            flags: Vec::new(),
            tenants: None,
            tokens: None,
            endpoints: Vec::new(),
            tail_sampling: None,
            notes: Vec::new(),
        }
    }

    /// Adds what one place says; `settings` may say a flag more than once.
    fn add(&mut self, settings: Settings) -> anyhow::Result<()> {
        let mut new = BTreeSet::new();
        // Somebody else's files do not go with our key, nor our ports with their list.
        let tls = match self.said.contains("tls_cert") {
            true => Vec::new(),
            false => settings.tls.flags()?,
        };
        for Flag {
            name,
            value,
            origin,
        } in settings.flags.into_iter().chain(tls)
        {
            let added = self.add_flag(&name, &value, &mut new);
            match origin {
                Some(origin) => added.with_context(|| origin)?,
                None => added?,
            }
        }
        self.said.append(&mut new);
        self.tenants = self.tenants.take().or(settings.tenants);
        self.tokens = self.tokens.take().or(settings.tokens);
        self.endpoints.extend(settings.endpoints);
        self.tail_sampling = self.tail_sampling.take().or(settings.tail_sampling);
        self.notes.extend(settings.notes);
        Ok(())
    }

    fn add_flag(
        &mut self,
        name: &str,
        value: &Value,
        new: &mut BTreeSet<String>,
    ) -> anyhow::Result<()> {
        let arg = argument(self.command, name)?;
        let id = arg.get_id();
        let counts_less = self.said.iter().any(|said| {
            said == id.as_str()
                || (self.conflict(id.as_str(), said) || self.conflict(said, id.as_str()))
        });
        if counts_less {
            return Ok(());
        }
        let mut flags = Vec::new();
        push(&mut flags, arg, name, value)?;
        for flag in &flags {
            self.check(flag)?;
        }
        // Said twice in one place, the last one counts; only a list has several.
        if !matches!(arg.get_action(), ArgAction::Append) {
            self.flags.retain(|(id, _)| id != arg.get_id());
        }
        self.flags
            .extend(flags.into_iter().map(|flag| (id.clone(), flag)));
        new.insert(id.to_string());
        Ok(())
    }

    /// Whether the value is one of the flag's.
    fn check(&self, flag: &OsString) -> anyhow::Result<()> {
        let line = [OsString::from("periplus serve"), flag.clone()];
        let Err(error) = self.command.clone().try_get_matches_from(line) else {
            return Ok(());
        };
        match error.kind() {
            ErrorKind::InvalidValue | ErrorKind::ValueValidation => bail!(message(&error)),
            // It may need another flag, which is not here.
            _ => Ok(()),
        }
    }

    /// Whether the flag does not go with the other one.
    fn conflict(&self, id: &str, other: &str) -> bool {
        let find = |id: &str| (self.command.get_arguments()).find(|arg| arg.get_id() == id);
        find(id).is_some_and(|arg| {
            let conflicts = self.command.get_arg_conflicts_with(arg);
            conflicts.iter().any(|conflict| conflict.get_id() == other)
        })
    }
}

/// What clap says about a flag, in one line.
fn message(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:"));
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    lines.collect::<Vec<_>>().join(" ")
}

fn is_variable_of(arg: &Arg, name: &str) -> bool {
    arg.get_env().is_some_and(|own| own == name)
}

/// The flag of this name.
fn argument<'a>(command: &'a Command, name: &str) -> anyhow::Result<&'a Arg> {
    // The file cannot name another.
    let args = || (command.get_arguments()).filter(|arg| arg.get_id() != &Id::from("config"));
    if let Some(arg) = args().find(|arg| arg.get_long() == Some(name)) {
        return Ok(arg);
    }
    let is_near = |long: &&str| strsim::damerau_levenshtein(long, name) <= 2;
    match args().filter_map(Arg::get_long).find(is_near) {
        Some(near) => bail!("unknown key '{name}': is '{near}' meant?"),
        None => bail!("unknown key '{name}': the keys are the flags of `periplus serve --help`"),
    }
}

fn push(flags: &mut Vec<OsString>, arg: &Arg, name: &str, value: &Value) -> anyhow::Result<()> {
    let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    match value {
        Value::Bool(true) if !takes_value => flags.push(format!("--{name}").into()),
        Value::Bool(false) if !takes_value => {}
        _ if !takes_value => bail!("'{name}' is true or false"),
        Value::Array(values) if matches!(arg.get_action(), ArgAction::Append) => {
            for value in values {
                push(flags, arg, name, value)?;
            }
        }
        Value::String(text) => flags.push(format!("--{name}={text}").into()),
        Value::Number(_) | Value::Bool(_) => flags.push(format!("--{name}={value}").into()),
        _ => bail!("'{name}' takes one value"),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
