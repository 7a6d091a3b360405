//! What `wit/plugin.wit` says, as Rust types: made by wasmtime from that file, so that the two cannot differ.

/// What the host offers: the world `full` imports everything there is.
mod host {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "full",
        imports: { "weft:plugin/state": async | trappable, default: trappable },
        exports: { default: async },
        with: {
            "weft:plugin/types.delivery": crate::plugin::delivery::Delivery,
            "weft:plugin/registry.registration": crate::plugin::registry::Registration,
        },
    });
}

/// What every plugin exports: the world `plugin`, on the types of [`host`].
mod guest {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "plugin",
        exports: { default: async },
        with: {
            "weft:plugin/types": super::host::weft::plugin::types,
            "weft:plugin/log": super::host::weft::plugin::log,
        },
    });
}

pub(super) use guest::{Plugin, PluginIndices};
pub(super) use host::Full;
pub(super) use host::weft::plugin::{log, registry, state, types};
