//! How commands talk to a daemon: its admin API.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::uri::Scheme;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;

const TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 512 * 1024 * 1024;
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Where the daemon is.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct AdminArgs {
    /// The daemon's admin listener.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8090", env = "WEFT_ADMIN_URL", value_parser = admin)]
    admin: String,
    /// A bearer token, where the daemon wants one.
    #[arg(long, env = "WEFT_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

fn admin(text: &str) -> Result<String, &'static str> {
    let is_url = text.parse::<Uri>().is_ok_and(|url| url.scheme() == Some(&Scheme::HTTP) && url.query().is_none());
    if is_url { Ok(text.trim_end_matches('/').to_owned()) } else { Err("not a URL like http://127.0.0.1:8090") }
}

impl AdminArgs {
    /// Asks for a JSON answer; an answer that is none, or a refusal, is an error that says why.
    pub(super) async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<T> {
        let answer = self.send(method, path, body).await?;
        serde_json::from_slice(&answer).with_context(|| format!("{} is no Weft admin listener", self.admin))
    }

    /// Asks for something that has no answer but success.
    pub(super) async fn send(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let answer = self.open(method, path, body).await?;
        let whole = Limited::new(answer, ANSWER_BYTES_MAX).collect();
        let whole = tokio::time::timeout(TIMEOUT, whole).await.context("no answer in time")?;
        Ok(whole.map_err(anyhow::Error::from_boxed)?.to_bytes())
    }

    /// Asks for an answer of lines of JSON, however long it goes on, and passes each on as it comes.
    pub(super) async fn lines<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        mut each: impl FnMut(T) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut answer = self.open(method, path, Bytes::new()).await?;
        let mut text = Vec::new();
        loop {
            // The daemon says something far more often than that.
            let frame = tokio::time::timeout(TIMEOUT, answer.frame()).await.context("the daemon fell silent")?;
            let Some(frame) = frame else { return Ok(()) };
            if let Ok(data) = frame.context("the daemon stopped in the middle of its answer")?.into_data() {
                text.extend_from_slice(&data);
            }
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                if line.len() > 1 {
                    each(serde_json::from_slice(&line).context("the daemon's answer cannot be read")?)?;
                }
            }
            if text.len() > LINE_BYTES_MAX {
                bail!("the daemon's answer has no lines");
            }
        }
    }

    /// The answer's body, once it is known that it is no refusal.
    async fn open(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Incoming> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.admin));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.header(header::CONTENT_TYPE, "application/json").body(Full::new(body));
        let request = request.with_context(|| format!("{path:?} is nothing to ask for"))?;
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let answered = tokio::time::timeout(TIMEOUT, client.request(request)).await.context("no answer in time")?;
        let (head, body) = answered
            .with_context(|| {
                format!("no daemon answers at {}: is `weft serve` running, and is --admin right?", self.admin)
            })?
            .into_parts();
        if head.status.is_success() {
            return Ok(body);
        }
        let why = tokio::time::timeout(TIMEOUT, Limited::new(body, LINE_BYTES_MAX).collect()).await;
        let why = why.context("no answer in time")?.map_err(anyhow::Error::from_boxed)?.to_bytes();
        bail!("{}", refusal(head.status, &why));
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: String,
    }
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.error,
        Err(_) => format!("the daemon answered {status}: {}", String::from_utf8_lossy(body).trim()),
    }
}
