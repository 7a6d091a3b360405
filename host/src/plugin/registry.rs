//! What the host offers a plugin that registers itself: it fills in [`About`]. Only while `register` runs is there anything
//! to fill in.

use wasmtime::component::Resource;

use super::about::About;
use super::contract::registry::{Host, HostRegistration};
use super::pattern::Pattern;
use super::sandbox::Sandbox;
use super::text::clean;
use crate::json::Index;

/// A plugin's own entry, while `register` runs. There is nothing in it: what it stands for is in the [`Sandbox`].
#[expect(unreachable_pub, reason = "the bindings re-export it, inside a private module")]
pub struct Registration;

// What is longer is cut off: they are for lists.
const VERSION_BYTES_MAX: usize = 64;
const SUMMARY_BYTES_MAX: usize = 256;

impl Sandbox {
    fn about(&mut self) -> wasmtime::Result<&mut About> {
        self.about.as_mut().ok_or_else(|| wasmtime::Error::msg("registration is not open"))
    }
}

impl Host for Sandbox {}

impl HostRegistration for Sandbox {
    fn describe(&mut self, _: Resource<Registration>, version: String, summary: String) -> wasmtime::Result<()> {
        let about = self.about()?;
        about.version = clean(&version, VERSION_BYTES_MAX);
        about.summary = clean(&summary, SUMMARY_BYTES_MAX);
        Ok(())
    }

    fn accept(&mut self, _: Resource<Registration>, event_type: String) -> wasmtime::Result<Result<(), String>> {
        let max = self.terms.limits.accepts_max;
        let about = self.about()?;
        if about.accepts.len() >= max {
            return Ok(Err(format!("at most {max} event types can be accepted one by one (plugins.accepts_max)")));
        }
        if let Err(error) = Pattern::parse(&event_type) {
            return Ok(Err(error));
        }
        about.accepts.push(event_type);
        Ok(Ok(()))
    }

    fn settings_schema(&mut self, _: Resource<Registration>, schema: String) -> wasmtime::Result<Result<(), String>> {
        let max = self.terms.limits.schema_bytes_max;
        let about = self.about()?;
        if schema.len() > max {
            return Ok(Err(format!("a schema has at most {max} bytes (plugins.schema_max)")));
        }
        // Whether it is a schema is found out later, where there is more stack.
        if let Err(error) = Index::build(schema.as_bytes()) {
            return Ok(Err(format!("the schema is not JSON: {error}")));
        }
        about.settings_schema = Some(schema);
        Ok(Ok(()))
    }

    fn reusable(&mut self, _: Resource<Registration>, yes: bool) -> wasmtime::Result<()> {
        self.about()?.is_reusable = yes;
        Ok(())
    }

    fn drop(&mut self, _: Resource<Registration>) -> wasmtime::Result<()> {
        Ok(())
    }
}
