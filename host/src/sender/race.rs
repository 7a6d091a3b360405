//! Dials the addresses of a name: where one is silent the next one is tried meanwhile, as RFC 8305 has it and Go does.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long an address is waited for before the next one is tried beside it.
const PATIENCE: Duration = Duration::from_millis(300);

/// No address answered; why one of them did not.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) address: SocketAddr,
    pub(super) source: io::Error,
}

/// The first connection that is made; `None` without an address. What is still being dialled then is dropped.
pub(super) async fn race(addresses: Vec<SocketAddr>) -> Option<Result<TcpStream, Failure>> {
    if let [address] = *addresses {
        return Some(dial(address).await);
    }
    let (mut left, mut dialling, mut failure) = (addresses.into_iter(), JoinSet::new(), None);
    loop {
        if let Some(address) = left.next() {
            dialling.spawn(dial(address));
        }
        // Both only wait: what is dialled is dialled on.
        tokio::select! {
            ended = dialling.join_next() => match ended.transpose().expect("dialling does not panic") {
                Some(Ok(stream)) => return Some(Ok(stream)),
                // The next one begins at once.
                Some(Err(failed)) => failure = Some(Err(failed)),
                None => return failure,
            },
            () = tokio::time::sleep(PATIENCE), if !left.as_slice().is_empty() => {}
        }
    }
}

async fn dial(address: SocketAddr) -> Result<TcpStream, Failure> {
    TcpStream::connect(address).await.map_err(|source| Failure { address, source })
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::timeout;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    /// A listener that takes no more connections, so that dialling it is silence.
    async fn silent() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let (address, mut filling) = (listener.local_addr().unwrap(), Vec::new());
        while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            filling.push(stream.unwrap());
        }
        (address, listener, filling)
    }

    async fn closed() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn a_silent_address_does_not_keep_the_next_one_from_being_tried() {
        let (silent, _listener, _filling) = silent().await;
        let healthy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = vec![closed().await, silent, healthy.local_addr().unwrap()];
        let stream = timeout(DEADLINE, race(addresses)).await.expect("in time").expect("an address").unwrap();
        assert_eq!(stream.peer_addr().unwrap(), healthy.local_addr().unwrap());
    }

    #[tokio::test]
    async fn when_all_refuse_one_of_them_is_told() {
        let addresses = vec![closed().await, closed().await];
        let failure = race(addresses.clone()).await.expect("an address").unwrap_err();
        assert!(addresses.contains(&failure.address) && failure.source.kind() == io::ErrorKind::ConnectionRefused);
        assert!(race(Vec::new()).await.is_none());
    }
}
