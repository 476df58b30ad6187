//! Two network namespaces with a cable between them: a workload's, and the world outside.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub(crate) const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));
pub(crate) const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2));
/// Another address outside.
pub(crate) const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 3));
pub(crate) const INSIDE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1));
pub(crate) const OUTSIDE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2));
pub(crate) const OTHER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 3));

const DEADLINE: Duration = Duration::from_secs(20);

/// One of the two namespaces.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Inside,
    Outside,
}

/// The namespaces; deleted when dropped.
pub(crate) struct World {
    inside: String,
    outside: String,
}

impl World {
    /// None if this host cannot have them, which is an error on CI.
    pub(crate) fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if let Err(missing) = requirements() {
            assert!(std::env::var_os("CI").is_none(), "{missing}");
            eprintln!("not run: {missing}");
            return None;
        }
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |side: &str| format!("periplus-{}-{id}-{side}", std::process::id());
        let world = Self {
            inside: name("in"),
            outside: name("out"),
        };
        let (inside, outside) = (&world.inside, &world.outside);
        for line in [
            format!("ip netns add {inside}"),
            format!("ip netns add {outside}"),
            format!("ip -n {inside} link add eth0 type veth peer name eth0 netns {outside}"),
        ] {
            run(&line);
        }
        for (side, addresses) in [
            (inside, &[INSIDE, INSIDE_V6][..]),
            // A connection is made from the first of IPv4, and the last of IPv6.
            (outside, &[OUTSIDE, OTHER, OTHER_V6, OUTSIDE_V6]),
        ] {
            for address in addresses {
                let length = if address.is_ipv4() { "24" } else { "64 nodad" };
                run(&format!(
                    "ip -n {side} addr add {address}/{length} dev eth0"
                ));
            }
            run(&format!("ip -n {side} link set lo up"));
            run(&format!("ip -n {side} link set eth0 up"));
        }
        Some(world)
    }

    /// Runs something on a thread in the workload's namespace; threads that it starts are there too.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on(&self.inside, work)
    }

    /// The same in the other namespace.
    pub(crate) fn outside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on(&self.outside, work)
    }

    /// Gives the programs of the workload's namespace a resolv.conf of their own.
    pub(crate) fn write_resolv_conf(&self, text: &str) {
        let directory = resolv_conf_of(&self.inside);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("resolv.conf"), text).unwrap();
    }

    /// Serves connections to a port of the workload.
    pub(crate) fn serve_inside(&self, port: u16) {
        serve(&self.inside, port);
    }

    /// Serves requests to a port of the workload.
    pub(crate) fn serve_http_inside(&self, port: u16) {
        serve_http(&self.inside, port);
    }

    /// Serves requests to a port of all addresses outside.
    pub(crate) fn serve_http_outside(&self, port: u16) {
        serve_http(&self.outside, port);
    }

    /// Listens on a port of all addresses outside.
    pub(crate) fn listen_outside(&self, port: u16) -> TcpListener {
        listen(&self.outside, port)
    }

    /// Serves connections to a port of all addresses outside.
    pub(crate) fn serve_outside(&self, port: u16) {
        serve(&self.outside, port);
    }

    /// What a user of the workload hears from a server.
    pub(crate) fn connect_inside(&self, uid: u32, to: IpAddr, port: u16) -> String {
        hear(self.command_as(uid, "bash"), to, port)
    }

    /// What somebody outside hears from a server.
    pub(crate) fn connect_outside(&self, to: IpAddr, port: u16) -> String {
        hear(within(&self.outside, "bash"), to, port)
    }

    /// What somebody outside gets for a request.
    pub(crate) fn request_outside(&self, to: IpAddr, port: u16) -> String {
        request(within(&self.outside, "bash"), to, port, "app")
    }

    /// What a user of the workload gets for a request.
    pub(crate) fn request_as(&self, uid: u32, to: IpAddr, port: u16, host: &str) -> String {
        request(self.command_as(uid, "bash"), to, port, host)
    }

    /// Whether such a request has an answer; a connection may break before it has one.
    pub(crate) fn is_answered(&self, uid: u32, to: IpAddr, port: u16, host: &str) -> bool {
        let output = attempt(self.command_as(uid, "bash"), to, port, host);
        output.stdout.starts_with(b"HTTP/1.1 200 ")
    }

    /// A program in the workload's namespace, run by root.
    pub(crate) fn command_inside(&self, program: impl AsRef<OsStr>) -> Command {
        self.command(Side::Inside, program)
    }

    /// A program in a namespace, run by root.
    pub(crate) fn command(&self, side: Side, program: impl AsRef<OsStr>) -> Command {
        match side {
            Side::Inside => within(&self.inside, program),
            Side::Outside => within(&self.outside, program),
        }
    }

    /// The same, run by another user.
    pub(crate) fn command_as(&self, uid: u32, program: &str) -> Command {
        let mut command = within(&self.inside, "setpriv");
        let uid = uid.to_string();
        command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", program]);
        command
    }

    pub(crate) fn run_inside(&self, line: &str) {
        run(&format!("ip netns exec {} {line}", self.inside));
    }

    /// The rules, routes and addresses that redirection may change.
    pub(crate) fn rules(&self) -> String {
        let mut all = String::new();
        for line in [
            "iptables-save -t nat",
            "iptables-save -t mangle",
            "iptables-save -t raw",
            "ip6tables-save -t nat",
            "ip6tables-save -t mangle",
            "ip6tables-save -t raw",
            "nft list ruleset inet",
            "ip -4 rule",
            "ip -6 rule",
            "ip -4 route show table all",
            "ip -6 addr show dev lo",
        ] {
            let said = run(&format!("ip netns exec {} {line}", self.inside));
            // Without comments, which tell the time, and built-in chains, which tell counts.
            let kept = said.lines().filter(|line| {
                let is_table = ["#", "*", "COMMIT"].iter().any(|c| line.starts_with(c));
                let is_builtin = line.starts_with(':') && !line.starts_with(":ISTIO");
                !is_table && !is_builtin
            });
            for line in kept {
                all.push_str(line);
                all.push('\n');
            }
        }
        all
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Most have none.
        let _ = std::fs::remove_dir_all(resolv_conf_of(&self.inside));
        for side in [&self.inside, &self.outside] {
            // Whoever still runs in it ends with the test.
            Command::new("ip")
                .args(["netns", "del", side])
                .status()
                .ok();
        }
    }
}

