//! A TCP proxy whose connections can be cut, as a network does.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Passes connections on to another port of this machine.
pub struct Proxy {
    address: SocketAddr,
    /// Ends the connections that there are.
    cut: Arc<Mutex<CancellationToken>>,
}

impl Proxy {
    /// Starts one in front of a port.
    pub async fn to(port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let cut = Arc::new(Mutex::new(CancellationToken::new()));
        let current = Arc::clone(&cut);
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let cut = current.lock().expect("nobody panicked with it").clone();
                tokio::spawn(cut.run_until_cancelled_owned(pass(from, port)));
            }
        });
        Proxy { address, cut }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Cuts all connections that there are; new ones can be made.
    pub fn cut(&self) {
        let mut cut = self.cut.lock().expect("nobody panicked with it");
        std::mem::take(&mut *cut).cancel();
    }
}

async fn pass(mut from: TcpStream, port: u16) {
    if let Ok(mut to) = TcpStream::connect(("127.0.0.1", port)).await {
        // Either end may break it, which is what it is there for.
        let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
    }
}
