//! Standard output and error of a plugin, kept up to a limit: for the log, or as a program's answer.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// What one write may carry. The host allocates that much on request.
const WRITE_BYTES_MAX: usize = 4096;

/// What was printed.
pub(super) struct Console {
    bytes: Vec<u8>,
    bytes_max: usize,
    beyond: Beyond,
}

/// What becomes of what is too much.
#[derive(Clone, Copy)]
pub(super) enum Beyond {
    /// It is forgotten.
    Forgotten,
    /// It ends the call.
    Fatal,
}

/// The plugin printed more than it may.
#[derive(Debug, thiserror::Error)]
#[error("printed more than it may")]
pub(super) struct TooMuchPrinted;

impl Console {
    /// An empty one that takes so many bytes.
    pub(super) fn new(bytes_max: usize, beyond: Beyond) -> Arc<Mutex<Console>> {
        Arc::new(Mutex::new(Console { bytes: Vec::new(), bytes_max, beyond }))
    }

    pub(super) fn lock(shared: &Mutex<Console>) -> MutexGuard<'_, Console> {
        shared.lock().expect("nothing panics while it is locked")
    }

    /// As text, whatever it was.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// What was printed since this was last asked.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    fn print(&mut self, bytes: &[u8]) -> StreamResult<()> {
        let room = self.bytes_max.saturating_sub(self.bytes.len());
        match self.beyond {
            Beyond::Fatal if bytes.len() > room => return Err(StreamError::Trap(TooMuchPrinted.into())),
            Beyond::Fatal | Beyond::Forgotten => {}
        }
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(())
    }
}

/// A plugin's end of it.
#[derive(Clone)]
pub(super) struct Stream(Arc<Mutex<Console>>);

impl Stream {
    /// Prints there.
    pub(super) fn to(console: &Arc<Mutex<Console>>) -> Stream {
        Stream(Arc::clone(console))
    }
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    // Only preview 3 asks for this one, and it is not linked.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    // The default would spawn a task for each stream.
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        Console::lock(&self.0).print(&bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[async_trait::async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_forgotten() {
        let console = Console::new(5, Beyond::Forgotten);
        let (mut out, mut err) = (Stream::to(&console), Stream::to(&console));
        out.write(Bytes::from_static(b"ab\n")).unwrap();
        err.write(Bytes::from_static(b"\xffcdef")).unwrap();
        out.write(Bytes::from_static(b"more")).unwrap();
        assert_eq!(Console::lock(&console).text(), "ab\n\u{fffd}c");
    }

    #[test]
    fn what_is_too_much_of_an_answer_ends_the_call() {
        let console = Console::new(5, Beyond::Fatal);
        let mut out = Stream::to(&console);
        out.write(Bytes::from_static(b"12345")).unwrap();
        let Err(StreamError::Trap(error)) = out.write(Bytes::from_static(b"6")) else { panic!("it was taken") };
        assert!(error.is::<TooMuchPrinted>());
        assert_eq!(Console::lock(&console).take(), b"12345");
    }
}
