//! How connections to endpoints came to be, for logs that tell it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Instant;

use crate::clock::Micros;
use crate::worker::Worker;

/// When a connection began to be opened, and how far it was when.
#[derive(Debug)]
pub(crate) struct Birth {
    begun: Instant,
    /// Microseconds until the endpoint had accepted it,
    connected: u32,
    /// and until both had agreed on TLS.
    secured: Option<u32>,
    /// Its number, once somebody has asked for it.
    number: Cell<Option<NonZeroU64>>,
}

/// A connection, by the clock of its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Its number among the connections of clients and to endpoints.
    pub(crate) number: u64,
    pub(crate) begun: Micros,
    pub(crate) connected: Micros,
    pub(crate) secured: Option<Micros>,
}

/// When an attempt had a connection, or it was clear that it gets none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) at: Micros,
    pub(crate) connection: Option<Opened>,
}

/// What carries requests to an endpoint.
pub(crate) trait Reaches {
    /// This proxy's address.
    fn local_address(&self) -> Option<SocketAddr>;

    fn birth(&self) -> &Birth;
}

impl Birth {
    /// A connection begins to be opened.
    pub(super) fn begin() -> Self {
        Self {
            begun: Instant::now(),
            connected: 0,
            secured: None,
            number: Cell::new(None),
        }
    }

    /// The endpoint has accepted it.
    pub(super) fn is_connected(&mut self) {
        self.connected = self.age();
    }

    /// Both have agreed on TLS.
    pub(super) fn is_secured(&mut self) {
        self.secured = Some(self.age());
    }

    fn age(&self) -> u32 {
        let micros = self.begun.elapsed().as_micros();
        micros.try_into().unwrap_or(u32::MAX)
    }

    /// What there is to be told of the connection, which has a number from now on.
    pub(crate) fn opened(&self, worker: &Worker) -> Opened {
        let number = self.number.get().unwrap_or_else(|| worker.open.next_id());
        self.number.set(Some(number));
        let begun = worker.clock.micros(self.begun);
        Opened {
            number: number.get(),
            begun,
            connected: begun + u64::from(self.connected),
            secured: self.secured.map(|after| begun + u64::from(after)),
        }
    }
}
