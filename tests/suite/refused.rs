//! A record that Redis will not make as things are, because somebody made its key something else: the others are made, it
//! waits, and is made when the key is mended.

use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tests::{Answer, Event, Receiver, RedisServer, WeftProcess, eventually, until};
use weft::entry::{DeadLetter, Entry, Record, Settlement};
use weft::outcome::DeadReason;
use weft::queue::redis::{Claiming, Keys, Redis};
use weft::queue::{Error, Queue};

fn file(redis: &RedisServer, delivery: &str) -> String {
    format!(
        r#"
        [queue]
        url = "{}"
        [delivery]
        {delivery}
        [egress]
        allow = ["127.0.0.0/8"]
        "#,
        redis.url()
    )
}

async fn ready(weft: &WeftProcess) -> (u16, String) {
    let answer = reqwest::get(format!("{}/readyz", weft.admin)).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_cannot_be_recorded_waits_and_holds_up_nobody() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let weft = WeftProcess::serve(&file(&redis, "worker_count = 1")).await;
    receiver.answers("/gone", |_| Answer::status(410));
    let _: String = redis.run(&["SET", "o2ims:dlq", "somebody's"]).await;
    for number in 0..100 {
        let path = if number % 50 == 25 { "/gone" } else { "/" };
        redis.publish(&Event::to(&receiver.url(path)).id(format!("n-{number}")).subscription(path).json()).await;
    }
    receiver.wait_for(100).await;
    eventually("the others are settled", || async { (redis.pending("o2ims:events").await == 2).then_some(()) }).await;
    let mend = "the key o2ims:dlq must be a stream and is not: rename or delete it";
    eventually("readyz says so", || async {
        let (status, text) = ready(&weft).await;
        (status == 503 && text.contains("settle") && text.contains(mend)).then_some(())
    })
    .await;
    until("the log says so", || weft.log().contains(mend)).await;
    // While they wait, what comes is delivered and settled.
    redis.publish(&Event::to(&receiver.url("/")).id("later").json()).await;
    until("it arrives", || receiver.ids().contains(&"later".to_owned())).await;
    eventually("it is settled", || async { (redis.pending("o2ims:events").await == 2).then_some(()) }).await;
    let _: String = redis.run(&["RENAME", "o2ims:dlq", "somebody's"]).await;
    eventually("they are recorded", || async { (redis.pending("o2ims:events").await == 0).then_some(()) }).await;
    assert_eq!(redis.dead_letters().await.len(), 2);
    assert_eq!(receiver.arrived_at("/gone").len(), 2, "each is tried once");
    eventually("it is ready", || async { (ready(&weft).await.0 == 200).then_some(()) }).await;
}

/// Each that waits held one of four slots, and each that waits for its retry one of two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_that_cannot_be_recorded_than_there_are_slots_hold_up_nobody() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let weft = WeftProcess::serve(&file(&redis, "worker_count = 1\nin_flight = 4\nretry_backoff = \"10ms\"")).await;
    receiver.answers("/gone", |_| Answer::status(410));
    // A path for each, so that it is each one's first attempt that fails, whoever comes first.
    let gone_later: Vec<String> = (0..6).map(|number| format!("/gone-later-{number}")).collect();
    for path in &gone_later {
        receiver.answers(path, |times| Answer::status(if times == 0 { 500 } else { 410 }));
    }
    receiver.answers("/later", |times| Answer::status(if times == 0 { 500 } else { 204 }));
    let _: String = redis.run(&["SET", "o2ims:dlq", "somebody's"]).await;
    let publish = async |path: &str, id: &str| {
        redis.publish(&Event::to(&receiver.url(path)).id(id).subscription(id).json()).await;
    };
    for number in 0..20 {
        publish("/gone", &format!("n-{number}")).await;
    }
    for path in &gone_later {
        publish(path, path).await;
    }
    receiver.wait_for(20 + 2 * 6).await;
    publish("/later", "later").await;
    until("its retry is taken", || receiver.arrived_at("/later").len() == 2).await;
    eventually("and recorded", || async { (redis.pending("o2ims:events").await == 20).then_some(()) }).await;
    assert_eq!(ready(&weft).await.0, 503);
    let _: String = redis.run(&["RENAME", "o2ims:dlq", "somebody's"]).await;
    eventually("all are recorded", || async { (redis.dead_letters().await.len() == 26).then_some(()) }).await;
    assert_eq!(receiver.arrived().len(), 20 + 2 * 6 + 2, "each attempt is made once");
    eventually("it is ready", || async { (ready(&weft).await.0 == 200).then_some(()) }).await;
}

