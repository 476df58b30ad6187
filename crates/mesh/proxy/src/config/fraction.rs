//! `FractionalPercent`.

use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;

use super::check::{At, Refused};

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
