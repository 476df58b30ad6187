//! `FractionalPercent`.

use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;

use super::check::{At, Refused, ignored, nothing_else};

/// How much of a million is one of the numerator.
pub(super) fn unit(share: &FractionalPercent, at: &At<'_>) -> Result<u32, Refused> {
    match DenominatorType::try_from(share.denominator) {
        Ok(DenominatorType::Hundred) => Ok(10_000),
        Ok(DenominatorType::TenThousand) => Ok(100),
        Ok(DenominatorType::Million) => Ok(1),
        Err(_) => Err(at.field("denominator").refuse("is not known")),
    }
}

/// A share, of a million.
pub(super) fn per_million(share: FractionalPercent, at: &At<'_>) -> Result<u32, Refused> {
    match share.numerator.checked_mul(unit(&share, at)?) {
        Some(share) if share <= 1_000_000 => Ok(share),
        _ => Err(at.refuse("it must not be more than 100 %")),
    }
}

/// The default of a share that a runtime could change: there is none that could say anything else.
pub(super) fn of_runtime(mut given: RuntimeFractionalPercent, at: &At<'_>) -> Result<u32, Refused> {
    ignored!(given: runtime_key);
    let share = given.default_value.take().unwrap_or_default();
    nothing_else(&given, at)?;
    per_million(share, &at.field("default_value"))
}
