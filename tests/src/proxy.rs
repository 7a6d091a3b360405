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
    /// Ends their nearer half.
    orphan: Arc<Mutex<CancellationToken>>,
}

impl Proxy {
    /// Starts one in front of a port.
    pub async fn to(port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (cut, orphan) = (Arc::new(Mutex::new(CancellationToken::new())), Arc::default());
        let (cut_now, orphan_now) = (Arc::clone(&cut), Arc::clone(&orphan));
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let now = |token: &Mutex<CancellationToken>| token.lock().expect("nobody panicked with it").clone();
                tokio::spawn(now(&cut_now).run_until_cancelled_owned(pass(from, port, now(&orphan_now))));
            }
        });
        Proxy { address, cut, orphan }
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

    /// Closes all connections that there are for those who made them only, as a network does that loses the news: what they
    /// had asked is still answered, and nobody gets the answer.
    pub fn orphan(&self) {
        let mut orphan = self.orphan.lock().expect("nobody panicked with it");
        std::mem::take(&mut *orphan).cancel();
    }
}

async fn pass(mut from: TcpStream, port: u16, orphan: CancellationToken) {
    if let Ok(mut to) = TcpStream::connect(("127.0.0.1", port)).await {
        // Either end may break it, which is what it is there for.
        let passing = tokio::io::copy_bidirectional(&mut from, &mut to);
        if orphan.run_until_cancelled(passing).await.is_none() {
            drop(from);
            let _ = tokio::io::copy(&mut to, &mut tokio::io::sink()).await;
        }
    }
}
