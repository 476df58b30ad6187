//! Stopping: politely first, by force in the end, at any moment.

use std::time::Duration;

use periplus_local::{Event, Limits, Probe, Supervisor};
use tokio::time::Instant;

use crate::helper::{Bench, DEADLINE, Role, event, limits, listens, nowhere};

#[tokio::test]
async fn a_part_that_does_not_heed_sigterm_is_killed() {
    let bench = Bench::new();
    let address = nowhere();
    let parts = vec![bench.part("deaf", &Role::Stubborn(address), &[])];
    let limits = Limits {
        stop_within: Duration::from_millis(200),
        ..limits()
    };
    let (supervisor, mut events) = Supervisor::new(parts, limits).unwrap();
    supervisor.start().await.unwrap();
    supervisor.stop().await;
    let killed = event(&mut events, |event| match event {
        Event::Stopped { killed, .. } => Some(killed),
        _ => None,
    })
    .await;
    assert!(killed);
    assert_eq!(
        bench.journal(),
        ["deaf started", "deaf stopped"],
        "it was asked first"
    );
    assert!(!listens(address).await);
}

#[tokio::test]
async fn stopping_in_the_middle_of_a_start_leaves_nothing() {
    let bench = Bench::new();
    let address = nowhere();
    let mut waiting = bench.part("waiting", &Role::Server(address), &[]);
    waiting.ready = Probe::Tcp(nowhere());
    let parts = vec![
        waiting,
        bench.part("later", &Role::Server(nowhere()), &["waiting"]),
    ];
    let (supervisor, _events) = Supervisor::new(parts, limits()).unwrap();
    tokio::select! {
        started = supervisor.start() => panic!("{started:?}"),
        () = crate::helper::until("the first part runs", async || listens(address).await) => {}
    }
    let begun = Instant::now();
    supervisor.stop().await;
    assert!(begun.elapsed() < DEADLINE / 2);
    assert!(!listens(address).await);
    assert_eq!(bench.journal(), ["waiting started", "waiting stopped"]);
}

#[tokio::test]
async fn a_supervisor_that_never_started_stops_at_once() {
    let bench = Bench::new();
    let parts = vec![bench.part("a", &Role::Server(nowhere()), &[])];
    let (supervisor, _events) = Supervisor::new(parts, limits()).unwrap();
    tokio::time::timeout(DEADLINE, supervisor.stop())
        .await
        .unwrap();
    assert!(bench.journal().is_empty());
}
