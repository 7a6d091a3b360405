//! A TCP proxy whose connections can be cut, as a network does, and held up.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Passes connections on to another port of this machine.
pub struct Proxy {
    address: SocketAddr,
    /// Ends the connections that there are.
    cut: Arc<Mutex<CancellationToken>>,
    /// Ends their nearer half.
    orphan: Arc<Mutex<CancellationToken>>,
    valve: Arc<Valve>,
}

/// What clients send waits here while it is closed.
struct Valve {
    is_open: watch::Sender<bool>,
    /// All that had to wait, of all connections.
    held: Mutex<Vec<u8>>,
}

impl Proxy {
    /// Starts one in front of a port.
    pub async fn to(port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (cut, orphan) = (Arc::new(Mutex::new(CancellationToken::new())), Arc::default());
        let (cut_now, orphan_now) = (Arc::clone(&cut), Arc::clone(&orphan));
        let valve = Arc::new(Valve { is_open: watch::Sender::new(true), held: Mutex::default() });
        let through = Arc::clone(&valve);
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let now = |token: &Mutex<CancellationToken>| token.lock().expect("nobody panicked with it").clone();
                let passing = pass(from, port, Arc::clone(&through), now(&orphan_now));
                tokio::spawn(now(&cut_now).run_until_cancelled_owned(passing));
            }
        });
        Proxy { address, cut, orphan, valve }
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

    /// From now on what is asked waits, until it is [let go](Proxy::let_go). Answers come through.
    pub fn hold(&self) {
        self.valve.is_open.send_replace(false);
    }

    /// Whether this was asked and had to wait.
    #[must_use]
    pub fn holds(&self, asked: &str) -> bool {
        let held = self.valve.held.lock().expect("nobody panicked with it");
        held.windows(asked.len()).any(|part| part == asked.as_bytes())
    }

    /// What waits goes on.
    pub fn let_go(&self) {
        self.valve.is_open.send_replace(true);
    }
}

async fn pass(mut from: TcpStream, port: u16, valve: Arc<Valve>, orphan: CancellationToken) {
    if let Ok(mut to) = TcpStream::connect(("127.0.0.1", port)).await {
        let ((from_read, mut from_write), (mut to_read, to_write)) = (from.split(), to.split());
        let answers = async {
            tokio::io::copy(&mut to_read, &mut from_write).await?;
            from_write.shutdown().await
        };
        // Either end may break it, which is what it is there for.
        let passing = async { tokio::try_join!(ask(from_read, to_write, &valve), answers) };
        if orphan.run_until_cancelled(passing).await.is_none() {
            drop(from);
            let _ = tokio::io::copy(&mut to, &mut tokio::io::sink()).await;
        }
    }
}

async fn ask(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, valve: &Valve) -> std::io::Result<()> {
    let (mut is_open, mut waits) = (valve.is_open.subscribe(), Vec::new());
    loop {
        if *is_open.borrow_and_update() {
            to.write_all(&waits).await?;
            waits.clear();
        }
        let before = waits.len();
        // Neither branch loses what was read: it is in the buffer.
        tokio::select! {
            read = from.read_buf(&mut waits) => if read? == 0 { return to.shutdown().await },
            _ = is_open.changed() => {}
        }
        if !*is_open.borrow() {
            valve.held.lock().expect("nobody panicked with it").extend_from_slice(&waits[before..]);
        }
    }
}
