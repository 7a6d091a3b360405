//! `weft check`.

use anyhow::bail;

use super::ConfigArgs;
use crate::daemon;
use crate::plugin::{Plugins, State};

#[derive(Debug, clap::Args)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigArgs,
}

impl Check {
    /// The configuration, then what it names: the plugins, loaded as the daemon would.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        let plugins = Plugins::load(daemon::plugin_config(&config)).await?;
        let listed = plugins.list();
        let mut mistakes = Vec::new();
        for plugin in &listed {
            if let State::Refused(why) = &plugin.state {
                mistakes.push(format!("plugin {}: {why}", plugin.name));
            }
        }
        let directory = config.directory();
        for used in directory.plugins() {
            if !listed.iter().any(|plugin| plugin.name == used) {
                let dir = config.plugins.dir.display();
                mistakes.push(format!("plugin {used}: there is no {used}.wasm in {dir} (plugins.dir)"));
            }
        }
        mistakes.extend(daemon::unfit(&config.plugins_used(), &plugins));
        mistakes.sort();
        if !mistakes.is_empty() {
            bail!("{}", mistakes.join("\n"));
        }
        eprintln!(
            "the configuration is good: {} subscriptions on record, {} plugins",
            directory.by_id.len(),
            listed.len()
        );
        Ok(())
    }
}
