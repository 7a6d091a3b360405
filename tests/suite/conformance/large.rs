//! Large entries come in small steps, so that an answer arrives while whoever asked still waits for it.

use std::time::Duration;

use bytes::Bytes;
use weft::entry::{Entry, Record, Settlement};

use super::{SOON, Store, count, done, eventually, receive};

const LARGE: usize = 1 << 20;
/// Four fill an answer; the one that is over the limit may be in it.
const STEP: std::ops::RangeInclusive<usize> = 1..=5;

fn large() -> Bytes {
    vec![b'x'; LARGE].into()
}

fn settled(entries: &[Entry]) -> Vec<Settlement> {
    entries.iter().map(|entry| done(entry.handle)).collect()
}

#[tokio::test]
async fn large_entries_come_in_small_steps() {
    let store = Store::redis().await;
    let queue = store.open();
    queue.publish(&vec![large(); 30]).await.unwrap();
    // What is read first tells how large they are.
    let mut read = queue.receive(0, count(3), SOON).await.unwrap();
    assert_eq!(read.len(), 3);
    let step = queue.receive(0, count(64), SOON).await.unwrap();
    assert!(STEP.contains(&step.len()), "{}", step.len());
    read.extend(step);
    let others = receive(&*queue, 30 - read.len()).await;
    let again = |entry: &Entry| {
        let record = Record::Schedule { after: Duration::ZERO, stored: large() };
        Settlement { handle: entry.handle, record }
    };
    queue.settle(&others.iter().map(again).collect::<Vec<_>>()).await.unwrap();

    let mut due = Vec::new();
    while due.len() < others.len() {
        let step = queue.take_due(count(64)).await.unwrap();
        assert!(STEP.contains(&step.entries.len()), "{}", step.entries.len());
        due.extend(step.entries);
        assert!(due.len() == others.len() || step.next == Some(Duration::ZERO), "there is more: {:?}", step.next);
    }
    queue.settle(&settled(&due)).await.unwrap();

    // Its host is gone with what it has read.
    drop(queue);
    let queue = store.open();
    let mut claimed = 0;
    while claimed < read.len() {
        let step = eventually("some are claimed", || async {
            let claimed = queue.claim(count(64)).await.unwrap();
            (!claimed.is_empty()).then_some(claimed)
        })
        .await;
        assert!(STEP.contains(&step.len()), "{}", step.len());
        queue.settle(&settled(&step)).await.unwrap();
        claimed += step.len();
    }
}
