//! Crashes: the part is named, and started again.

use std::time::Duration;

use periplus_local::{Event, Exit, Probe, Restart, Supervisor};
use rustix::process::{Pid, Signal, kill_process};

use crate::helper::{Bench, Role, event, limits, listens, nowhere, until};

#[tokio::test]
async fn a_crashed_part_is_named_and_restarted() {
    let bench = Bench::new();
    let address = nowhere();
    let parts = vec![
        bench.part("victim", &Role::Server(address), &[]),
        bench.part("bystander", &Role::Server(nowhere()), &[]),
    ];
    let (supervisor, mut events) = Supervisor::new(parts, limits()).unwrap();
    supervisor.start().await.unwrap();
    let pid = event(&mut events, |event| match event {
        Event::Started { part, pid } if part == "victim" => Some(pid),
        _ => None,
    })
    .await;
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();

    let (exit, last_lines, restart_in) = event(&mut events, |event| match event {
        Event::Crashed {
            part,
            exit,
            last_lines,
            restart_in,
        } => {
            assert_eq!(part, "victim");
            Some((exit, last_lines, restart_in))
        }
        _ => None,
    })
    .await;
    assert_eq!(exit, Some(Exit::Signal(9)));
    assert_eq!(exit.unwrap().to_string(), "signal 9 (SIGKILL)");
    assert!(
        last_lines.iter().any(|line| line == "hello"),
        "{last_lines:?}"
    );
    assert_eq!(restart_in, Some(Duration::from_millis(10)));

    let again = event(&mut events, |event| match event {
        Event::Ready { part, .. } => Some(part),
        _ => None,
    })
    .await;
    assert_eq!(again, "victim");
    until("the part listens again", async || listens(address).await).await;
    supervisor.stop().await;
    let journal = bench.journal();
    let count = |what: &str| journal.iter().filter(|line| *line == what).count();
    assert_eq!(count("victim started"), 2);
    assert_eq!(count("bystander started"), 1);
}

#[tokio::test]
async fn pauses_grow_while_a_part_keeps_crashing() {
    let bench = Bench::new();
    let mut part = bench.part("bad", &Role::Failing, &[]);
    part.ready = Probe::Started;
    let (supervisor, mut events) = Supervisor::new(vec![part], limits()).unwrap();
    supervisor.start().await.unwrap();
    for expected_ms in [10, 20, 40, 80] {
        let pause = event(&mut events, |event| match event {
            Event::Crashed { restart_in, .. } => restart_in,
            _ => None,
        })
        .await;
        assert_eq!(pause, Duration::from_millis(expected_ms));
    }
    supervisor.stop().await;
}

#[tokio::test]
async fn a_part_that_shall_stay_down_does() {
    let bench = Bench::new();
    let mut part = bench.part("once", &Role::Failing, &[]);
    part.ready = Probe::Started;
    part.restart = Restart::Never;
    let (supervisor, mut events) = Supervisor::new(vec![part], limits()).unwrap();
    supervisor.start().await.unwrap();
    let (exit, pause) = event(&mut events, |event| match event {
        Event::Crashed {
            exit, restart_in, ..
        } => Some((exit, restart_in)),
        _ => None,
    })
    .await;
    assert_eq!((exit, pause), (Some(Exit::Code(3)), None));
    supervisor.stop().await;
    assert_eq!(events.next().await, Some(Event::Stopping));
    assert_eq!(events.next().await, None, "nothing was left to stop");
}

#[tokio::test]
async fn a_part_is_started_again_when_somebody_wants_it() {
    let bench = Bench::new();
    let mut steady = bench.part("steady", &Role::Server(nowhere()), &[]);
    steady.directory = Some(bench.path().to_owned());
    let mut once = bench.part("once", &Role::Failing, &[]);
    once.ready = Probe::Started;
    once.restart = Restart::Never;
    let (supervisor, mut events) = Supervisor::new(vec![steady, once], limits()).unwrap();
    supervisor.start().await.unwrap();
    let crashed = |event| matches!(event, Event::Crashed { .. }).then_some(());
    event(&mut events, crashed).await;

    assert!(!supervisor.restart("nobody"));
    assert!(supervisor.restart("steady"));
    let killed = event(&mut events, |event| match event {
        Event::Stopped { part, killed, .. } if part == "steady" => Some(killed),
        _ => None,
    });
    assert!(
        !killed.await,
        "it was asked to stop, and has crashed in no way"
    );
    let ready =
        |event| matches!(event, Event::Ready { part, .. } if part == "steady").then_some(());
    event(&mut events, ready).await;

    // One that stays down by itself, too.
    assert!(supervisor.restart("once"));
    event(&mut events, crashed).await;
    supervisor.stop().await;
}
