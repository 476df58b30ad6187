//! Asking whether a part is ready.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::Probe;
use crate::http::get;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(2);

impl Probe {
    /// Asks once; the error says what is amiss.
    pub(crate) async fn ask(&self) -> Result<(), String> {
        match self {
            Self::Started => Ok(()),
            Self::Tcp(address) => {
                match tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(format!("nothing listens on {address} ({error})")),
                    Err(_) => Err(format!("{address} does not accept connections")),
                }
            }
            Self::Http { address, path } => match get(*address, path, PATIENCE).await {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(format!(
                    "http://{address}{path} answers with status {}",
                    answer.status
                )),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}
