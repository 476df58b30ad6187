//! Pages of other origins: who may read answers, and what preflights are told (Fetch §3.2).

use crate::call::Call;
use crate::exchange::{Exchange, Said};
use crate::reply::Reply;
use crate::route::joined;
use crate::snapshot::{Cors, RouteAction};

impl Call {
    /// Looks at where a request comes from: the answer, if it is a preflight.
    pub(super) fn cors(&self, exchange: &mut Exchange, policy: &Cors) -> Option<Reply<'static>> {
        let router = self.view.router.as_ref()?;
        let is_forwarded = matches!(
            router.route(exchange.route?).action,
            RouteAction::Forward(_)
        );
        let is_on = policy.enabled.is_none_or(|share| self.is_in(share));
        let is_shadow = !is_on && policy.shadow.is_some_and(|share| self.is_in(share));
        if !is_forwarded || !is_on && !is_shadow {
            return None;
        }
        let head = self.buffer.head();
        let field = |name| joined(self.request.fields.all_by_text(name, head)).unwrap_or_default();
        let origin = field("origin");
        if origin.is_empty() {
            return None;
        }
        let allowed = policy.allows(&origin);
        if let Some(stats) = &self.view.filters.cors {
            let count = match allowed {
                true => &stats.origin_valid,
                false => &stats.origin_invalid,
            };
            count.increment();
        }
        if is_shadow {
            return None;
        }
        let said = &mut exchange.rare().said;
        let mut say = |name, value: &[u8]| said.push(Said::new(name, value));
        let credentials = policy.credentials == Some(true);
        if allowed {
            say("access-control-allow-origin", &origin);
            if credentials {
                say("access-control-allow-credentials", b"true");
            }
            if !policy.exposed.is_empty() {
                say("access-control-expose-headers", policy.exposed.as_bytes());
            }
        }
        let method = field("access-control-request-method");
        let is_preflight = self.request.method(head) == b"OPTIONS" && !method.is_empty();
        if !is_preflight || !allowed && policy.forwards_others != Some(false) {
            return None;
        }
        if credentials && !allowed {
            say("access-control-allow-credentials", b"true");
        }
        // `*` is whatever was asked for: with credentials it would not be allowed (Fetch §3.2.5).
        let asked = field("access-control-request-headers");
        for (name, told, asked) in [
            ("access-control-allow-methods", &policy.methods, &method),
            ("access-control-allow-headers", &policy.headers, &asked),
        ] {
            match told.as_str() {
                "" => {}
                "*" => say(name, asked),
                told => say(name, told.as_bytes()),
            }
        }
        if !policy.max_age.is_empty() {
            say("access-control-max-age", policy.max_age.as_bytes());
        }
        if policy.private_network == Some(true)
            && *field("access-control-request-private-network") == *b"true"
        {
            say("access-control-allow-private-network", b"true");
        }
        exchange.rare().details = Some("cors_response".into());
        // It is the filter's own answer: what the route changes about responses is not for it.
        exchange.edits = false;
        Some(Reply::new(200, ""))
    }
}
