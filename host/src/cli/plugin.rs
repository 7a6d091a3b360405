//! `weft plugin`: a file for each subcommand.

mod bench;
mod build;
mod check;
mod edits;
mod fixture;
mod list;
mod new;
mod run;
mod shell;
pub(super) mod source;
mod test;
mod tree;

/// What people do with plugins, from nothing to one in a daemon: `new` writes a project, `build` compiles it, `test` judges it by its
/// fixtures, `run` shows what it does with one event.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Plugin {
    /// Begin a plugin: a project that builds and passes its own tests.
    New(new::New),
    /// Compile the plugin in a directory to NAME.wasm beside its source.
    Build(build::Build),
    /// Judge a plugin by its fixtures: events and what is expected of them.
    Test(test::Test),
    /// Ask a plugin about one event: its verdict, its edits, its log, its time and memory.
    Run(run::Run),
    /// Load a file as the daemon would: what it exports, imports, asks for and says about itself, or why it is refused.
    Check(check::Check),
    /// Measure what a call costs.
    Bench(bench::Bench),
    /// List the plugins of a running daemon: which are in use, why others are not, and what each has done.
    List(list::List),
}

impl Plugin {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Plugin::New(new) => new.run(),
            Plugin::Build(build) => build.run(),
            Plugin::Test(test) => test.run().await,
            Plugin::Run(run) => run.run().await,
            Plugin::Check(check) => check.run().await,
            Plugin::Bench(bench) => bench.run().await,
            Plugin::List(list) => list.run().await,
        }
    }
}
