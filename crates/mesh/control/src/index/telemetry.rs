//! What Telemetry resources say together about a proxy, in Istio's order: the mesh, its namespace, its workload.

use std::collections::BTreeMap;

use periplus_resources::{
    AccessLog, At, ExtensionProvider, LogFilter, LoggingRule, Meta, OpenTelemetryLog, ProvidedLog,
    SamplingOf, Source, TagSource, Telemetry, TelemetryMode, did_you_mean,
};

use super::{Entry, Index, Problem, code};
use crate::proxy::Proxy;

/// A side of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// That of whoever sends them.
    Client,
    /// That of whoever gets them.
    Server,
}

impl Side {
    fn is_in(self, mode: TelemetryMode) -> bool {
        match mode {
            TelemetryMode::ClientAndServer => true,
            TelemetryMode::Client => self == Self::Client,
            TelemetryMode::Server => self == Self::Server,
        }
    }
}

/// How requests are traced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traced<'a> {
    pub(crate) provider: &'a ExtensionProvider,
    /// In percent.
    pub(crate) sampling: f64,
    pub(crate) custom_tags: &'a BTreeMap<String, TagSource>,
    pub(crate) has_istio_tags: bool,
}

/// What is wanted of a metric.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) is_disabled: bool,
    /// By label: its expression, or none if it is left out.
    pub(crate) tags: BTreeMap<&'a str, Option<&'a String>>,
}

