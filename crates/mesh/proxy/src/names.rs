//! Names that only requests and connections say: each is looked up when it is first asked for, and again for as long as
//! somebody uses it (Envoy's DNS cache of dynamic forward proxies). All workers share what is found.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::agent::dns::{Looked, back_off, look_up};
use crate::balance::now;
use crate::snapshot::NameCache;
use crate::stats::NameStats;

/// What a cache has found.
#[derive(Debug)]
pub(crate) struct Names {
    config: Arc<NameCache>,
    stats: Arc<NameStats>,
    hosts: Mutex<HashMap<Box<str>, Arc<Host>>>,
    /// How many wait for a first answer.
    waiting: AtomicU32,
}

/// A name.
#[derive(Debug)]
struct Host {
    found: watch::Sender<Found>,
    /// When it was asked for last, as [`now`] has it.
    used: AtomicU64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    NotYet,
    At(IpAddr),
    /// Why there is no address.
    Nowhere(Arc<str>),
}

/// Why there is no address of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// What the resolver says.
    NotFound(Arc<str>),
    /// There are as many names as there may be.
    TooManyNames,
    /// As many wait for answers as there may be.
    TooManyWaiting,
}

/// One that waits.
struct Waiting<'a>(&'a Names);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Names {
    pub(crate) fn new(config: Arc<NameCache>, stats: Arc<NameStats>) -> Self {
        Self {
            config,
            stats,
            hosts: Mutex::default(),
            waiting: AtomicU32::new(0),
        }
    }

    /// The address of a name, or of what is an address already. Waits for the first answer; after that what was found last
    /// is used while the name is looked up again. To give up does no harm: the answer is there for whoever asks next.
    pub(crate) async fn find(self: &Arc<Self>, name: &str) -> Result<IpAddr, Lost> {
        let literal = name.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = literal.parse() {
            return Ok(address);
        }
        let mut answer = self.host(name)?.found.subscribe();
        let known = answer.borrow().clone();
        let found = match known {
            Found::NotYet => {
                let _waiting = self.wait()?;
                let first = answer.wait_for(|found| *found != Found::NotYet).await;
                // The name is kept by whoever looks it up.
                first.map_or(Found::NotYet, |found| found.clone())
            }
            known => known,
        };
        match found {
            Found::At(address) => Ok(address),
            Found::Nowhere(why) => Err(Lost::NotFound(why)),
            Found::NotYet => Err(Lost::NotFound("nobody looks it up any more".into())),
        }
    }

