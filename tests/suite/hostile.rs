//! Input and endpoints that are wrong, large or malicious: a clear end, and nothing lost.

use std::collections::HashMap;
use std::time::Duration;

use tests::{Answer, Event, Receiver, RedisServer, TestHost, eventually, host, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

async fn dead_letters(redis: &RedisServer, number: usize) -> Vec<HashMap<String, String>> {
    eventually(&format!("{number} dead letters"), || async {
        let letters = redis.dead_letters().await;
        (letters.len() >= number).then_some(letters)
    })
    .await
}

/// An endpoint that says these bytes to whoever connects, one piece each 50 ms, and then nothing for a long time.
async fn endpoint_that_says(pieces: &'static [&'static [u8]]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                let _ = socket.read(&mut asked).await;
                for piece in pieces.iter().cycle().take(2000) {
                    if socket.write_all(piece).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn an_entry_that_is_no_event_is_a_dead_letter_with_its_raw_fields() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let host = TestHost::start(&redis.url()).await;
    let id: String = redis.run(&["XADD", "o2ims:events", "*", "colour", "red", "evnet", "{}"]).await;
    let letter = dead_letters(&redis, 1).await.remove(0);
    assert_eq!((letter["reason"].as_str(), letter["original_id"].as_str()), ("malformed", id.as_str()));
    assert_eq!((letter["raw.colour"].as_str(), letter["raw.evnet"].as_str()), ("red", "{}"));
    assert!(letter["last_error"].contains("\"event\""), "{letter:?}");

    let bodies = [
        ("", "malformed"),
        ("{", "malformed"),
        ("[1,2]", "malformed"),
        ("null", "malformed"),
        ("{\"subscriptionId\":\"s\"}", "bad-url"),
        ("{\"subscriptionId\":\"s\",\"callbackUrl\":\"\"}", "bad-url"),
        ("{\"subscriptionId\":\"s\",\"callbackUrl\":7}", "malformed"),
        ("{\"subscriptionId\":\"s\",\"callbackUrl\":\"ftp://h/\"}", "bad-url"),
        ("{\"subscriptionId\":\"s\",\"callbackUrl\":\"http://h:99999/\"}", "bad-url"),
        ("{\"subscriptionId\":\"s\",\"callbackUrl\":\"http://127.0.0.1/\",\"notificationId\":\"a\\nb\"}", "malformed"),
        ("{\"callbackUrl\":\"http://127.0.0.1/\"}", "malformed"),
        ("{\"subscriptionId\":\"s\",\"callbackUrl\":\"http://127.0.0.1/\",}", "malformed"),
        ("{\"subscriptionId\":\"s\",\"callbackUrl\":\"http://127.0.0.1/\"} {}", "malformed"),
    ];
    for (number, (body, reason)) in bodies.into_iter().enumerate() {
        redis.publish(body).await;
        let letter = dead_letters(&redis, number + 2).await.pop().expect("some");
        assert_eq!((letter["reason"].as_str(), letter["event"].as_str()), (reason, body), "{letter:?}");
        assert!(!letter["last_error"].is_empty());
    }
    // And the host goes on.
    redis.publish(&Event::to(&receiver.url("/")).json()).await;
    receiver.wait_for(1).await;
    host.stop().await;
}

#[tokio::test]
async fn deep_nesting_and_bytes_that_are_no_text_end_in_dead_letters() {
    let redis = RedisServer::start().await;
    let host = TestHost::start(&redis.url()).await;
    redis.publish(&"[".repeat(500_000)).await;
    redis.publish(&format!("{{\"subscriptionId\":\"s\",\"a\":{}", "{\"b\":".repeat(200_000))).await;
    let mut add = redis::cmd("XADD");
    add.arg("o2ims:events").arg("*").arg("event").arg(b"{\"subscriptionId\":\"\xff\xfe\"}");
    let _: String = add.query_async(&mut redis.connection().await).await.unwrap();
    let letters = dead_letters_as_bytes(&redis, 3).await;
    assert!(letters.iter().all(|reason| reason == "malformed"), "{letters:?}");
    host.stop().await;
}

async fn dead_letters_as_bytes(redis: &RedisServer, number: usize) -> Vec<String> {
    eventually("the dead letters", || async {
        let entries: Vec<(String, Vec<Vec<u8>>)> = redis.run(&["XRANGE", "o2ims:dlq", "-", "+"]).await;
        let reason = |fields: &Vec<Vec<u8>>| {
            let at = fields.iter().position(|field| field == b"reason").expect("a reason");
            String::from_utf8_lossy(&fields[at + 1]).into_owned()
        };
        (entries.len() == number).then(|| entries.iter().map(|(_, fields)| reason(fields)).collect())
    })
    .await
}

#[tokio::test]
async fn an_event_of_ten_megabytes_is_a_dead_letter_and_not_lost() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let host = TestHost::start(&redis.url()).await;
    let mut event = Event::to(&receiver.url("/"));
    event.object = "x".repeat(10 << 20);
    redis.publish(&event.json()).await;
    let letter = dead_letters(&redis, 1).await.remove(0);
    assert_eq!((letter["reason"].as_str(), letter["event"] == event.json()), ("too-large", true));
    assert!(letter["last_error"].contains("1048576"), "{}", letter["last_error"]);
    assert!(receiver.arrived().is_empty());
    host.stop().await;
}