/// A log.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Log<'a> {
    File(&'a AccessLog),
    OpenTelemetry(&'a OpenTelemetryLog),
}

/// A log, and what it is about if not all requests.
pub(crate) type Logged<'a> = (Log<'a>, Option<&'a LogFilter>);

impl Index {
    /// The resources for a proxy: that of the mesh, that of its namespace, and those that select its workload.
    pub(crate) fn telemetries<'a>(&'a self, proxy: &Proxy) -> Vec<&'a Telemetry> {
        let entries = self.telemetry_entries(proxy).into_iter();
        entries.map(|entry| &entry.spec).collect()
    }

    fn telemetry_entries<'a>(&'a self, proxy: &Proxy) -> Vec<&'a Entry<Telemetry>> {
        let root = self.mesh().root_namespace.as_str();
        let of_all = |namespace: &str| {
            self.telemetries
                .iter()
                .find(|entry| entry.meta.namespace == namespace && entry.spec.is_for_all())
        };
        let own = (proxy.namespace != root).then(|| of_all(&proxy.namespace));
        let selecting = self.telemetries.iter().filter(|entry| {
            entry.meta.namespace == proxy.namespace
                && !entry.spec.selector.is_empty()
                && proxy.is_selected_by(&entry.spec.selector)
        });
        let all = of_all(root).into_iter().chain(own.flatten());
        all.chain(selecting).collect()
    }

    /// The Telemetries that say how much of what a proxy's workload sends is traced, and that nothing is: the last
    /// one of each; or else its pod. None is the mesh configuration.
    pub fn tracing_said_by(&self, proxy: &Proxy) -> (Option<&Meta>, Option<&Meta>) {
        let (_, pod) = self.proxy_tracing(proxy);
        let (mut sampling, mut disabled) = (pod, None);
        for entry in self.telemetry_entries(proxy) {
            let rules = entry.spec.tracing.iter();
            for rule in rules.filter(|rule| Side::Client.is_in(rule.mode)) {
                if rule.sampling_millionths.is_some() {
                    sampling = Some(&entry.meta);
                }
                match rule.is_disabled {
                    Some(true) => disabled = Some(&entry.meta),
                    Some(false) => disabled = None,
                    None => {}
                }
            }
        }
        (sampling, disabled)
    }

    /// How the requests of a side are traced, if they are.
    pub(crate) fn tracing_of(&self, proxy: &Proxy, side: Side) -> Option<Traced<'_>> {
        let mesh = self.mesh();
        let mut provider = mesh.tracing_provider();
        let mut is_disabled = false;
        let (own, _) = self.proxy_tracing(proxy);
        let mut sampling = own.sampling;
        let mut custom_tags = &own.custom_tags;
        let mut has_istio_tags = own.enable_istio_tags;
        let telemetries = self.telemetries(proxy);
        let rules = telemetries.into_iter().flat_map(|one| &one.tracing);
        for rule in rules.filter(|rule| side.is_in(rule.mode)) {
            if let Some((name, _)) = &rule.provider {
                provider = mesh.provider(name);
            }
            is_disabled = rule.is_disabled.unwrap_or(is_disabled);
            if let Some(millionths) = rule.sampling_millionths {
                sampling = f64::from(millionths) / 10_000.0;
            }
            if let Some(tags) = rule.custom_tags.as_ref().filter(|tags| !tags.is_empty()) {
                custom_tags = tags;
            }
            has_istio_tags = rule.has_istio_tags.unwrap_or(has_istio_tags);
        }
        let provider = provider.filter(|_| !is_disabled)?;
        // Istio leaves tracing out where the collector is not in the mesh; why is told with the problems.
        let service = self.service_for(proxy, &provider.service)?;
        service.port(provider.port)?;
        Some(Traced {
            provider,
            sampling,
            custom_tags,
            has_istio_tags,
        })
    }

    /// The providers that spans go to: the mesh's, and those that Telemetries name.
    pub(crate) fn tracing_providers(&self) -> Vec<&ExtensionProvider> {
        let named = self.naming().map(|(_, name, _)| name.as_str());
        let named = named.filter_map(|name| self.mesh().provider(name));
        let mut all: Vec<_> = self
            .mesh()
            .tracing_provider()
            .into_iter()
            .chain(named)
            .collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all.dedup_by(|a, b| a.name == b.name);
        all
    }

    /// How many of them have no service, or not the port: nothing is traced there.
    pub(crate) fn lost_providers(&self) -> usize {
        let providers = self.tracing_providers().into_iter();
        let lost = providers.filter(|provider| {
            let service = self.service(&provider.service);
            service.is_none_or(|service| service.port(provider.port).is_none())
        });
        lost.count()
    }

    /// A problem with a provider of these: one for each resource that sends spans there.
    pub(crate) fn problems_of(&self, provider: &ExtensionProvider, message: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        let is_of_mesh = |it: &ExtensionProvider| it.name == provider.name;
        if self.mesh().tracing_provider().is_some_and(is_of_mesh) {
            let source = Source {
                file: self.mesh().file.clone(),
                position: provider.at.0,
            };
            problems.push(Problem::error(&source, source.position, message.to_owned()));
        }
        for (meta, _, at) in self.naming().filter(|(_, name, _)| **name == provider.name) {
            let problem = Problem::error(&meta.source, at.0, format!("{meta}: {message}"));
            problems.push(problem);
        }
        problems
    }

    /// The Telemetries' own: their kind, namespace and name, and where they are.
    pub(crate) fn telemetry_metas(&self) -> impl Iterator<Item = &Meta> {
        self.telemetries.iter().map(|entry| &entry.meta)
    }

    /// Which Telemetries name providers of tracing, and where.
    fn naming(&self) -> impl Iterator<Item = (&Meta, &String, &At)> {
        self.telemetries.iter().flat_map(|entry| {
            let rules = entry.spec.tracing.iter();
            let on = rules.filter(|rule| rule.is_disabled != Some(true));
            let named = on.filter_map(|rule| rule.provider.as_ref());
            named.map(|(name, at)| (&entry.meta, name, at))
        })
    }

    /// The names of all rules for requests.
    pub(crate) fn rule_names(&self) -> impl Iterator<Item = &str> {
        let all = self.virtual_services.iter().chain(&self.gateway_api.rules);
        let names = all.flat_map(|entry| entry.spec.http.iter().map(|rule| rule.name.as_str()));
        names.filter(|name| !name.is_empty())
    }

    pub(crate) fn has_rule(&self, name: &str) -> bool {
        self.rule_names().any(|one| one == name)
    }

    /// How many of the requests by a port and a route are traced, in millionths, where a Telemetry says so of just
    /// these: what comes later goes before, and a route before a port.
    pub(crate) fn sampling_of(
        &self,
        proxy: &Proxy,
        side: Side,
        (port, route): (u16, &str),
    ) -> Option<u32> {
        if !self
            .telemetries
            .iter()
            .any(|one| !one.spec.sampling.is_empty())
        {
            return None;
        }
        let telemetries = self.telemetries(proxy);
        let rules = || telemetries.iter().flat_map(|one| &one.sampling);
        let last = |is_meant: &dyn Fn(&SamplingOf) -> bool| {
            let meant = rules().filter(|rule| is_meant(&rule.of));
            meant.last().map(|rule| rule.millionths)
        };
        match side {
            Side::Server => last(&|of| *of == SamplingOf::Inbound(port)),
            Side::Client => {
                let by_route = last(
                    &|of| matches!(of, SamplingOf::Route(name) if !route.is_empty() && name == route),
                );
                by_route.or_else(|| last(&|of| *of == SamplingOf::Outbound(port)))
            }
        }
    }

    /// What is wanted of the metrics of a side, by their names; what comes later goes before.
    pub(crate) fn metrics_of(
        &self,
        proxy: &Proxy,
        side: Side,
    ) -> BTreeMap<&'static str, Wanted<'_>> {
        let mut wanted: BTreeMap<&'static str, Wanted<'_>> = BTreeMap::new();
        let telemetries = self.telemetries(proxy);
        let rules = telemetries.into_iter().flat_map(|one| &one.metrics);
        for rule in rules.filter(|rule| side.is_in(rule.mode)) {
            for name in &rule.metrics {
                let of_metric = wanted.entry(name).or_default();
                of_metric.is_disabled = rule.is_disabled.unwrap_or(of_metric.is_disabled);
                let tags = rule.tags.iter();
                of_metric
                    .tags
                    .extend(tags.map(|(name, value)| (name.as_str(), value.as_ref())));
            }
        }
        wanted
    }

    /// What is logged of the requests of a side, by the names of providers.
    pub(crate) fn logs_of(&self, proxy: &Proxy, side: Side) -> Vec<Logged<'_>> {
        let mesh = self.mesh();
        let telemetries = self.telemetries(proxy);
        let levels = telemetries.iter().map(|one| &one.access_logging);
        let levels: Vec<_> = levels.filter(|rules| !rules.is_empty()).collect();
        let chosen = choose(&levels, &mesh.default_logging, side).into_iter();
        let known = chosen.filter_map(|(name, choice)| {
            let log = match mesh.log_provider(name)? {
                ProvidedLog::File(log) => Log::File(log),
                ProvidedLog::OpenTelemetry(log) => {
                    // Istio leaves out a log whose collector is not in the mesh; why is told with the problems.
                    self.service_for(proxy, &log.service)?.port(log.port)?;
                    Log::OpenTelemetry(log)
                }
            };
            Some((log, choice))
        });
        let known: Vec<_> = known.collect();
        if known.is_empty() {
            // `accessLogFile`, which rules that name nobody are about too.
            let rules = levels.iter().flat_map(|rules| rules.iter());
            let mut unnamed = rules.filter(|it| side.is_in(it.mode) && it.providers.is_empty());
            let rule = unnamed.next_back();
            let log = mesh.access_log.iter();
            let log = log.filter(|_| rule.is_none_or(|rule| !rule.is_disabled));
            return log
                .map(|log| (Log::File(log), rule.and_then(|it| it.filter.as_ref())))
                .collect();
        }
        let logged = known.into_iter().filter(|(_, choice)| !choice.is_disabled);
        logged.map(|(log, choice)| (log, choice.filter)).collect()
    }
}

