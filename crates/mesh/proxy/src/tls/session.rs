//! One side of a TLS connection without I/O: records in, records out.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, Error, ServerConfig};

/// What a record may have more than its plaintext (RFC 8446 §5.2).
const OVERHEAD: usize = 5 + 256;
/// The plaintext of the largest record.
pub(super) const MAX_FRAGMENT: usize = 16 * 1024;

/// A TLS connection.
pub(super) struct Session(Side);

// The configuration side makes them, so that there is no choice of another side later.
enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// Where plaintext goes: into the reader's memory first, what does not fit is kept.
#[derive(Debug)]
pub(super) struct Plain<'a> {
    pub(super) space: &'a mut [u8],
    /// How much of the space is used.
    pub(super) taken: usize,
    pub(super) rest: &'a mut Vec<u8>,
}

impl Plain<'_> {
    fn take(&mut self, bytes: &[u8]) {
        let fits = bytes.len().min(self.space.len() - self.taken);
        self.space[self.taken..self.taken + fits].copy_from_slice(&bytes[..fits]);
        self.taken += fits;
        self.rest.extend_from_slice(&bytes[fits..]);
    }
}

/// What is to happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// There is plaintext.
    Plaintext,
    /// More records must come first.
    Read,
    /// The other side has said that it sends no more.
    Closed,
}

impl Session {
    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        alpn: Vec<Vec<u8>>,
    ) -> Result<Self, Error> {
        let connection = UnbufferedClientConnection::new_with_alpn(config, name, alpn)?;
        Ok(Self(Side::Client(Box::new(connection))))
    }

    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self(Side::Server(Box::new(connection))))
    }

    /// Works on the records that have arrived until one of [`Next`] holds; records to be sent are
    /// appended to `out`. Says how many of the bytes are done with, an error or not.
    pub(super) fn advance(
        &mut self,
        records: &mut [u8],
        plain: &mut Plain<'_>,
        out: &mut Vec<u8>,
    ) -> (usize, Result<Next, Error>) {
        let mut done = 0;
        loop {
            let rest = &mut records[done..];
            let (discard, step) = match &mut self.0 {
                Side::Client(client) => step(client.process_tls_records(rest), plain, out),
                Side::Server(server) => step(server.process_tls_records(rest), plain, out),
            };
            done += discard;
            match step {
                Ok(None) => {}
                Ok(Some(next)) => return (done, Ok(next)),
                Err(error) => return (done, Err(error)),
            }
        }
    }

    /// Appends the alert that an error has left behind. The session is of no use any more.
    pub(super) fn alert(&mut self, records: &mut [u8], out: &mut Vec<u8>) {
        // One look only: after the alert it would go on with the records.
        match &mut self.0 {
            Side::Client(client) => take_alert(client.process_tls_records(records), out),
            Side::Server(server) => take_alert(server.process_tls_records(records), out),
        }
    }

    /// Appends plaintext as records; `records` are those that arrived and are not complete.
    pub(super) fn encrypt(
        &mut self,
        bytes: &[u8],
        records: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let count = bytes.len().div_ceil(MAX_FRAGMENT).max(1);
        let room = bytes.len() + count * OVERHEAD;
        self.write(records, out, room, |state, into| state.encrypt(bytes, into))
    }

    /// Appends the alert that says that no more will come (RFC 8446 §6.1).
    pub(super) fn close_notify(
        &mut self,
        records: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        self.write(records, out, OVERHEAD, |state, into| {
            state.queue_close_notify(into)
        })
    }

    fn write(
        &mut self,
        records: &mut [u8],
        out: &mut Vec<u8>,
        room: usize,
        encode: impl FnMut(&mut dyn Writer, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Error> {
        match &mut self.0 {
            Side::Client(client) => write(client.process_tls_records(records), out, room, encode),
            Side::Server(server) => write(server.process_tls_records(records), out, room, encode),
        }
    }

    pub(super) fn state(&self) -> &CommonState {
        match &self.0 {
            Side::Client(client) => client,
            Side::Server(server) => server,
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// One state of the connection: what follows from it, or nothing but another look.
fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut Plain<'_>,
    out: &mut Vec<u8>,
) -> (usize, Result<Option<Next>, Error>) {
    let discard = status.discard;
    let next = status.state.and_then(|state| match state {
        ConnectionState::ReadTraffic(mut state) => {
            let mut any = false;
            while let Some(record) = state.next_record() {
                let payload = record?.payload;
                any |= !payload.is_empty();
                plain.take(payload);
            }
            Ok(any.then_some(Next::Plaintext))
        }
        ConnectionState::EncodeTlsData(mut state) => {
            append(out, MAX_FRAGMENT + OVERHEAD, |into| {
                state.encode(into).map_err(|error| match error {
                    EncodeError::InsufficientSize(error) => error.required_size,
                    EncodeError::AlreadyEncoded => 0,
                })
            })?;
            Ok(None)
        }
        ConnectionState::TransmitTlsData(state) => {
            // It stands in the output, from where it is sent before anything that follows.
            state.done();
            Ok(None)
        }
        ConnectionState::PeerClosed | ConnectionState::Closed => Ok(Some(Next::Closed)),
        ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => {
            Ok(Some(Next::Read))
        }
        // Early data is never offered or taken.
        _ => Err(Error::General("an unexpected state".to_owned())),
    });
    (discard, next)
}

fn take_alert<Data>(status: UnbufferedStatus<'_, '_, Data>, out: &mut Vec<u8>) {
    if let Ok(ConnectionState::EncodeTlsData(mut state)) = status.state {
        // Without room for it there is none.
        let _ = append(out, OVERHEAD, |into| state.encode(into).map_err(|_| 0));
    }
}

fn write<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    out: &mut Vec<u8>,
    room: usize,
    mut encode: impl FnMut(&mut dyn Writer, &mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), Error> {
    let ConnectionState::WriteTraffic(mut state) = status.state? else {
        return Err(Error::HandshakeNotComplete);
    };
    append(out, room, |into| {
        encode(&mut state, into).map_err(|error| match error {
            EncryptError::InsufficientSize(error) => error.required_size,
            EncryptError::EncryptExhausted => 0,
        })
    })
}

/// Appends what `encode` writes; if that is more than there is room for, it says how much.
fn append(
    out: &mut Vec<u8>,
    room: usize,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, usize>,
) -> Result<(), Error> {
    let begin = out.len();
    let mut room = room;
    loop {
        out.resize(begin + room, 0);
        match encode(&mut out[begin..]) {
            Ok(written) => {
                out.truncate(begin + written);
                return Ok(());
            }
            Err(needed) if needed > room => room = needed,
            Err(_) => {
                out.truncate(begin);
                return Err(Error::EncryptError);
            }
        }
    }
}

/// What can be done once the handshake is complete, on either side.
trait Writer {
    fn encrypt(&mut self, bytes: &[u8], into: &mut [u8]) -> Result<usize, EncryptError>;
    fn queue_close_notify(&mut self, into: &mut [u8]) -> Result<usize, EncryptError>;
}

impl<Data> Writer for rustls::unbuffered::WriteTraffic<'_, Data> {
    fn encrypt(&mut self, bytes: &[u8], into: &mut [u8]) -> Result<usize, EncryptError> {
        self.encrypt(bytes, into)
    }

    fn queue_close_notify(&mut self, into: &mut [u8]) -> Result<usize, EncryptError> {
        self.queue_close_notify(into)
    }
}
