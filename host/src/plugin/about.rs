//! What a plugin says about itself, once, when it is loaded: which version it is, which events it wants, what its settings
//! look like, and whether an instance may serve more than one delivery.

use std::sync::Arc;

use super::pattern::Pattern;
use super::settings::{Schema, SettingsMistake};
use crate::subscription::PluginUse;

/// What a plugin registered. One that does not export `about` registers nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Its version, in its author's words.
    pub version: String,
    /// What it does, in a line.
    pub summary: String,
    /// Patterns of the event types it wants; all of them if there is none.
    pub accepts: Vec<String>,
    /// JSON Schema of its settings.
    pub settings_schema: Option<String>,
    /// One instance may serve many deliveries, one after the other.
    pub is_reusable: bool,
}

/// The same, ready for use.
#[derive(Default)]
pub(super) struct Profile {
    pub about: About,
    patterns: Vec<Pattern>,
    schema: Option<Schema>,
}

impl Profile {
    /// Compiles patterns and schema; `Err` says what is wrong with them.
    pub(super) fn new(about: About) -> Result<Profile, String> {
        let patterns = about.accepts.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>()?;
        let schema = about.settings_schema.as_deref().map(Schema::compile).transpose()?;
        Ok(Profile { about, patterns, schema })
    }

    /// Whether events of this type are its business.
    pub(super) fn wants(&self, event_type: &str) -> bool {
        self.patterns.is_empty() || self.patterns.iter().any(|pattern| pattern.matches(event_type))
    }

    /// Whether a subscription's settings fit.
    pub(super) fn check(&self, step: &PluginUse) -> Result<(), Arc<str>> {
        self.schema.as_ref().map_or(Ok(()), |schema| schema.check(&step.settings, step.settings_revision))
    }

    /// Where settings do not fit.
    pub(super) fn mistakes(&self, settings: &str) -> Vec<SettingsMistake> {
        self.schema.as_ref().map(|schema| schema.mistakes(settings)).unwrap_or_default()
    }
}
