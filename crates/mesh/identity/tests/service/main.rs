//! `IstioCertificateService` over gRPC: who gets a certificate, and who does not.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod world;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use periplus_identity::{
    AUDIENCE, Authority, Config, Credentials, FetchError, Material, Reason, SpiffeId, Taker,
    TokenKey, fetch, keep,
};
use tokio::sync::mpsc;
use tonic::Code;

use self::world::{Asked, HOUR, REVIEWS, World, asked, bearer, csr, facts};

#[tokio::test]
async fn trap_16_and_17_the_leaf_comes_first_and_its_name_from_the_caller() {
    let world = World::start().await;
    let header = format!("Bearer {}", world.token("reviews"));
    for names in [
        &[][..],
        &[REVIEWS],
        &["spiffe://old.local/ns/default/sa/reviews"],
    ] {
        let chain = world.ask(Some(&header), asked(csr(names))).await.unwrap();
        let [leaf, root] = chain.as_slice() else {
            panic!("{chain:?}");
        };
        assert_eq!(facts(leaf).uris, [REVIEWS], "{names:?}");
        assert!(facts(root).is_authority && leaf.ends_with("-----\n"));
    }
    for (seconds, expected) in [(0, HOUR), (-5, HOUR), (60, HOUR / 60), (7200, 2 * HOUR)] {
        let request = Asked {
            csr: csr(&[]),
            validity_duration: seconds,
        };
        let chain = world.ask(Some(&header), request).await.unwrap();
        let left = facts(&chain[0]).not_after.duration_since(SystemTime::now());
        let left = left.unwrap();
        assert!(
            left <= expected && left + Duration::from_secs(20) > expected,
            "{seconds}: {left:?}"
        );
    }
    assert_eq!(world.counts.issued(), 7);
}

