//! How the calls of the product page ended, for `/metrics`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use http::StatusCode;

use crate::Role;

/// Counts by service and status. Bounded: three services, at most 1,000 status codes.
#[derive(Debug, Default)]
pub(super) struct Results {
    counts: Mutex<BTreeMap<(&'static str, u16), u64>>,
}

impl Results {
    pub(super) fn count(&self, service: Role, status: StatusCode) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((service.name(), status.as_u16())).or_default() += 1;
    }
}

/// Prometheus' text format.
impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("# HELP request_result_total Results of requests\n")?;
        f.write_str("# TYPE request_result_total counter\n")?;
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for ((service, status), count) in counts.iter() {
            writeln!(
                f,
                "request_result_total{{destination_app=\"{service}\",response_code=\"{status}\"}} \
                 {count}"
            )?;
        }
        Ok(())
    }
}
