//! The control plane that runs, as the commands that ask it see it.

use std::time::Duration;

use super::client::{Client, Failure, Peer};

/// Its monitoring port.
const CONTROL: Peer = Peer {
    default: "http://127.0.0.1:15014",
    flag: "--control",
    advice: "start it with `periplus control`, or name the monitoring port of another with --control",
};

/// Flags that say which control plane to ask.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ControlFlags {
    /// Address of the control plane's monitoring port [default: http://127.0.0.1:15014]
    #[arg(long, value_name = "URL", env = "PERIPLUS_CONTROL")]
    pub(super) control: Option<String>,

    /// How long an answer may take, such as 30s
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = super::duration::parse)]
    pub(super) timeout: Duration,
}

impl ControlFlags {
    /// A client.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let server = self.control.as_deref().unwrap_or(CONTROL.default);
        Client::plain(server, &CONTROL, self.timeout)
    }
}

/// How to print what is one document or a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    Table,
    /// One document
    Json,
}
