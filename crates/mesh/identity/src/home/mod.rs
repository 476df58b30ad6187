//! Where an authority lives: a directory with the PEM files of Istio's `cacerts`.
//!
//! A root of our own is made there, and replaced long before it ends, in three steps that each leave every
//! certificate valid: the new root is announced beside the old one (`next-cert.pem`), until all workloads
//! have it; then it signs, with the old one still believed; once no certificate of the old one is left, that
//! goes. What somebody else has put there is only read, again whenever it changes.

mod rotation;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::sleep;

pub use self::rotation::Rotation;
use crate::authority::{Authority, AuthorityError, Material};
use crate::private::{self, FileError};

const CERTIFICATE: &str = "ca-cert.pem";
const KEY: &str = "ca-key.pem";
const CHAIN: &str = "cert-chain.pem";
const ROOTS: &str = "root-cert.pem";
const NEXT_CERTIFICATE: &str = "next-cert.pem";
const NEXT_KEY: &str = "next-key.pem";
/// The same, as Kubernetes' Secrets of TLS name them; the certificate has its chain behind it.
const TLS_CERTIFICATE: &str = "tls.crt";
const TLS_KEY: &str = "tls.key";
const TLS_ROOTS: &str = "ca.crt";
const REVOKED: &str = "ca-crl.pem";
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// How often what somebody else has put there is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Why there is no authority.
#[derive(Debug, Error)]
pub enum HomeError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is in the files.
    #[error("the certificate authority in {directory}{names} cannot sign")]
    Authority {
        /// Where it lives.
        directory: PathBuf,
        /// What its files are called, if not by the names that the cause has.
        names: &'static str,
        /// The cause.
        #[source]
        source: AuthorityError,
    },
    /// There is only a part of it.
    #[error(
        "{directory} has no {missing}: it must have ca-cert.pem, ca-key.pem and root-cert.pem, or tls.crt, tls.key and \
         ca.crt"
    )]
    Missing {
        /// Where it should be.
        directory: PathBuf,
        /// What.
        missing: &'static str,
    },
    /// There are two.
    #[error(
        "{directory} has ca-cert.pem and tls.crt, which are two authorities: remove one of them"
    )]
    Two {
        /// Where.
        directory: PathBuf,
    },
    /// New roots would come without lists of their own.
    #[error(
        "{directory} has ca-crl.pem, but its root replaces itself: remove it, or plug an authority in that can revoke \
         (--cacerts)"
    )]
    Revoked {
        /// Where.
        directory: PathBuf,
    },
}

/// An authority on disk.
#[derive(Debug)]
pub struct Home {
    directory: PathBuf,
    /// `None` for what somebody else has put there.
    rotation: Option<Rotation>,
    trust_domain: String,
    material: Material,
    published: watch::Sender<Arc<Authority>>,
    /// What was wrong when it was looked at last.
    trouble: Option<String>,
    /// When it was said last that something ends soon.
    warned: Option<SystemTime>,
}

impl Home {
    /// An authority of our own, which is made if the directory has none.
    pub fn own(
        directory: &Path,
        trust_domain: &str,
        rotation: Rotation,
    ) -> Result<Self, HomeError> {
        private::make_directory(directory)?;
        if !directory.join(CERTIFICATE).exists() && !directory.join(KEY).exists() {
            let now = SystemTime::now();
            let made = Material::self_signed(trust_domain, rotation.lifetime, now);
            let made = made.map_err(|source| cannot_sign(directory, source))?;
            write(directory, &made)?;
            tracing::info!(directory = %directory.display(), "made a certificate authority");
        }
        rotation::finish(directory)?;
        Self::open(directory, trust_domain, Some(rotation))
    }

    /// The authority that somebody else has put there.
    pub fn plugged_in(directory: &Path, trust_domain: &str) -> Result<Self, HomeError> {
        Self::open(directory, trust_domain, None)
    }

    fn open(
        directory: &Path,
        trust_domain: &str,
        rotation: Option<Rotation>,
    ) -> Result<Self, HomeError> {
        let material = match rotation {
            Some(_) if directory.join(REVOKED).exists() => {
                let directory = directory.to_owned();
                return Err(HomeError::Revoked { directory });
            }
            Some(_) => read(directory),
            None => read_plugged_in(directory),
        }?;
        let authority = authority(directory, &material)?;
        Ok(Self {
            directory: directory.to_owned(),
            rotation,
            trust_domain: trust_domain.to_owned(),
            material,
            published: watch::Sender::new(Arc::new(authority)),
            trouble: None,
            warned: None,
        })
    }

    /// The authority of now and of later.
    pub fn authority(&self) -> watch::Receiver<Arc<Authority>> {
        self.published.subscribe()
    }

