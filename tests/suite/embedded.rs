//! The embedded queue when its disk is full, its file is damaged, or its process is killed.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tests::process::run;
use tests::{Answer, Event, Receiver, WeftProcess, eventually, until};
use tokio::process::Command;
use weft::queue::embedded::Embedded;
use weft::queue::{Error, Queue};

const LEASE: Duration = Duration::from_secs(60);

fn config(directory: &Path) -> String {
    format!(
        r#"
        [queue]
        url = "embedded:{}"
        [delivery]
        max_retries = 1000
        retry_backoff = "500ms"
        max_backoff = "500ms"
        [defaults]
        breaker_failures = 1000000
        [egress]
        allow = ["127.0.0.0/8"]
        "#,
        directory.display()
    )
}

/// Publishes one event; whether it was acknowledged, or why not.
async fn publish(client: &reqwest::Client, weft: &str, json: String) -> Result<(), String> {
    let answer = client.post(format!("{weft}/v1/events")).body(json).send().await.map_err(|error| error.to_string())?;
    if answer.status() == 202 { Ok(()) } else { Err(answer.text().await.map_err(|error| error.to_string())?) }
}

async fn readiness(weft: &WeftProcess) -> (u16, String) {
    let answer = reqwest::get(format!("{}/readyz", weft.admin)).await.expect("it listens");
    (answer.status().as_u16(), answer.text().await.expect("a text"))
}

