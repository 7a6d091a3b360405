//! Webhook workers inside a program of your own: the six settings by their names, a Redis URL, and a future that says
//! when to stop.
//!
//! `WEBHOOK_SECRET=your-secret-key cargo run -p embed -- redis://127.0.0.1:6379`

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use weft::{Config, Daemon, Secret};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();

    let mut config = Config::default();
    config.queue.url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    config.delivery.worker_count = 10;
    config.delivery.timeout = Duration::from_secs(10);
    config.delivery.max_retries = 3;
    config.delivery.retry_backoff = Duration::from_secs(1);
    config.delivery.max_backoff = Duration::from_secs(5 * 60);
    config.delivery.hmac_secret = std::env::var("WEBHOOK_SECRET").ok().map(|secret| Secret::new(secret.as_bytes()));
    // Health and metrics, on any free port. Only receivers on this machine, for this example: leave it out for real ones.
    config.admin.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.egress.allow = vec!["127.0.0.0/8".parse()?];

    let daemon = Daemon::start(config).await?;
    if let Some(admin) = daemon.admin_address() {
        println!("delivering; metrics on http://{admin}/metrics");
    }
    // Runs until Ctrl-C, then finishes what is in flight.
    daemon
        .run(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    Ok(())
}
