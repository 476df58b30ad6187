//! Where a request goes, and why: worked out from what the control plane makes of the resources, by the proxy's own
//! matching.

mod destination;
mod report;
mod request;
mod scene;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use periplus_control::{Role, Workload};
use periplus_proxy::explain::{Asked, Explained, Explainer, Routed};
use periplus_proxy::snapshot::{Direction, Listener, RouteAction};
use periplus_resources::Host;

use self::report::{Action, Report};
use self::request::Request;
use self::scene::Scene;
use super::client::Failure;
use super::control_plane::Output;
use super::mesh::MeshFlags;
use super::output::{self, Looks};

/// Flags.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing is sent: the answer comes from the resources, so that it is there before they are \
                        applied (--dir).\n\n\
                        Exit codes: 0 every request gets an answer of some workload, or of a rule; 1 one does not; \
                        2 usage; 3 no control plane; 4 no answer in time."
)]
pub(crate) struct Args {
    /// 'METHOD HOST[:PORT]/PATH', such as 'GET reviews:9080/reviews/1'; repeatable
    #[arg(value_name = "REQUEST", required = true)]
    requests: Vec<Request>,

    /// Who asks: a workload (NAME or NAME.NAMESPACE), or a Gateway for requests from outside
    #[arg(long, value_name = "WORKLOAD|GATEWAY")]
    from: String,

    /// A header that the requests have; repeatable
    #[arg(long, value_name = "NAME:VALUE", value_parser = request::header)]
    header: Vec<(String, String)>,

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
    let scene = Scene::new(args.mesh.read_telling()?);
    let from = scene
        .index
        .find_workload(&args.from)
        .map_err(Failure::Nothing)?;
    let explainer = scene.explainer(&from.proxy)?;
    let reports: Result<Vec<Report>, anyhow::Error> = (args.requests.iter())
        .map(|request| explain(&scene, &from, (&explainer, request, &args.header)))
        .collect();
    let reports = reports?;
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

fn explain(
    scene: &Scene,
    from: &Workload,
    (explainer, request, headers): (&Explainer, &Request, &[(String, String)]),
) -> anyhow::Result<Report> {
    let mut report = Report::new(request, from);
    let is_proxied = from.proxy.role == Role::Sidecar && from.proxy.interception.is_none();
    let head = request.head(headers, is_proxied);
    let candidates = candidates(scene, from, (explainer, request));
    let mut best: Option<(Arc<Listener>, Explained)> = None;
    for (listener, to) in candidates {
        let client = match from.proxy.role {
            Role::Sidecar => from.proxy.ip,
            Role::Router => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        };
        let asked = Asked {
            head: head.as_bytes(),
            from: SocketAddr::new(client, CLIENT_PORT),
            to,
            principal: None,
        };
        let explained = explainer.explain(&listener, &asked);
        let is_found = match &explained {
            Explained::Request(routed) => (routed.route.as_ref())
                .is_some_and(|(virtual_host, _)| virtual_host != NOBODY_KNOWN),
            Explained::Passed { .. } => true,
            Explained::NoChain | Explained::Refused { .. } => false,
        };
        if is_found || best.is_none() {
            best = Some((listener, explained));
        }
        if is_found {
            break;
        }
    }
    let Some((listener, explained)) = best else {
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
    match explained {
        Explained::Request(routed) => {
            follow(scene, from, (explainer, &head), *routed, &mut report)?;
        }
        Explained::Passed {
            clusters,
            decisions,
        } => {
            report.action = Action::Pass;
            report.decisions = decisions.iter().map(|one| scene.decision(one)).collect();
            report.destinations = scene.destinations(from, explainer, &clusters, &head)?;
            report.conclude();
            let mut refused = report.decisions.iter();
            if let Some(refused) = refused.find(|one| !one.allowed && !one.is_dry_run) {
                report.answer = format!("the connection is closed here: {}", refused.why());
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
            report.action = Action::Respond;
            report.status = Some(status);
            report.answer = format!("{status}: {reason}");
        }
    }
    Ok(report)
}

/// What becomes of a request that is routed.
fn follow(
    scene: &Scene,
    from: &Workload,
    (explainer, head): (&Explainer, &str),
    routed: Routed,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.route_configuration = routed.configuration;
    report.others = routed.others;
    report.decisions = routed
        .decisions
        .iter()
        .map(|one| scene.decision(one))
        .collect();
    let refused = report
        .decisions
        .iter()
        .find(|one| !one.allowed && !one.is_dry_run);
    if let Some(refused) = refused {
        report.status = Some(403);
        report.action = Action::Respond;
        report.answer = format!("403 here: {}", refused.why());
        return Ok(());
    }
    let Some((virtual_host, route)) = routed.route else {
        report.action = Action::Respond;
        report.status = Some(404);
        report.answer = "404: no rule is for such a request".to_owned();
        return Ok(());
    };
    report.virtual_host = virtual_host;
    report.rule = scene.rule(&route.name);
    match &route.action {
        RouteAction::Respond { status, .. } => {
            report.action = Action::Respond;
            report.status = Some(*status);
            report.answer = match report.virtual_host.as_str() {
                NOBODY_KNOWN => format!("{status}: the mesh has no such host"),
                _ => format!("{status}, from the rule itself"),
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
            report.destinations = scene.destinations(from, explainer, &clusters, head)?;
            report.is_rewritten = forward.rewrite.is_some();
            report.conclude();
        }
    }
    Ok(())
}

/// The listeners that may get a request, and where its connection seems to go.
fn candidates(
    scene: &Scene,
    from: &Workload,
    (explainer, request): (&Explainer, &Request),
) -> Vec<(Arc<Listener>, SocketAddr)> {
    let outbound = explainer.listeners().iter();
    let outbound = outbound.filter(|listener| listener.direction == Direction::Outbound);
    let at_own = |listener: &Arc<Listener>| (listener.clone(), listener.address);
    if from.proxy.role == Role::Router {
        let all: Vec<_> = outbound.map(at_own).collect();
        let at_port = all.iter().filter(|(_, to)| to.port() == request.port);
        let at_port: Vec<_> = at_port.cloned().collect();
        // A port that nobody has written is that of the only listener.
        return match (at_port.is_empty(), request.has_port) {
            (false, _) => at_port,
            (true, false) => all,
            (true, true) => Vec::new(),
        };
    }
    if from.proxy.interception.is_none() {
        return outbound.map(at_own).collect();
    }
    let to = destination(scene, request);
    let order = |listener: &Arc<Listener>| match listener.address {
        address if address == to => 0,
        address if address.port() == to.port() && address.ip().is_unspecified() => 1,
        _ => 2,
    };
    let mut fitting: Vec<_> = outbound
        .filter(|listener| order(listener) < 2 || listener.hands_over)
        .cloned()
        .collect();
    fitting.sort_by_key(order);
    fitting.truncate(1);
    fitting.into_iter().map(|listener| (listener, to)).collect()
}

/// Where an application connects to that has looked the host up.
fn destination(scene: &Scene, request: &Request) -> SocketAddr {
    // Of the blocks for documentation (RFC 5737): nobody of the mesh lives there.
    const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
    if let Ok(ip) = request.host.parse() {
        return SocketAddr::new(ip, request.port);
    }
    let named = Host::parse(&request.host).ok();
    let service = named.and_then(|host| scene.service_called(&host));
    let address = service.and_then(|service| {
        let own = service.spec.addresses.first().copied();
        own.or_else(|| service.endpoints.first().map(|endpoint| endpoint.address))
    });
    SocketAddr::new(address.unwrap_or(NOBODY), request.port)
}
