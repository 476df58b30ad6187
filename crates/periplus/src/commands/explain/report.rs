//! What is told of a request.

use std::fmt::Write as _;

use periplus_control::Workload;
use serde::Serialize;

use super::request::Request;
use crate::commands::output::{Style, Tone};

/// A resource, or a part of one, and where it is written.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Origin {
    pub(super) resource: String,
    /// `FILE:LINE`
    pub(super) source: String,
}

/// What the proxy of whoever asks does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    Forward,
    Respond,
    Redirect,
    /// It is refused before a rule is asked, or there is none for it.
    Refuse,
    /// The bytes of the connection are passed on.
    Pass,
    /// There is nobody who would take it.
    Nothing,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    request: String,
    from: String,
    pub(super) listener: String,
    /// Why there is such a listener.
    pub(super) listener_sources: Vec<Origin>,
    pub(super) route_configuration: String,
    pub(super) virtual_host: String,
    pub(super) rule: Option<Origin>,
    /// What decides in place of a rule.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) why_no_rule: String,
    /// The rule is in a form that answers nothing by itself but that it leads nowhere.
    #[serde(skip)]
    pub(super) is_lowered: bool,
    pub(super) action: Action,
    /// The answer's, if the proxy answers itself.
    pub(super) status: Option<u16>,
    pub(super) decisions: Vec<Decision>,
    pub(super) others: Vec<Step>,
    pub(super) is_rewritten: bool,
    pub(super) destinations: Vec<Destination>,
    /// In words.
    pub(super) answer: String,
}

/// What a list of policies says.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Decision {
    pub(super) action: &'static str,
    /// None if what the request's token says decides.
    pub(super) allowed: Option<bool>,
    pub(super) is_dry_run: bool,
    /// The one that matched, or that asks what the token says.
    pub(super) policy: Option<Origin>,
}

/// A cluster.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Destination {
    pub(super) cluster: String,
    pub(super) host: String,
    pub(super) subset: String,
    pub(super) percent: f64,
    /// There is no such cluster.
    pub(super) is_missing: bool,
    /// It goes where its client wanted to go, or to the host that its request names.
    pub(super) is_elsewhere: bool,
    /// That host, which the proxy looks up.
    pub(super) is_looked_up: bool,
    pub(super) service: Option<Origin>,
    pub(super) destination_rule: Option<Origin>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// Who answers there.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    pub(super) address: String,
    pub(super) workload: Option<String>,
    pub(super) source: Option<String>,
    pub(super) mutual_tls: bool,
    /// What PeerAuthentications ask for: the mode, and the one that says so.
    pub(super) peer_authentication: Option<Step>,
    /// None if what the request's token says decides.
    pub(super) allowed: Option<bool>,
    pub(super) refusal: Option<String>,
    pub(super) decisions: Vec<Decision>,
    /// What else its proxy does before it lets the request in.
    pub(super) others: Vec<Step>,
}

/// Something that is done, and the resources that say so.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    pub(super) what: String,
    pub(super) by: Vec<Origin>,
}

impl Step {
    pub(super) fn new(what: &str, by: Vec<Origin>) -> Self {
        Self {
            what: what.to_owned(),
            by,
        }
    }

    fn render(&self) -> String {
        match self.by.is_empty() {
            true => self.what.clone(),
            false => format!("{}: {}", self.what, list(&self.by)),
        }
    }
}

fn list(origins: &[Origin]) -> String {
    let origins = origins.iter();
    let origins: Vec<_> = origins.map(Origin::render).collect();
    origins.join(", ")
}

impl Origin {
    fn render(&self) -> String {
        format!("{} ({})", self.resource, self.source)
    }
}

/// Whether all of these allow it; none if a token decides.
pub(super) fn allowed(decisions: &[Decision]) -> Option<bool> {
    let enforced = decisions.iter().filter(|one| !one.is_dry_run);
    let said: Vec<_> = enforced.map(|one| one.allowed).collect();
    match said.contains(&Some(false)) {
        true => Some(false),
        false => (!said.contains(&None)).then_some(true),
    }
}

impl Decision {
    /// Why it says what it says.
    pub(super) fn why(&self) -> String {
        let dry = match self.is_dry_run {
            true => " (dry run: nothing comes of it)",
            false => "",
        };
        match (&self.policy, self.action) {
            (Some(policy), action) if self.allowed.is_none() => {
                format!("{} says {action} or not{dry}", policy.render())
            }
            (Some(policy), action) => format!("{} says {action}{dry}", policy.render()),
            (None, "ALLOW") => format!("no ALLOW policy matches{dry}"),
            (None, action) => format!("no {action} policy matches{dry}"),
        }
    }
}

impl Report {
    pub(super) fn new(request: &Request, from: &Workload) -> Self {
        Self {
            request: request.text.clone(),
            from: from.name(),
            listener: String::new(),
            listener_sources: Vec::new(),
            route_configuration: String::new(),
            virtual_host: String::new(),
            rule: None,
            why_no_rule: String::new(),
            is_lowered: false,
            action: Action::Nothing,
            status: None,
            decisions: Vec::new(),
            others: Vec::new(),
            is_rewritten: false,
            destinations: Vec::new(),
            answer: String::new(),
        }
    }

    /// Whether somebody answers who was meant to.
    pub(super) fn is_answered(&self) -> bool {
        if self.depends() {
            return false;
        }
        match self.action {
            Action::Forward | Action::Pass => self.destinations.iter().all(Destination::is_good),
            Action::Redirect => true,
            Action::Respond => self.rule.is_some() && !self.is_lowered,
            Action::Refuse | Action::Nothing => false,
        }
    }