    /// Looks after the files for ever.
    pub async fn keep(mut self) -> std::convert::Infallible {
        loop {
            let now = SystemTime::now();
            self.look(now);
            let left = self.left(now);
            let interval = self.rotation.map_or(LOOK, |it| it.interval(left));
            sleep(interval).await;
        }
    }

    /// How much of the time of the certificate that signs is left.
    fn left(&self, now: SystemTime) -> Duration {
        let ends = self.published.borrow().facts().not_after;
        ends.duration_since(now).unwrap_or_default()
    }

    /// Does what is due; what goes wrong is told once, and tried again.
    fn look(&mut self, now: SystemTime) {
        self.warn(now);
        let outcome = match self.rotation {
            Some(rotation) => self.rotate(rotation, now),
            None => self.reload(),
        };
        let trouble = outcome.err().map(|error| crate::with_causes(&error));
        if let Some(text) = trouble
            .as_ref()
            .filter(|text| self.trouble.as_ref() != Some(*text))
        {
            tracing::error!(error = %text, "the certificate authority stays what it is");
        }
        self.trouble = trouble;
    }

    /// Says once a day that somebody must replace what ends soon, where that is not done here.
    fn warn(&mut self, now: SystemTime) {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let said = self.warned.and_then(|at| now.duration_since(at).ok());
        if self.rotation.is_some() || said.is_some_and(|since| since < DAY) {
            return;
        }
        let authority = Arc::clone(&self.published.borrow());
        let all = authority.root_facts().iter().chain([authority.facts()]);
        for facts in all.filter(|facts| facts.ends_soon(now)) {
            let left = facts.not_after.duration_since(now).unwrap_or_default();
            tracing::warn!(
                serial = %facts.serial,
                seconds_left = left.as_secs(),
                directory = %self.directory.display(),
                "a certificate of the authority ends soon, replace it"
            );
            self.warned = Some(now);
        }
    }

    fn reload(&mut self) -> Result<(), HomeError> {
        let material = read_plugged_in(&self.directory)?;
        if material == self.material {
            return Ok(());
        }
        let authority = authority(&self.directory, &material)?;
        let before = self.published.borrow().clone();
        let kept = before.root_facts().iter();
        let kept = kept.filter(|root| authority.root_facts().contains(root));
        if kept.count() < before.root_facts().len() {
            tracing::warn!(
                "root-cert.pem has lost a root: certificates that it stands for are refused from now on"
            );
        }
        tracing::info!(serial = %authority.facts().serial, "the certificate authority has changed");
        self.material = material;
        self.published.send_replace(Arc::new(authority));
        Ok(())
    }

    fn take(&mut self, material: Material) -> Result<(), HomeError> {
        let authority = authority(&self.directory, &material)?;
        write_changed(&self.directory, &self.material, &material)?;
        self.material = material;
        self.published.send_replace(Arc::new(authority));
        Ok(())
    }
}

fn authority(directory: &Path, material: &Material) -> Result<Authority, HomeError> {
    Authority::new(material).map_err(|source| cannot_sign(directory, source))
}

fn cannot_sign(directory: &Path, source: AuthorityError) -> HomeError {
    HomeError::Authority {
        directory: directory.to_owned(),
        names: match directory.join(TLS_CERTIFICATE).exists() {
            true => {
                " (its tls.crt is ca-cert.pem and cert-chain.pem, its tls.key ca-key.pem, its ca.crt root-cert.pem)"
            }
            false => "",
        },
        source,
    }
}

