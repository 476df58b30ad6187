//! How a root of our own is replaced.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::files::{CERTIFICATE, KEY, MAX_FILE_BYTES, NEXT_CERTIFICATE, NEXT_KEY, ROOTS};
use super::{Home, HomeError, cannot_sign};
use crate::authority::Material;
use crate::private::{self, FileError};

/// The ten years of Istio's root.
pub(super) const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Nothing is looked at more often.
const SHORTEST: Duration = Duration::from_millis(200);

/// How a root of our own is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// How long a root holds: ten years, as Istio's.
    pub lifetime: Duration,
    /// It is replaced when less than this is left; Istio does so with 20 % left.
    pub before: Duration,
    /// As long may certificates of workloads hold.
    pub leaves: Duration,
}

impl Rotation {
    /// For certificates that hold at most so long.
    pub fn new(lifetime: Duration, leaves: Duration) -> Self {
        Self {
            lifetime,
            before: lifetime / 5,
            leaves,
        }
    }

    /// How often it is looked whether something is due, with so much left of the root.
    pub(super) fn interval(&self, left: Duration) -> Duration {
        let most = Duration::from_secs(3600);
        (self.leaves.min(left) / 20).clamp(SHORTEST, most)
    }

    /// Until all workloads have renewed their certificates, and got the roots with them. No certificate outlives the
    /// root: with so much left of it when the next one is announced, all are renewed the sooner.
    fn announced(&self, left: Duration) -> Duration {
        self.leaves.min(left).mul_f64(0.6)
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self::new(TEN_YEARS, crate::Lifetimes::default().most)
    }
}

impl Home {
    /// Does the step that is due. The files say which were done, and when.
    pub(super) fn rotate(&mut self, rotation: Rotation, now: SystemTime) -> Result<(), HomeError> {
        let path = |name: &str| self.directory.join(name);
        let since = |name: &str| -> Result<Duration, HomeError> {
            let path = path(name);
            let changed = fs::metadata(&path).and_then(|metadata| metadata.modified());
            let changed = changed.map_err(|source| FileError::Read { path, source })?;
            Ok(now.duration_since(changed).unwrap_or_default())
        };
        let authority = Arc::clone(&self.published.borrow());
        let left = self.left(now);
        let has_next = path(NEXT_CERTIFICATE).exists() && path(NEXT_KEY).exists();
        let has_old = authority.root_facts().len() > 1;
        let mut others = authority.root_facts().iter();
        let old_has_ended = others.any(|root| root != authority.facts() && root.not_after <= now);
        if has_next {
            let next = private::read(&path(NEXT_CERTIFICATE), MAX_FILE_BYTES)?;
            // Nobody has been told yet if this ended in between.
            if !self.material.roots.contains(next.trim()) {
                self.announce(&next)?;
            } else {
                // The roots were written when it was announced.
                let announced = since(ROOTS)?;
                if announced >= rotation.announced(left + announced) {
                    return self.switch();
                }
            }
        } else if has_old && since(CERTIFICATE)? > rotation.leaves {
            tracing::info!("nothing is left that the old root has signed: it is believed no more");
            let mut material = self.material.clone();
            material.roots.clone_from(&material.certificate);
            return self.take(material);
        } else if left < rotation.before && (!has_old || old_has_ended) {
            tracing::warn!(
                seconds_left = left.as_secs(),
                "the root ends soon: a new one is announced"
            );
            let made = Material::self_signed(&self.trust_domain, rotation.lifetime, now);
            let made = made.map_err(|source| cannot_sign(&self.directory, source))?;
            private::write(&path(NEXT_KEY), &made.key)?;
            private::write(&path(NEXT_CERTIFICATE), &made.certificate)?;
            self.announce(&made.certificate)?;
        }
        if left.is_zero() && self.directory.join(NEXT_CERTIFICATE).exists() {
            tracing::error!(
                "the root has expired: the new one signs at once, before all workloads could get it; those that have \
                 not trust the others again once they have renewed their certificates"
            );
            return self.switch();
        }
        Ok(())
    }

    /// The next root is believed beside the one that signs. One that has ended goes.
    fn announce(&mut self, next: &str) -> Result<(), HomeError> {
        let mut material = self.material.clone();
        material.roots = [&material.certificate, next].concat();
        self.take(material)
    }

