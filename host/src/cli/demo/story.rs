//! What the demo shows, in order. Each step publishes events and waits for what must come of them.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use tokio::sync::broadcast;

use super::SOON;
use super::receiver::{Arrived, Receiver};
use crate::outcome::{DeadReason, Outcome};
use crate::queue::{Filter, Queue, Start};
use crate::telemetry::{Attempted, Telemetry};

const ORDINARY: usize = 6;

pub(super) struct Story {
    queue: Arc<dyn Queue>,
    receiver: Arc<Receiver>,
    attempts: broadcast::Receiver<Attempted>,
}

impl Story {
    pub(super) fn new(queue: Arc<dyn Queue>, telemetry: &Telemetry, receiver: Arc<Receiver>) -> Story {
        Story { queue, receiver, attempts: telemetry.watch() }
    }

    pub(super) async fn tell(mut self) -> anyhow::Result<()> {
        self.deliveries().await.context("the deliveries did not happen")?;
        self.transformation().await.context("the transformation did not happen")?;
        self.drops().await.context("the drop did not happen")?;
        self.healing().await.context("the retry that heals did not happen")?;
        self.dead_letter().await.context("the dead letter and its replay did not happen")
    }

    async fn deliveries(&mut self) -> anyhow::Result<()> {
        title(1, "Delivered: events go out signed, exactly as the producer wrote them");
        let started = Instant::now();
        for number in 1..=ORDINARY {
            self.publish("sub-1", "o2ims.Resource.Created", &format!("notif-{number}"), "ok").await?;
        }
        for _ in 0..ORDINARY {
            let arrived = self.arrives().await?;
            ensure!(arrived.answered == 204, "answered {}", arrived.answered);
        }
        for _ in 0..ORDINARY {
            ensure!(self.concludes().await?.outcome == Outcome::Delivered, "not delivered");
        }
        let elapsed = started.elapsed();
        line(
            "delivered",
            &format!(
                "{ORDINARY} events in {:.1} ms, every signature verified by the receiver",
                elapsed.as_secs_f64() * 1e3
            ),
        );
        Ok(())
    }

    async fn transformation(&mut self) -> anyhow::Result<()> {
        title(2, "Transformed: the plugin redact masks what this subscriber must not see");
        let sent = self.publish("private", "o2ims.Resource.Created", "notif-private", "ok").await?;
        let arrived = self.arrives().await?;
        ensure!(arrived.body.contains("\"globalResourceId\":\"***\""), "not masked: {}", arrived.body);
        ensure!(self.concludes().await?.outcome == Outcome::Delivered, "not delivered");
        line("published", &sent);
        line("received", &arrived.body);
        Ok(())
    }

    async fn drops(&mut self) -> anyhow::Result<()> {
        title(3, "Dropped: the plugin match lets only *.Created through");
        self.publish("only-created", "o2ims.Resource.Created", "notif-wanted", "ok").await?;
        ensure!(self.arrives().await?.notification == "notif-wanted", "another one came");
        ensure!(self.concludes().await?.outcome == Outcome::Delivered, "not delivered");
        line("delivered", "notif-wanted (o2ims.Resource.Created)");
        self.publish("only-created", "o2ims.Resource.Deleted", "notif-unwanted", "ok").await?;
        match self.concludes().await?.outcome {
            Outcome::Dropped(reason) => line("dropped", &format!("notif-unwanted: {reason}")),
            other => bail!("it became {other:?}"),
        }
        Ok(())
    }

    async fn healing(&mut self) -> anyhow::Result<()> {
        title(4, "Retried: an endpoint that fails twice and then works");
        self.publish("sub-2", "o2ims.Resource.Updated", "notif-flaky", "flaky").await?;
        let started = Instant::now();
        loop {
            let arrived = self.arrives().await?;
            let attempt = self.concludes().await?;
            let after = started.elapsed().as_millis();
            match attempt.outcome {
                Outcome::Retry { after: wait } => {
                    let wait = wait.as_millis();
                    line(
                        "retry",
                        &format!("attempt {} at {after} ms got {}, next in {wait} ms", attempt.attempt, attempt.result),
                    );
                }
                Outcome::Delivered => {
                    ensure!(attempt.attempt == 3, "after {} attempts", attempt.attempt);
                    line("delivered", &format!("attempt {} at {after} ms got {}", attempt.attempt, arrived.answered));
                    return Ok(());
                }
                other => bail!("it became {other:?}"),
            }
        }
    }

    async fn dead_letter(&mut self) -> anyhow::Result<()> {
        title(5, "Given up, kept, replayed: an endpoint that is down for longer");
        self.publish("sub-3", "o2ims.Resource.Deleted", "notif-down", "down").await?;
        let attempt = loop {
            self.arrives().await?;
            let attempt = self.concludes().await?;
            if attempt.outcome == Outcome::Dead(DeadReason::Exhausted) {
                break attempt;
            }
        };
        line("dead", &format!("after {} attempts: {}", attempt.attempt, attempt.error));
        let id = self.kept_dead_letter().await?;
        line("kept", &format!("dead letter {id}"));
        self.receiver.repair();
        self.queue.replay(&[id]).await?.pop().flatten().context("the dead letter is gone")?;
        let arrived = self.arrives().await?;
        ensure!(arrived.answered == 204, "answered {}", arrived.answered);
        ensure!(self.concludes().await?.outcome == Outcome::Delivered, "not delivered");
        line("replayed", "the endpoint was repaired, and the event delivered after all");
        Ok(())
    }

    /// The outcome is told before it is recorded, so the dead letter may come a moment later.
    async fn kept_dead_letter(&self) -> anyhow::Result<crate::entry::EntryId> {
        let looking = async {
            loop {
                let page =
                    self.queue.dead_letters(&Filter::default(), Start::Newest, std::num::NonZeroUsize::MIN).await?;
                if let Some((id, _)) = page.letters.first() {
                    return anyhow::Ok(*id);
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, looking).await.context("no dead letter is kept")?
    }

    async fn publish(&self, subscription: &str, event_type: &str, id: &str, endpoint: &str) -> anyhow::Result<String> {
        let event = format!(
            r#"{{"subscriptionId":"{subscription}","notificationEventType":"{event_type}","objectRef":"/o2ims/v1/resources/node-1","resourceTypeId":"k8s-node","resourcePoolId":"pool-1","globalResourceId":"node-1","timestamp":"2026-01-08T10:30:00Z","notificationId":"{id}","callbackUrl":"{}"}}"#,
            self.receiver.url(endpoint)
        );
        self.queue.publish(&[Bytes::from(event.clone())]).await?;
        Ok(event)
    }

    async fn arrives(&self) -> anyhow::Result<Arrived> {
        let arrived = tokio::time::timeout(SOON, self.receiver.next()).await.context("nothing arrived")?;
        let arrived = arrived.context("the receiver is gone")?;
        ensure!(arrived.verified, "the signature of {} is wrong", arrived.notification);
        Ok(arrived)
    }

    async fn concludes(&mut self) -> anyhow::Result<Attempted> {
        let attempt = tokio::time::timeout(SOON, self.attempts.recv()).await.context("no attempt was made")?;
        Ok(attempt?)
    }
}

fn title(number: usize, text: &str) {
    println!("{number}. {text}");
}

fn line(what: &str, text: &str) {
    println!("   {what:<10} {text}");
}
