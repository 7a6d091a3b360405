//! The link to Redis: a connection to the server that has its keys, be that the only one, the master that Sentinels
//! name, or the node of a Cluster. It is connected when it is first used, and anew when its server is gone or no longer
//! in charge. Knows servers; knows nothing of what is asked.
//!
//! The client library has connections for Sentinels and Clusters as well. They send blocking reads and everything else
//! through the same connections, repeat commands by rules of their own, and do not say what they wait for.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value};

pub use address::{Address, BadAddress, TlsFiles};
use finder::{Finder, Found};
pub use masters::Masters;
pub use slot::{crc16, hash_tag};

mod address;
mod finder;
mod masters;
mod slot;

/// Who asks sooner after a failed attempt to connect gets its error: many who ask must not make many attempts.
const REST: Duration = Duration::from_millis(50);
const UNPOISONED: &str = "no holder of this lock can panic";

/// How long is waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// For a connection.
    pub connect: Duration,
    /// For an answer; then the connection is given up.
    pub response: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Waits { connect: Duration::from_secs(5), response: Duration::from_secs(10) }
    }
}

/// One connection, shared by its clones. A blocking read holds it up, so whoever makes one needs a link of its own.
#[derive(Clone)]
pub struct Link(Arc<Shared>);

struct Shared {
    address: Address,
    current: Mutex<Current>,
    /// Whoever holds it connects; the others wait for what it finds, instead of all connecting at once.
    finder: tokio::sync::Mutex<Finder>,
}

#[derive(Default)]
struct Current {
    connection: Option<MultiplexedConnection>,
    /// Counts the connections, so that trouble with an old one does not end a new one.
    number: u64,
    /// Who was connected last.
    name: Option<String>,
    failed: Option<(Instant, RedisError)>,
    /// Who knows where the keys went.
    hint: Option<String>,
}

impl Link {
    /// A link to the server that has this key (and with it all that have the same hash tag).
    #[must_use]
    pub fn new(address: &Address, key: &str, waits: Waits) -> Link {
        let finder = tokio::sync::Mutex::new(Finder::new(address, key, waits));
        Link(Arc::new(Shared { address: address.clone(), current: Mutex::default(), finder }))
    }

    async fn connected(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        let asked = Instant::now();
        if let Some(known) = self.known(asked) {
            return known;
        }
        let mut finder = self.0.finder.lock().await;
        if let Some(known) = self.known(asked) {
            return known;
        }
        if let Some(hint) = self.current().hint.take() {
            finder.ask_first(&hint);
        }
        let found = finder.connect().await;
        let mut current = self.current();
        match found {
            Ok(Found { connection, name }) => {
                current.number += 1;
                current.connection = Some(connection.clone());
                current.name = Some(name);
                current.failed = None;
                Ok((current.number, connection))
            }
            Err(error) => {
                current.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// The connection that there is, or why there is none.
    fn known(&self, asked: Instant) -> Option<RedisResult<(u64, MultiplexedConnection)>> {
        let current = self.current();
        if let Some(connection) = &current.connection {
            return Some(Ok((current.number, connection.clone())));
        }
        let (at, error) = current.failed.as_ref()?;
        (*at + REST > asked).then(|| Err(error.clone()))
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Current> {
        self.0.current.lock().expect(UNPOISONED)
    }

    async fn send(&self, request: Request<'_>) -> RedisResult<Vec<Value>> {
        let (number, connection) = self.connected().await?;
        let answer = request.send(connection).await;
        match trouble(&answer) {
            None => answer,
            Some(Trouble::Gone) => {
                self.part(number, None);
                answer
            }
            Some(Trouble::Moved(_)) if !self.0.address.is_cluster() => Err(io::Error::other(
                "it is a node of a Cluster: let queue.url begin with redis+cluster, and see what `weft check` says",
            )
            .into()),
            Some(Trouble::Moved(to)) => {
                self.part(number, to);
                // The keys went in the middle of it. What was done must not be done twice.
                if is_done_in_part(&answer) {
                    return answer;
                }
                // Nothing was done here; it is asked for once where it is done.
                let (number, connection) = self.connected().await?;
                let answer = request.send(connection).await;
                if trouble(&answer).is_some() {
                    self.part(number, None);
                }
                answer
            }
        }
    }

    /// Gives a connection up.
    fn part(&self, number: u64, hint: Option<String>) {
        let mut current = self.current();
        if current.number == number {
            current.connection = None;
            current.hint = hint;
        }
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move { Ok(self.send(Request::One(cmd)).await?.pop().unwrap_or(Value::Nil)) })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(self.send(Request::Many { pipeline, offset, count }))
    }

    fn get_db(&self) -> i64 {
        self.0.address.database()
    }
}

/// Whom it leads to, or is to lead to; without credentials.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.current().name {
            Some(name) => f.write_str(name),
            None => self.0.address.fmt(f),
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({self})")
    }
}

/// What is sent, in one go.
#[derive(Clone, Copy)]
enum Request<'a> {
    One(&'a Cmd),
    Many { pipeline: &'a Pipeline, offset: usize, count: usize },
}

impl Request<'_> {
    async fn send(self, mut connection: MultiplexedConnection) -> RedisResult<Vec<Value>> {
        match self {
            Request::One(cmd) => connection.req_packed_command(cmd).await.map(|value| vec![value]),
            Request::Many { pipeline, offset, count } => connection.req_packed_commands(pipeline, offset, count).await,
        }
    }
}

/// What an answer says about its connection.
enum Trouble {
    /// It is of no more use.
    Gone,
    /// The keys are elsewhere.
    Moved(Option<String>),
}

fn trouble(answer: &RedisResult<Vec<Value>>) -> Option<Trouble> {
    match answer {
        Err(error) => trouble_of(error),
        Ok(values) => values.iter().find_map(|value| match value {
            Value::ServerError(error) => trouble_of(&RedisError::from(error.clone())),
            _ => None,
        }),
    }
}

fn is_done_in_part(answer: &RedisResult<Vec<Value>>) -> bool {
    let is_moved = |value: &Value| match value {
        Value::ServerError(error) => {
            matches!(trouble_of(&RedisError::from(error.clone())), Some(Trouble::Moved(_)))
        }
        _ => false,
    };
    answer.as_ref().is_ok_and(|values| !values.iter().all(is_moved))
}

fn trouble_of(error: &RedisError) -> Option<Trouble> {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::CrossSlot) => {
            Some(Trouble::Moved(error.redirect_node().map(|(node, _)| node.to_owned())))
        }
        ErrorKind::Io
        | ErrorKind::Parse
        | ErrorKind::AuthenticationFailed
        | ErrorKind::Server(
            ServerErrorKind::ReadOnly
            | ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown,
        ) => Some(Trouble::Gone),
        // Somebody must log in anew, or a blocking read was ended because its master is one no longer.
        _ => matches!(error.code(), Some("NOAUTH" | "UNBLOCKED")).then_some(Trouble::Gone),
    }
}
