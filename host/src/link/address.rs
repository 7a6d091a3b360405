//! Where Redis is, as `queue.url` says it. What is said about an address names servers, never who logs in or with what.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisResult, TlsCertificates,
};

const SERVER_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// The only schemes with a TLS of their own.
const FORMS: &str = "redis://host:6379, redis+sentinel://host:26379,…/mymaster or redis+cluster://host:6379,… \
                     (rediss… for TLS)";

/// The URL is none that leads to a Redis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadAddress(String);

/// Certificates beyond what everybody trusts. The files are read for each connection, so that renewed ones are used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFiles {
    /// Who may have signed the servers' certificates (PEM); the public authorities if not given.
    pub ca: Option<PathBuf>,
    /// The certificate to show (PEM), for servers that ask for one.
    pub cert: Option<PathBuf>,
    /// Its key (PEM).
    pub key: Option<PathBuf>,
}

/// A server's host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An IPv6 address has colons of its own.
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How servers are arranged.
#[derive(Clone)]
pub(super) enum Topology {
    /// One server.
    Server(ConnectionAddr),
    /// A master and its replicas, watched by Sentinels, which know by name who the master is.
    Sentinels { nodes: Vec<Node>, master: String, login: RedisConnectionInfo },
    /// A Cluster: each node knows who has which keys.
    Cluster { nodes: Vec<Node> },
}

/// Where Redis is and how to log in.
#[derive(Clone)]
pub struct Address {
    pub(super) topology: Topology,
    login: RedisConnectionInfo,
    is_tls: bool,
    files: TlsFiles,
}

impl Address {
    /// Reads a URL:
    /// `redis://[user:password@]host[:port][/db]`, `redis+unix:///path`,
    /// `redis+sentinel://[user:password@]host[:port],…/master[/db][?sentinel_user=…&sentinel_password=…]`,
    /// `redis+cluster://[user:password@]host[:port],…`; with `rediss` in front all connections use TLS.
    pub fn parse(url: &str) -> Result<Address, BadAddress> {
        let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
        let rest = url.get(scheme.len() + "://".len()..).unwrap_or_default();
        match scheme {
            "redis" | "rediss" | "redis+unix" | "unix" => Address::server(url),
            "redis+sentinel" | "rediss+sentinel" => sentinels(rest, scheme.starts_with("rediss")),
            "redis+cluster" | "rediss+cluster" => cluster(rest, scheme.starts_with("rediss")),
            // Not the URL itself, in which a password may stand.
            _ => bad(format!("{scheme}: is no scheme for Redis; URLs look like {FORMS}")),
        }
    }

    fn server(url: &str) -> Result<Address, BadAddress> {
        let info = url.into_connection_info().map_err(|error| BadAddress(error.to_string()))?;
        let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        let login = info.redis_settings().clone();
        Ok(Address::new(Topology::Server(info.addr().clone()), login, is_tls))
    }

    fn new(topology: Topology, login: RedisConnectionInfo, is_tls: bool) -> Address {
        // Or each connection would say `CLIENT SETINFO`, which a careful operator forbids.
        Address { topology, login: login.set_skip_set_lib_name(), is_tls, files: TlsFiles::default() }
    }

    /// The same, with these certificates.
    #[must_use]
    pub fn with_tls(self, files: TlsFiles) -> Address {
        Address { files, ..self }
    }

    /// Whether keys are spread over servers by their hash tags.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self.topology, Topology::Cluster { .. })
    }

    /// Whether its connections use TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The number of the database.
    pub(super) fn database(&self) -> i64 {
        self.login.db()
    }

    /// A client of a server that holds data.
    pub(super) fn client(&self, node: &Node) -> RedisResult<Client> {
        self.client_of(self.at(node), &self.login)
    }

    /// A client of a Sentinel.
    pub(super) fn sentinel(&self, node: &Node, login: &RedisConnectionInfo) -> RedisResult<Client> {
        self.client_of(self.at(node), login)
    }

    /// A client of the one server that there is.
    pub(super) fn client_at(&self, address: &ConnectionAddr) -> RedisResult<Client> {
        self.client_of(address.clone(), &self.login)
    }

    fn at(&self, node: &Node) -> ConnectionAddr {
        let Node { host, port } = node.clone();
        if self.is_tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        }
    }

    fn client_of(&self, address: ConnectionAddr, login: &RedisConnectionInfo) -> RedisResult<Client> {
        let info = address.into_connection_info()?.set_redis_settings(login.clone());
        if !self.is_tls || self.files == TlsFiles::default() {
            return Client::open(info);
        }
        let read = |file: &Option<PathBuf>| match file {
            None => Ok(None),
            Some(path) => std::fs::read(path).map(Some).map_err(|error| {
                let what = format!("{}: {error}", path.display());
                std::io::Error::new(error.kind(), what)
            }),
        };
        let client_tls = match (read(&self.files.cert)?, read(&self.files.key)?) {
            (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig { client_cert, client_key }),
            _ => None,
        };
        Client::build_with_tls(info, TlsCertificates { client_tls, root_cert: read(&self.files.ca)? })
    }
}

/// Who is asked; without credentials.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.topology {
            Topology::Server(address) => write!(f, "Redis at {address}"),
            Topology::Sentinels { nodes, master, .. } => {
                write!(f, "Redis master {master} (Sentinels {})", listed(nodes))
            }
            Topology::Cluster { nodes } => write!(f, "Redis Cluster ({})", listed(nodes)),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

