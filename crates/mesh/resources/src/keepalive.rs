//! `tcpKeepalive`, of the mesh and of DestinationRules.

use std::time::Duration;

use crate::view::{Shape, View};

/// Probes that find out whether the other side of a connection is still there. `None` is the system's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// After how many without an answer the connection ends.
    pub probes: Option<u32>,
    /// How long nothing is heard before the first.
    pub time: Option<Duration>,
    /// The time between them.
    pub interval: Option<Duration>,
}

/// What Linux takes at most.
const MAX_PROBES: i64 = 127;
const MAX_TIME: Duration = Duration::from_secs(32_767);

impl TcpKeepalive {
    /// This, with what it does not say taken from another.
    #[must_use]
    pub fn or(self, base: Self) -> Self {
        Self {
            probes: self.probes.or(base.probes),
            time: self.time.or(base.time),
            interval: self.interval.or(base.interval),
        }
    }

    pub(crate) fn read(view: &View<'_>) -> Option<Self> {
        const KEEPALIVE: Shape = Shape {
            known: &["probes", "time", "interval"],
            refused: &[],
        };
        let object = view.object(&KEEPALIVE)?;
        let probes = object.optional("probes", |view| view.number(0, MAX_PROBES))?;
        Some(Self {
            // As in Istio, 0 cannot be told from not saying.
            probes: probes.and_then(|probes| u32::try_from(probes).ok().filter(|it| *it > 0)),
            time: object.optional("time", read_seconds)?,
            interval: object.optional("interval", read_seconds)?,
        })
    }
}

fn read_seconds(view: &View<'_>) -> Option<Duration> {
    let time = view.duration()?;
    if time.subsec_nanos() > 0 || time.is_zero() || time > MAX_TIME {
        view.fail(format!(
            "must be whole seconds, 1s to {}s",
            MAX_TIME.as_secs()
        ));
        return None;
    }
    Some(time)
}
