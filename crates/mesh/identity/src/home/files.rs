//! The files of an authority.

use std::io;
use std::path::Path;

use super::HomeError;
use crate::authority::Material;
use crate::private::{self, FileError};

pub(super) const CERTIFICATE: &str = "ca-cert.pem";
pub(super) const KEY: &str = "ca-key.pem";
pub(super) const CHAIN: &str = "cert-chain.pem";
pub(super) const ROOTS: &str = "root-cert.pem";
pub(super) const NEXT_CERTIFICATE: &str = "next-cert.pem";
pub(super) const NEXT_KEY: &str = "next-key.pem";
/// The same, as Kubernetes' Secrets of TLS name them; the certificate has its chain behind it.
pub(super) const TLS_CERTIFICATE: &str = "tls.crt";
pub(super) const TLS_KEY: &str = "tls.key";
pub(super) const TLS_ROOTS: &str = "ca.crt";
pub(super) const REVOKED: &str = "ca-crl.pem";
pub(super) const MAX_FILE_BYTES: u64 = 256 * 1024;

/// What somebody else has put there, under either names.
pub(super) fn read_plugged_in(directory: &Path) -> Result<Material, HomeError> {
    const END: &str = "-----END CERTIFICATE-----";
    let there = |name: &str| directory.join(name).exists();
    match (there(TLS_CERTIFICATE), there(CERTIFICATE)) {
        (false, _) => return read(directory),
        (true, true) => {
            let directory = directory.to_owned();
            return Err(HomeError::Two { directory });
        }
        (true, false) => {}
    }
    let chain = text(directory, TLS_CERTIFICATE)?;
    let end = chain.find(END).map_or(chain.len(), |at| at + END.len());
    Ok(Material {
        certificate: chain[..end].to_owned(),
        key: secret(directory, TLS_KEY)?,
        roots: text(directory, TLS_ROOTS)?,
        chain,
        revoked: optional(directory, REVOKED)?,
    })
}

fn text(directory: &Path, name: &'static str) -> Result<String, HomeError> {
    match private::read(&directory.join(name), MAX_FILE_BYTES) {
        Err(FileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Err(HomeError::Missing {
                directory: directory.to_owned(),
                missing: name,
            })
        }
        other => Ok(other?),
    }
}

/// Empty if it is not there.
fn optional(directory: &Path, name: &str) -> Result<String, HomeError> {
    let path = directory.join(name);
    Ok(match path.exists() {
        true => private::read(&path, MAX_FILE_BYTES)?,
        false => String::new(),
    })
}

/// It is missed by its name before its mode is asked for.
fn secret(directory: &Path, name: &'static str) -> Result<String, HomeError> {
    text(directory, name)?;
    Ok(private::read_secret(&directory.join(name), MAX_FILE_BYTES)?)
}

pub(super) fn read(directory: &Path) -> Result<Material, HomeError> {
    Ok(Material {
        certificate: text(directory, CERTIFICATE)?,
        key: secret(directory, KEY)?,
        chain: optional(directory, CHAIN)?,
        roots: text(directory, ROOTS)?,
        revoked: optional(directory, REVOKED)?,
    })
}

pub(super) fn write(directory: &Path, material: &Material) -> Result<(), FileError> {
    private::write(&directory.join(KEY), &material.key)?;
    private::write(&directory.join(CERTIFICATE), &material.certificate)?;
    private::write(&directory.join(ROOTS), &material.roots)
}

/// What is the same keeps the time at which it was written.
pub(super) fn write_changed(
    directory: &Path,
    before: &Material,
    now: &Material,
) -> Result<(), FileError> {
    for (name, before, now) in [
        (ROOTS, &before.roots, &now.roots),
        (KEY, &before.key, &now.key),
        (CERTIFICATE, &before.certificate, &now.certificate),
    ] {
        if before != now {
            private::write(&directory.join(name), now)?;
        }
    }
    Ok(())
}
