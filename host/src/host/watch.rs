//! Watching the queue's shards: how much waits where, and whether their stores answer. All at once, so that one that hangs holds
//! up no other's figures.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::health::{Health, Part};
use crate::queue::{self, Depth, Shard};

/// The shards, and what each said last.
pub(super) struct Watch {
    shards: Vec<Shard>,
    last: Vec<Seen>,
    /// A store that does not answer for so long is in the way.
    stall_after: Duration,
}

/// What was seen of a shard: how many events were lost so far, and how much waits where.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    lost: u64,
    depth: Depth,
}

impl Watch {
    pub(super) fn over(shards: Vec<Shard>, stall_after: Duration) -> Watch {
        let last = vec![Seen::default(); shards.len()];
        Watch { shards, last, stall_after }
    }

    /// Looks at all of them; whether any answered. Of one that did not, what it said last still counts.
    pub(super) async fn look(&mut self, health: &Health) -> bool {
        let (mut looks, stall_after) = (JoinSet::new(), self.stall_after);
        for shard in self.shards.iter().cloned() {
            // Asked again later; nothing is lost with the question.
            looks.spawn(async move { (shard.number, tokio::time::timeout(stall_after, look(&shard)).await) });
        }
        let mut is_any_there = false;
        for (number, seen) in looks.join_all().await {
            match &seen {
                Ok(seen) => health.note_of(Part::Store, number, seen),
                Err(_) => {
                    let shard = if self.shards.len() > 1 { format!("shard {number}: ") } else { String::new() };
                    let long = humantime::format_duration(stall_after);
                    let stalled = format!("{shard}the queue's store has not answered for {long}");
                    health.note_of::<(), _>(Part::Store, number, &Err(stalled));
                }
            }
            if let Ok(Ok(seen)) = seen {
                self.last[number] = seen;
                is_any_there = true;
            }
        }
        is_any_there
    }

    /// Of all together.
    pub(super) fn depth(&self) -> Depth {
        self.last.iter().fold(Depth::default(), |all, seen| all.and(seen.depth))
    }

    /// Of all together.
    pub(super) fn lost(&self) -> u64 {
        self.last.iter().map(|seen| seen.lost).sum()
    }
}

async fn look(shard: &Shard) -> Result<Seen, queue::Error> {
    Ok(Seen { lost: shard.queue.tidy().await?, depth: shard.queue.depth().await? })
}
