//! A bare client: a `reqwest` loop that signs and posts the same body on 64 connections, and does nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tests::Event;

use crate::stack::cpu_seconds;

const CONNECTIONS: usize = 64;

/// What it managed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Bare {
    /// Requests per second.
    pub(crate) rate: f64,
    /// CPU seconds per request.
    pub(crate) cpu: f64,
}

/// Posts so many and prints the figures.
pub(crate) async fn run(url: &str, count: u64) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let body = Event::to(url).body();
    let left = Arc::new(AtomicU64::new(count));
    let (began, cpu) = (Instant::now(), cpu_seconds(std::process::id())?);
    let loops: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (client, url, body, left) = (client.clone(), url.to_owned(), body.clone(), Arc::clone(&left));
            tokio::spawn(async move {
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    post(&client, &url, &body).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for one in loops {
        one.await??;
    }
    let seconds = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let count = count as f64;
    let bare = Bare { rate: count / seconds, cpu: (cpu_seconds(std::process::id())? - cpu) / count };
    println!("{}", serde_json::to_string(&bare)?);
    Ok(())
}

async fn post(client: &reqwest::Client, url: &str, body: &str) -> Result<()> {
    let mut mac = Hmac::<Sha256>::new_from_slice(b"test-secret")?;
    mac.update(body.as_bytes());
    let signature: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let request = client
        .post(url)
        .header("content-type", "application/json")
        .header("x-o2ims-event-type", "o2ims.Resource.Created")
        .header("x-o2ims-notification-id", "notif-12345")
        .header("x-o2ims-subscription-id", "sub-67890")
        .header("x-o2ims-signature", signature)
        .body(body.to_owned());
    let answer = request.send().await?;
    ensure!(answer.status().is_success(), "{}", answer.status());
    answer.bytes().await?;
    Ok(())
}