#[tokio::test]
async fn an_entry_with_thousands_of_fields_is_a_dead_letter() {
    let redis = RedisServer::start().await;
    let host = TestHost::start(&redis.url()).await;
    let fields: Vec<String> = (0..20_000).flat_map(|number| [format!("f{number}"), "v".to_owned()]).collect();
    let words: Vec<&str> = ["XADD", "o2ims:events", "*"].into_iter().chain(fields.iter().map(String::as_str)).collect();
    let _: String = redis.run(&words).await;
    let letter = dead_letters(&redis, 1).await.remove(0);
    assert_eq!(letter["reason"], "malformed");
    assert!(letter["raw.fields"].contains("[\"f19999\",\"v\"]"));
    eventually("acknowledged", || async { (redis.pending("o2ims:events").await == 0).then_some(()) }).await;
    host.stop().await;
}

#[tokio::test]
async fn private_addresses_are_blocked_in_every_notation() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let mut config = host::config(&redis.url());
    config.egress.allow = Vec::new();
    let host = TestHost::with(config).await;
    let port = receiver.url("").rsplit(':').next().expect("a port").to_owned();
    let urls = [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://LOCALHOST:{port}/"),
        format!("http://0x7f.1:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://0177.0.0.1:{port}/"),
        format!("http://0.0.0.0:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://[::]:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://[64:ff9b::7f00:1]:{port}/"),
        format!("http://[2002:7f00:1::]:{port}/"),
        "http://10.0.0.1/".to_owned(),
        "http://172.16.0.1/".to_owned(),
        "http://192.168.1.1/".to_owned(),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://100.64.0.1/".to_owned(),
        "http://192.0.2.1/".to_owned(),
        "http://198.18.0.1/".to_owned(),
        "http://224.0.0.1/".to_owned(),
        "http://255.255.255.255/".to_owned(),
        "http://[fe80::1]/".to_owned(),
        "http://[fd00::1]/".to_owned(),
        "http://[2001:db8::1]/".to_owned(),
    ];
    for url in &urls {
        redis.publish(&Event::to(url).id(url.as_str()).json()).await;
    }
    let letters = dead_letters(&redis, urls.len()).await;
    for letter in letters {
        assert_eq!((letter["reason"].as_str(), letter["attempts"].as_str()), ("blocked", "0"), "{letter:?}");
        assert!(letter["last_error"].contains("egress.allow"), "{letter:?}");
    }
    assert!(receiver.arrived().is_empty());
    host.stop().await;
}

#[tokio::test]
async fn an_answer_that_never_ends_is_cut_off() {
    let redis = RedisServer::start().await;
    let mut config = host::config(&redis.url());
    config.delivery.timeout = Duration::from_millis(400);
    config.delivery.max_retries = 0;
    let host = TestHost::with(config).await;
    let slow_head = endpoint_that_says(&[b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n"]).await;
    let slow_body = endpoint_that_says(&[b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", b"drip"]).await;
    let silence = endpoint_that_says(&[b""]).await;
    let nonsense = endpoint_that_says(&[b"SSH-2.0-OpenSSH_9.2\r\n"]).await;
    for url in [&slow_head, &slow_body, &silence, &nonsense] {
        redis.publish(&Event::to(url).id(url.as_str()).json()).await;
    }
    let letters = dead_letters(&redis, 4).await;
    assert!(letters.iter().all(|letter| letter["reason"] == "exhausted"), "{letters:?}");
    host.stop().await;
}

#[tokio::test]
async fn an_answer_of_megabytes_is_not_read_to_its_end() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let host = TestHost::start(&redis.url()).await;
    receiver.answers("/big", |_| Answer::status(200).body(vec![b'x'; 50 << 20]));
    for number in 0..20 {
        redis.publish(&Event::to(&receiver.url("/big")).id(format!("n-{number}")).json()).await;
    }
    receiver.wait_for(20).await;
    let success = "o2ims_webhook_deliveries_total{status=\"success\",subscription_id=\"sub-67890\"}";
    until("all are delivered", || host.metric(success) == 20.0).await;
    assert_eq!(receiver.arrived().len(), 20, "none was tried again");
    host.stop().await;
}

#[tokio::test]
async fn no_secret_reaches_logs_or_answers() {
    let redis = RedisServer::start().await;
    let config = host::config(&redis.url());
    assert!(!format!("{config:?}").contains("test-secret"));
    let token = weft::admin::TokenSecret::new("hunter2");
    assert_eq!(format!("{token:?}"), "Secret(..)");
    // A password in the queue's URL is one as well.
    let port = tests::redis_server::free_port();
    let mut config = config;
    config.queue.url = format!("redis://user:pa55word@127.0.0.1:{port}");
    assert!(!format!("{config:?}").contains("pa55word"));
    let host = TestHost::with(config).await;
    let causes = eventually("a cause", || async {
        let text = reqwest::get(host.url("/readyz")).await.unwrap().text().await.unwrap();
        text.contains("not available").then_some(text)
    })
    .await;
    assert!(!causes.contains("pa55word"), "{causes}");
    host.stop().await;
}
