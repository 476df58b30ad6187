//! Parts do not outlive their supervisor, even when it is killed.

use std::process::{Child, Command, Stdio};

use crate::helper::{Bench, Role, listens, nowhere, until};

fn spawn(bench: &Bench, role: &Role<'_>) -> Child {
    let part = bench.part("outer", role, &[]);
    Command::new(&part.program)
        .args(&part.arguments)
        .envs(part.environment)
        .env(periplus_local::EXIT_WITH_PARENT, "stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn parts_end_when_their_supervisor_is_killed() {
    let bench = Bench::new();
    let address = nowhere();
    let mut supervisor = spawn(&bench, &Role::Supervisor(address));
    until("the part listens", async || listens(address).await).await;
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    until("the part is gone", async || !listens(address).await).await;
    until("the part ended in good order", async || {
        bench.journal() == ["inner started", "inner stopped"]
    })
    .await;
}

#[tokio::test]
async fn guarded_programs_end_with_the_leash() {
    let bench = Bench::new();
    let pid_file = bench.path().join("pid");
    let script = format!("echo $$ > {}; exec sleep 1000", pid_file.display());
    let mut guard = spawn(&bench, &Role::Guard(&script));
    let pid = || std::fs::read_to_string(&pid_file).unwrap_or_default();
    until("the program runs", async || pid().ends_with('\n')).await;
    let process = std::path::PathBuf::from(format!("/proc/{}", pid().trim()));
    assert!(process.exists());
    // What happens when the supervisor is killed: the kernel closes its end.
    drop(guard.stdin.take());
    until("the program is gone", async || !process.exists()).await;
    guard.wait().unwrap();
}