/// What the rules say of a log in the end.
#[derive(Clone, Copy, Debug, Default)]
struct Choice<'a> {
    is_disabled: bool,
    filter: Option<&'a LogFilter>,
}

/// Which providers log, and what: the rules of each level over those of the levels before.
///
/// The providers of the last level that names some for the side are those that count; a rule without any is
/// about those of the rule before.
fn choose<'a>(
    levels: &[&'a Vec<LoggingRule>],
    defaults: &'a [String],
    side: Side,
) -> BTreeMap<&'a str, Choice<'a>> {
    let names = |rule: &'a LoggingRule| rule.providers.iter().map(|(name, _)| name.as_str());
    let defaults: Vec<&str> = defaults.iter().map(String::as_str).collect();
    if levels.is_empty() {
        let all = defaults.into_iter();
        return all.map(|name| (name, Choice::default())).collect();
    }
    let mut counting = defaults.clone();
    let mut filters: BTreeMap<&str, Option<&LogFilter>> = BTreeMap::new();
    for rules in levels {
        let mut named = Vec::new();
        for rule in rules.iter().filter(|rule| side.is_in(rule.mode)) {
            named.extend(names(rule));
            filters.extend(names(rule).map(|name| (name, rule.filter.as_ref())));
        }
        if !named.is_empty() {
            counting = named;
        }
    }
    let mut chosen = BTreeMap::new();
    let mut before = defaults;
    for rule in levels.iter().flat_map(|rules| rules.iter()) {
        if !rule.providers.is_empty() {
            before = names(rule).collect();
        }
        if !side.is_in(rule.mode) {
            continue;
        }
        for name in before.iter().filter(|name| counting.contains(name)) {
            let named = filters.get(name).copied().flatten();
            let filter = match rule.providers.is_empty() {
                true => rule.filter.as_ref().or(named),
                false => named,
            };
            let is_disabled = rule.is_disabled;
            chosen.insert(
                *name,
                Choice {
                    is_disabled,
                    filter,
                },
            );
        }
    }
    chosen
}

