//! Makes connections: resolves the host, has the guard check every address, and dials those that were checked. Nothing is
//! resolved twice, so a name that changes its mind in between gains nothing.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::guard::{Guard, Refusal};
use super::names::Names;
use super::race::{Failure, race};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("{host} is blocked: {refusal}")]
    Blocked { host: String, refusal: Refusal },
    #[error("{host} cannot be resolved: {source}")]
    Dns { host: String, source: Arc<io::Error> },
    #[error("no connection to {address}: {source}")]
    Connect { address: SocketAddr, source: io::Error },
}

/// The connector under HTTP and TLS.
#[derive(Clone)]
pub(super) struct Dialer {
    guard: Guard,
    names: Names,
}

impl Dialer {
    pub(super) fn new(guard: Guard, names: Names) -> Dialer {
        Dialer { guard, names }
    }

    async fn dial(self, uri: Uri) -> Result<TokioIo<TcpStream>, DialError> {
        let host = uri.host().unwrap_or_default().to_owned();
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let addresses = self.resolve(&host, port).await?;
        // All must pass: a name with one public and one private address is nothing that a subscriber needs.
        for address in &addresses {
            let check = self.guard.check(address.ip());
            check.map_err(|refusal| DialError::Blocked { host: host.clone(), refusal })?;
        }
        let stream = race(addresses).await.expect("a name without an address is not found");
        let stream = stream.map_err(|Failure { address, source }| DialError::Connect { address, source })?;
        // Whole requests are written at once; waiting for more only adds latency.
        let _ = stream.set_nodelay(true);
        Ok(TokioIo::new(stream))
    }

    /// At least one address.
    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = literal.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let found = self.names.find(host).await;
        let found = found.map_err(|source| DialError::Dns { host: host.to_owned(), source })?;
        Ok(found.iter().map(|ip| SocketAddr::new(*ip, port)).collect())
    }
}

impl tower_service::Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().dial(uri))
    }
}
