//! A store with all that stands before and behind it. Where there are tenants, each has one of its
//! own, so that what answers one knows nothing of the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use axum::Router;
use http::{HeaderName, HeaderValue};
use periplus_collect::access::{QuotaStats, Routers, Tenant, TenantsConfig, WithQuota};
use periplus_collect::forward::Forwards;
use periplus_collect::sampling::{ShareSampling, TailSampling, api, grpc, http as sampling_http};
use periplus_collect::{AllowedOrigins, Collector, Limits, jaeger, otlp, zipkin};
use periplus_query::QueryService;
use periplus_sampling::tail::TailSampler;
use periplus_store::{MemoryStore, SpanSink};
use periplus_ui::MenuLink;
use tokio::sync::OnceCell;

use super::base_path::BasePath;
use super::sampling::Sampling;
use super::storage::{self, Storage};

/// What a port speaks to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Ui,
    QueryGrpc,
    OtlpGrpc,
    OtlpHttp,
    Zipkin,
    JaegerGrpc,
    JaegerHttp,
}

/// What all backends have in common.
pub(super) struct Common {
    pub(super) base_path: BasePath,
    pub(super) menu: Vec<MenuLink>,
    pub(super) origins: AllowedOrigins,
    pub(super) query: periplus_query::Options,
    pub(super) sampling: Sampling,
    pub(super) forwards: Option<Forwards>,
    /// The header that names the tenant.
    pub(super) tenant_header: Option<HeaderName>,
}

/// One store's.
pub(super) struct Backend {
    pub(super) storage: Storage,
    pub(super) collector: Collector,
    pub(super) query: QueryService,
    pub(super) tail: Option<TailSampling>,
    pub(super) share: Option<ShareSampling>,
    pub(super) quota: Option<Arc<QuotaStats>>,
    routers: [Router; 7],
}

impl Backend {
    /// The router of a port.
    pub(super) fn router(&self, service: Service) -> Router {
        self.routers[service as usize].clone()
    }
}

/// All backends: one, or those of the tenants that have been heard of.
pub(super) struct Backends {
    common: Common,
    /// What limits all receivers, and all queries, together.
    limits: (Collector, QueryService),
    flags: storage::Flags,
    tenants: Option<TenantsConfig>,
    slots: Mutex<BTreeMap<Option<Tenant>, Arc<Slot>>>,
}

/// The place of a backend that is open, or about to be.
#[derive(Default)]
struct Slot {
    backend: OnceCell<Arc<Backend>>,
}

impl Backends {
    /// None is open yet.
    pub(super) fn new(
        common: Common,
        flags: storage::Flags,
        tenants: Option<TenantsConfig>,
    ) -> Self {
        let nobody = Arc::new(MemoryStore::new(0));
        let collector = Collector::new(nobody.clone(), Limits::default());
        let query = QueryService::new(nobody, common.query.clone());
        Self {
            common,
            limits: (collector, query),
            flags,
            tenants,
            slots: Mutex::default(),
        }
    }

    /// Opens the one backend, or those of the tenants that are known; `tail` stands before the one.
    pub(super) async fn open(
        self: &Arc<Self>,
        tail: Option<TailSampler>,
    ) -> anyhow::Result<Option<Arc<Backend>>> {
        let Some(tenants) = &self.tenants else {
            let rate = self.flags.max_spans_per_second;
            let backend = Arc::new(self.make(self.flags.open()?, tail, None, rate));
            let slot = Slot {
                backend: OnceCell::new_with(Some(Arc::clone(&backend))),
            };
            self.lock().insert(None, Arc::new(slot));
            return Ok(Some(backend));
        };
        for name in tenants.known.keys() {
            // `Access` has checked the names.
            let tenant = Tenant::new(name).context("a tenant's name that is none")?;
            let slot = self.slot(&tenant).map_err(anyhow::Error::msg)?;
            slot.backend
                .get_or_try_init(|| self.open_for(&tenant))
                .await?;
        }
        Ok(None)
    }

    /// What answers what is of no tenant: requests from whom nothing is asked, strategies of
    /// sampling.
    pub(super) fn of_nobody(&self) -> Backend {
        self.make(Storage::of_nobody(), None, None, None)
    }

    /// Finds the router of a tenant's, and opens its store if it is not open yet.
    pub(super) fn routers(self: &Arc<Self>, service: Service) -> Routers {
        let backends = Arc::clone(self);
        Arc::new(move |tenant| {
            let backends = Arc::clone(&backends);
            Box::pin(async move {
                let backend = backends.of(tenant).await?;
                Ok(backend.router(service))
            })
        })
    }

    /// Those that are open, with the names of their tenants.
    pub(super) fn all(&self) -> Vec<(Option<Tenant>, Arc<Backend>)> {
        let slots = self.lock();
        let open = slots.iter().filter_map(|(tenant, slot)| {
            let backend = slot.backend.get()?;
            Some((tenant.clone(), Arc::clone(backend)))
        });
        open.collect()
    }