#[tokio::test]
async fn others_are_refused_and_counted() {
    let world = World::start().await;
    let now = SystemTime::now();
    let good = world.token("reviews");
    let of = |token: &str| Some(format!("Bearer {token}"));
    let foreign = TokenKey::generate().unwrap();
    let foreign = foreign.issue(&bearer("reviews"), AUDIENCE, HOUR, now);
    let elsewhere = world.tokens.issue(&bearer("reviews"), "vault", HOUR, now);
    let old = world
        .tokens
        .issue(&bearer("reviews"), AUDIENCE, HOUR, now - 2 * HOUR);
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let header = part(r#"{"alg": "ES256"}"#);
    let payload = part(r#"{"iss": "https://elsewhere.example"}"#);
    let unproven = format!("{header}.{payload}.AAAA");
    let long = Asked {
        csr: csr(&[]),
        validity_duration: 7201,
    };
    let cases = [
        (
            None,
            asked(csr(&[])),
            Code::Unauthenticated,
            Reason::NoCredentials,
        ),
        (
            Some("Basic YTpi".to_owned()),
            asked(csr(&[])),
            Code::Unauthenticated,
            Reason::BadToken,
        ),
        (
            of(&foreign),
            asked(csr(&[])),
            Code::Unauthenticated,
            Reason::BadToken,
        ),
        (
            of(&elsewhere),
            asked(csr(&[])),
            Code::Unauthenticated,
            Reason::ForeignAudience,
        ),
        (
            of(&old),
            asked(csr(&[])),
            Code::Unauthenticated,
            Reason::ExpiredToken,
        ),
        // One of an issuer that is known, whose keys have not come yet.
        (
            of(&unproven),
            asked(csr(&[])),
            Code::Unavailable,
            Reason::NoKeys,
        ),
        // The token of one workload in the hands of another.
        (
            of(&world.token("ratings")),
            asked(csr(&[REVIEWS])),
            Code::PermissionDenied,
            Reason::FalseSan,
        ),
        (
            of(&good),
            asked(csr(&["istiod.istio-system.svc"])),
            Code::PermissionDenied,
            Reason::FalseSan,
        ),
        (
            of(&good),
            asked("no request".to_owned()),
            Code::InvalidArgument,
            Reason::MalformedCsr,
        ),
        (
            of(&good),
            asked("a".repeat(20_000)),
            Code::InvalidArgument,
            Reason::TooLarge,
        ),
        (
            of(&good),
            asked("a".repeat(100_000)),
            Code::OutOfRange,
            Reason::TooLarge,
        ),
        (of(&good), long, Code::InvalidArgument, Reason::Lifetime),
    ];
    for (header, request, code, reason) in cases {
        let before = world.counts.refused(reason);
        let error = world.ask(header.as_deref(), request).await.unwrap_err();
        assert_eq!(error.code(), code, "{reason:?}: {error}");
        assert_eq!(world.counts.refused(reason), before + 1, "{reason:?}");
        // What a token is, is told to nobody.
        assert!(!error.message().contains(&good), "{error}");
    }
    assert_eq!(world.counts.issued(), 0);
    assert_eq!(world.counts.requests(), 12);
}

#[tokio::test]
async fn a_certificate_of_the_mesh_is_a_name_too() {
    let world = World::start().await;
    let own = Arc::clone(&world.authority.borrow());
    let now = SystemTime::now();
    let foreign = Material::self_signed("cluster.local", HOUR, now).unwrap();
    let foreign = Authority::new(&foreign).unwrap();
    let reviews = format!("Bearer {}", world.token("reviews"));
    let elsewhere = "spiffe://elsewhere/ns/default/sa/reviews";
    for (shown, header, expected) in [
        (Some((&*own, REVIEWS, now)), None, Ok(())),
        (Some((&*own, REVIEWS, now)), Some(&reviews), Ok(())),
        (None, Some(&reviews), Ok(())),
        (None, None, Err(Reason::NoCredentials)),
        (
            Some((&*own, "spiffe://cluster.local/ns/default/sa/ratings", now)),
            Some(&reviews),
            Err(Reason::Contradiction),
        ),
        (
            Some((&*own, elsewhere, now)),
            None,
            Err(Reason::ForeignCertificate),
        ),
        (
            Some((&foreign, REVIEWS, now)),
            None,
            Err(Reason::ForeignCertificate),
        ),
        (
            Some((&foreign, REVIEWS, now)),
            Some(&reviews),
            Err(Reason::ForeignCertificate),
        ),
        (
            Some((&*own, REVIEWS, now - 2 * HOUR)),
            None,
            Err(Reason::ExpiredCertificate),
        ),
    ] {
        let before = expected.err().map(|reason| world.counts.refused(reason));
        let outcome = world.ask_as(shown, header.map(String::as_str)).await;
        match expected {
            Ok(()) => assert_eq!(facts(&outcome.unwrap()[0]).uris, [REVIEWS]),
            Err(reason) => {
                assert!(outcome.is_err(), "{reason:?}");
                assert_eq!(Some(world.counts.refused(reason) - 1), before, "{reason:?}");
            }
        }
    }
    assert_eq!(world.counts.issued(), 3);
}

/// What is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Who holds a certificate of somebody else, or an old one, and tries again and again, fills no disk.
#[tokio::test]
async fn refused_client_certificates_are_logged_once_a_second() {
    const EACH: u64 = 12;
    let lines = Lines::default();
    let written = Arc::clone(&lines.0);
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || lines.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let world = World::start().await;
    let own = Arc::clone(&world.authority.borrow());
    let now = SystemTime::now();
    let foreign = Material::self_signed("cluster.local", HOUR, now).unwrap();
    let foreign = Authority::new(&foreign).unwrap();
    let began = Instant::now();
    for _ in 0..EACH {
        for shown in [(&foreign, REVIEWS, now), (&*own, REVIEWS, now - 2 * HOUR)] {
            world.ask_as(Some(shown), None).await.unwrap_err();
        }
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
    let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
    for (reason, why) in [
        (Reason::ForeignCertificate, "UnknownIssuer"),
        (Reason::ExpiredCertificate, "expired"),
    ] {
        assert_eq!(world.counts.refused(reason), EACH);
        let name = format!("reason=\"{}\"", reason.name());
        let found: Vec<_> = text.lines().filter(|line| line.contains(&name)).collect();
        assert!((1..=seconds).contains(&found.len()), "{text}");
        assert!(found[0].contains("refused a client certificate"), "{text}");
        assert!(
            found[0].contains(why) && found[0].contains("in_all=1 "),
            "{text}"
        );
        assert!(found[0].contains("peer=127.0.0.1:"), "{text}");
    }
}

#[tokio::test]
async fn a_workload_gets_its_certificate_with_its_own_key() {
    let world = World::start().await;
    let config = world.config(&world.token("reviews"));
    let one = fetch(&config).await.unwrap();
    let two = fetch(&config).await.unwrap();
    assert_ne!(one.key, two.key, "each certificate has a key of its own");
    assert_eq!(facts(&one.chain).uris, [REVIEWS]);
    let other = Config {
        id: "spiffe://cluster.local/ns/default/sa/ratings"
            .parse::<SpiffeId>()
            .unwrap(),
        ..config
    };
    let error = fetch(&other).await.unwrap_err();
    assert!(
        matches!(&error, FetchError::Refused(status) if status.code() == Code::PermissionDenied)
    );
}

#[tokio::test]
async fn certificates_are_renewed_and_failures_are_tried_again() {
    struct Notes(mpsc::UnboundedSender<Result<Credentials, String>>);
    impl Taker for Notes {
        fn renewed(&mut self, credentials: Credentials) {
            self.0.send(Ok(credentials)).unwrap();
        }

        fn failed(&mut self, error: &FetchError) {
            self.0.send(Err(error.to_string())).unwrap();
        }
    }
    let world = World::start().await;
    let good = world.token("reviews");
    let config = Config {
        lifetime: Some(Duration::from_secs(2)),
        ..world.config("stale")
    };
    let (sender, mut notes) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move { keep(&config, &mut Notes(sender)).await });
    let error = notes.recv().await.unwrap().unwrap_err();
    assert!(
        error.contains("the certificate authority refuses"),
        "{error}"
    );
    world.config(&good);
    let mut renewed = Vec::new();
    while renewed.len() < 3 {
        if let Ok(credentials) = notes.recv().await.unwrap() {
            renewed.push(credentials);
        }
    }
    // Certificates end at full seconds.
    assert!(renewed[2].expires > renewed[0].expires);
    assert_ne!(renewed[0].serial, renewed[1].serial);
    task.abort();
}
