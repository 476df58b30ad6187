//! What every engine is asked, and what its answers took.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::corpus::Facts;

pub(super) const TRACE: &str = "trace by id";
pub(super) const ABSENT_TRACE: &str = "absent id";
pub(super) const NEWEST: &str = "newest 20 of a service";
pub(super) const RARE: &str = "rare value";
pub(super) const ABSENT_VALUE: &str = "absent value";
pub(super) const SERVICES: &str = "services";
pub(super) const OPERATIONS: &str = "operations";
pub(super) const DEPENDENCIES: &str = "dependency graph";
pub(super) const RED_HOUR: &str = "RED of the hour";
pub(super) const RED_SERVICE: &str = "RED of a service by the minute";
pub(super) const RED_MINUTES: &str = "RED by the minute";
pub(super) const SCAN: &str = "scan of 3 predicates";

/// All of them, in the order of the tables.
pub(super) const ALL: [&str; 12] = [
    TRACE,
    ABSENT_TRACE,
    NEWEST,
    RARE,
    ABSENT_VALUE,
    SERVICES,
    OPERATIONS,
    DEPENDENCIES,
    RED_HOUR,
    RED_SERVICE,
    RED_MINUTES,
    SCAN,
];

const HOUR_NANO: u64 = 3_600_000_000_000;

/// A question, with the different arguments that it is asked with.
#[derive(Debug, Serialize)]
pub(super) struct Question {
    pub(super) name: &'static str,
    pub(super) cases: Vec<Case>,
}

/// One way to ask.
#[derive(Debug, Serialize)]
pub(super) struct Case {
    pub(super) arguments: Arguments,
    /// How many rows a right answer has, if that is known.
    pub(super) rows: Option<usize>,
}

pub(super) type Arguments = BTreeMap<&'static str, String>;

/// How often to ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) repetitions: usize,
    pub(super) per_question: Duration,
}

/// What a question's answers took.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    pub(super) repetitions: usize,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) cpu_ms: f64,
    /// How many answers did not have the right number of rows.
    pub(super) wrong: usize,
    /// What came instead of an answer.
    pub(super) failed: Option<String>,
}

pub(super) type Answers = BTreeMap<String, Answer>;

/// The questions that the corpus has answers to.
pub(super) fn about(facts: &Facts) -> Vec<Question> {
    let (first, last) = facts.starts;
    // The newest hour.
    let range = [
        (
            "start",
            (last + 1).saturating_sub(HOUR_NANO).max(first).to_string(),
        ),
        ("end", (last + 1).to_string()),
    ];
    let ask = |arguments: &[(&'static str, String)], rows| Case {
        arguments: range.iter().chain(arguments).cloned().collect(),
        rows,
    };
    let traces = facts.traces.iter();
    let traces = traces.map(|(id, spans)| ask(&[("trace", id.to_string())], Some(*spans)));
    let absent = facts.traces.iter().map(|(id, _)| {
        let id = format!("{:032x}", id.as_u128().rotate_left(61) ^ 0x5bd1_e995);
        ask(&[("trace", id)], Some(0))
    });
    let services = facts.services.iter();
    let newest = services.map(|name| ask(&[("service", name.clone())], Some(20)));
    let rare = facts.rare.iter().map(|(key, value)| {
        let one = (key == "app.user.id").then_some(1);
        ask(&[("key", key.clone()), ("value", value.clone())], one)
    });
    let no_value = facts.rare.iter().map(|(key, value)| {
        let value = value.chars().rev().collect::<String>() + "x";
        ask(&[("key", key.clone()), ("value", value)], Some(0))
    });
    let operations = facts.services.iter().zip(&facts.operations);
    let operations = operations.map(|(name, n)| ask(&[("service", name.clone())], Some(*n)));
    let services = facts.services.iter();
    let red_of_services = services.map(|name| ask(&[("service", name.clone())], None));
    let mut questions = vec![
        (TRACE, traces.collect()),
        (ABSENT_TRACE, absent.collect()),
        (NEWEST, newest.collect()),
        (RARE, rare.collect()),
        (ABSENT_VALUE, no_value.collect()),
        (SERVICES, vec![ask(&[], Some(facts.services.len()))]),
        (OPERATIONS, operations.collect()),
        (DEPENDENCIES, vec![ask(&[], None)]),
        (RED_HOUR, vec![ask(&[], None)]),
        (RED_SERVICE, red_of_services.collect()),
        (RED_MINUTES, vec![ask(&[], None)]),
    ];
    if let Some((service, duration)) = &facts.too_long {
        let arguments = [
            ("service", service.clone()),
            ("duration", duration.to_string()),
        ];
        questions.push((SCAN, vec![ask(&arguments, Some(0))]));
    }
    questions
        .into_iter()
        .map(|(name, cases)| Question { name, cases })
        .collect()
}

/// Asks every question several times. `answer` gives the number of rows, or `None` where the engine
/// cannot say; `cpu` the CPU time that the engine has used so far.
pub(super) fn ask(
    questions: &[&Question],
    patience: Patience,
    mut answer: impl FnMut(&str, &Arguments) -> anyhow::Result<Option<(Duration, usize)>>,
    cpu: impl Fn() -> anyhow::Result<Duration>,
) -> Answers {
    let mut answers = Answers::new();
    for question in questions {
        let asked = ask_one(question, patience, &mut answer, &cpu);
        let answer = match asked.transpose() {
            None => continue,
            Some(Ok(answer)) => answer,
            Some(Err(error)) => Answer {
                failed: Some(format!("{error:#}")),
                ..Answer::default()
            },
        };
        match &answer.failed {
            None => eprintln!("    {}: {:.2} ms", question.name, answer.p50_ms),
            Some(error) => eprintln!("    {}: {error}", question.name),
        }
        answers.insert(question.name.to_owned(), answer);
    }
    answers
}

fn ask_one(
    Question { name, cases }: &Question,
    patience: Patience,
    answer: &mut impl FnMut(&str, &Arguments) -> anyhow::Result<Option<(Duration, usize)>>,
    cpu: &impl Fn() -> anyhow::Result<Duration>,
) -> anyhow::Result<Option<Answer>> {
    // Once without being counted, so that what can be in memory is.
    if answer(name, &cases[0].arguments)?.is_none() {
        return Ok(None);
    }
    let (mut times, mut wrong) = (Vec::new(), 0);
    let (begin, cpu_before) = (Instant::now(), cpu()?);
    for case in cases.iter().cycle().take(patience.repetitions) {
        let Some((time, rows)) = answer(name, &case.arguments)? else {
            break;
        };
        times.push(time);
        if case.rows.is_some_and(|right| right != rows) {
            wrong += 1;
            if wrong == 1 {
                let right = case.rows.unwrap_or_default();
                eprintln!("    {name}: {rows} rows instead of {right}");
            }
        }
        if begin.elapsed() > patience.per_question {
            break;
        }
    }
    let cpu_ms = (cpu()? - cpu_before).as_secs_f64() * 1e3 / times.len() as f64;
    times.sort();
    Ok(Some(Answer {
        repetitions: times.len(),
        p50_ms: quantile(&times, 0.5),
        p99_ms: quantile(&times, 0.99),
        cpu_ms,
        wrong,
        failed: None,
    }))
}

pub(super) fn quantile(sorted: &[Duration], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted[rank.saturating_sub(1)].as_secs_f64() * 1e3
}
