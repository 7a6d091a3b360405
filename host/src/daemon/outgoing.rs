//! Joins the plugins that may ask other servers to the sender, whose guard checks every address.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};

use crate::attempt::Unanswered;
use crate::plugin::Outgoing;
use crate::sender::Sender;

/// The sender, as plugins see it.
pub(super) struct Through(pub(super) Arc<Sender>);

impl fmt::Debug for Through {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Through(sender)")
    }
}

#[async_trait]
impl Outgoing for Through {
    async fn send(&self, request: Request<Bytes>, answer_bytes_max: usize) -> Result<Response<Bytes>, Unanswered> {
        self.0.ask(request, answer_bytes_max).await
    }
}
