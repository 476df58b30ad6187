//! What a change makes anew.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use periplus_resources::Host;

use super::Connected;
use super::class::Class;
use super::made::{Encoded, Made};
use crate::index::{Change, Index, Routing, Stale};
use crate::proxy::Proxy;

/// Something to be made, and for whom.
struct Job<'a> {
    /// One of them, or what stands for them.
    proxy: Proxy,
    stale: Stale<'a>,
    classes: Vec<Class>,
}

/// Makes what is stale of each class, once for those that see the same, on all cores; nothing where all may stay.
pub(super) fn encode(
    (index, change): (&Index, &Change<'_>),
    proxies: &[Connected],
    before: &HashMap<Class, Made>,
) -> Vec<(Vec<Class>, Option<Encoded>)> {
    let (mut jobs, same) = jobs((index, change), proxies, before);
    let make = |job: &Job<'_>| {
        let encoded = Encoded::of_stale(index, &job.proxy, &job.stale);
        warn(&job.proxy, &encoded, before.get(&job.classes[0]));
        encoded
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut made: Vec<(usize, Encoded)> = if jobs.len() > 1 {
        let next = AtomicUsize::new(0);
        let work = || {
            let mine = std::iter::from_fn(|| {
                let at = next.fetch_add(1, Ordering::Relaxed);
                Some((at, make(jobs.get(at)?)))
            });
            mine.collect::<Vec<_>>()
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..cores.min(jobs.len()))
                .map(|_| scope.spawn(work))
                .collect();
            let made = workers.into_iter().map(|worker| match worker.join() {
                Ok(made) => made,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            made.flatten().collect()
        })
    } else {
        jobs.iter().map(make).enumerate().collect()
    };
    made.sort_unstable_by_key(|(at, _)| *at);
    let classes = jobs.drain(..).map(|job| job.classes);
    let made = made.into_iter().map(|(_, encoded)| Some(encoded));
    classes.zip(made).chain([(same, None)]).collect()
}

/// What there is to do, and the classes for which there is nothing.
fn jobs<'a>(
    (index, change): (&Index, &Change<'a>),
    proxies: &[Connected],
    before: &HashMap<Class, Made>,
) -> (Vec<Job<'a>>, Vec<Class>) {
    let mut members: HashMap<&Class, Vec<&Proxy>> = HashMap::new();
    for one in proxies {
        members.entry(&one.class).or_default().push(&one.proxy);
    }
    let mut same = Vec::new();
    let mut jobs = Vec::new();
    let mut shared: HashMap<(Proxy, Vec<&'a Host>, Routing), Vec<Class>> = HashMap::new();
    for (class, members) in members {
        let proxy = members[0];
        let stale = |had: &Made| {
            // They differ in their addresses only.
            let all = members[1..].iter().any(|it| change.is_about(it));
            match all {
                true => Stale::All,
                false => change.stale(index, proxy, |host| had.has_cluster(host)),
            }
        };
        let class = class.clone();
        match before.get(&class).map_or(Stale::All, stale) {
            Stale::Some(hosts, Routing::Same) if hosts.is_empty() => same.push(class),
            Stale::Some(hosts, routing)
                if routing != Routing::All
                    && let Some(view) = index.view_of(proxy) =>
            {
                let classes = shared.entry((view, hosts, routing));
                classes.or_default().push(class);
            }
            stale => jobs.push(Job {
                proxy: proxy.clone(),
                stale,
                classes: vec![class],
            }),
        }
    }
    let shared = shared.into_iter();
    jobs.extend(shared.map(|((proxy, hosts, routing), classes)| Job {
        proxy,
        stale: Stale::Some(hosts, routing),
        classes,
    }));
    (jobs, same)
}

/// Says what a proxy lacks, unless that was so before.
pub(super) fn warn(proxy: &Proxy, encoded: &Encoded, had: Option<&Made>) {
    let is_known = |note: &str| had.is_some_and(|had| had.told().any(|known| known == note));
    // One that stands for several has no id.
    let name = match proxy.id.as_str() {
        "" => format!("those of {}", proxy.namespace),
        id => id.to_owned(),
    };
    for note in encoded.told().filter(|note| !is_known(note)) {
        tracing::warn!(proxy = %name, "{note}");
    }
}