/// Where `ip netns exec` finds the files of a namespace that stand in place of those of `/etc`.
fn resolv_conf_of(namespace: &str) -> PathBuf {
    Path::new("/etc/netns").join(namespace)
}

/// What is missing for namespaces.
fn requirements() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("network namespaces need root".to_owned());
    }
    for program in ["ip", "iptables", "ip6tables", "nft", "setpriv", "bash"] {
        if Command::new(program).arg("--version").output().is_err() {
            return Err(format!("{program} is not installed"));
        }
    }
    Ok(())
}

/// Waits until `check` gives something.
pub(crate) fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(begin.elapsed() < DEADLINE, "waited too long for {what}");
        std::thread::yield_now();
    }
}

fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn within(namespace: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command
}

fn on<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/var/run/netns/{namespace}")).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), kind).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

fn listen(namespace: &str, port: u16) -> TcpListener {
    on(namespace, || {
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap()
    })
}

fn serve_http(namespace: &str, port: u16) {
    let listener = listen(namespace, port);
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::spawn(move || answer_requests(&stream, port));
        }
    });
}

fn request(bash: Command, to: IpAddr, port: u16, host: &str) -> String {
    let output = attempt(bash, to, port, host);
    assert!(output.status.success(), "{to} {port}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn attempt(mut bash: Command, to: IpAddr, port: u16, host: &str) -> Output {
    let request = format!(r"GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let script =
        format!("exec 3<>/dev/tcp/{to}/{port} && printf '{request}' >&3 && timeout 10 cat <&3");
    bash.args(["-c", &script]).output().unwrap()
}

/// Says the same to each request of a connection, which is kept.
fn answer_requests(mut stream: &TcpStream, port: u16) {
    let peer = stream.peer_addr().unwrap().ip().to_canonical();
    let body = format!("{port} for {peer}");
    let length = body.len();
    let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
    let lines = BufReader::new(stream).lines();
    for line in lines.map_while(Result::ok) {
        if line.is_empty() && stream.write_all(response.as_bytes()).is_err() {
            return;
        }
    }
}

/// Says to each client which port it has reached, and whom it is taken for.
fn serve(namespace: &str, port: u16) {
    let listener = listen(namespace, port);
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let said = format!("{port} for {}", peer.ip().to_canonical());
            stream.write_all(said.as_bytes()).ok();
        }
    });
}

fn hear(mut bash: Command, to: IpAddr, port: u16) -> String {
    let script = format!("exec 3<>/dev/tcp/{to}/{port} && timeout 10 cat <&3");
    let output = bash.args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{to} {port}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