    fn wait(&self) -> Result<Waiting<'_>, Lost> {
        let most = self.config.max_waiting;
        let one_more = |count| (count < most).then_some(count + 1);
        let counted = self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        if counted.is_err() {
            self.stats.rq_pending_overflow.increment();
            return Err(Lost::TooManyWaiting);
        }
        Ok(Waiting(self))
    }

    /// The name, which is looked up from now on if nobody has asked for it before.
    fn host(self: &Arc<Self>, name: &str) -> Result<Arc<Host>, Lost> {
        let mut hosts = self.lock();
        if let Some(host) = hosts.get(name) {
            host.used.store(now(), Ordering::Relaxed);
            return Ok(host.clone());
        }
        if hosts.len() >= self.config.max_hosts {
            self.stats.host_overflow.increment();
            return Err(Lost::TooManyNames);
        }
        let host = Arc::new(Host {
            found: watch::Sender::new(Found::NotYet),
            used: AtomicU64::new(now()),
        });
        hosts.insert(name.into(), host.clone());
        self.stats.host_added.increment();
        self.stats.num_hosts.increment();
        tokio::spawn(follow(Arc::downgrade(self), name.into(), host.clone()));
        Ok(host)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Host>>> {
        // Names are never left half written.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks a name up; how long to wait before it is looked up again.
    async fn renew(config: &NameCache, stats: &NameStats, name: &str, host: &Host) -> Next {
        stats.query_attempt.increment();
        let asked = look_up(name, config.family, &config.servers, config.query_timeout).await;
        let (found, next) = match asked {
            Looked::Up(address, ttl) => {
                stats.query_success.increment();
                let holds = ttl.map_or(config.refresh, |ttl| ttl.max(config.min_refresh));
                (Found::At(address), Next::In(holds))
            }
            Looked::Empty(why) => {
                stats.query_success.increment();
                (Found::Nowhere(why.into()), Next::In(config.refresh))
            }
            Looked::Failed(why) => {
                stats.query_failure.increment();
                (Found::Nowhere(why.into()), Next::AfterFailure)
            }
            Looked::TooLong => {
                stats.query_failure.increment();
                stats.query_timeout.increment();
                let why = "the resolver does not answer in time";
                (Found::Nowhere(why.into()), Next::AfterFailure)
            }
        };
        host.found.send_if_modified(|last| {
            // An address that was found once stays, whatever becomes of the resolver.
            let stays = matches!((&*last, &found), (Found::At(_), Found::Nowhere(_)));
            if *last == found || stays {
                return false;
            }
            if let Found::At(_) = found {
                stats.host_address_changed.increment();
            }
            *last = found;
            true
        });
        next
    }

    /// Forgets a name that nobody has asked for in this time.
    fn forgets(&self, name: &str, host: &Host, unused_for: Duration) -> bool {
        let mut hosts = self.lock();
        let unused = now().saturating_sub(host.used.load(Ordering::Relaxed));
        let forgets = u128::from(unused) >= unused_for.as_micros();
        if forgets {
            hosts.remove(name);
            self.stats.host_removed.increment();
            self.stats.num_hosts.decrement();
        }
        forgets
    }
}

/// When a name is looked up again.
#[derive(Debug)]
enum Next {
    In(Duration),
    AfterFailure,
}

/// Looks a name up again and again, as long as somebody uses it.
async fn follow(names: Weak<Names>, name: Box<str>, host: Arc<Host>) {
    let mut failures = 0;
    loop {
        let Some((config, stats)) = names
            .upgrade()
            .map(|names| (names.config.clone(), names.stats.clone()))
        else {
            return;
        };
        let next = Names::renew(&config, &stats, &name, &host).await;
        let mut unused_for = config.host_ttl;
        let wait = match next {
            Next::In(wait) => {
                failures = 0;
                wait
            }
            Next::AfterFailure => {
                failures += 1;
                let is_lost = matches!(*host.found.borrow(), Found::Nowhere(_));
                if config.forgets_failures && is_lost {
                    unused_for = Duration::ZERO;
                }
                let failure = config.failure;
                failure.map_or(config.refresh, |limits| back_off(limits, failures))
            }
        };
        if !unused_for.is_zero() {
            sleep(wait).await;
        }
        let Some(names) = names.upgrade() else {
            return;
        };
        if names.forgets(&name, &host, unused_for) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use tokio::net::UdpSocket;
    use tokio::sync::mpsc;

    use super::*;
    use crate::config::Family;

    fn cache(server: SocketAddr) -> NameCache {
        NameCache {
            name: "names".to_owned(),
            family: Family::V4Only,
            refresh: Duration::from_secs(60),
            min_refresh: Duration::from_millis(1),
            failure: None,
            forgets_failures: false,
            host_ttl: Duration::from_secs(300),
            max_hosts: 2,
            max_waiting: 1,
            query_timeout: Duration::from_secs(30),
            servers: vec![server],
        }
    }

    fn names(config: NameCache) -> Arc<Names> {
        Arc::new(Names::new(Arc::new(config), Arc::default()))
    }

    /// A server that says whom it was asked by and for what, and the answers to send.
    struct Server {
        at: SocketAddr,
        questions: mpsc::UnboundedReceiver<(Vec<u8>, SocketAddr)>,
        socket: Arc<UdpSocket>,
    }

    impl Server {
        async fn start() -> Self {
            let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("bind"));
            let at = socket.local_addr().expect("address");
            let (asked, questions) = mpsc::unbounded_channel();
            let reader = socket.clone();
            tokio::spawn(async move {
                let mut block = [0; 512];
                while let Ok((length, from)) = reader.recv_from(&mut block).await {
                    let _ = asked.send((block[..length].to_vec(), from));
                }
            });
            Self {
                at,
                questions,
                socket,
            }
        }

        /// Answers the next question: with this address, or that there is no such name.
        async fn answer(&mut self, address: Option<Ipv4Addr>, ttl: u8) {
            let (question, from) = self.questions.recv().await.expect("a question");
            let mut answer = question;
            answer[2] = 0x81;
            answer[3] = 0x80;
            match address {
                Some(address) => {
                    answer[7] = 1;
                    answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, ttl, 0, 4]);
                    answer.extend_from_slice(&address.octets());
                }
                None => answer[3] |= 3,
            }
            self.socket.send_to(&answer, from).await.expect("sent");
        }
    }

    const ONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const TWO: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    #[tokio::test]
    async fn a_name_is_looked_up_once_for_all_and_again_when_its_time_is_over() {
        let mut server = Server::start().await;
        let names = names(NameCache {
            max_waiting: 2,
            ..cache(server.at)
        });
        let (first, second, ()) = tokio::join!(
            names.find("a.test."),
            names.find("a.test."),
            server.answer(Some(ONE), 1),
        );
        assert_eq!([first, second], [Ok(ONE.into()), Ok(ONE.into())]);
        assert_eq!(names.stats.query_attempt.get(), 1);
        // It has held for its second.
        server.answer(Some(TWO), 60).await;
        while names.find("a.test.").await != Ok(TWO.into()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(names.stats.host_address_changed.get(), 2);
        assert_eq!(names.find("[::1]").await, Ok("::1".parse().expect("one")));
        assert_eq!(names.lock().len(), 1);
    }

    #[tokio::test]
    async fn an_address_stays_whatever_the_server_says_later() {
        let mut server = Server::start().await;
        let names = names(cache(server.at));
        let (found, ()) = tokio::join!(names.find("a.test."), server.answer(Some(ONE), 1));
        assert_eq!(found, Ok(ONE.into()));
        server.answer(None, 0).await;
        while names.stats.query_success.get() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(names.find("a.test.").await, Ok(ONE.into()));
    }

    #[tokio::test]
    async fn names_and_those_who_wait_have_limits() {
        let mut server = Server::start().await;
        let names = names(cache(server.at));
        let waiting = tokio::spawn({
            let names = names.clone();
            async move { names.find("a.test.").await }
        });
        let question = server.questions.recv().await.expect("a question");
        assert_eq!(names.find("a.test.").await, Err(Lost::TooManyWaiting));
        assert_eq!(names.find("b.test.").await, Err(Lost::TooManyWaiting));
        assert_eq!(names.find("c.test.").await, Err(Lost::TooManyNames));
        assert_eq!(names.stats.rq_pending_overflow.get(), 2);
        assert_eq!(names.stats.host_overflow.get(), 1);
        // Who has gone does not count.
        waiting.abort();
        assert!(waiting.await.expect_err("it has ended").is_cancelled());
        assert_eq!(names.waiting.load(Ordering::Relaxed), 0);
        drop(question);
    }

    #[tokio::test]
    async fn a_name_that_nobody_uses_is_forgotten() {
        let mut server = Server::start().await;
        let unused = names(NameCache {
            host_ttl: Duration::from_millis(1),
            ..cache(server.at)
        });
        let (found, ()) = tokio::join!(unused.find("a.test."), server.answer(Some(ONE), 0));
        assert_eq!(found, Ok(ONE.into()));
        let failing = names(NameCache {
            forgets_failures: true,
            servers: vec!["127.0.0.1:1".parse().expect("an address")],
            ..cache(server.at)
        });
        let found = failing.find("a.test.").await;
        assert!(matches!(found, Err(Lost::NotFound(_))), "{found:?}");
        for names in [unused, failing] {
            while names.stats.host_removed.get() < 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(names.lock().is_empty());
        }
    }
}
