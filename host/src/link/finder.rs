//! Finds the server that has the keys now, by asking those that know, and connects to it. Who answered last is asked
//! first; who was told of is remembered, so that the servers of the URL may all be gone one day.

use std::fmt::Display;
use std::io;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisConnectionInfo, RedisResult, Value, cmd};

use super::address::{Address, Node, Topology};
use super::{Waits, slot};

/// How long one of several servers may take to say who is in charge, before the next one is asked.
const KNOWS_BY: Duration = Duration::from_secs(1);

/// A connection and whom it leads to.
pub(super) struct Found {
    pub(super) connection: MultiplexedConnection,
    /// For people.
    pub(super) name: String,
}

/// Finds and connects.
pub(super) struct Finder {
    address: Address,
    /// Of the keys that it is about.
    slot: u16,
    waits: Waits,
    /// Of the URL.
    named: Vec<Node>,
    /// Whom the last answer told of, and who gave it; asked before those of the URL.
    told: Vec<Node>,
}

impl Finder {
    pub(super) fn new(address: &Address, key: &str, waits: Waits) -> Finder {
        let named = match &address.topology {
            Topology::Server(_) => Vec::new(),
            Topology::Sentinels { nodes, .. } | Topology::Cluster { nodes } => nodes.clone(),
        };
        Finder { address: address.clone(), slot: slot::of(key), waits, named, told: Vec::new() }
    }

    /// Takes a hint at who knows: a server that refused named this one, as `host:port`.
    pub(super) fn ask_first(&mut self, hint: &str) {
        let Some((host, port)) = hint.rsplit_once(':') else { return };
        if let (false, Ok(port)) = (host.is_empty(), port.parse()) {
            self.told.insert(0, Node { host: host.to_owned(), port });
        }
    }

    /// Whom to ask, the most promising first.
    fn asked(&self) -> Vec<Node> {
        let mut asked: Vec<Node> = Vec::new();
        for node in self.told.iter().chain(&self.named) {
            if !asked.contains(node) {
                asked.push(node.clone());
            }
        }
        asked
    }

    pub(super) async fn connect(&mut self) -> RedisResult<Found> {
        let address = self.address.clone();
        match &address.topology {
            Topology::Server(at) => {
                let mut connection = self.open(&address.client_at(at)?).await?;
                let_in(&mut connection).await?;
                Ok(Found { connection, name: address.to_string() })
            }
            Topology::Sentinels { master, login, .. } => {
                let (node, connection) = self.master(master, login).await?;
                Ok(Found { connection, name: format!("Redis master {master} at {node}") })
            }
            Topology::Cluster { .. } => {
                let node = self.owner().await?;
                let connection = self.open(&address.client(&node)?).await.map_err(|error| named(&node, error))?;
                Ok(Found { connection, name: format!("Redis Cluster node {node}") })
            }
        }
    }

    async fn open(&self, client: &Client) -> RedisResult<MultiplexedConnection> {
        open(client, self.waits).await
    }

    /// Whom a Sentinel says to be the master, and who says so himself. A Sentinel that was cut off tells of one that is no more,
    /// or is gone: then the next one is asked. What the last one told leads to says why there is none.
    async fn master(
        &mut self,
        master: &str,
        login: &RedisConnectionInfo,
    ) -> RedisResult<(Node, MultiplexedConnection)> {
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
        let mut why = untold("there is none");
        let mut tried: Vec<Node> = Vec::new();
        for sentinel in self.asked() {
            let client = self.address.sentinel(&sentinel, login)?;
            let node = match ask::<Option<(String, u16)>>(&client, &question).await {
                Ok(Some((host, port))) => Node { host, port },
                Ok(None) if tried.is_empty() => {
                    why = untold(format!("the one at {sentinel} knows no master {master}"));
                    continue;
                }
                Err(error) if tried.is_empty() => {
                    why = untold(format!("the one at {sentinel}: {error}"));
                    continue;
                }
                // That one of them led to somebody says more.
                Ok(None) | Err(_) => continue,
            };
            if tried.contains(&node) {
                continue;
            }
            match self.as_master(&node).await {
                Ok(connection) => {
                    self.told = vec![sentinel];
                    return Ok((node, connection));
                }
                Err(error) => why = error,
            }
            tried.push(node);
        }
        Err(why)
    }

