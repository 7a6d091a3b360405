//! What one call of a plugin costs with a body of 1 KiB: what `weft plugin bench` says, the daemon's own program.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::programs;

/// Deliveries of one instance, where instances are reused.
const REUSE: &str = "1000";
/// For each plugin, all in all.
const SECONDS: &str = "4";

/// Figures of one plugin.
#[derive(Deserialize)]
pub(crate) struct PluginCall {
    /// With an instance of its own for each call.
    pub(crate) fresh: Cost,
    /// With one for many, if the plugin says that it can be.
    pub(crate) reused: Option<Cost>,
}

/// What calls cost.
#[derive(Deserialize)]
pub(crate) struct Cost {
    p50_ns: f64,
    per_second: f64,
    per_second_two_threads: f64,
}

impl Cost {
    /// One call, in the middle.
    pub(crate) fn micros(&self) -> f64 {
        self.p50_ns / 1000.0
    }

    /// Calls of two threads, as a multiple of one's.
    pub(crate) fn two_threads(&self) -> f64 {
        self.per_second_two_threads / self.per_second
    }
}

/// Measures one file.
pub(crate) fn measure(file: &Path) -> Result<PluginCall> {
    let mut bench = Command::new(programs()?.join("weft"));
    bench.args(["plugin", "bench", "--json", "--reuse", REUSE, "--seconds", SECONDS]).arg(file);
    let output = bench.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "weft plugin bench {} failed", file.display());
    serde_json::from_slice(&output.stdout).context("weft plugin bench prints one JSON object")
}
