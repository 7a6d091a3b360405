//! What Redis handed to this host and this host never saw, because the answer was lost with its connection. Nobody has it
//! in hand, and as long as the host lives nobody else takes it soon. Each consumer asks one thing after the other; so
//! when one of its questions failed, all that is pending for it and not in hand is lost, and it reads that again.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use redis::{Value, cmd};

use super::{Error, Redis, reply};
use crate::entry::{Entry, Handle, Place};

/// Entries beyond those in hand that are read again at once; a read that was lost had no more of them than there are slots.
const AGAIN_MAX: usize = 1000;
/// Stands for the schedule, which has no consumers.
const SCHEDULE: &str = "the schedule";

/// Consumers that may have lost something.
#[derive(Debug, Default)]
pub(super) struct Lost(Mutex<HashMap<String, Doubt>>);

/// Whether what was lost can get more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// Redis may still answer a question that this host gave up, or several: there is more to be lost.
    Open,
    /// Redis has answered a later question. It serves those that wait in their order, so it is done with the earlier ones:
    /// what a look finds now is all.
    Closed,
}

impl Lost {
    fn consumers(&self) -> MutexGuard<'_, HashMap<String, Doubt>> {
        self.0.lock().expect("no holder of this lock can panic")
    }

    fn may_have(&self, consumer: &str) -> bool {
        self.consumers().contains_key(consumer)
    }

    /// What it asked was answered, or not.
    fn asked(&self, consumer: &str, is_answered: bool) {
        let mut consumers = self.consumers();
        match (is_answered, consumers.get_mut(consumer)) {
            (true, Some(doubt)) => *doubt = Doubt::Closed,
            (true, None) => {}
            (false, _) => drop(consumers.insert(consumer.to_owned(), Doubt::Open)),
        }
    }

    /// A look found all that there was.
    fn looked(&self, consumer: &str) {
        let mut consumers = self.consumers();
        if consumers.get(consumer) == Some(&Doubt::Closed) {
            consumers.remove(consumer);
        }
    }
}

impl Redis {
    /// Notes whether a question of this consumer was answered: one that was not may have had entries in its answer.
    pub(super) fn may_have_lost<T>(&self, consumer: &str, answer: &Result<T, Error>) {
        self.lost.asked(consumer, answer.is_ok());
    }

    /// Up to `max` entries that this consumer lost.
    pub(super) async fn found_again(&self, consumer: &str, max: usize) -> Result<Vec<Entry>, Error> {
        if !self.lost.may_have(consumer) {
            return Ok(Vec::new());
        }
        let in_hand: HashSet<Handle> = self.hand.all().into_iter().collect();
        let mut found = self.pending_of(consumer, in_hand.len()).await?;
        if self.turns.is_some() {
            found.extend(self.pending_of(&format!("{consumer}+"), in_hand.len()).await?);
        }
        found.retain(|entry| !in_hand.contains(&entry.handle));
        let are_all = found.len() <= max;
        found.truncate(max);
        if !found.is_empty() {
            tracing::warn!(entries = found.len(), consumer, "read again what was lost with a connection");
        }
        let found = self.take_in_hand(consumer, self.without_moved(found).await?).await?;
        if are_all {
            self.lost.looked(consumer);
        }
        Ok(found)
    }

    async fn pending_of(&self, consumer: &str, in_hand: usize) -> Result<Vec<Entry>, Error> {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.keys.group).arg(consumer).arg("COUNT").arg(in_hand + AGAIN_MAX);
        read.arg("STREAMS").arg(&self.keys.events).arg(&self.keys.deliveries).arg("0").arg("0");
        let answer = read.query_async(&mut self.commands.clone()).await;
        // Of a group that was missing nothing is pending.
        reply::streams(self.with_group(answer).await?.unwrap_or(Value::Nil), &self.keys.events)
    }

    pub(super) fn may_have_lost_due<T>(&self, answer: &Result<T, Error>) {
        self.may_have_lost(SCHEDULE, answer);
    }

    /// Gives back scheduled deliveries that this host lost.
    pub(super) async fn give_back_lost_due(&self) -> Result<(), Error> {
        if !self.lost.may_have(SCHEDULE) {
            return Ok(());
        }
        let [_, held, ..] = &self.liveness;
        let held: Vec<(String, String)> = self.ask(cmd("HGETALL").arg(held)).await?;
        let in_hand: HashSet<Handle> = self.hand.all().into_iter().collect();
        let ours = |(member, holder): &(String, String)| {
            let lease = holder.strip_prefix(&self.host_id)?.strip_prefix(' ')?.parse().ok()?;
            let (stream, id) = reply::split_member(member.as_bytes()).ok()?;
            Some(Handle { id, stream, place: Place::Schedule { lease } })
        };
        let lost: Vec<Handle> = held.iter().filter_map(ours).filter(|handle| !in_hand.contains(handle)).collect();
        self.hand_back(&lost).await?;
        self.lost.looked(SCHEDULE);
        Ok(())
    }
}