/// Files of the process may not grow beyond this, as on a disk that is full.
async fn limit_files(weft: &WeftProcess, bytes: &str) {
    let (pid, limit) = (weft.pid().to_string(), format!("--fsize={bytes}:"));
    let limited = Command::new("prlimit").args(["--pid", &pid, &limit]).status().await.expect("prlimit of util-linux");
    assert!(limited.success());
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_acknowledged_until_there_is_room() {
    let (directory, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let mends = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mends);
    receiver.answers("/", move |_| Answer::status(if is_mended.load(Ordering::Relaxed) { 204 } else { 500 }));
    let mut weft = WeftProcess::serve(&config(&directory.path().join("queue"))).await;
    let client = reqwest::Client::new();
    let file = directory.path().join("queue/queue.redb");
    limit_files(&weft, &std::fs::metadata(&file).unwrap().len().to_string()).await;
    let padding = "x".repeat(100_000);
    let event = |number: usize| {
        let event = Event::to(&receiver.url("/")).subscription(&format!("s-{}", number % 8)).id(format!("n-{number}"));
        event.json().replacen('{', &format!("{{\"padding\":\"{padding}\","), 1)
    };
    let mut acknowledged = HashSet::new();
    let mut number = 0;
    let refusal = loop {
        match publish(&client, &weft.admin, event(number)).await {
            Ok(()) => acknowledged.insert(format!("n-{number}")),
            Err(refusal) => break refusal,
        };
        number += 1;
        assert!(number < 1000, "the disk is never full");
    };
    assert!(refusal.contains("the disk is full") && refusal.contains("queue.redb"), "{refusal}");
    let unready =
        async || Some(readiness(&weft).await).filter(|(status, text)| *status == 503 && text.contains("full"));
    eventually("readyz tells", unready).await;
    assert!(publish(&client, &weft.admin, event(5000)).await.is_err(), "still full");

    let failed = receiver.arrived().len();
    mends.store(true, Ordering::Relaxed);
    limit_files(&weft, "unlimited").await;
    eventually("ready again", async || (readiness(&weft).await.0 == 200).then_some(())).await;
    let after = || publish(&client, &weft.admin, event(9000));
    eventually("it takes events again", async || after().await.ok()).await;
    acknowledged.insert("n-9000".to_owned());
    let all = || {
        let since: HashSet<String> = receiver.ids().into_iter().skip(failed).collect();
        acknowledged.is_subset(&since)
    };
    until("all that was acknowledged is delivered", all).await;
    assert_eq!(weft.terminate().await, Some(0), "{}", weft.log());
}

#[tokio::test]
async fn kill_nine_keeps_every_publish_that_was_acknowledged() {
    let (directory, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    receiver.answers("/", |_| Answer::status(204).after(Duration::from_millis(5)));
    let weft = WeftProcess::serve(&config(&directory.path().join("queue"))).await;
    let publishers = (0..8).map(|publisher| {
        let (admin, url) = (weft.admin.clone(), receiver.url("/"));
        tokio::spawn(async move {
            let (client, mut acknowledged) = (reqwest::Client::new(), Vec::new());
            loop {
                let id = format!("n-{publisher}-{}", acknowledged.len());
                let event = Event::to(&url).subscription(&format!("s-{publisher}")).id(&id);
                match publish(&client, &admin, event.json()).await {
                    Ok(()) => acknowledged.push(id),
                    Err(_) => return acknowledged,
                }
            }
        })
    });
    let publishers: Vec<_> = publishers.collect();
    until("some are delivered", || receiver.arrived().len() > 200).await;
    let weft = weft.kill_and_restart().await;
    let mut acknowledged = HashSet::new();
    for publisher in publishers {
        acknowledged.extend(publisher.await.expect("it ends when it is refused"));
    }
    let arrived = || receiver.ids().into_iter().collect::<HashSet<_>>();
    until("all arrive", || acknowledged.is_subset(&arrived())).await;
    weft.kill().await;
}

/// A queue with some entries, closed in order.
async fn make(directory: &Path) -> PathBuf {
    let queue = Embedded::open(directory, LEASE, 5).unwrap();
    let events: Vec<Bytes> = (0..200).map(|number| format!("{{\"n\":{number:0>500}}}").into()).collect();
    queue.publish(&events).await.unwrap();
    directory.join("queue.redb")
}

async fn entries(directory: &Path) -> Result<usize, Error> {
    // What is beside it tells who had the entries before, and those that had them were not killed by them.
    for file in std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()) {
        if file.file_name().is_some_and(|name| name != "queue.redb") {
            std::fs::remove_file(file).unwrap();
        }
    }
    let queue = Embedded::open(directory, LEASE, 5)?;
    Ok(queue.receive(0, NonZeroUsize::new(1000).unwrap(), Duration::from_millis(1)).await?.len())
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let file = make(directory.path()).await;
    let whole = std::fs::read(&file).unwrap();
    let garbled = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at..at + 64].iter_mut().for_each(|byte| *byte ^= 0x5a);
        bytes
    };
    let surely: [(&str, Vec<u8>); 6] = [
        ("emptied", Vec::new()),
        ("cut in half", whole[..whole.len() / 2].to_vec()),
        ("only its beginning", whole[..100].to_vec()),
        ("another beginning", garbled(0)),
        ("nothing but zeros", vec![0; whole.len()]),
        ("another program's", b"SQLite format 3\0 and so on, longer than any header of a file would be".repeat(200)),
    ];
    for (damage, bytes) in surely {
        std::fs::write(&file, bytes).unwrap();
        let refused = entries(directory.path()).await.err().unwrap_or_else(|| panic!("{damage}: taken"));
        assert!(matches!(refused, Error::Corrupt(_)), "{damage}: {refused}");
        let words = refused.to_string();
        assert!(words.contains("queue.redb") && words.contains("restore it from a backup"), "{damage}: {words}");
    }
    // Wherever it is garbled: either it is seen, or it was a place that nothing is kept in.
    let mut seen = 0;
    for at in (0..whole.len()).step_by(whole.len() / 64) {
        std::fs::write(&file, garbled(at)).unwrap();
        match entries(directory.path()).await {
            Ok(count) => assert_eq!(count, 200, "garbled at {at}"),
            Err(Error::Corrupt(_)) => seen += 1,
            Err(error) => panic!("garbled at {at}: {error}"),
        }
    }
    assert!(seen > 0);
    std::fs::write(&file, whole).unwrap();
    assert_eq!(entries(directory.path()).await.unwrap(), 200, "as good as new");
}

#[tokio::test]
async fn a_daemon_does_not_start_on_a_damaged_file_nor_beside_another_one() {
    let directory = tempfile::tempdir().unwrap();
    let queue = directory.path().join("queue");
    let url = format!("embedded:{}", queue.display());
    let serve = ["serve", "--listen", "127.0.0.1:0", "--queue", &url];
    std::fs::create_dir(&queue).unwrap();
    std::fs::write(queue.join("queue.redb"), b"not a queue").unwrap();
    let ran = run(&serve, "").await;
    assert!(ran.code == Some(1) && ran.err.contains("restore it from a backup"), "{}", ran.err);

    std::fs::remove_file(queue.join("queue.redb")).unwrap();
    let mut weft = WeftProcess::serve(&config(&queue)).await;
    let ran = run(&serve, "").await;
    assert!(ran.code == Some(1) && ran.err.contains("in use by another process"), "{}", ran.err);
    assert_eq!(weft.terminate().await, Some(0), "the first one goes on");
}
