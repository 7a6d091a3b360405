//! The harness: a real `redis-server` per test, a recording receiver, and hosts, in this process or as one of their own.

pub mod certificates;
pub mod cluster;
pub mod event;
pub mod host;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod redis_server;
pub mod sentinels;
pub mod wait;
pub mod world;

pub use certificates::Certificates;
pub use cluster::Cluster;
pub use event::Event;
pub use host::TestHost;
pub use process::WeftProcess;
pub use proxy::Proxy;
pub use receiver::{Answer, Receiver};
pub use redis_server::RedisServer;
pub use sentinels::Sentinels;
pub use wait::{eventually, until};
pub use world::World;

use std::path::PathBuf;

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository").to_owned()
}
