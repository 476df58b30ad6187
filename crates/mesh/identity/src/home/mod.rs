//! Where an authority lives: a directory with the PEM files of Istio's `cacerts`.
//!
//! A root of our own is made there, and replaced long before it ends, in three steps that each leave every
//! certificate valid: the new root is announced beside the old one (`next-cert.pem`), until all workloads
//! have it; then it signs, with the old one still believed; once no certificate of the old one is left, that
//! goes. What somebody else has put there is only read, again whenever it changes.

mod files;
mod rotation;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::sleep;

use self::files::{
    CERTIFICATE, KEY, REVOKED, TLS_CERTIFICATE, read, read_plugged_in, write, write_changed,
};
pub use self::rotation::Rotation;
use crate::authority::{Authority, AuthorityError, Material};
use crate::private::{self, FileError};

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
    /// When it was said last of what that it ends soon, or has ended.
    warned: BTreeMap<String, SystemTime>,
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
            warned: BTreeMap::new(),
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
        self.warn(now);
    }

    /// Says once a day that somebody must replace what ends soon, where that is not done here.
    fn warn(&mut self, now: SystemTime) {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        if self.rotation.is_some() {
            return;
        }
        let authority = Arc::clone(&self.published.borrow());
        let left = |until: SystemTime| until.duration_since(now).unwrap_or_default().as_secs();
        let directory = self.directory.display();
        let mut warned = BTreeMap::new();
        let mut is_new = |what: String| {
            let said = self.warned.get(&what).copied();
            let said = said.filter(|at| now.duration_since(*at).is_ok_and(|since| since < DAY));
            warned.insert(what, said.unwrap_or(now));
            said.is_none()
        };
        let all = authority.root_facts().iter().chain([authority.facts()]);
        for facts in all.filter(|facts| facts.ends_soon(now)) {
            if is_new(facts.serial.clone()) {
                tracing::warn!(
                    serial = %facts.serial,
                    seconds_left = left(facts.not_after),
                    %directory,
                    "a certificate of the authority ends soon, replace it"
                );
            }
        }
        for list in authority.revocation_lists() {
            let is_over = list.next_update <= now;
            if !list.ends_soon(now) || !is_new(format!("{is_over} {}", list.issuer)) {
                continue;
            }
            let issuer = &list.issuer;
            match is_over {
                true => tracing::error!(
                    %issuer,
                    %directory,
                    "the list of revoked certificates in ca-crl.pem is past its next update: proxies let nobody in whom \
                     this authority has signed, put a newer one there"
                ),
                false => tracing::warn!(
                    %issuer,
                    seconds_left = left(list.next_update),
                    %directory,
                    "the list of revoked certificates in ca-crl.pem must be replaced soon"
                ),
            }
        }
        self.warned = warned;
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