    async fn of(&self, tenant: Option<Tenant>) -> Result<Arc<Backend>, String> {
        let slot = match &tenant {
            Some(tenant) => self.slot(tenant)?,
            None => {
                let found = self.lock().get(&None).cloned();
                found.ok_or("there are tenants, and none was named")?
            }
        };
        if let Some(backend) = slot.backend.get() {
            return Ok(Arc::clone(backend));
        }
        let tenant = tenant.ok_or("the store is not open")?;
        let opened = slot
            .backend
            .get_or_try_init(|| self.open_for(&tenant))
            .await;
        match opened {
            Ok(backend) => Ok(Arc::clone(backend)),
            Err(error) => {
                // The cause may name paths: it goes to the log, not to the sender.
                tracing::error!(%tenant, "cannot open the store of a tenant: {error:#}");
                Err("the store of this tenant cannot be opened; the server's log says why".into())
            }
        }
    }

    fn slot(&self, tenant: &Tenant) -> Result<Arc<Slot>, String> {
        let most = self.tenants.as_ref().map_or(0, TenantsConfig::most);
        let mut slots = self.lock();
        let key = Some(tenant.clone());
        if let Some(slot) = slots.get(&key) {
            return Ok(Arc::clone(slot));
        }
        if slots.len() >= most {
            return Err(format!(
                "there are {most} tenants, which is as many as there may be"
            ));
        }
        Ok(Arc::clone(slots.entry(key).or_default()))
    }

    async fn open_for(&self, tenant: &Tenant) -> anyhow::Result<Arc<Backend>> {
        let tenants = self.tenants.as_ref().context("there are no tenants")?;
        let quota = tenants.quota(tenant);
        let (flags, name, most) = (self.flags.clone(), tenant.clone(), tenants.most());
        // It may have a log to read.
        let opening = tokio::task::spawn_blocking(move || flags.open_for(&name, quota, most));
        let storage = opening.await.context("opening a store crashed")??;
        let rate = quota.spans_per_second.or(self.flags.max_spans_per_second);
        let backend = self.make(storage, None, Some(tenant), rate);
        Ok(Arc::new(backend))
    }

    fn make(
        &self,
        storage: Storage,
        tail: Option<TailSampler>,
        tenant: Option<&Tenant>,
        spans_per_second: Option<u64>,
    ) -> Backend {
        let common = &self.common;
        let (limits, queries) = &self.limits;
        let query = queries.beside(
            Arc::clone(&storage.store),
            periplus_query::Options {
                engine: storage.engine,
                archive: Some(Arc::clone(&storage.archive)),
                ..common.query.clone()
            },
        );
        let mut sink = query.tap(Arc::clone(&storage.store) as Arc<dyn SpanSink>);
        if let Some(forwards) = &common.forwards {
            let value = tenant.and_then(|tenant| HeaderValue::from_str(tenant.as_str()).ok());
            let header = common.tenant_header.clone().zip(value);
            sink = Arc::new(forwards.before(sink, header));
        }
        let sampled = common.sampling.before(sink, tail);
        let mut sink = sampled.sink;
        let mut quota = None;
        if let Some(spans_per_second) = spans_per_second {
            let limited = WithQuota::new(sink, spans_per_second);
            quota = Some(limited.stats());
            sink = Arc::new(limited);
        }
        let collector = limits.beside(sink);
        let routers = common.routers(&query, &collector, &storage, sampled.tail.as_ref());
        Backend {
            storage,
            collector,
            query,
            tail: sampled.tail,
            share: sampled.share,
            quota,
            routers,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Option<Tenant>, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Common {
    /// The routers, in the order of [`Service`].
    fn routers(
        &self,
        query: &QueryService,
        collector: &Collector,
        storage: &Storage,
        tail: Option<&TailSampling>,
    ) -> [Router; 7] {
        let remote = &self.sampling.remote;
        let ui = self.base_path.mount(|base_path| {
            query
                .http()
                .merge(api::router(tail.cloned(), Arc::clone(&storage.store)))
                .merge(sampling_http::api(remote.clone()))
                .fallback_service(periplus_ui::router(base_path, &self.menu))
        });
        let zipkin_queries = query
            .zipkin()
            .fallback_service(periplus_ui::router("", &self.menu).fallback(zipkin::wrong_path));
        [
            ui,
            query.grpc(),
            otlp::grpc::router(collector.clone()),
            otlp::http::router(collector.clone(), self.origins.clone()),
            zipkin::server(collector.clone(), self.origins.clone(), zipkin_queries),
            jaeger::grpc::router(collector.clone()).merge(grpc::service(remote.clone())),
            jaeger::http::router(collector.clone()).merge(sampling_http::api(remote.clone())),
        ]
    }
}