    /// The next root signs.
    fn switch(&mut self) -> Result<(), HomeError> {
        let read = |name: &str| private::read(&self.directory.join(name), MAX_FILE_BYTES);
        let material = Material {
            certificate: read(NEXT_CERTIFICATE)?,
            key: read(NEXT_KEY)?,
            ..self.material.clone()
        };
        tracing::info!("the new root signs from now on; the old one is believed for a while");
        self.take(material)?;
        Ok(remove_next(&self.directory)?)
    }
}

/// Ends a switch to the next root that was interrupted when it had written the key alone.
pub(super) fn finish(directory: &Path) -> Result<(), FileError> {
    let read = |name: &str| private::read(&directory.join(name), MAX_FILE_BYTES);
    let (Ok(next), Ok(key)) = (read(NEXT_KEY), read(KEY)) else {
        return Ok(());
    };
    if next != key || !directory.join(NEXT_CERTIFICATE).exists() {
        return Ok(());
    }
    private::write(&directory.join(CERTIFICATE), &read(NEXT_CERTIFICATE)?)?;
    tracing::info!("the new root signs from now on, as was begun before");
    remove_next(directory)
}

fn remove_next(directory: &Path) -> Result<(), FileError> {
    for name in [NEXT_CERTIFICATE, NEXT_KEY] {
        let path = directory.join(name);
        fs::remove_file(&path).map_err(|source| FileError::Write { path, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::authority;
    use super::super::files::write;
    use super::*;
    use crate::authority::Authority;

    const LEAVES: Duration = Duration::from_secs(100);
    const LIFETIME: Duration = Duration::from_secs(5000);

    fn open(directory: &Path) -> Home {
        Home::own(directory, "cluster.local", Rotation::new(LIFETIME, LEAVES)).unwrap()
    }

    fn now(home: &Home) -> Arc<Authority> {
        Arc::clone(&home.published.borrow())
    }

    /// The root that signs, and all that are believed.
    fn serials(home: &Home) -> (String, Vec<String>) {
        let authority = now(home);
        let roots = authority.root_facts().iter();
        let all = roots.map(|root| root.serial.clone()).collect();
        (authority.facts().serial.clone(), all)
    }

    /// A leaf of each step is believed by those who have the roots of that step, of the one before, and of the
    /// one after: as far may workloads be apart.
    #[test]
    fn a_root_is_replaced_in_steps() {
        let directory = tempfile::tempdir().unwrap();
        let mut home = open(directory.path());
        let began = SystemTime::now();
        let mut steps: Vec<Arc<Authority>> = Vec::new();
        let mut note = |home: &Home| steps.push(now(home));
        let old = now(&home).facts().serial.clone();
        home.look(began + Duration::from_secs(3900));
        note(&home);
        let due = began + Duration::from_secs(4001);
        home.look(due);
        note(&home);
        // The files are as old as this test: time goes on by so much.
        home.look(began + LEAVES / 2);
        assert_eq!(now(&home).facts().serial, old);
        home.look(began + LEAVES);
        note(&home);
        assert_ne!(now(&home).facts().serial, old);
        assert_eq!(now(&home).root_facts().len(), 2);
        home.look(began + LEAVES / 2);
        assert_eq!(now(&home).root_facts().len(), 2);
        home.look(began + LEAVES * 2);
        note(&home);
        assert_eq!(now(&home).root_facts().len(), 1);
        assert_eq!(home.trouble, None);
        let serials = |one: &Authority| -> Vec<String> {
            one.root_facts()
                .iter()
                .map(|root| root.serial.clone())
                .collect()
        };
        for pair in steps.windows(2) {
            let (before, after) = (&pair[0], &pair[1]);
            assert!(
                serials(before).contains(&after.facts().serial)
                    || serials(after).len() > serials(before).len()
            );
            assert!(
                serials(after).contains(&before.facts().serial)
                    || serials(before).len() > serials(after).len()
            );
        }
        // What is on disk is what is in use.
        let again = open(directory.path());
        assert_eq!(serials(&now(&again)), serials(&steps[3]));
        assert!(!directory.path().join(NEXT_KEY).exists());
    }

    /// Each time is one at which the control plane looks again after it was off: the root has so much left then.
    #[test]
    fn a_root_that_nobody_could_replace_in_time_is_recovered() {
        const SECOND: Duration = Duration::from_secs(1);
        for (at, waits) in [
            // As long as all certificates may hold.
            (LIFETIME - 200 * SECOND, 60 * SECOND),
            // As long as those may hold that outlive nothing.
            (LIFETIME - 50 * SECOND, 30 * SECOND),
            (LIFETIME, Duration::ZERO),
            (LIFETIME + LEAVES * 3, Duration::ZERO),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let began = SystemTime::now();
            let mut home = open(directory.path());
            let (old, _) = serials(&home);
            // The files are written now, whatever the time is said to be: it goes on from here.
            let at_files = |path: &Path, time: SystemTime| {
                let file = fs::File::options().write(true).open(path).unwrap();
                file.set_modified(time).unwrap();
            };
            home.look(began + at);
            assert_eq!(home.trouble, None, "{at:?}");
            if !waits.is_zero() {
                let roots = directory.path().join(ROOTS);
                at_files(&roots, began + at);
                home.look(began + at + waits - SECOND);
                assert_eq!(serials(&home).0, old, "{at:?}");
                home.look(began + at + waits + SECOND);
            }
            let (new, all) = serials(&home);
            assert_ne!(new, old, "{at:?}");
            assert_eq!(all, [old, new], "{at:?}");
            assert!(home.left(began + at) > LIFETIME / 2, "{at:?}");
            assert!(!directory.path().join(NEXT_KEY).exists());
            // It is stable from here.
            at_files(&directory.path().join(CERTIFICATE), began + at);
            home.look(began + at + LEAVES / 2);
            assert_eq!(serials(&home).1, all_of(&open(directory.path())), "{at:?}");
            home.look(began + at + LEAVES + SECOND);
            assert_eq!(serials(&home).1.len(), 1, "{at:?}");
        }
    }

    fn all_of(home: &Home) -> Vec<String> {
        serials(home).1
    }

    /// What may be on disk after a crash, at any of the steps, and however long it was off then.
    #[test]
    fn a_replacement_that_was_interrupted_goes_on() {
        for off in [Duration::ZERO, LEAVES, LIFETIME * 2] {
            let directory = tempfile::tempdir().unwrap();
            let path = |name: &str| directory.path().join(name);
            let (old, _) = serials(&open(directory.path()));
            let began = SystemTime::now();
            let next = Material::self_signed("cluster.local", LIFETIME * 3, began).unwrap();
            let new = authority(directory.path(), &next).unwrap();
            let new = new.facts().serial.clone();
            // The key alone: another is made when it is due.
            private::write(&path(NEXT_KEY), &next.key).unwrap();
            let mut home = open(directory.path());
            home.look(began);
            assert_eq!(serials(&home).1, std::slice::from_ref(&old));
            // Both, but nobody was told.
            private::write(&path(NEXT_CERTIFICATE), &next.certificate).unwrap();
            let mut home = open(directory.path());
            home.look(began + off);
            assert_eq!(home.trouble, None, "{off:?}");
            let (signs, all) = serials(&home);
            assert_eq!(all, [old.clone(), new.clone()], "{off:?}");
            assert_eq!(signs == new, off > LIFETIME, "{off:?}");
            // The new root signs, but of its files only the key is there.
            private::write(&path(NEXT_KEY), &next.key).unwrap();
            private::write(&path(NEXT_CERTIFICATE), &next.certificate).unwrap();
            private::write(&path(KEY), &next.key).unwrap();
            let mut home = open(directory.path());
            assert_eq!(serials(&home).0, new, "{off:?}");
            home.look(began);
            assert_eq!((&home.trouble, serials(&home).1), (&None, all), "{off:?}");
            assert!(!path(NEXT_KEY).exists() && !path(NEXT_CERTIFICATE).exists());
        }
    }

    /// Old roots that are still believed keep nothing from being replaced once they have ended.
    #[test]
    fn an_old_root_that_has_ended_is_not_in_the_way() {
        let directory = tempfile::tempdir().unwrap();
        let began = SystemTime::now();
        let make = |lifetime| Material::self_signed("cluster.local", lifetime, began).unwrap();
        let (old, mut current) = (make(LIFETIME / 2), make(LIFETIME));
        current.roots = [&old.certificate, &*current.certificate].concat();
        write(directory.path(), &current).unwrap();
        let slow = Rotation::new(LIFETIME, LIFETIME * 2);
        let mut home = Home::own(directory.path(), "cluster.local", slow).unwrap();
        let (signs, all) = serials(&home);
        home.look(began + LIFETIME / 4);
        assert_eq!(serials(&home), (signs.clone(), all));
        home.look(began + LIFETIME * 9 / 10);
        let (still, all) = serials(&home);
        assert_eq!((still, &all[0], all.len()), (signs.clone(), &signs, 2));
    }
}
