//! Where everything listens.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use thiserror::Error;

/// A port that a part is going to listen on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim {
    /// The port, on 127.0.0.1.
    pub port: u16,
    /// The part.
    pub part: String,
    /// What for.
    pub purpose: String,
}

impl Claim {
    /// A claim.
    pub fn new(port: u16, part: &str, purpose: &str) -> Self {
        Self {
            port,
            part: part.to_owned(),
            purpose: purpose.to_owned(),
        }
    }
}

/// Ports that cannot be had.
#[derive(Debug, Error)]
pub struct BusyPorts {
    /// Which, and why not.
    pub busy: Vec<(Claim, io::Error)>,
}

impl BusyPorts {
    /// As many are named; that another demo has them all is seen from fewer.
    const NAMED: usize = 4;
}

impl fmt::Display for BusyPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.busy.len() == 1 { "" } else { "s" };
        write!(f, "cannot use the port{plural}")?;
        for (index, (claim, error)) in self.busy.iter().take(Self::NAMED).enumerate() {
            let separator = if index == 0 { "" } else { "," };
            let why = match error.kind() {
                io::ErrorKind::AddrInUse => "in use".to_owned(),
                _ => error.to_string(),
            };
            let Claim {
                port,
                part,
                purpose,
            } = claim;
            write!(f, "{separator} {port} ({part}, {purpose}: {why})")?;
        }
        if let Some(more @ 1..) = self.busy.len().checked_sub(Self::NAMED) {
            write!(f, " and {more} more")?;
        }
        write!(
            f,
            "; stop what listens there, or move all ports with --port-base N"
        )
    }
}

/// Checks that every port can be had, all at once, and that nobody claims one twice.
pub fn check_free(claims: &[Claim]) -> Result<(), BusyPorts> {
    let mut held = Vec::with_capacity(claims.len());
    let mut busy = Vec::new();
    for claim in claims {
        match TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, claim.port))) {
            Ok(listener) => held.push(listener),
            Err(error) => busy.push((claim.clone(), error)),
        }
    }
    if busy.is_empty() {
        Ok(())
    } else {
        Err(BusyPorts { busy })
    }
}

/// All ports of a mesh on this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PortPlan {
    /// The gateway: where users come in.
    pub gateway: u16,
    /// The gateway's admin pages.
    pub gateway_admin: u16,
    /// The trace backend.
    pub backend: BackendPorts,
    /// The control plane, for proxies.
    pub xds: u16,
    /// The control plane, for people and monitoring.
    pub monitoring: u16,
    /// By workload.
    pub workloads: BTreeMap<String, WorkloadPorts>,
}

/// Ports of the trace backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BackendPorts {
    /// UI and HTTP APIs.
    pub ui: u16,
    /// OTLP over gRPC.
    pub otlp_grpc: u16,
    /// OTLP over HTTP.
    pub otlp_http: u16,
    /// Zipkin.
    pub zipkin: u16,
    /// Its health check.
    pub health: u16,
    /// Its own metrics.
    pub metrics: u16,
}

/// Ports of one workload and its sidecar.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WorkloadPorts {
    /// The application.
    pub app: u16,
    /// The sidecar, for requests to the application.
    pub inbound: u16,
    /// The sidecar, for requests of the application.
    pub outbound: u16,
    /// The sidecar's admin pages.
    pub admin: u16,
}

/// Why ports cannot be planned.
#[derive(Debug, Error, Eq, PartialEq)]
#[non_exhaustive]
pub enum PlanError {
    /// They would exceed the highest port.
    #[error("{needed} ports from {base} upwards do not exist: use --port-base {highest} or less")]
    TooHigh {
        /// The base asked for.
        base: u16,
        /// How many ports it takes.
        needed: u32,
        /// The highest base that would do.
        highest: u32,
    },
    /// System ports.
    #[error("--port-base {0} is in the range of the system's ports: use 1024 or more")]
    TooLow(u16),
}

/// Where workloads begin when no base is given.
const WORKLOADS: u16 = 20_000;
/// Ports before those of the workloads when a base is given.
const SHARED: u16 = 10;
/// Ports kept for one workload.
const STEP: u16 = 10;

impl PortPlan {
    /// The ports that the field's tools expect, or, with a base, all ports from there upwards.
    pub fn new<'a>(
        base: Option<u16>,
        workloads: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, PlanError> {
        let names: Vec<&str> = workloads.into_iter().collect();
        let first = match base {
            None => WORKLOADS,
            Some(base) if base < 1024 => return Err(PlanError::TooLow(base)),
            Some(base) => {
                let needed = u32::from(SHARED) + names.len() as u32 * u32::from(STEP);
                let highest = u32::from(u16::MAX) + 1 - needed;
                if u32::from(base) > highest {
                    return Err(PlanError::TooHigh {
                        base,
                        needed,
                        highest,
                    });
                }
                base + SHARED
            }
        };
        let shared = |offset: u16, default: u16| base.map_or(default, |base| base + offset);
        let workloads = names.into_iter().zip((first..).step_by(STEP.into()));
        Ok(Self {
            gateway: shared(0, 8080),
            gateway_admin: shared(7, 15_000),
            backend: BackendPorts {
                ui: shared(1, 16_686),
                otlp_grpc: shared(2, 4317),
                otlp_http: shared(3, 4318),
                zipkin: shared(4, 9411),
                health: shared(8, 13_133),
                metrics: shared(9, 8888),
            },
            xds: shared(5, 15_010),
            monitoring: shared(6, 15_014),
            workloads: workloads
                .map(|(name, port)| {
                    let ports = WorkloadPorts {
                        app: port,
                        inbound: port + 1,
                        outbound: port + 2,
                        admin: port + 3,
                    };
                    (name.to_owned(), ports)
                })
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_field() {
        let plan = PortPlan::new(None, ["a", "b"]).unwrap();
        assert_eq!((plan.gateway, plan.xds), (8080, 15_010));
        assert_eq!(plan.backend.ui, 16_686);
        assert_eq!(plan.workloads["b"].admin, 20_013);
    }

    #[test]
    fn a_base_moves_all_ports() {
        let plan = PortPlan::new(Some(30_000), ["a", "b"]).unwrap();
        assert_eq!((plan.gateway, plan.backend.ui), (30_000, 30_001));
        assert_eq!(plan.workloads["a"].app, 30_010);
        assert_eq!(plan.workloads["b"].admin, 30_023);
        assert!(PortPlan::new(Some(65_506), ["a", "b"]).is_ok());
        let error = PortPlan::new(Some(65_507), ["a", "b"]).unwrap_err();
        assert!(error.to_string().contains("--port-base 65506"), "{error}");
        assert_eq!(PortPlan::new(Some(80), []), Err(PlanError::TooLow(80)));
    }

    #[test]
    fn busy_ports_are_named_with_their_part() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let claims = [Claim::new(port, "serve", "UI")];
        let error = check_free(&claims).unwrap_err().to_string();
        assert!(
            error.contains(&format!("port {port} (serve, UI: in use)")),
            "{error}"
        );
        assert!(error.contains("--port-base"), "{error}");
        let twice = [claims[0].clone(), claims[0].clone()];
        assert!(check_free(&twice).is_err());
        let many = vec![claims[0].clone(); 34];
        let error = check_free(&many).unwrap_err().to_string();
        assert_eq!(error.matches("serve, UI").count(), 4, "{error}");
        assert!(error.contains(" and 30 more; "), "{error}");
    }
}
