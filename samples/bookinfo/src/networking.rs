//! Istio's networking files of the sample, for the meshes that run without a cluster.

/// A file of `samples/bookinfo/networking`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rules {
    /// Its name.
    pub file: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! rules {
    ($($file:literal),* $(,)?) => {
        [$(Rules { file: $file, text: include_str!(concat!("../networking/", $file)) }),*]
    };
}

/// The port on which [`GATEWAY`] listens.
pub const GATEWAY_PORT: u16 = 8080;

/// The gateway and the routes from it to the product page.
pub const GATEWAY: Rules = rules!["bookinfo-gateway.yaml"][0];

/// The versions of every service.
pub const SUBSETS: Rules = rules!["destination-rule-all.yaml"][0];

/// Routing rules to try, each on top of [`GATEWAY`] and [`SUBSETS`].
pub const EXAMPLES: [Rules; 8] = rules![
    "virtual-service-all-v1.yaml",
    "virtual-service-reviews-50-v3.yaml",
    "virtual-service-reviews-80-20.yaml",
    "virtual-service-reviews-90-10.yaml",
    "virtual-service-reviews-jason-v2-v3.yaml",
    "virtual-service-reviews-test-v2.yaml",
    "virtual-service-reviews-v2-v3.yaml",
    "virtual-service-reviews-v3.yaml",
];
