//! Which hop is to blame when the product page does not work.

use periplus_local::{FetchError, Mesh, get, get_as};

use super::PATIENCE;
use crate::commands::local::state::{GATEWAY, State, local, sidecar_of};

/// The calls behind the product page: who calls whom.
const CALLS: [(&str, &str); 5] = [
    ("productpage-v1", "details"),
    ("productpage-v1", "reviews"),
    ("productpage-v1", "productpage"),
    ("reviews-v2", "ratings"),
    ("reviews-v3", "ratings"),
];

/// Asks every part on the way, the innermost first, and names the first that does not do its job.
pub(super) async fn culprit(mesh: &Mesh, state: &State) -> String {
    match first_broken(mesh).await {
        Some(Broken { hop, part, why }) => {
            format!(
                "{hop} does not work ({why}); its log: {}",
                state.log(&part).display()
            )
        }
        None => format!(
            "every part answers by itself; the gateway's log: {}",
            state.log(GATEWAY).display()
        ),
    }
}

struct Broken {
    hop: String,
    part: String,
    why: String,
}

async fn first_broken(mesh: &Mesh) -> Option<Broken> {
    for workload in &mesh.workloads {
        let ports = mesh.ports.workloads[&workload.name];
        let asked = get(local(ports.app), "/health", PATIENCE).await;
        if let Some(why) = amiss(asked) {
            return Some(Broken {
                hop: format!("the application {}", workload.name),
                part: workload.name.clone(),
                why,
            });
        }
        let host = format!("{}:{}", workload.app, workload.service_port);
        let asked = get_as(local(ports.inbound), "/health", &host, PATIENCE).await;
        if let Some(why) = amiss(asked) {
            return Some(Broken {
                hop: format!("the sidecar of {}, inbound,", workload.name),
                part: sidecar_of(&workload.name),
                why,
            });
        }
    }
    for (caller, callee) in CALLS {
        let Some(ports) = mesh.ports.workloads.get(caller) else {
            continue;
        };
        let port = mesh
            .workloads
            .iter()
            .find(|workload| workload.app == callee)
            .map(|workload| workload.service_port)?;
        let host = format!("{callee}:{port}");
        let target = format!("http://{host}/health");
        let asked = get_as(local(ports.outbound), &target, &host, PATIENCE).await;
        if let Some(why) = amiss(asked) {
            return Some(Broken {
                hop: format!("the sidecar of {caller}, outbound to {callee},"),
                part: sidecar_of(caller),
                why,
            });
        }
    }
    let asked = get(local(mesh.ports.gateway), "/productpage", PATIENCE).await;
    amiss(asked).map(|why| Broken {
        hop: "the gateway".to_owned(),
        part: GATEWAY.to_owned(),
        why,
    })
}

fn amiss(asked: Result<periplus_local::Answer, FetchError>) -> Option<String> {
    match asked {
        Ok(answer) if answer.status == 200 => None,
        Ok(answer) => {
            let body = String::from_utf8_lossy(&answer.body);
            let body: String = body.chars().take(200).collect();
            Some(format!("status {}: {}", answer.status, body.trim()))
        }
        Err(error) => Some(error.to_string()),
    }
}
