//! `weft plugin`: a file for each subcommand.

mod list;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Plugin {
    /// List the plugins of a running daemon: which are in use, why others are not, and what each has done.
    List(list::List),
}

impl Plugin {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Plugin::List(list) => list.run().await,
        }
    }
}
