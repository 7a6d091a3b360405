//! Weft delivers webhooks: it takes events from Redis Streams, runs the WebAssembly plugins that a subscription
//! names, signs what comes out and POSTs it, and loses nothing on the way.

// Domain: no I/O, no clock, no chance, no async.
pub mod attempt;
pub mod delivery;
pub mod entry;
pub mod event;
pub mod json;
pub mod outcome;
pub mod request;
pub mod retry;
pub mod secret;
pub mod stored;
pub mod subscription;

// Edges: each knows one outside.
pub mod plugin;
