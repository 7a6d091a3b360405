//! `weft plugin test`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;

use super::fixture::{self, Fixture};
use super::{build, shell};
use crate::cli::desk::{Desk, Keep, Terms};
use crate::plugin::Grant;

/// Where fixtures are, beside a plugin.
const FIXTURES: &str = "fixtures";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Test {
    /// A compiled plugin, or the directory of one that `weft plugin build` has compiled.
    #[arg(value_name = "FILE.wasm|DIR", default_value = ".")]
    plugin: PathBuf,
    /// Where the fixtures are, *.json [default: fixtures, beside the plugin].
    #[arg(long, value_name = "DIR")]
    fixtures: Option<PathBuf>,
    /// One JSON object per fixture.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    terms: Terms,
}

/// How one fixture went.
#[derive(Serialize)]
struct Judged<'a> {
    /// Its file.
    file: &'a str,
    /// Its place in the file.
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<&'a str>,
    passed: bool,
    /// Lines that were expected (`-`) and that came instead (`+`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<String>,
}

impl Test {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let file = self.file()?;
        let beside = file.parent().unwrap_or(Path::new("")).join(FIXTURES);
        let all = fixture::read_all(self.fixtures.as_ref().unwrap_or(&beside))?;
        let desk = Desk::load(&file, &self.generous(), Keep::Code).await?;
        let (mut passed, mut failed) = (0, 0);
        for series in &all {
            desk.forget_state()?;
            let mut delivery = 0;
            for (index, fixture) in series.fixtures.iter().enumerate() {
                delivery += u32::from(fixture.run == 0 || index == 0);
                let id = format!("{delivery}-0");
                let differences =
                    judge(&desk, fixture, &id).await.with_context(|| format!("{}, fixture {index}", series.name))?;
                let is_good = differences.is_empty();
                *(if is_good { &mut passed } else { &mut failed }) += 1;
                let about = fixture.about.as_deref();
                self.tell(&Judged { file: &series.name, index, about, passed: is_good, differences })?;
            }
        }
        if failed > 0 {
            bail!(
                "{failed} of {} fixtures failed: - is what was expected, + what {} did",
                passed + failed,
                file.display()
            );
        }
        eprintln!("{passed} fixtures passed");
        Ok(())
    }

    fn file(&self) -> anyhow::Result<PathBuf> {
        let is_there = std::fs::metadata(&self.plugin).with_context(|| self.plugin.display().to_string())?;
        if !is_there.is_dir() {
            return Ok(self.plugin.clone());
        }
        let file = build::output(&self.plugin)?;
        let build = format!("weft plugin build {}", shell::quoted(&self.plugin));
        if !file.exists() {
            bail!("there is no {}: {build}", file.display());
        }
        if let Some(source) = build::newer_source(&self.plugin, &file)? {
            eprintln!("note: {} is older than {}: {build}", file.display(), source.display());
        }
        Ok(file)
    }

    /// State is there for the asking: in memory it costs nobody anything. Whoever would ask other servers is told that it may not.
    fn generous(&self) -> Terms {
        let mut terms = self.terms.clone();
        terms.grant.extend([Grant::State, Grant::Http]);
        terms
    }

    fn tell(&self, judged: &Judged<'_>) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string(judged)?);
            return Ok(());
        }
        let Judged { file, index, about, passed, differences } = judged;
        let about = about.map(|about| format!(": {about}")).unwrap_or_default();
        println!("{} {file}[{index}]{about}", if *passed { "ok  " } else { "FAIL" });
        differences.iter().for_each(|line| println!("       {line}"));
        Ok(())
    }
}

async fn judge(desk: &Desk, fixture: &Fixture, id: &str) -> anyhow::Result<Vec<String>> {
    let question = fixture.question(desk, id)?;
    let before = question.draft.clone();
    let tried = desk.watch(question).await;
    Ok(fixture.judge(&before, &tried))
}