    /// A connection to a server that says that it is a master.
    async fn as_master(&self, node: &Node) -> RedisResult<MultiplexedConnection> {
        let mut connection = self.open(&self.address.client(node)?).await.map_err(|error| named(node, error))?;
        let role: Vec<Value> = cmd("ROLE").query_async(&mut connection).await?;
        match role.first() {
            Some(Value::BulkString(role)) if role == b"master" => Ok(connection),
            _ => Err(failed(format!("{node} is no master yet, or no longer"))),
        }
    }

    /// Who the nodes of the Cluster say has the slot.
    async fn owner(&mut self) -> RedisResult<Node> {
        let mut question = cmd("CLUSTER");
        question.arg("SLOTS");
        let mut why = "there is none".to_owned();
        for node in self.asked() {
            match ask::<Value>(&self.address.client(&node)?, &question).await {
                Ok(slots) => {
                    let slots = ranges(&slots, &node);
                    let owner = slots.iter().find(|range| (range.first..=range.last).contains(&self.slot));
                    match owner.and_then(|range| range.nodes.first().cloned()) {
                        Some(owner) => {
                            self.told =
                                [node].into_iter().chain(slots.into_iter().flat_map(|range| range.nodes)).collect();
                            return Ok(owner);
                        }
                        None => why = format!("{node} says that nobody has slot {}", self.slot),
                    }
                }
                Err(error) => why = format!("{node}: {error}"),
            }
        }
        Err(failed(format!("no node tells who has the keys; {why}")))
    }
}

/// Some slots, and who has them, the master first.
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) nodes: Vec<Node>,
}

/// The answer of `CLUSTER SLOTS`. A node that does not know its own address leaves it empty.
pub(super) fn ranges(slots: &Value, asked: &Node) -> Vec<Range> {
    let node = |value: &Value| {
        let mut parts = value.as_sequence()?.iter().cloned();
        let host: Option<String> = redis::from_redis_value(parts.next()?).ok()?;
        let host = host.filter(|host| !host.is_empty()).unwrap_or_else(|| asked.host.clone());
        Some(Node { host, port: redis::from_redis_value(parts.next()?).ok()? })
    };
    let range = |value: &Value| {
        let parts = value.as_sequence()?;
        let number = |at: usize| redis::from_redis_value(parts.get(at)?.clone()).ok();
        Some(Range { first: number(0)?, last: number(1)?, nodes: parts.get(2..)?.iter().filter_map(node).collect() })
    };
    slots.as_sequence().unwrap_or_default().iter().filter_map(range).collect()
}

async fn open(client: &Client, waits: Waits) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(waits.connect))
        .set_response_timeout(Some(waits.response));
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// Whether the server talks to us at all. It would close the connection on a request that is not as short as this one, and nobody
/// would learn that it wants a password. What else it may say of this one is said of every other as well.
async fn let_in(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    match cmd("PING").query_async::<Value>(connection).await {
        Err(error) if error.is_io_error() || error.code() == Some("NOAUTH") => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Asks one of those that know.
pub(super) async fn ask<T: FromRedisValue>(client: &Client, question: &Cmd) -> RedisResult<T> {
    let mut connection = open(client, Waits { connect: KNOWS_BY, response: KNOWS_BY }).await?;
    question.query_async(&mut connection).await
}

fn named(node: &Node, error: redis::RedisError) -> redis::RedisError {
    // What may be branched on stays as it is.
    if !error.is_io_error() {
        return error;
    }
    let kind = match () {
        () if error.is_connection_refusal() => io::ErrorKind::ConnectionRefused,
        () if error.is_timeout() => io::ErrorKind::TimedOut,
        () => io::ErrorKind::Other,
    };
    io::Error::new(kind, format!("{node}: {error}")).into()
}

fn untold(why: impl Display) -> redis::RedisError {
    failed(format!("no Sentinel tells who the master is; {why}"))
}

pub(super) fn failed(what: impl Display) -> redis::RedisError {
    io::Error::other(what.to_string()).into()
}
