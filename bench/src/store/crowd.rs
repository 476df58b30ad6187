//! Many people who search at once while spans are stored.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use super::ask;
use super::http::Client;
use super::questions::{Question, quantile};
use super::serve::Server;

/// How many search at once.
pub(super) const PEOPLE: usize = 50;

/// For how long they do.
const TIME: Duration = Duration::from_secs(10);

/// What they got.
#[derive(Clone, Debug)]
pub(super) struct Crowd {
    pub(super) answers: usize,
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Answers with another number of rows than the right one.
    pub(super) wrong: usize,
}

/// Each asks one question after the other, all of them in turns. Any error ends the run.
pub(super) fn ask(server: &Server, questions: &[&Question]) -> anyhow::Result<Crowd> {
    let next = AtomicUsize::new(0);
    let wrong = AtomicUsize::new(0);
    let begin = Instant::now();
    let person = || {
        let mut client = Client::connect(server.api)?;
        let mut own = Vec::new();
        while begin.elapsed() < TIME {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            let question = questions[turn % questions.len()];
            let case = &question.cases[turn / questions.len() % question.cases.len()];
            let Some((time, rows)) = ask::over_http(&mut client, question.name, &case.arguments)?
            else {
                bail!("nobody answers '{}'", question.name);
            };
            own.push(time);
            if case.rows.is_some_and(|right| right != rows) {
                wrong.fetch_add(1, Ordering::Relaxed);
            }
        }
        anyhow::Ok(own)
    };
    let times: Vec<Vec<Duration>> = thread::scope(|scope| {
        let people: Vec<_> = (0..PEOPLE).map(|_| scope.spawn(person)).collect();
        people
            .into_iter()
            .map(|one| one.join().unwrap_or_else(|_| bail!("a searcher crashed")))
            .collect::<anyhow::Result<_>>()
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    let mut times = times.concat();
    ensure!(!times.is_empty(), "nobody got an answer");
    times.sort();
    Ok(Crowd {
        answers: times.len(),
        per_second: times.len() as f64 / seconds,
        p50_ms: quantile(&times, 0.5),
        p99_ms: quantile(&times, 0.99),
        wrong: wrong.into_inner(),
    })
}
