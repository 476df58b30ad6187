use std::time::Duration;

use crate::locality::LocalityBalancing;
use crate::values::is_token;
use crate::view::{Object, Shape, View};

/// `loadBalancer`: how a workload is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancer {
    /// By what.
    pub kind: LoadBalancing,
    /// How new workloads come to their full share.
    pub warmup: Option<Warmup>,
    /// Which places are preferred, if something else than in the mesh.
    pub locality: Option<LocalityBalancing>,
}

/// `loadBalancer.simple`, or `consistentHash`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadBalancing {
    /// `LEAST_REQUEST`, Istio's default.
    LeastRequest,
    /// `ROUND_ROBIN`.
    RoundRobin,
    /// `RANDOM`.
    Random,
    /// `PASSTHROUGH`: clients say where they go.
    Passthrough,
    /// `consistentHash`: the same workload for the same key.
    Hash(HashKey, HashTable),
}

/// What requests for one workload have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// `httpHeaderName`.
    Header(String),
    /// `httpCookie`.
    Cookie {
        /// Its name.
        name: String,
        /// Its path.
        path: String,
        /// How long the one lives that a request without it gets; `None` gives it none.
        ttl: Option<Duration>,
        /// What it says besides, in order; the value may be empty.
        attributes: Vec<(String, String)>,
    },
    /// `useSourceIp`.
    SourceIp,
    /// `httpQueryParameterName`.
    QueryParameter(String),
}

/// How keys are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashTable {
    /// `ringHash`, with so many places at least.
    Ring(u64),
    /// `maglev`, with so many places if it is said.
    Maglev(Option<u64>),
}

/// `warmup`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warmup {
    /// How long it takes.
    pub duration: Duration,
    /// The share that it begins with, in percent.
    pub minimum_percent: f64,
    /// How the share grows: 1 is evenly.
    pub aggression: f64,
}

// They are never NaN.
impl Eq for Warmup {}

const BALANCER: Shape = Shape {
    known: &[
        "simple",
        "consistentHash",
        "warmup",
        "warmupDurationSecs",
        "localityLbSetting",
    ],
    refused: &[],
};
const HASH: Shape = Shape {
    known: &[
        "httpHeaderName",
        "httpCookie",
        "useSourceIp",
        "httpQueryParameterName",
        "ringHash",
        "maglev",
        "minimumRingSize",
    ],
    refused: &[],
};
const COOKIE: Shape = Shape {
    known: &["name", "path", "ttl", "attributes"],
    refused: &[],
};
const ATTRIBUTE: Shape = Shape {
    known: &["name", "value"],
    refused: &[],
};
const RING: Shape = Shape {
    known: &["minimumRingSize"],
    refused: &[],
};
const MAGLEV: Shape = Shape {
    known: &["tableSize"],
    refused: &[],
};
const WARMUP: Shape = Shape {
    known: &["duration", "minimumPercent", "aggression"],
    refused: &[],
};

/// Istio's default, and Envoy's most.
const RING_SIZE: u64 = 1024;
const MAX_RING_SIZE: i64 = 8 * 1024 * 1024;
/// The most places of a table.
const MAX_TABLE_SIZE: i64 = 5_000_011;

impl LoadBalancer {
    pub(crate) fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&BALANCER)?;
        let warmup = Warmup::read(&object)?;
        let kind = match object.present(&["simple", "consistentHash"]).as_slice() {
            ["simple"] => LoadBalancing::read(object.get("simple")?)?,
            ["consistentHash"] => {
                let view = object.get("consistentHash")?;
                if warmup.is_some() {
                    view.fail("`warmup` goes with LEAST_REQUEST and ROUND_ROBIN only");
                    return None;
                }
                let hash = view.object(&HASH)?;
                LoadBalancing::Hash(HashKey::read(&hash)?, HashTable::read(&hash)?)
            }
            [] => LoadBalancing::LeastRequest,
            _ => {
                object.fail("`simple` and `consistentHash` exclude each other");
                return None;
            }
        };
        if matches!(kind, LoadBalancing::Random | LoadBalancing::Passthrough) && warmup.is_some() {
            object.fail("`warmup` goes with LEAST_REQUEST and ROUND_ROBIN only");
            return None;
        }
        Some(Self {
            kind,
            warmup,
            locality: object.optional("localityLbSetting", LocalityBalancing::read)?,
        })
    }
}

impl LoadBalancing {
    fn read(simple: &View<'_>) -> Option<Self> {
        let choices = [
            ("LEAST_REQUEST", 0),
            ("ROUND_ROBIN", 1),
            ("RANDOM", 2),
            ("LEAST_CONN", 0),
            ("UNSPECIFIED", 0),
            ("PASSTHROUGH", 3),
        ];
        match simple.choice(&choices)? {
            0 => Some(Self::LeastRequest),
            1 => Some(Self::RoundRobin),
            2 => Some(Self::Random),
            _ => Some(Self::Passthrough),
        }
    }
}

