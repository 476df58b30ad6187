//! Where a request goes, and why: worked out from what the control plane makes of the resources, by the proxy's own
//! matching.

mod destination;
mod listeners;
mod report;
mod request;
mod scene;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use periplus_control::{Role, Workload};
use periplus_proxy::explain::{Asked, Explained, Explainer, Routed, Security, Tokens};
use periplus_proxy::snapshot::{Listener, RouteAction};

use self::destination::Behind;
use self::listeners::candidates;
use self::report::{Action, Report};
use self::request::{Claims, Request};
use self::scene::{SESSION, Scene};
use super::client::Failure;
use super::control_plane::Output;
use super::mesh::MeshFlags;
use super::output::{self, Looks};

/// Flags.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing is sent: the answer comes from the resources, so that it is there before they are \
                        applied (--dir).\n\n\
                        Exit codes: 0 every request gets an answer of some workload, or of a rule; 1 one does not, or \
                        what its token says decides; 2 usage; 3 no control plane; 4 no answer in time."
)]
pub(crate) struct Args {
    /// 'METHOD HOST[:PORT]/PATH', such as 'GET reviews:9080/reviews/1'; repeatable
    #[arg(value_name = "REQUEST", required = true)]
    requests: Vec<Request>,

    /// Who asks: a workload (NAME or NAME.NAMESPACE), or a Gateway for requests from outside
    #[arg(long, value_name = "WORKLOAD|GATEWAY")]
    from: String,

    /// A header that the requests have, such as 'authorization: Bearer …', whose token is checked where the keys of its
    /// issuer are among the resources; repeatable
    #[arg(short = 'H', long, value_name = "NAME:VALUE", value_parser = request::header)]
    header: Vec<(String, String)>,

    /// What the token says that the requests have, as JSON or a file of it: it is taken for a good one. Or 'none', if they
    /// have none
    #[arg(long, value_name = "JSON|FILE|none")]
    jwt_claims: Option<Claims>,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    looks: Looks,

    #[command(flatten)]
    mesh: MeshFlags,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mesh_config = args.mesh.mesh_config().map(Path::to_owned);
    let scene = Scene::new(&args.mesh.read_telling()?, mesh_config);
    let from = scene
        .index
        .find_workload(&args.from)
        .map_err(Failure::Nothing)?;
    let asking = Asking {
        explainer: scene.explainer(&from.proxy)?,
        scene: &scene,
        from: &from,
        headers: &args.header,
        tokens: match &args.jwt_claims {
            None => Tokens::Written,
            Some(Claims::None) => Tokens::None,
            Some(Claims::Said(claims)) => Tokens::Claims(claims),
        },
    };
    let reports = args.requests.iter().map(|request| asking.explain(request));
    let reports: Vec<Report> = reports.collect::<anyhow::Result<_>>()?;
    output::print(&match args.output {
        Output::Json => output::json(&reports)?,
        Output::Table => {
            let style = args.looks.style();
            let texts: Vec<String> = reports.iter().map(|report| report.render(style)).collect();
            texts.join("\n")
        }
    })?;
    match reports.iter().all(Report::is_answered) {
        true => Ok(()),
        false => Err(super::outcome::Exit(1).into()),
    }
}

/// The virtual host that refuses what no other of its listener knows: another listener may know it.
const NOBODY_KNOWN: &str = "block_all";

/// The port that clients use whom nobody asks.
const CLIENT_PORT: u16 = 40_000;

/// Who asks, and with what.
struct Asking<'a> {
    scene: &'a Scene,
    from: &'a Workload,
    explainer: Rc<Explainer>,
    headers: &'a [(String, String)],
    tokens: Tokens<'a>,
}

