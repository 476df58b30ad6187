use std::time::Duration;

use crate::view::{Shape, View};

/// `outlierDetection`: when a workload that fails is left alone for a while. `None` is Envoy's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutlierDetection {
    /// `consecutive5xxErrors`; 0 is never.
    pub errors: Option<u32>,
    /// `consecutiveGatewayErrors`, the same.
    pub gateway_errors: Option<u32>,
    /// `consecutiveLocalOriginFailures`, if those count for themselves.
    pub local_failures: Option<u32>,
    /// `splitExternalLocalOriginErrors`.
    pub splits_local: bool,
    /// `interval`.
    pub interval: Option<Duration>,
    /// `baseEjectionTime`.
    pub base_ejection_time: Option<Duration>,
    /// `maxEjectionPercent`.
    pub max_ejection_percent: Option<u32>,
    /// `minHealthPercent`.
    pub min_health_percent: u32,
}

const DETECTION: Shape = Shape {
    known: &[
        "consecutive5xxErrors",
        "consecutiveErrors",
        "consecutiveGatewayErrors",
        "consecutiveLocalOriginFailures",
        "splitExternalLocalOriginErrors",
        "interval",
        "baseEjectionTime",
        "maxEjectionPercent",
        "minHealthPercent",
    ],
    refused: &[],
};

impl OutlierDetection {
    pub(crate) fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&DETECTION)?;
        let percent = |name| object.optional(name, |view| view.number(0, 100));
        let time = |name| {
            let time = object.optional(name, View::duration)?;
            if time.is_some_and(|time| time < Duration::from_millis(1)) {
                object.fail(format!("`{name}` must be at least 1ms"));
                return None;
            }
            Some(time)
        };
        // The older name counts where the newer one is not said.
        let errors = object.optional("consecutiveErrors", View::u32)?;
        Some(Self {
            errors: object
                .optional("consecutive5xxErrors", View::u32)?
                .or(errors),
            gateway_errors: object.optional("consecutiveGatewayErrors", View::u32)?,
            local_failures: object.optional("consecutiveLocalOriginFailures", View::u32)?,
            splits_local: object
                .optional("splitExternalLocalOriginErrors", View::bool)?
                .unwrap_or(false),
            interval: time("interval")?,
            base_ejection_time: time("baseEjectionTime")?,
            max_ejection_percent: percent("maxEjectionPercent")?
                .map(|percent| percent as u32)
                .filter(|percent| *percent > 0),
            min_health_percent: percent("minHealthPercent")?.unwrap_or(0) as u32,
        })
    }
}
