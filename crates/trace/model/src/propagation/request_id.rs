//! `x-request-id`: a UUID that carries the trace decision, as in Envoy.
//!
//! Character 14 (the UUID's version digit) says why the request is traced; the first eight digits
//! are the number that sampling percentages are compared with, so that every proxy on the way comes
//! to the same decision.

use super::hex::parse_number;

/// The length of a UUID's text. Only an id of this length carries a trace reason.
pub const LENGTH: usize = 36;

/// Sampling percentages are in units of 0.01 %: this is 100 %.
pub const WHOLE: u32 = 10_000;

const REASON_AT: usize = 14;

/// Why a request is traced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceReason {
    /// It is not (`4`, or any other character).
    #[default]
    NotTraced,
    /// Random sampling chose it (`9`).
    Sampled,
    /// A service forced it, with `x-envoy-force-trace` (`a`).
    ServiceForced,
    /// The client forced it, with `x-client-trace-id` (`b`).
    ClientForced,
}

impl TraceReason {
    /// What an id says.
    pub fn read(id: &[u8]) -> Self {
        match id.get(REASON_AT) {
            Some(b'9') if id.len() == LENGTH => Self::Sampled,
            Some(b'a') if id.len() == LENGTH => Self::ServiceForced,
            Some(b'b') if id.len() == LENGTH => Self::ClientForced,
            _ => Self::NotTraced,
        }
    }

    /// Writes the reason into an id, in place. An id of another length is left alone.
    pub fn write(self, id: &mut [u8]) {
        if let Ok(id) = <&mut [u8; LENGTH]>::try_from(id) {
            id[REASON_AT] = self.digit();
        }
    }

    /// The character that stands for it.
    pub const fn digit(self) -> u8 {
        match self {
            Self::NotTraced => b'4',
            Self::Sampled => b'9',
            Self::ServiceForced => b'a',
            Self::ClientForced => b'b',
        }
    }

    /// Whether the request is traced.
    pub const fn is_traced(self) -> bool {
        !matches!(self, Self::NotTraced)
    }
}

/// What to do with the `x-request-id` of a request that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnArrival {
    /// Keep it, and trust the reason that it carries.
    Keep,
    /// Keep it, but reset its reason to "not traced".
    KeepWithoutReason,
    /// Make a new one.
    Replace,
}

/// Decides about the id of a request that arrives.
///
/// `edge` is a request from outside (`use_remote_address`, and not internal); `preserve` is
/// `preserve_external_request_id`. An empty id counts as none.
pub fn on_arrival(id: Option<&[u8]>, edge: bool, preserve: bool) -> OnArrival {
    match id {
        None | Some([]) => OnArrival::Replace,
        Some(_) if !edge => OnArrival::Keep,
        Some(_) if preserve => OnArrival::KeepWithoutReason,
        Some(_) => OnArrival::Replace,
    }
}

/// A new id from 16 random bytes: a UUID of version 4 (RFC 9562 §5.4), lower case.
pub fn generate(random: [u8; 16]) -> [u8; LENGTH] {
    let mut number = u128::from_be_bytes(random);
    number = (number & !(0xf << 76)) | (0x4 << 76);
    number = (number & !(0x3 << 62)) | (0x2 << 62);
    let digits = crate::TraceId::from_bytes(number.to_be_bytes()).to_hex();
    let mut id = [b'-'; LENGTH];
    id[..8].copy_from_slice(&digits[..8]);
    id[9..13].copy_from_slice(&digits[8..12]);
    id[14..18].copy_from_slice(&digits[12..16]);
    id[19..23].copy_from_slice(&digits[16..20]);
    id[24..].copy_from_slice(&digits[20..]);
    id
}

/// The number that percentages are compared with, 0 to 9999; None if the id does not begin with
/// eight hex digits (`0x` and six are taken too, as by Envoy).
pub fn sampling_number(id: &[u8]) -> Option<u32> {
    let number = parse_number(id.get(..8)?)?;
    Some((number % u64::from(WHOLE)) as u32)
}

/// The three percentages of a connection manager, or of a route that overrides them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// `client_sampling`: of the requests with `x-client-trace-id`.
    pub client: u32,
    /// `random_sampling`: of the rest.
    pub random: u32,
    /// `overall_sampling`: an upper bound on all of these.
    pub overall: u32,
}

/// What a request says about its own tracing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// It has an `x-client-trace-id`.
    pub client_trace_id: bool,
    /// It has an `x-envoy-force-trace`, whatever its value; the header of a request from outside
    /// has been removed before.
    pub force_trace: bool,
}

/// This proxy's decision about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Why it is traced, or that it is not.
    pub reason: TraceReason,
    /// Whether the reason must be written into the id, as it differs from what is there.
    pub write: bool,
}

/// Decides whether a request is traced. `id` is the final one; `roll` is a random number for
/// `client_sampling`, the only percentage that the id does not decide.
///
/// An id that does not begin with eight hex digits, or none, is never traced.
pub fn decide(
    id: Option<&[u8]>,
    wishes: Wishes,
    sampling: Sampling,
    roll: impl FnOnce() -> u64,
) -> Decision {
    let id = id.unwrap_or_default();
    let Some(number) = sampling_number(id) else {
        return Decision {
            reason: TraceReason::NotTraced,
            write: false,
        };
    };
    let carried = TraceReason::read(id);
    let wanted = if carried.is_traced() {
        carried
    } else if wishes.client_trace_id && roll() % u64::from(WHOLE) < u64::from(sampling.client) {
        TraceReason::ClientForced
    } else if wishes.force_trace {
        TraceReason::ServiceForced
    } else if number < sampling.random {
        TraceReason::Sampled
    } else {
        TraceReason::NotTraced
    };
    let reason = if number < sampling.overall {
        wanted
    } else {
        TraceReason::NotTraced
    };
    Decision {
        reason,
        write: wanted != carried || reason != wanted,
    }
}
