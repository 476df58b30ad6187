//! What the user sees: one line for each thing that has happened, and on a terminal one more, at
//! the bottom, for what is happening.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use periplus_local::Event;

use super::state::State;

/// The terminal, or whatever the output goes to.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: bool,
    color: bool,
    parts: usize,
    /// Parts that were ready at least once.
    ready: RefCell<BTreeSet<String>>,
    /// Parts that are on their way.
    starting: RefCell<BTreeSet<String>>,
    stopping: Cell<bool>,
    trouble: Cell<bool>,
}

/// How many of the last lines of a crashed part are shown.
const SHOWN_LINES: usize = 8;

impl Screen {
    pub(crate) fn new(parts: usize) -> Self {
        let terminal = io::stdout().is_terminal();
        let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            terminal,
            color,
            parts,
            ready: RefCell::default(),
            starting: RefCell::default(),
            stopping: Cell::new(false),
            trouble: Cell::new(false),
        }
    }

    /// Something that has happened.
    pub(crate) fn line(&self, text: &str) {
        self.write(&format!("{}{text}\n", self.erase()));
    }

    /// Something that should not have happened.
    pub(crate) fn trouble(&self, text: &str) {
        self.trouble.set(true);
        self.line(text);
    }

    /// Whether something has happened that should not have.
    pub(crate) fn has_shown_trouble(&self) -> bool {
        self.trouble.get()
    }

    /// What is happening; nothing where it could not be replaced later.
    pub(crate) fn status(&self, text: &str) {
        if self.terminal {
            // Cut, since a line that wraps cannot be erased.
            let text: String = text.chars().take(78).collect();
            self.write(&format!("{}{text}", self.erase()));
        }
    }

    /// Nothing is happening any more.
    pub(crate) fn clear(&self) {
        self.write(self.erase());
    }

    pub(crate) fn event(&self, event: &Event, state: &State) {
        match event {
            Event::Started { part, .. } => {
                self.starting.borrow_mut().insert(part.clone());
                self.show_starting();
            }
            Event::Ready { part, took } => {
                self.starting.borrow_mut().remove(part);
                self.ready.borrow_mut().insert(part.clone());
                let mark = self.green("ready");
                self.line(&format!("  {part:<24} {mark} in {}", milliseconds(*took)));
                self.show_starting();
            }
            Event::Crashed {
                part,
                exit,
                last_lines,
                restart_in,
            } => {
                self.starting.borrow_mut().remove(part);
                let how = match exit {
                    Some(exit) => format!(" ({exit})"),
                    None => String::new(),
                };
                let next = match restart_in {
                    Some(pause) => format!("starting it again in {}", milliseconds(*pause)),
                    None => "it stays down".to_owned(),
                };
                let mark = self.red("crashed");
                self.trouble(&format!("  {part:<24} {mark}{how}; {next}"));
                let from = last_lines.len().saturating_sub(SHOWN_LINES);
                for line in &last_lines[from..] {
                    self.line(&format!("  {:<24} | {line}", ""));
                }
                let log = state.log(part);
                self.line(&format!("  {:<24} its log: {}", "", log.display()));
            }
            Event::Stopping => self.stopping.set(true),
            Event::Stopped { part, killed, .. } => {
                self.starting.borrow_mut().remove(part);
                if *killed {
                    let mark = self.red("killed");
                    self.trouble(&format!(
                        "  {part:<24} {mark}: it did not stop when asked to"
                    ));
                } else {
                    self.status(&format!("stopped {part}"));
                }
            }
        }
    }

    fn show_starting(&self) {
        let starting = self.starting.borrow();
        let ready = self.ready.borrow().len();
        if starting.is_empty() || self.stopping.get() || ready == self.parts {
            return;
        }
        let names: Vec<&str> = starting.iter().map(String::as_str).collect();
        let names = names.join(", ");
        self.status(&format!(
            "{ready} of {} ready, starting {names}",
            self.parts
        ));
    }

    fn erase(&self) -> &'static str {
        if self.terminal { "\r\x1b[2K" } else { "" }
    }

    fn green(&self, text: &str) -> String {
        self.paint("32", text)
    }

    fn red(&self, text: &str) -> String {
        self.paint("31", text)
    }

    fn paint(&self, color: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{color}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn write(&self, text: &str) {
        let mut out = io::stdout().lock();
        // A closed pipe (`… | head`) is no reason to stop the mesh.
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .ok();
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