/// What somebody else has put there, under either names.
fn read_plugged_in(directory: &Path) -> Result<Material, HomeError> {
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

fn read(directory: &Path) -> Result<Material, HomeError> {
    Ok(Material {
        certificate: text(directory, CERTIFICATE)?,
        key: secret(directory, KEY)?,
        chain: optional(directory, CHAIN)?,
        roots: text(directory, ROOTS)?,
        revoked: optional(directory, REVOKED)?,
    })
}

fn write(directory: &Path, material: &Material) -> Result<(), FileError> {
    private::write(&directory.join(KEY), &material.key)?;
    private::write(&directory.join(CERTIFICATE), &material.certificate)?;
    private::write(&directory.join(ROOTS), &material.roots)
}

/// What is the same keeps the time at which it was written.
fn write_changed(directory: &Path, before: &Material, now: &Material) -> Result<(), FileError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use rcgen::{
        CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, RevokedCertParams,
        SerialNumber,
    };

    use self::rotation::TEN_YEARS;

    const LEAVES: Duration = Duration::from_secs(100);

    fn rotation() -> Rotation {
        Rotation::new(Duration::from_secs(5000), LEAVES)
    }

    #[test]
    fn a_root_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("ca");
        let open = || Home::own(&inner, "cluster.local", rotation()).unwrap();
        let serial = |home: &Home| home.authority().borrow().facts().serial.clone();
        assert_eq!(serial(&open()), serial(&open()));
        private::read_secret(&inner.join(KEY), MAX_FILE_BYTES).expect("for us alone");
        fs::remove_file(inner.join(ROOTS)).unwrap();
        let error = Home::own(&inner, "cluster.local", rotation()).unwrap_err();
        assert!(
            error.to_string().contains("has no root-cert.pem"),
            "{error}"
        );
    }

    #[test]
    fn what_is_plugged_in_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let make = || Material::self_signed("cluster.local", TEN_YEARS, SystemTime::now()).unwrap();
        let (one, two) = (make(), make());
        write(directory.path(), &one).unwrap();
        let mut home = Home::plugged_in(directory.path(), "cluster.local").unwrap();
        let serial = |home: &Home| home.authority().borrow().facts().serial.clone();
        let first = serial(&home);
        private::write(&directory.path().join(CERTIFICATE), &two.certificate).unwrap();
        home.look(SystemTime::now());
        assert_eq!(serial(&home), first, "a certificate without its key");
        assert!(
            home.trouble
                .as_ref()
                .unwrap()
                .contains("it is not the key of ca-cert.pem")
        );
        write(directory.path(), &two).unwrap();
        home.look(SystemTime::now());
        assert_ne!(serial(&home), first);
        assert_eq!(home.trouble, None);
        let now = SystemTime::now();
        for (at, warned) in [
            (now, None),
            (now + TEN_YEARS / 2, None),
            (now + TEN_YEARS * 9 / 10, Some(now + TEN_YEARS * 9 / 10)),
            (
                now + TEN_YEARS * 9 / 10 + LEAVES,
                Some(now + TEN_YEARS * 9 / 10),
            ),
        ] {
            home.look(at);
            assert_eq!(home.warned, warned);
        }
    }

    /// A list of an authority with these serial numbers.
    fn revocation_list(material: &Material, serials: &[u64]) -> String {
        let key = KeyPair::from_pem(&material.key).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&material.certificate, key).unwrap();
        let now = time::OffsetDateTime::now_utc();
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now - Duration::from_secs(60),
            next_update: now + Duration::from_secs(3600),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&issuer).unwrap().pem().unwrap()
    }

    #[test]
    fn a_root_that_replaces_itself_has_no_lists() {
        let directory = tempfile::tempdir().unwrap();
        Home::own(directory.path(), "cluster.local", rotation()).unwrap();
        private::write(&directory.path().join(REVOKED), "").unwrap();
        let error = Home::own(directory.path(), "cluster.local", rotation()).unwrap_err();
        assert!(error.to_string().contains("replaces itself"), "{error}");
    }

    #[test]
    fn the_names_of_what_is_plugged_in() {
        let made = Material::self_signed("cluster.local", TEN_YEARS, SystemTime::now()).unwrap();
        let other = Material::self_signed("cluster.local", TEN_YEARS, SystemTime::now()).unwrap();
        let pem = [
            (CERTIFICATE, &made.certificate),
            (KEY, &made.key),
            (ROOTS, &made.roots),
        ];
        let tls = [
            (TLS_CERTIFICATE, &made.certificate),
            (TLS_KEY, &made.key),
            (TLS_ROOTS, &made.roots),
        ];
        let empty = (REVOKED, &made.roots);
        let list = revocation_list(&made, &[]);
        let revoked = (REVOKED, &list);
        let strange = revocation_list(&other, &[]);
        let strange = (REVOKED, &strange);
        let foreign = (TLS_KEY, &other.key);
        for (files, refused) in [
            (pem.to_vec(), None),
            (tls.to_vec(), None),
            ([&pem[..], &[revoked]].concat(), None),
            ([&tls[..], &[revoked]].concat(), None),
            (
                [&pem[..], &[empty]].concat(),
                Some("ca-crl.pem: it has no list of revoked certificates"),
            ),
            (
                [&tls[..], &[strange]].concat(),
                Some("with ca-crl.pem nobody would be believed"),
            ),
            ([&pem[..], &tls[..1]].concat(), Some("remove one of them")),
            (tls[..2].to_vec(), Some("has no ca.crt")),
            (tls[..1].to_vec(), Some("has no tls.key")),
            (Vec::new(), Some("has no ca-cert.pem: it must have")),
            (
                [&tls[..], &[foreign]].concat(),
                Some("its tls.key ca-key.pem"),
            ),
        ] {
            let directory = tempfile::tempdir().unwrap();
            for (name, text) in &files {
                private::write(&directory.path().join(name), text).unwrap();
            }
            let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
            let opened = Home::plugged_in(directory.path(), "cluster.local");
            match (opened, refused) {
                (Ok(_), None) => {}
                (Err(error), Some(expected)) => {
                    let error = crate::with_causes(&error);
                    assert!(error.contains(expected), "{names:?}: {error}");
                }
                (opened, _) => panic!("{names:?}: {opened:?}"),
            }
        }
    }
}
