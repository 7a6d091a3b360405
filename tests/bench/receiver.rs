//! A receiver that costs as little as can be: raw HTTP/1.1 over a socket, counting and timing what arrives.
//!
//! `/slow/…` is a tarpit, `/wait50` takes 50 ms and `/wait200` 200. What arrives elsewhere is counted; when its notification id is a time (`t` and nanoseconds
//! since the epoch), its latency is kept. `GET /figures` tells and forgets.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long a tarpit holds a request.
const TARPIT: Duration = Duration::from_secs(60);
const ID: &[u8] = b"x-o2ims-notification-id: t";

/// What arrived since it was last asked.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Requests.
    pub(crate) count: u64,
    /// Seconds from the first to the last.
    pub(crate) seconds: f64,
    /// Microseconds from publishing to arrival, sorted.
    pub(crate) latencies_us: Vec<u64>,
}

#[derive(Default)]
struct Tally {
    count: u64,
    first: Option<Instant>,
    last: Option<Instant>,
    latencies_us: Vec<u64>,
}

/// Prints its address and serves until it is killed, or the one who started it is gone.
pub(crate) async fn run() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    tokio::spawn(async {
        // Standard input ends with the parent.
        let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await;
        std::process::exit(0);
    });
    let tally = Arc::new(Mutex::new(Tally::default()));
    loop {
        let (socket, _) = listener.accept().await?;
        let tally = Arc::clone(&tally);
        tokio::spawn(async move {
            // A connection that breaks is the client's business.
            let _ = serve(socket, &tally).await;
        });
    }
}

async fn serve(mut socket: TcpStream, tally: &Mutex<Tally>) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let Some(head) = find(&buffer, b"\r\n\r\n") else {
            if socket.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let length = head + 4 + content_length(&buffer[..head]);
        while buffer.len() < length {
            if socket.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let answer = answer(&buffer[..head], tally);
        if buffer.starts_with(b"POST /slow") {
            tokio::time::sleep(TARPIT).await;
        } else if buffer.starts_with(b"POST /wait50") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        } else if buffer.starts_with(b"POST /wait200") {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        socket.write_all(&answer).await?;
        buffer.drain(..length);
    }
}

fn answer(head: &[u8], tally: &Mutex<Tally>) -> Vec<u8> {
    let mut tally = tally.lock().expect("no holder of this lock can panic");
    if head.starts_with(b"GET /figures") {
        let Tally { count, first, last, mut latencies_us } = std::mem::take(&mut *tally);
        latencies_us.sort_unstable();
        let seconds = first.zip(last).map_or(0.0, |(first, last)| (last - first).as_secs_f64());
        let body = serde_json::to_string(&Figures { count, seconds, latencies_us }).expect("numbers are JSON");
        return format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes();
    }
    if head.starts_with(b"GET /count") {
        let body = tally.count.to_string();
        return format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes();
    }
    if !head.starts_with(b"POST /slow") {
        let now = Instant::now();
        tally.count += 1;
        tally.first.get_or_insert(now);
        tally.last = Some(now);
        if let Some(sent) = sent_at(head) {
            let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
            let micros = nanos.saturating_sub(sent) / 1000;
            tally.latencies_us.push(u64::try_from(micros).unwrap_or(u64::MAX));
        }
    }
    b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()
}

fn sent_at(head: &[u8]) -> Option<u128> {
    let at = find(head, ID)? + ID.len();
    let digits = head[at..].iter().take_while(|byte| byte.is_ascii_digit());
    std::str::from_utf8(&head[at..at + digits.count()]).ok()?.parse().ok()
}

fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length: ";
    let at = head.windows(NAME.len()).position(|window| window.eq_ignore_ascii_case(NAME));
    let digits = at.map_or(&[][..], |at| &head[at + NAME.len()..]);
    digits.iter().take_while(|byte| byte.is_ascii_digit()).fold(0, |sum, byte| sum * 10 + usize::from(byte - b'0'))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
