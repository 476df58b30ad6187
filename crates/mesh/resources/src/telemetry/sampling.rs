//! Sampling by port and by route, which the Telemetry API has no field for.

use crate::meta::Meta;
use crate::view::View;

/// The annotation of a Telemetry that says it, such as `inbound 9080: 10, route reviews-v2: 0.5`.
pub const SAMPLING: &str = "tracing.periplus.io/sampling";

/// How many of some requests are traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplingRule {
    /// Which ones.
    pub of: SamplingOf,
    /// In millionths.
    pub millionths: u32,
}

/// The requests that a [`SamplingRule`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SamplingOf {
    /// Those that come to this port of the workload.
    Inbound(u16),
    /// Those that leave the workload, or pass a gateway, for this port of a service or listener.
    Outbound(u16),
    /// Those that leave the workload, or pass a gateway, by the rule of this name.
    Route(String),
}

impl SamplingRule {
    pub(super) fn read_all(view: &View<'_>, meta: &Meta) -> Option<Vec<Self>> {
        let Some(text) = meta.annotations.get(SAMPLING) else {
            return Some(Vec::new());
        };
        let rules = text.split([',', '\n']).map(str::trim);
        let rules = rules.filter(|rule| !rule.is_empty()).map(Self::parse);
        match rules.collect() {
            Ok(rules) => Some(rules),
            Err(reason) => {
                view.fail(format!("the annotation `{SAMPLING}`: {reason}"));
                None
            }
        }
    }

    fn parse(rule: &str) -> Result<Self, String> {
        let (what, percent) = rule.rsplit_once(':').ok_or_else(|| {
            format!("`{rule}` has no percentage: write `inbound 9080: 10`, `outbound 80: 10` or `route NAME: 10`")
        })?;
        let (kind, name) = what.trim().split_once(' ').unwrap_or((what.trim(), ""));
        let name = name.trim();
        let port = || {
            name.parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| format!("`{rule}`: `{name}` is no port"))
        };
        let of = match kind {
            "inbound" => SamplingOf::Inbound(port()?),
            "outbound" => SamplingOf::Outbound(port()?),
            "route" if !name.is_empty() => SamplingOf::Route(name.to_owned()),
            "route" => return Err(format!("`{rule}` names no route")),
            _ => {
                return Err(format!(
                    "`{rule}` begins with `{kind}`: it must be `inbound`, `outbound` or `route`"
                ));
            }
        };
        let percent = percent.trim().trim_end_matches('%').trim_end();
        let share = percent.parse::<f64>().ok();
        let share = share.filter(|share| (0.0..=100.0).contains(share));
        let share =
            share.ok_or_else(|| format!("`{rule}`: `{percent}` is no percentage from 0 to 100"))?;
        let hundredths = share * 100.0;
        if (hundredths - hundredths.round()).abs() > 1e-6 {
            return Err(format!(
                "`{rule}`: a share finer than 0.01 % is not supported"
            ));
        }
        Ok(Self {
            of,
            millionths: hundredths.round() as u32 * 100,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_name_ports_and_routes() {
        let rule = |of, millionths| Ok(SamplingRule { of, millionths });
        for (text, expected) in [
            ("inbound 9080: 10", rule(SamplingOf::Inbound(9080), 100_000)),
            ("outbound 80:0.01%", rule(SamplingOf::Outbound(80), 100)),
            (
                "route v2: 100 %",
                rule(SamplingOf::Route("v2".into()), 1_000_000),
            ),
            ("route a:b: 0", rule(SamplingOf::Route("a:b".into()), 0)),
        ] {
            assert_eq!(SamplingRule::parse(text), expected, "{text}");
        }
        for (text, reason) in [
            ("inbound 9080", "has no percentage"),
            ("inbound http: 1", "`http` is no port"),
            ("inbound 0: 1", "`0` is no port"),
            ("port 80: 1", "must be `inbound`, `outbound` or `route`"),
            ("route : 1", "names no route"),
            ("route v2: 101", "no percentage from 0 to 100"),
            ("route v2: x", "no percentage from 0 to 100"),
            ("route v2: 0.001", "finer than 0.01 %"),
        ] {
            let refused = SamplingRule::parse(text).unwrap_err();
            assert!(refused.contains(reason), "{text}: {refused}");
        }
    }
}
