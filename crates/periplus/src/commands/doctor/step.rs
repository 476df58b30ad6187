use serde::Serialize;

use crate::commands::output::{Style, Tone, clean};

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Passed,
    Warned,
    Failed,
    /// It was not looked at.
    Skipped,
}

/// One thing that is looked at.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) state: State,
    pub(super) said: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

impl Step {
    pub(super) fn passed(name: &'static str, said: String) -> Self {
        Self::new(name, State::Passed, said)
    }

    pub(super) fn warned(name: &'static str, said: String) -> Self {
        Self::new(name, State::Warned, said)
    }

    pub(super) fn failed(name: &'static str, said: String) -> Self {
        Self::new(name, State::Failed, said)
    }

    pub(super) fn skipped(name: &'static str, said: String) -> Self {
        Self::new(name, State::Skipped, said)
    }

    /// The same, with what to do about it.
    pub(super) fn advice(self, advice: impl Into<String>) -> Self {
        Self {
            advice: Some(advice.into()),
            ..self
        }
    }

    fn new(name: &'static str, state: State, said: String) -> Self {
        Self {
            name,
            state,
            said,
            advice: None,
        }
    }
}

/// A line for each step, and one for what to do.
pub(super) fn render(steps: &[Step], style: Style) -> String {
    let width = steps.iter().map(|step| step.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for step in steps {
        let (tone, mark) = match step.state {
            State::Passed => (Tone::Plain, style.pick("✔", "ok")),
            State::Warned => (Tone::Critical, style.pick("!", "! ")),
            State::Failed => (Tone::Bad, style.pick("✕", "X ")),
            State::Skipped => (Tone::Faint, style.pick("-", "- ")),
        };
        let name = format!("{:<width$}", step.name);
        text += &format!(
            "{} {name}  {}\n",
            style.paint(tone, mark),
            clean(&step.said)
        );
        if let Some(advice) = &step.advice {
            text += &format!(
                "  {:width$}  {} {}\n",
                "",
                style.pick("→", "->"),
                clean(advice)
            );
        }
    }
    text
}
