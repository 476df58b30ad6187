//! `FractionalPercent`.

use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;

use super::check::{At, Refused};

/// A share, of a million.
pub(super) fn per_million(share: FractionalPercent, at: &At<'_>) -> Result<u32, Refused> {
    let unit = match DenominatorType::try_from(share.denominator) {
        Ok(DenominatorType::Hundred) => 10_000,
        Ok(DenominatorType::TenThousand) => 100,
        Ok(DenominatorType::Million) => 1,
        Err(_) => return Err(at.field("denominator").refuse("is not known")),
    };
    match share.numerator.checked_mul(unit) {
        Some(share) if share <= 1_000_000 => Ok(share),
        _ => Err(at.refuse("it must not be more than 100 %")),
    }
}