    /// Whether what the request's token says decides what becomes of it.
    fn depends(&self) -> bool {
        let endpoints = self.destinations.iter().flat_map(|one| &one.endpoints);
        let allowed: Vec<_> = endpoints.map(|one| one.allowed).collect();
        let is_open = allowed.contains(&None) && !allowed.contains(&Some(false));
        self::allowed(&self.decisions).is_none() || is_open
    }

    /// Says so.
    pub(super) fn tell_dependence(&mut self) {
        if self.depends() {
            self.answer = format!(
                "depends on what its token says, which --jwt-claims tells; if that allows it: {}",
                self.answer
            );
        }
    }

    /// What comes of a request that is forwarded, or of a connection that is passed on.
    pub(super) fn conclude(&mut self) {
        let missing = self.destinations.iter().find(|one| one.is_missing);
        let empty = self
            .destinations
            .iter()
            .find(|one| one.endpoints.is_empty() && !one.is_elsewhere);
        let endpoints = self.destinations.iter().flat_map(|one| &one.endpoints);
        let refused = endpoints.filter(|one| one.allowed == Some(false));
        let refused = refused.count();
        let share = |destination: &Destination| match destination.percent {
            100.0 => String::new(),
            percent => format!(" for {percent:.0} % of them"),
        };
        let (fails, goes_on) = match self.action {
            Action::Pass => (
                "the connection is closed",
                "the connection is passed on as it is",
            ),
            _ => ("503", "a workload answers"),
        };
        self.answer = match (missing, empty, refused) {
            (Some(one), ..) | (None, Some(one), _) if one.cluster == "BlackHoleCluster" => {
                format!(
                    "{fails}{}: nothing outside of the mesh may be reached",
                    share(one)
                )
            }
            (Some(one), ..) => {
                format!("{fails}{}: there is no cluster {}", share(one), one.cluster)
            }
            (None, Some(one), _) => {
                format!("{fails}{}: no workload is in {}", share(one), one.cluster)
            }
            (None, None, 0) => goes_on.to_owned(),
            (None, None, n) => format!("{n} of its workloads refuse it"),
        };
    }

    /// Lines for people.
    pub(super) fn render(&self, style: Style) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name:<9} {value}");
        };
        if !self.listener.is_empty() {
            let sources = match self.listener_sources.is_empty() {
                true => String::new(),
                false => format!(" by {}", list(&self.listener_sources)),
            };
            line("listener", &format!("{}{sources}", self.listener));
        }
        if !self.virtual_host.is_empty() {
            line(
                "host",
                &format!("{} of {}", self.virtual_host, self.route_configuration),
            );
        }
        match &self.rule {
            Some(rule) => line("rule", &rule.render()),
            None if !self.why_no_rule.is_empty() => {
                line("rule", &format!("none: {}", self.why_no_rule));
            }
            None => {}
        }
        for decision in &self.decisions {
            line("policy", &decision.why());
        }
        for other in &self.others {
            line("besides", &other.render());
        }
        if self.is_rewritten {
            line(
                "besides",
                "path or host are rewritten; policies below are asked about them as they were",
            );
        }
        for destination in &self.destinations {
            line("to", &destination.render(style));
            if let Some(rule) = &destination.destination_rule {
                line("", &format!("by {}", rule.render()));
            }
            for endpoint in &destination.endpoints {
                line("", &endpoint.render(style));
            }
        }
        let tone = match self.is_answered() {
            true => Tone::Strong,
            false => Tone::Bad,
        };
        line("answer", &style.paint(tone, &self.answer));
        format!(
            "{}  from {}\n{text}",
            style.paint(Tone::Strong, &self.request),
            self.from
        )
    }
}

impl Destination {
    fn is_good(&self) -> bool {
        let is_there = !self.endpoints.is_empty() || self.is_elsewhere;
        !self.is_missing && is_there && self.endpoints.iter().all(|one| one.allowed == Some(true))
    }

    fn render(&self, style: Style) -> String {
        let subset = match self.subset.as_str() {
            "" => String::new(),
            subset => format!(", subset {subset}"),
        };
        let service = match &self.service {
            Some(service) => format!(" ({}, {})", service.resource, service.source),
            None => String::new(),
        };
        let end = match (
            self.is_missing,
            self.is_elsewhere,
            self.endpoints.is_empty(),
        ) {
            (true, ..) => style.paint(Tone::Bad, ": there is no such cluster"),
            (_, true, _) if self.is_looked_up => {
                ": the host that it names, as the proxy finds it".to_owned()
            }
            (_, true, _) => ": wherever the client wanted to go".to_owned(),
            (_, _, true) => style.paint(Tone::Bad, ": no workload"),
            _ => String::new(),
        };
        format!("{:.0} % {}{subset}{service}{end}", self.percent, self.host)
    }
}

impl Endpoint {
    fn render(&self, style: Style) -> String {
        let mut text = self.address.clone();
        if let (Some(workload), Some(source)) = (&self.workload, &self.source) {
            text += &format!(" {workload} ({source})");
        }
        text += match self.mutual_tls {
            true => ", mutual TLS",
            false => ", plaintext",
        };
        if let Some(asked) = &self.peer_authentication {
            text += &format!(", {}", asked.render());
        }
        if let Some(refusal) = &self.refusal {
            text += &style.paint(Tone::Bad, &format!(", refused: {refusal}"));
        }
        for decision in &self.decisions {
            let (tone, verdict) = match decision.allowed {
                Some(true) => (Tone::Plain, "allowed"),
                Some(false) => (Tone::Bad, "denied"),
                None => (Tone::Bad, "depends on its token"),
            };
            text += &style.paint(tone, &format!(", {verdict}: {}", decision.why()));
        }
        for other in &self.others {
            text += &format!(", {}", other.render());
        }
        text
    }
}
