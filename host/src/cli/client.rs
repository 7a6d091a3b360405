//! How commands talk to a daemon: its admin API.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;

const TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Where the daemon is.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct AdminArgs {
    /// The daemon's admin listener.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8090", env = "WEFT_ADMIN_URL")]
    admin: String,
    /// A bearer token, where the daemon wants one.
    #[arg(long, env = "WEFT_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

impl AdminArgs {
    /// Asks for a JSON answer; an answer that is none, or a refusal, is an error that says why.
    pub(super) async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<T> {
        let answer = self.send(method, path, body).await?;
        serde_json::from_slice(&answer).with_context(|| format!("{} is no Weft admin listener", self.admin))
    }

    /// Asks for something that has no answer but success.
    pub(super) async fn send(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.admin.trim_end_matches('/')));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.header(header::CONTENT_TYPE, "application/json").body(Full::new(body));
        let request = request.with_context(|| format!("--admin {}: not a URL", self.admin))?;
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let exchange = async {
            let answer = client.request(request).await?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(anyhow::Error::from_boxed)?;
            anyhow::Ok((head.status, body.to_bytes()))
        };
        let answered = tokio::time::timeout(TIMEOUT, exchange).await.context("no answer in time")?;
        let (status, body) = answered.with_context(|| {
            format!("no daemon answers at {}: is `weft serve` running, and is --admin right?", self.admin)
        })?;
        if !status.is_success() {
            bail!("{}", refusal(status, &body));
        }
        Ok(body)
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