fn listed(nodes: &[Node]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn bad<T>(what: impl Into<String>) -> Result<T, BadAddress> {
    Err(BadAddress(what.into()))
}

/// What stands behind the scheme where several servers are named.
struct Parts<'a> {
    login: RedisConnectionInfo,
    nodes: Vec<Node>,
    path: &'a str,
    query: &'a str,
}

fn parts(rest: &str, default_port: u16) -> Result<Parts<'_>, BadAddress> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
    let nodes = hosts.split(',').map(|host| node(host, default_port)).collect::<Result<_, _>>()?;
    let login = match user {
        None => RedisConnectionInfo::default(),
        Some(user) => {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            log_in(&decoded(name, "the user")?, &decoded(password, "the password")?)
        }
    };
    Ok(Parts { login, nodes, path: path.trim_end_matches('/'), query })
}

fn log_in(name: &str, password: &str) -> RedisConnectionInfo {
    let login = RedisConnectionInfo::default();
    let login = if name.is_empty() { login } else { login.set_username(name) };
    if password.is_empty() { login } else { login.set_password(password) }
}

fn decoded(text: &str, what: &str) -> Result<String, BadAddress> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => bad(format!("{what} is no UTF-8 behind its % signs")),
    }
}

fn node(text: &str, default_port: u16) -> Result<Node, BadAddress> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(default_port), str::parse);
    match port {
        Ok(port) if !host.is_empty() && !host.contains(['@', ' ']) => Ok(Node { host: host.to_owned(), port }),
        // Not the text, which may be a part of a password.
        _ => {
            bad("a server is host:port, several with commas between them; in passwords / ? , and @ are %2F %3F %2C %40")
        }
    }
}

fn sentinels(rest: &str, is_tls: bool) -> Result<Address, BadAddress> {
    let Parts { login, nodes, path, query } = parts(rest, SENTINEL_PORT)?;
    let (master, db) = path.split_once('/').unwrap_or((path, "0"));
    let master = decoded(master, "the master's name")?;
    if master.is_empty() {
        return bad("the master's name is missing: redis+sentinel://host:26379,…/mymaster");
    }
    let Ok(db) = db.parse() else {
        return bad("behind the master's name stands the number of the database, or nothing");
    };
    let (mut user, mut password) = (String::new(), String::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sentinel_user", value)) => user = decoded(value, "sentinel_user")?,
            Some(("sentinel_password", value)) => password = decoded(value, "sentinel_password")?,
            _ => return bad("behind the ? only sentinel_user=… and sentinel_password=… are known"),
        }
    }
    let topology = Topology::Sentinels { nodes, master, login: log_in(&user, &password).set_skip_set_lib_name() };
    Ok(Address::new(topology, login.set_db(db), is_tls))
}

fn cluster(rest: &str, is_tls: bool) -> Result<Address, BadAddress> {
    let Parts { login, nodes, path, query } = parts(rest, SERVER_PORT)?;
    if !path.is_empty() || !query.is_empty() {
        return bad(
            "a Cluster has one database, and nothing stands behind its servers: redis+cluster://host:6379,host:6379",
        );
    }
    Ok(Address::new(Topology::Cluster { nodes }, login, is_tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        Address::parse(url).map_or_else(|error| error.to_string(), |address| address.to_string())
    }

    #[test]
    fn all_forms_are_read() {
        for (url, expected) in [
            ("redis://u:secret@h:1/3", "Redis at h:1"),
            ("rediss://h", "Redis at h:6379"),
            ("redis+unix:///run/redis.sock", "Redis at /run/redis.sock"),
            ("redis+sentinel://u:secret@a,b:2/m/1", "Redis master m (Sentinels a:26379, b:2)"),
            (
                "rediss+sentinel://[::1]:5,[fe80::1]/m?sentinel_password=secret",
                "Redis master m (Sentinels [::1]:5, [fe80::1]:26379)",
            ),
            ("redis+cluster://:secret@a,b:7000", "Redis Cluster (a:6379, b:7000)"),
            ("rediss+cluster://u:s%40e%2Fc@a/", "Redis Cluster (a:6379)"),
        ] {
            assert_eq!(shown(url), expected);
        }
    }

    #[test]
    fn mistakes_have_their_mend_and_show_no_password() {
        for (url, part) in [
            ("reddis://u:secret@h", "URLs look like"),
            ("redis+sentinel://u:secret@a", "mymaster"),
            ("redis+sentinel://u:secret@a/m/x", "number of the database"),
            ("redis+sentinel://a/m?sentinel_pass=secret", "sentinel_password"),
            ("redis+cluster://u:secret@a/1", "one database"),
            ("redis+cluster://u:secret@a:x", "host:port"),
            ("redis+cluster://u:sec,ret@", "host:port"),
            ("redis+cluster://u:%ff@a", "UTF-8"),
            ("redis+cluster:", "host:port"),
        ] {
            let shown = shown(url);
            assert!(shown.contains(part) && !shown.contains("secret"), "{url}: {shown}");
        }
    }

    #[test]
    fn credentials_and_database_arrive() {
        let address = Address::parse("redis+sentinel://u:p%3A%40@a/m/2?sentinel_user=s&sentinel_password=t").unwrap();
        assert_eq!((address.login.username(), address.login.password()), (Some("u"), Some("p:@")));
        assert_eq!(address.login.db(), 2);
        let Topology::Sentinels { login, .. } = &address.topology else { panic!("{address}") };
        assert_eq!((login.username(), login.password(), login.db()), (Some("s"), Some("t"), 0));
    }
}