/// Beyond the limit they keep their slots: memory is bounded. Each is another subscription's: what comes after a failure of
/// the same may be parked, and goes by the scheduler's slots.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_that_cannot_be_recorded_than_the_limit_stop_the_intake() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let limits = "worker_count = 1\nin_flight = 4\nunrecorded_max = 3";
    let weft = WeftProcess::serve(&file(&redis, limits)).await;
    receiver.answers("/gone", |_| Answer::status(410));
    let _: String = redis.run(&["SET", "o2ims:dlq", "somebody's"]).await;
    for number in 0..20 {
        let id = format!("n-{number}");
        redis.publish(&Event::to(&receiver.url("/gone")).id(&id).subscription(&id).json()).await;
    }
    receiver.wait_for(3 + 4).await;
    // The bench is tried again meanwhile.
    eventually("it says so", || async { ready(&weft).await.1.contains("of the outcomes").then_some(()) }).await;
    assert_eq!(receiver.arrived().len(), 3 + 4);
    let _: String = redis.run(&["RENAME", "o2ims:dlq", "somebody's"]).await;
    eventually("all are recorded", || async { (redis.dead_letters().await.len() == 20).then_some(()) }).await;
    assert_eq!(receiver.arrived().len(), 20, "each is tried once");
}

/// Lua unpacks some 8000 words at once, and a batch of more was an error for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nine_thousand_that_could_not_be_recorded_are_when_the_key_is_mended() {
    const WAVES: usize = 30;
    const EACH: usize = 300;
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let weft = WeftProcess::serve(&file(&redis, "in_flight = 1024\nunrecorded_max = 10000")).await;
    let _: String = redis.run(&["SET", "o2ims:retry:claims", "somebody's"]).await;
    for wave in 1..=WAVES {
        let mut events = redis::pipe();
        for number in 0..EACH {
            let event =
                Event::to(&receiver.url("/")).id(format!("{wave}-{number}")).subscription(&(number % 20).to_string());
            events.cmd("XADD").arg("o2ims:events").arg("*").arg("event").arg(event.json()).ignore();
        }
        let _: () = events.query_async(&mut redis.connection().await).await.unwrap();
        // All at once would be as many connections.
        receiver.wait_for(wave * EACH).await;
    }
    eventually("it says so", || async { ready(&weft).await.1.contains("o2ims:retry:claims").then_some(()) }).await;
    assert_eq!(redis.pending("o2ims:events").await, 9000, "none is acknowledged by halves");
    let _: u64 = redis.run(&["DEL", "o2ims:retry:claims"]).await;
    eventually("all are recorded", || async { (redis.pending("o2ims:events").await == 0).then_some(()) }).await;
    eventually("it is ready", || async { (ready(&weft).await.0 == 200).then_some(()) }).await;
    assert_eq!(receiver.arrived().len(), WAVES * EACH, "each is tried once");
}

fn letter(entry: &Entry) -> Record {
    Record::Dead(Box::new(DeadLetter {
        event: Bytes::from_static(b"{}"),
        original_id: entry.handle.id,
        failed_at: SystemTime::now(),
        subscription_id: "sub".to_owned(),
        reason: DeadReason::Gone,
        attempts: 1,
        last_status: None,
        last_error: String::new(),
        first_seen: SystemTime::now(),
        replays: 0,
        died_before: Vec::new(),
        raw: Vec::new(),
    }))
}

#[tokio::test]
async fn a_batch_is_settled_but_for_what_is_refused() {
    let redis = RedisServer::start().await;
    let queue = Redis::new(&redis.url(), Keys::default(), Claiming::default()).unwrap();
    queue.beat().await.unwrap();
    queue.publish(&[const { Bytes::from_static(b"{}") }; 4]).await.unwrap();
    let entries = queue.receive(0, NonZeroUsize::new(4).unwrap(), Duration::from_secs(5)).await.unwrap();
    let scheduled = Record::Schedule { after: Duration::ZERO, stored: Bytes::from_static(b"{}") };
    let records = [Record::Done, letter(&entries[1]), scheduled, letter(&entries[3])];
    let batch: Vec<Settlement> =
        entries.iter().zip(records).map(|(entry, record)| Settlement { handle: entry.handle, record }).collect();
    // First the letters cannot be written; then they can, and something else that goes with it cannot.
    let _: String = redis.run(&["SET", "o2ims:dlq", "x"]).await;
    let refused = queue.settle(&batch).await.unwrap_err();
    let Error::Refused { places, why, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*places, [1, 3]);
    assert!(why.contains("o2ims:dlq"), "{refused}");
    assert_eq!(redis.pending("o2ims:events").await, 2);
    let due = queue.take_due(NonZeroUsize::MIN).await.unwrap();
    assert_eq!(due.entries[0].handle.id, entries[2].handle.id);
    let _: u64 = redis.run(&["DEL", "o2ims:dlq", "o2ims:retry:counts"]).await;
    let _: String = redis.run(&["SET", "o2ims:retry:counts", "x"]).await;
    let left = [batch[1].clone(), batch[3].clone()];
    assert!(matches!(queue.settle(&left).await, Err(Error::Refused { .. })));
    let letters: u64 = redis.run(&["XLEN", "o2ims:dlq"]).await;
    assert_eq!(letters, 0, "no letter without its entry settled");
    let _: u64 = redis.run(&["DEL", "o2ims:retry:counts"]).await;
    queue.settle(&left).await.unwrap();
    assert_eq!((redis.pending("o2ims:events").await, redis.dead_letters().await.len()), (0, 2));
}
