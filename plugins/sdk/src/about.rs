//! What a plugin says about itself.

use alloc::string::String;

use crate::bindings::weft::plugin::registry::Registration;

/// What a plugin is: the host asks once, when it loads it.
///
/// ```
/// use weft_plugin::About;
///
/// const ABOUT: About = About::new(env!("CARGO_PKG_VERSION"), "masks what must not be seen")
///     .accept(&["o2ims.Resource.*", "o2ims.Alarm.**"])
///     .settings(r#"{"type":"object","properties":{"mask":{"type":"string"}},"additionalProperties":false}"#)
///     .reusable();
/// # assert!(ABOUT.is_reusable());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    version: &'static str,
    summary: &'static str,
    accepts: &'static [&'static str],
    settings_schema: Option<&'static str>,
    is_reusable: bool,
}

impl About {
    /// Its version, and what it does in a line.
    #[must_use]
    pub const fn new(version: &'static str, summary: &'static str) -> About {
        About { version, summary, accepts: &[], settings_schema: None, is_reusable: false }
    }

    /// It is asked only about events of these types: `*` is one segment, `**` any number of them. Events of other types pass
    /// by at no cost, as if it were not in the chain.
    #[must_use]
    pub const fn accept(self, event_types: &'static [&'static str]) -> About {
        About { accepts: event_types, ..self }
    }

    /// JSON Schema 2020-12 of its settings, for example by `include_str!`. The host checks settings with it before the plugin
    /// sees any.
    #[must_use]
    pub const fn settings(self, schema: &'static str) -> About {
        About { settings_schema: Some(schema), ..self }
    }

    /// One instance may serve many deliveries, one after the other: nothing that an earlier one left in it does harm. With the
    /// operator's `reuse = N` its calls then cost a fraction.
    #[must_use]
    pub const fn reusable(self) -> About {
        About { is_reusable: true, ..self }
    }

    /// The schema of its settings.
    #[must_use]
    pub const fn settings_schema(&self) -> Option<&'static str> {
        self.settings_schema
    }

    /// Whether one instance may serve many deliveries.
    #[must_use]
    pub const fn is_reusable(&self) -> bool {
        self.is_reusable
    }
}

#[doc(hidden)]
pub fn register(about: &About, registration: &Registration) -> Result<(), String> {
    registration.describe(about.version, about.summary);
    for event_type in about.accepts {
        registration.accept(event_type)?;
    }
    if let Some(schema) = about.settings_schema {
        registration.settings_schema(schema)?;
    }
    registration.reusable(about.is_reusable);
    Ok(())
}