impl Asking<'_> {
    fn explain(&self, request: &Request) -> anyhow::Result<Report> {
        let (scene, from) = (self.scene, self.from);
        let mut report = Report::new(request, from);
        let is_proxied = from.proxy.role == Role::Sidecar && from.proxy.interception.is_none();
        let head = request.head(self.headers, is_proxied);
        let Some((listener, explained)) = self.listen(request, &head) else {
            report.action = Action::Nothing;
            report.answer = match from.proxy.role {
                Role::Router => format!(
                    "no Gateway of {} listens on port {}",
                    from.name(),
                    request.port
                ),
                Role::Sidecar => format!(
                    "the proxy of {} has no listeners for requests: no Sidecar selects it",
                    from.name()
                ),
            };
            return Ok(report);
        };
        report.listener.clone_from(&listener.name);
        let port = listener.address.port();
        report.listener_sources = scene.listener_sources(&from.proxy, port, &request.host);
        if request.is_tls {
            report.others = scene.client_checks(&from.proxy, port, &request.host);
        }
        match explained {
            Explained::Request(routed) => self.follow(&head, *routed, &mut report)?,
            Explained::Passed {
                clusters,
                decisions,
                others,
                counted_as,
            } => {
                report.action = Action::Pass;
                report.decisions = scene.decisions(&decisions);
                // Where no rule is counted, the cluster tells who decides.
                let first = clusters.first().map_or("", |(name, _)| name.as_str());
                let deciding = match counted_as.starts_with('@') {
                    true => counted_as.as_str(),
                    false => first,
                };
                scene.tell_rule(deciding, from, &mut report);
                let steps = scene.steps(&from.proxy, &others, report.rule.as_ref());
                report.others.extend(steps);
                let behind = Behind {
                    head: &head,
                    tokens: self.tokens,
                    server_name: request.is_tls.then_some(request.host.as_str()),
                };
                report.destinations =
                    scene.destinations(from, &self.explainer, &clusters, behind)?;
                report.conclude();
                if let Some(refused) = refusing(&report) {
                    report.answer = format!("the connection is closed here: {refused}");
                    report.action = Action::Nothing;
                }
            }
            Explained::NoChain => {
                report.action = Action::Nothing;
                report.answer = format!(
                    "no filter chain of {} takes the connection: it is closed",
                    listener.name
                );
            }
            Explained::Refused { status, reason } => {
                report.action = Action::Refuse;
                report.status = Some(status);
                report.answer = format!("{status}: {reason}");
            }
        }
        report.tell_dependence();
        Ok(report)
    }

    /// The listener that gets a request, and what it makes of it: of several the first that knows where it goes.
    fn listen(&self, request: &Request, head: &str) -> Option<(Arc<Listener>, Explained)> {
        let from = self.from;
        let mut best = None;
        for (listener, to) in candidates(self.scene, from, (&self.explainer, request)) {
            let client = match from.proxy.role {
                Role::Sidecar => from.proxy.ip,
                Role::Router => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            };
            let asked = Asked {
                head: head.as_bytes(),
                from: SocketAddr::new(client, CLIENT_PORT),
                to,
                security: match request.is_tls {
                    true => Security::Tls(&request.host),
                    false => Security::Plaintext,
                },
                tokens: self.tokens,
            };
            let explained = self.explainer.explain(&listener, &asked);
            let is_found = match &explained {
                Explained::Request(routed) => (routed.route.as_ref())
                    .is_some_and(|(virtual_host, _)| virtual_host != NOBODY_KNOWN),
                Explained::Passed { .. } => true,
                Explained::NoChain | Explained::Refused { .. } => false,
            };
            if is_found {
                return Some((listener, explained));
            }
            best = best.or(Some((listener, explained)));
        }
        best
    }

    /// What becomes of a request that is routed.
    fn follow(&self, head: &str, routed: Routed, report: &mut Report) -> anyhow::Result<()> {
        let (scene, from) = (self.scene, self.from);
        report.route_configuration = routed.configuration;
        report.decisions = scene.decisions(&routed.decisions);
        if let Some((virtual_host, route)) = &routed.route {
            report.virtual_host.clone_from(virtual_host);
            scene.tell_rule(&route.name, from, report);
        }
        let steps = scene.steps(&from.proxy, &routed.others, report.rule.as_ref());
        report.others.extend(steps);
        if let Some((status, reason)) = routed.refused {
            report.status = Some(status);
            report.action = Action::Refuse;
            report.answer = format!("{status} here: {reason}");
            return Ok(());
        }
        if let Some(refused) = refusing(report) {
            report.status = Some(403);
            report.action = Action::Refuse;
            report.answer = format!("403 here: {refused}");
            return Ok(());
        }
        let Some((_, route)) = routed.route else {
            report.action = Action::Refuse;
            report.status = Some(404);
            report.answer = "404: no rule is for such a request".to_owned();
            return Ok(());
        };
        match &route.action {
            RouteAction::Respond { status, .. } => {
                report.action = Action::Respond;
                report.status = Some(*status);
                report.answer = match (report.virtual_host.as_str(), report.is_lowered) {
                    (NOBODY_KNOWN, _) => format!("{status}: the mesh has no such host"),
                    (_, true) => format!("{status}: none of the rule's backends is there"),
                    (_, false) => format!("{status}, from the rule itself"),
                };
            }
            RouteAction::Redirect(redirect) => {
                report.action = Action::Redirect;
                report.status = Some(redirect.status);
                report.answer = format!("{}: the client is sent elsewhere", redirect.status);
            }
            RouteAction::Forward(forward) => {
                report.action = Action::Forward;
                let clusters = forward.clusters.iter().filter(|one| one.weight > 0);
                let clusters: Vec<_> = clusters.map(|one| (one.name.clone(), one.weight)).collect();
                let behind = Behind {
                    head,
                    tokens: match routed.ends_tokens {
                        true => Tokens::None,
                        false => self.tokens,
                    },
                    server_name: None,
                };
                report.destinations =
                    scene.destinations(from, &self.explainer, &clusters, behind)?;
                let services = report.destinations.iter();
                let services: Vec<_> = services.filter_map(|one| one.service.clone()).collect();
                for step in report.others.iter_mut().filter(|step| step.what == SESSION) {
                    step.by.clone_from(&services);
                }
                report.is_rewritten = forward.rewrite.is_some();
                report.conclude();
            }
        }
        Ok(())
    }
}

/// Why policies of the first proxy refuse it, if they do.
fn refusing(report: &Report) -> Option<String> {
    let mut enforced = report.decisions.iter().filter(|one| !one.is_dry_run);
    let refused = enforced.find(|one| one.allowed == Some(false))?;
    Some(refused.why())
}
