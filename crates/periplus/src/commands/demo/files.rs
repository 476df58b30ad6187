//! Bookinfo's rules, and examples to try.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use periplus_bookinfo::networking::{self, Rules};

/// Nobody gets in without a certificate of the mesh.
const STRICT: &str = "\
# Workloads take nothing but mutual TLS: copy this to the rules and call a sidecar without it.
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: default
  namespace: istio-system
spec:
  mtls:
    mode: STRICT
";

/// Rules to copy to the control plane's directory are in this one.
pub(super) const EXAMPLES: &str = "examples";

/// The files of the mesh's directory; its gateway listens on this port.
pub(super) fn all(gateway: u16) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let config = Path::new("config");
    let examples = Path::new(EXAMPLES);
    let mut files = vec![
        (
            config.join(networking::GATEWAY.file),
            at_port(networking::GATEWAY.text, gateway)?,
        ),
        (
            config.join(networking::SUBSETS.file),
            networking::SUBSETS.text.to_owned(),
        ),
        (examples.join("mtls-strict.yaml"), STRICT.to_owned()),
    ];
    for Rules { file, text } in networking::EXAMPLES {
        files.push((examples.join(file), text.to_owned()));
    }
    Ok(files)
}

/// The gateway's file, listening elsewhere.
fn at_port(gateway: &str, port: u16) -> anyhow::Result<String> {
    let listener = format!("number: {}", networking::GATEWAY_PORT);
    ensure!(
        gateway.matches(&listener).count() == 1,
        "the gateway's file is not what it was: it has no single `{listener}`"
    );
    Ok(gateway.replace(&listener, &format!("number: {port}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_moves_with_its_port() {
        let text = at_port(networking::GATEWAY.text, 30_000).unwrap();
        assert!(text.contains("number: 30000") && !text.contains("number: 8080"));
        assert!(
            text.contains("number: 9080"),
            "the service stays where it is"
        );
    }
}
