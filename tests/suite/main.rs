//! The suite: whole behaviours, with a real `redis-server`, real receivers and real `.wasm`.

mod cli;
mod config;
mod conformance;
mod delivery;
mod docs;
mod examples;
mod hostile;
mod plugins;
mod recovery;
mod seed;
