//! Where settings come from. Each setting is a flag; a file and Jaeger's variables are turned into
//! flags that stand before those of the command line, so that the last one said counts: Jaeger's
//! variables, then the file, then our own variables, then the command line.

mod file;
mod jaeger_v1;
mod jaeger_v2;
mod setting;

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context as _, bail};
use clap::{Arg, ArgAction};
use periplus_collect::access::AccessConfig;
use serde_json::Value;

use setting::Settings;

/// What was said besides the command line.
#[derive(Debug, Default)]
pub(crate) struct Config {
    /// Flags, to be put before those of the command line.
    pub(crate) flags: Vec<OsString>,
    pub(crate) access: Option<AccessConfig>,
    /// What has no effect, for the log.
    pub(crate) notes: Vec<String>,
}

/// Reads the variables and the file.
///
/// # Errors
///
/// The file cannot be read, or says what cannot be done.
pub(crate) fn read(
    path: Option<&Path>,
    command: &clap::Command,
    variable: &dyn Fn(&str) -> Option<String>,
    variables: &[String],
) -> anyhow::Result<Config> {
    let mut config = Config::default();
    let found = jaeger_v1::read(variable, variables)?;
    config.take(found, command, variable)?;
    if let Some(path) = path {
        let name = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        let found = file::read(&text, variable).with_context(|| format!("{name} is not usable"))?;
        config
            .take(found, command, variable)
            .with_context(|| format!("{name} is not usable"))?;
    }
    Ok(config)
}

impl Config {
    /// Adds settings, which count more than those before.
    fn take(
        &mut self,
        settings: Settings,
        command: &clap::Command,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> anyhow::Result<()> {
        for (name, value) in settings.flags {
            let arg = argument(command, &name)?;
            // A variable of ours counts more.
            let own = arg.get_env().and_then(|own| own.to_str());
            if own.is_some_and(|own| variable(own).is_some()) {
                continue;
            }
            push(&mut self.flags, arg, &name, &value)?;
        }
        if settings.access.is_some() {
            self.access = settings.access;
        }
        self.notes.extend(settings.notes);
        Ok(())
    }
}

/// The flag of this name.
fn argument<'a>(command: &'a clap::Command, name: &str) -> anyhow::Result<&'a Arg> {
    let mut known = command.get_arguments().filter_map(|arg| arg.get_long());
    if let Some(arg) = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(name) && name != "config")
    {
        return Ok(arg);
    }
    match known.find(|known| strsim::damerau_levenshtein(known, name) <= 2) {
        Some(near) => bail!("unknown key '{name}': is '{near}' meant?"),
        None => bail!("unknown key '{name}': the keys are the flags of `periplus serve --help`"),
    }
}

fn push(flags: &mut Vec<OsString>, arg: &Arg, name: &str, value: &Value) -> anyhow::Result<()> {
    let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    match value {
        Value::Bool(true) if !takes_value => flags.push(format!("--{name}").into()),
        Value::Bool(false) if !takes_value => {}
        _ if !takes_value => bail!("'{name}' is true or false, not {value}"),
        Value::Array(values) if matches!(arg.get_action(), ArgAction::Append) => {
            for value in values {
                push(flags, arg, name, value)?;
            }
        }
        Value::String(text) => flags.push(format!("--{name}={text}").into()),
        Value::Number(_) | Value::Bool(_) => flags.push(format!("--{name}={value}").into()),
        _ => bail!("'{name}' takes one value, not {value}"),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
