//! `envoy.filters.http.buffer`.

use envoy_types::pb::envoy::extensions::filters::http::buffer::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::http::buffer::v3::buffer_per_route::Override;

use crate::config::check::{At, Refused};
use crate::snapshot::{Filter, PerFilter};

/// The most that is held of a body.
const MOST_BODY: u32 = 1024 * 1024;

pub(super) fn compile(given: pb::Buffer, at: &At<'_>) -> Result<Filter, Refused> {
    let at = at.field("max_request_bytes");
    let most = given.max_request_bytes.map_or(0, |most| most.value);
    if !(1..=MOST_BODY).contains(&most) {
        return Err(at.refuse(format!("{most} is not between 1 and {MOST_BODY}")));
    }
    Ok(Filter::Buffer(most))
}

pub(super) fn of_route(given: pb::BufferPerRoute, at: &At<'_>) -> Result<PerFilter, Refused> {
    match given.r#override {
        Some(Override::Disabled(true)) => Ok(PerFilter::Off),
        Some(Override::Buffer(buffer)) => {
            let own = compile(buffer, &at.field("buffer"))?;
            Ok(PerFilter::Own(own))
        }
        Some(Override::Disabled(false)) => Err(at.field("disabled").refuse("it must be true")),
        None => Err(at.refuse("disabled or buffer must be given")),
    }
}
