//! Write Weft plugins in Rust: a plugin is one function and one macro.
//!
//! ```
//! use weft_plugin::{About, Delivery, Failure, Verdict, plugin};
//!
//! const ABOUT: About = About::new(env!("CARGO_PKG_VERSION"), "drops what is only a test").reusable();
//!
//! plugin!(handle, ABOUT);
//!
//! fn handle(delivery: &Delivery) -> Result<Verdict, Failure> {
//!     if delivery.event_type().starts_with("o2ims.test.") {
//!         return Ok(Verdict::drop("test traffic"));
//!     }
//!     delivery.set_header("x-seen-by", "my-plugin")?;
//!     Ok(Verdict::deliver())
//! }
//! ```
//!
//! Compile it with `cargo build --release --target wasm32-wasip2` as a `cdylib`, and put the `.wasm` file into the
//! daemon's plugin directory. What a plugin does not use is not in the file: one that never calls [`state`] does not ask for
//! it, and `plugin!(handle)` makes one that says nothing about itself.
//!
//! **Without wasm**, in a plain `#[test]`, [`testing`] calls the same function.

#![deny(unsafe_code)]
#![cfg_attr(all(target_arch = "wasm32", not(feature = "std")), no_std)]

extern crate alloc;

pub use about::About;
pub use delivery::Delivery;
pub use json::Json;
pub use verdict::{EditError, Failure, HeaderError, StateError, Verdict};

mod about;
mod delivery;
#[cfg(feature = "http")]
pub mod http;
mod json;
pub mod log;
pub mod prelude;
#[cfg(all(target_arch = "wasm32", not(feature = "std")))]
mod runtime;
mod settings;
pub mod state;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod verdict;

/// Everything a plugin may import, and the filter that it exports. Only what is called gets into the file.
#[doc(hidden)]
#[allow(unsafe_code, missing_docs, clippy::all, reason = "generated from the contract, wit/plugin.wit")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package weft:sdk;
            world guest {
                include weft:plugin/plugin@0.1.0;
                import weft:plugin/registry@0.1.0;
                import weft:plugin/state@0.1.0;
            }
        ",
        world: "weft:sdk/guest",
        pub_export_macro: true,
        default_bindings_module: "weft_plugin::bindings",
        export_macro_name: "export",
        generate_all,
    });
}

/// What a plugin exports beside that if it says what it is.
#[doc(hidden)]
#[allow(unsafe_code, missing_docs, clippy::all, reason = "generated from the contract, wit/plugin.wit")]
pub mod about_bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package weft:sdk-about;
            world saying {
                import weft:plugin/registry@0.1.0;
                export weft:plugin/about@0.1.0;
            }
        ",
        world: "weft:sdk-about/saying",
        with: { "weft:plugin/registry@0.1.0": crate::bindings::weft::plugin::registry },
        pub_export_macro: true,
        default_bindings_module: "weft_plugin::about_bindings",
        export_macro_name: "export",
    });
}

#[doc(hidden)]
pub use about::register;
#[doc(hidden)]
pub use alloc::string::String;
#[doc(hidden)]
pub use verdict::answer;

/// Makes a function the plugin, once per crate: `plugin!(handle);`, or `plugin!(handle, ABOUT);` with an [`About`] of what it is.
#[macro_export]
macro_rules! plugin {
    ($handle:path) => {
        // Tests and tools that compile it for this machine see that it is used.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::Delivery<'_>) -> Result<$crate::Verdict, $crate::Failure> = $handle;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct WeftPlugin;

            impl $crate::bindings::exports::weft::plugin::filter::Guest for WeftPlugin {
                fn handle(
                    delivery: &$crate::bindings::weft::plugin::types::Delivery,
                ) -> Result<
                    $crate::bindings::weft::plugin::types::Verdict,
                    $crate::bindings::weft::plugin::types::Failure,
                > {
                    $crate::answer($handle(&$crate::Delivery::new(delivery)))
                }
            }

    $crate::bindings::export!(WeftPlugin with_types_in $crate::bindings);
        };
    };
    ($handle:path, $about:expr) => {
        $crate::plugin!($handle);

        #[cfg(not(target_arch = "wasm32"))]
        const _: $crate::About = $about;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct WeftAbout;

            impl $crate::about_bindings::exports::weft::plugin::about::Guest for WeftAbout {
                fn register(
                    registration: &$crate::bindings::weft::plugin::registry::Registration,
                ) -> Result<(), $crate::String> {
                    $crate::register(&$about, registration)
                }
            }

    $crate::about_bindings::export!(WeftAbout with_types_in $crate::about_bindings);
        };
    };
}
