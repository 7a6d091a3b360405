//! `make bench`: the figures of speed, each beside a bare client of the same run, and `target/bench.json`.
//!
//! The program runs itself as receiver and as bare client, so that each has a CPU time of its own. All talk stays on
//! loopback addresses, and all ends by itself.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

mod bare;
mod masters;
mod newcomer;
mod plugin_call;
mod producer;
mod receiver;
mod scale;
mod scenario;
mod stack;
mod table;
mod throttle;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match words.as_slice() {
        [] => runtime.block_on(scenario::all(&[])),
        ["receiver"] => runtime.block_on(receiver::run()),
        ["bare", url, count] => runtime.block_on(bare::run(url, count.parse()?)),
        [command, ..] if command.starts_with('-') => bail!("usage: bench [FIGURE …]; without names all are measured"),
        names => runtime.block_on(scenario::all(names)),
    }
}

/// Where this program and the daemon lie.
fn programs() -> Result<PathBuf> {
    let own = std::env::current_exe().context("this program has no path")?;
    Ok(own.parent().context("it lies in a directory")?.to_owned())
}
