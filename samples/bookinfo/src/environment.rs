//! Settings, as the originals take them: environment variables.

use std::collections::BTreeMap;

use http::Uri;
use thiserror::Error;

use crate::Role;

/// The environment variables of one service, as a value.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

/// Why a service cannot be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SetupError {
    /// No such service.
    #[error("{0:?} is no service of Bookinfo: use productpage, details, reviews or ratings")]
    Role(String),
    /// No such version of the service.
    #[error("{role} has no version {version:?}: use one of {}", role.versions().join(", "))]
    Version {
        /// The service.
        role: Role,
        /// What was asked for.
        version: String,
    },
    /// A variable that cannot be used.
    #[error("the environment variable {name} is {value:?}: it must be {expected}")]
    Variable {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
        /// What it should have been.
        expected: &'static str,
    },
}

impl Environment {
    /// Takes the variables of this process; those that are not UTF-8 are of no use here.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// All variables.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Sets a variable unless it is set already.
    pub fn set_default(&mut self, name: &str, value: &str) {
        if self.text(name).is_none() {
            self.variables.insert(name.to_owned(), value.to_owned());
        }
    }

    /// A variable; an empty one counts as unset.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(name)?;
        (!value.is_empty()).then_some(value)
    }

    /// Whether a variable says `true` (or `1`).
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.text(name)
            .is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<u32>, SetupError> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        match value.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(unusable(name, value, "a whole number")),
        }
    }

    /// The base address of another service: `http://HOST.DOMAIN:PORT/ENDPOINT`, each part from its
    /// own variable.
    pub(crate) fn service(&self, role: Role) -> Result<String, SetupError> {
        let prefix = role.name().to_ascii_uppercase();
        let host_variable = format!("{prefix}_HOSTNAME");
        let port_variable = format!("{prefix}_SERVICE_PORT");
        let host = self.text(&host_variable).unwrap_or(role.name());
        let port = self.text(&port_variable).unwrap_or("9080");
        if port.parse::<u16>().is_err() {
            return Err(unusable(&port_variable, port, "a port"));
        }
        let domain = match self.text("SERVICES_DOMAIN") {
            Some(domain) => format!(".{domain}"),
            None => String::new(),
        };
        let base = format!("http://{host}{domain}:{port}/{role}");
        match base.parse::<Uri>() {
            Ok(_) => Ok(base),
            Err(_) => Err(unusable(
                &host_variable,
                &format!("{host}{domain}"),
                "a host name",
            )),
        }
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self {
            variables: variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        }
    }
}

pub(crate) fn unusable(name: &str, value: &str, expected: &'static str) -> SetupError {
    SetupError::Variable {
        name: name.to_owned(),
        value: value.to_owned(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_services() {
        let cases: [(&[(&str, &str)], &str); 4] = [
            (&[], "http://ratings:9080/ratings"),
            (
                &[("SERVICES_DOMAIN", "default.svc")],
                "http://ratings.default.svc:9080/ratings",
            ),
            (
                &[
                    ("RATINGS_HOSTNAME", "stars"),
                    ("RATINGS_SERVICE_PORT", "81"),
                ],
                "http://stars:81/ratings",
            ),
            (&[("RATINGS_HOSTNAME", "")], "http://ratings:9080/ratings"),
        ];
        for (variables, expected) in cases {
            let environment: Environment = variables.iter().copied().collect();
            assert_eq!(environment.service(Role::Ratings).unwrap(), expected);
        }
    }

    #[test]
    fn unusable_variables_are_named() {
        let environment: Environment = [("RATINGS_SERVICE_PORT", "tcp://10.0.0.1:9080")]
            .into_iter()
            .collect();
        let error = environment.service(Role::Ratings).unwrap_err();
        assert!(
            error.to_string().contains("RATINGS_SERVICE_PORT"),
            "{error}"
        );
    }
}