impl HashKey {
    fn read(hash: &Object<'_>) -> Option<Self> {
        let keys = [
            "httpHeaderName",
            "httpCookie",
            "useSourceIp",
            "httpQueryParameterName",
        ];
        match hash.present(&keys).as_slice() {
            ["httpHeaderName"] => Some(Self::Header(hash.get("httpHeaderName")?.header_name()?)),
            ["httpCookie"] => {
                let cookie = hash.get("httpCookie")?.object(&COOKIE)?;
                Some(Self::Cookie {
                    name: read_cookie_name(cookie.require("name")?)?,
                    path: cookie.optional("path", read_plain)?.unwrap_or_default(),
                    ttl: cookie.optional("ttl", View::duration)?,
                    attributes: read_attributes(&cookie)?,
                })
            }
            ["useSourceIp"] => {
                let view = hash.get("useSourceIp")?;
                if !view.bool()? {
                    view.fail("write true, or another key");
                    return None;
                }
                Some(Self::SourceIp)
            }
            ["httpQueryParameterName"] => {
                let name = hash.get("httpQueryParameterName")?.some_ascii()?;
                Some(Self::QueryParameter(name))
            }
            _ => {
                hash.fail(format!("expected one of `{}`", keys.join("`, `")));
                None
            }
        }
    }
}

fn read_cookie_name(view: &View<'_>) -> Option<String> {
    let name = view.some_text()?;
    if !is_token(&name) {
        view.fail(format!("`{name}` is no name of a cookie"));
        return None;
    }
    Some(name)
}

/// What may stand in a cookie, in front of its next attribute.
fn read_plain(view: &View<'_>) -> Option<String> {
    let text = view.text()?;
    let ends = |byte: u8| byte == b';' || !(b' '..=b'~').contains(&byte);
    if text.bytes().any(ends) {
        view.fail("may hold printable ASCII characters without `;` only");
        return None;
    }
    Some(text)
}

/// Attributes of a cookie, such as `SameSite=Strict`, or `Secure` without a value.
fn read_attributes(cookie: &Object<'_>) -> Option<Vec<(String, String)>> {
    let read = |view: &View<'_>| {
        let object = view.object(&ATTRIBUTE)?;
        let name = object.require("name")?;
        name.some_text()?;
        let value = object.optional("value", read_plain)?.unwrap_or_default();
        Some((read_plain(name)?, value))
    };
    cookie.items("attributes").iter().map(read).collect()
}

impl HashTable {
    fn read(hash: &Object<'_>) -> Option<Self> {
        let size = |view: &View<'_>| view.number(1, MAX_RING_SIZE);
        let older = hash.optional("minimumRingSize", size)?;
        let ring = |size: Option<i64>| size.or(older).map_or(RING_SIZE, i64::cast_unsigned);
        match hash.present(&["ringHash", "maglev"]).as_slice() {
            [] => Some(Self::Ring(ring(None))),
            ["ringHash"] => {
                let object = hash.get("ringHash")?.object(&RING)?;
                Some(Self::Ring(ring(object.optional("minimumRingSize", size)?)))
            }
            ["maglev"] => {
                let object = hash.get("maglev")?.object(&MAGLEV)?;
                let size = |view: &View<'_>| view.number(1, MAX_TABLE_SIZE);
                let size = object.optional("tableSize", size)?;
                Some(Self::Maglev(size.map(i64::cast_unsigned)))
            }
            _ => {
                hash.fail("`ringHash` and `maglev` exclude each other");
                None
            }
        }
    }
}

impl Warmup {
    /// As in Istio, the older form is a duration alone.
    fn read(object: &Object<'_>) -> Option<Option<Self>> {
        let even = |duration| Self {
            duration,
            minimum_percent: 10.0,
            aggression: 1.0,
        };
        let older = object.optional("warmupDurationSecs", View::duration)?;
        let Some(view) = object.get("warmup") else {
            return Some(older.map(even));
        };
        let object = view.object(&WARMUP)?;
        let duration = object.require("duration")?.duration()?;
        let mut warmup = even(duration);
        if let Some(percent) = object.optional("minimumPercent", View::percent)? {
            warmup.minimum_percent = percent;
        }
        if let Some(view) = object.get("aggression") {
            warmup.aggression = view.float_in(1.0, 100.0, "a number from 1 to 100")?;
        }
        Some(Some(warmup))
    }
}
