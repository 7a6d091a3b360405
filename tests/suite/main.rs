//! The suite: whole behaviours, with a real `redis-server`, real receivers and real `.wasm`.

#![expect(clippy::unwrap_used, reason = "all of it is tests, which clippy sees only in functions marked as such")]

mod ahead;
mod author;
mod chaos;
mod cli;
mod config;
mod conformance;
mod delivery;
mod docs;
mod embedded;
mod examples;
mod first_party;
mod flow;
mod hostile;
mod hosts;
mod janitor;
mod languages;
mod letters;
mod liveness;
mod newcomer;
mod outages;
mod outgoing;
mod plugins;
mod recovery;
mod refused;
mod seed;
mod shadow;
mod state;
mod topology;
mod watch;
