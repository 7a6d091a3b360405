//! What the host offers a plugin that registers itself. Linked, so that plugins which export `about` load; nothing calls
//! `about` yet, and without its argument none of this can be reached.

use wasmtime::component::Resource;

use super::contract::registry::{Host, HostRegistration};
use super::sandbox::Sandbox;

/// A plugin's own entry, while `register` runs.
#[expect(unreachable_pub, reason = "the bindings re-export it, inside a private module")]
pub struct Registration;

fn closed<T>() -> wasmtime::Result<T> {
    Err(wasmtime::Error::msg("registration is not open"))
}

impl Host for Sandbox {}

impl HostRegistration for Sandbox {
    fn describe(&mut self, _: Resource<Registration>, _: String, _: String) -> wasmtime::Result<()> {
        closed()
    }

    fn accept(&mut self, _: Resource<Registration>, _: String) -> wasmtime::Result<Result<(), String>> {
        closed()
    }

    fn settings_schema(&mut self, _: Resource<Registration>, _: String) -> wasmtime::Result<Result<(), String>> {
        closed()
    }

    fn reusable(&mut self, _: Resource<Registration>, _: bool) -> wasmtime::Result<()> {
        closed()
    }

    fn drop(&mut self, _: Resource<Registration>) -> wasmtime::Result<()> {
        Ok(())
    }
}
