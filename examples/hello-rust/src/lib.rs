//! A first plugin: drops what is only a test, and tells the receiver in a header which object an event is about.

// Without `std` a fresh instance costs a sixth less. To have it, remove this and `default-features = false` in Cargo.toml.
#![cfg_attr(target_arch = "wasm32", no_std)]

use weft_plugin::{About, Delivery, Failure, Verdict, plugin};

const ABOUT: About = About::new(env!("CARGO_PKG_VERSION"), "drops tests, names the object in a header").reusable();

plugin!(handle, ABOUT);

fn handle(delivery: &Delivery) -> Result<Verdict, Failure> {
    if delivery.text("/resourcePoolId").as_deref() == Some("test") {
        return Ok(Verdict::drop("the test pool is nobody's business"));
    }
    if let Some(object) = delivery.text("/objectRef") {
        delivery.set_header("x-object", &object)?;
    }
    Ok(Verdict::deliver())
}
