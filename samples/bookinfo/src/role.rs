//! Which of the four services a process is, and what its versions mean.

use std::fmt;
use std::str::FromStr;

use crate::{Environment, SetupError};

/// One of the four services.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// The page that people see; calls details and reviews.
    Productpage,
    /// Facts about a book.
    Details,
    /// Two reviews of a book; v2 and v3 call ratings for their stars.
    Reviews,
    /// Stars by reviewer.
    Ratings,
}

impl Role {
    /// All of them, callers before callees.
    pub const ALL: [Self; 4] = [
        Self::Productpage,
        Self::Details,
        Self::Reviews,
        Self::Ratings,
    ];

    /// The name of the service, as its callers use it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Productpage => "productpage",
            Self::Details => "details",
            Self::Reviews => "reviews",
            Self::Ratings => "ratings",
        }
    }

    /// The versions that the sample ships.
    pub fn versions(self) -> &'static [&'static str] {
        match self {
            Self::Productpage => &["v1"],
            Self::Details => &["v1", "v2"],
            Self::Reviews => &["v1", "v2", "v3"],
            Self::Ratings => &[
                "v1",
                "v2",
                "v-faulty",
                "v-delayed",
                "v-unavailable",
                "v-unhealthy",
            ],
        }
    }

    /// Completes `environment` with what the manifest of `version` would set. Variables that are
    /// set already win.
    pub fn with_version(
        self,
        version: &str,
        mut environment: Environment,
    ) -> Result<Environment, SetupError> {
        if !self.versions().contains(&version) {
            return Err(SetupError::Version {
                role: self,
                version: version.to_owned(),
            });
        }
        environment.set_default("SERVICE_VERSION", version);
        environment.set_default("HOSTNAME", &format!("{self}-{version}"));
        match (self, version) {
            (Self::Details, "v2") => {
                environment.set_default("ENABLE_EXTERNAL_BOOK_SERVICE", "true");
            }
            (Self::Reviews, "v1") => environment.set_default("ENABLE_RATINGS", "false"),
            (Self::Reviews, "v2") => environment.set_default("ENABLE_RATINGS", "true"),
            (Self::Reviews, _) => {
                environment.set_default("ENABLE_RATINGS", "true");
                environment.set_default("STAR_COLOR", "red");
            }
            _ => {}
        }
        Ok(environment)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = SetupError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| SetupError::Role(text.to_owned()))
    }
}