/// Providers that nobody has defined, which Istio passes over in silence, and resources without effect.
pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
    let mesh = index.mesh();
    let of_tracing = mesh.providers.iter().map(|provider| provider.name.as_str());
    let of_logs = mesh
        .log_providers
        .iter()
        .map(|provider| provider.name.as_str());
    for Entry { meta, spec } in &index.telemetries {
        let mut complain = |what: &str, (name, at): &(String, At), hint: String| {
            let message = format!(
                "{meta}: there is no provider of {what} `{name}` among `extensionProviders`{hint}: nothing \
                 goes there"
            );
            let problem = Problem::error(&meta.source, at.0, message);
            problems.push(problem.code(code::NOT_FOUND));
        };
        for provider in spec
            .tracing
            .iter()
            .filter_map(|rule| rule.provider.as_ref())
        {
            if mesh.provider(&provider.0).is_none() {
                let hint = did_you_mean(&provider.0, of_tracing.clone());
                complain("tracing", provider, hint);
            }
        }
        for provider in spec.access_logging.iter().flat_map(|rule| &rule.providers) {
            if mesh.log_provider(&provider.0).is_none() {
                let hint = did_you_mean(&provider.0, of_logs.clone());
                complain("access logs", provider, hint);
            }
        }
        let first = index
            .telemetries
            .iter()
            .find(|other| other.meta.namespace == meta.namespace && other.spec.is_for_all());
        if let Some(first) = first.filter(|_| spec.is_for_all())
            && first.meta.name != meta.name
        {
            let message = format!(
                "{} is for all of namespace {} too: {meta} has no effect, give it a selector or remove it",
                first.meta, meta.namespace
            );
            let problem = Problem::error(&meta.source, meta.source.position, message);
            problems.push(problem.code(code::SEVERAL_TELEMETRIES));
        }
    }
}
