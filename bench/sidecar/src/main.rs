//! What `periplus proxy` runs, without the other roles, as the benchmarks start it: CI counts the
//! instructions of requests in it, since the whole product takes several times as long to link.

use std::env;
use std::path::Path;

use anyhow::bail;
use periplus_proxy::{Agent, Options, bootstrap};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ["proxy", "-c", file, "--workers", "1"] = arguments[..] else {
        bail!(
            "this is for measurements: use `periplus proxy`; here only `proxy -c FILE --workers 1` works"
        );
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(proxy(Path::new(file)))
}

async fn proxy(file: &Path) -> anyhow::Result<()> {
    let options = Options {
        workers: 1,
        ..Options::default()
    };
    let agent = Agent::start(bootstrap::read(file)?, options).await?;
    agent.ready().await;
    periplus_residence::give_back_start()?;
    agent.quit_requested().await;
    Ok(())
}
