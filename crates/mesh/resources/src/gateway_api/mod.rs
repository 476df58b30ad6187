//! Kubernetes' Gateway API: gateways and routes, in the form of its custom resources. What the schema of these
//! resources and their CEL rules refuse is refused here too.

mod backend_tls;
mod cors;
mod filter;
mod gateway;
mod grant;
mod grpc_route;
mod http_route;
mod reference;
mod route;
mod selector;
mod tls;

pub use self::backend_tls::{BackendTlsPolicy, PolicyTarget};
pub use self::filter::{Filters, PathChange, Redirection, RequestMirror, UrlRewrite};
pub use self::gateway::{
    Address, Gateway, GatewayClass, Listener, ListenerProtocol, RouteKind, RouteNamespaces,
};
pub use self::grant::{Granted, Grantee, ReferenceGrant};
pub use self::reference::{BackendRef, ObjectRef, ParentKind, ParentRef};
pub use self::route::{RequestRule, Route, Rules};
pub use self::selector::LabelSelector;
pub use self::tls::{Frontend, FrontendValidation, ListenerTls};

use crate::view::{Object, View};

/// The group of its resources.
pub const GROUP: &str = "gateway.networking.k8s.io";

/// The items of a list that may have so many.
fn items_up_to<'a>(object: &Object<'a>, name: &str, most: usize) -> Vec<View<'a>> {
    let items = object.items(name);
    if items.len() > most {
        object.fail(format!(
            "`{name}` may have {most} items, not {}",
            items.len()
        ));
    }
    items
}
