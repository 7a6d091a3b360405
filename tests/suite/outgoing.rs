//! Plugins that ask other servers: a real guest, a real server, and what the operator granted.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::certificates::Certificates;
use tests::{Answer, Receiver, TestHost, World, until};
use weft::config::NamedPlugin;
use weft::outcome::Outcome;
use weft::plugin::HttpGrant;

/// What the server is asked for.
const FACT: &str = "/fact?of=node-1";

/// A world with a server to ask, and the guest that asks it.
struct Inquiry {
    world: World,
    server: Receiver,
}

impl Inquiry {
    async fn of(server: Receiver, settings: serde_json::Value) -> Inquiry {
        let mut world = World::new().await.compiled("ask", &settings.to_string());
        let origin = server.url("").parse().expect("an origin");
        let http = Some(HttpGrant { allow: vec![origin], timeout: Duration::from_secs(20) });
        world.config.plugins.named.insert("ask".to_owned(), NamedPlugin { http, ..NamedPlugin::default() });
        Inquiry { world, server }
    }

    /// Asks once.
    async fn new() -> Inquiry {
        let server = Receiver::start().await;
        let url = server.url(FACT);
        Inquiry::of(server, json!({ "url": url })).await
    }

    fn grant(&mut self) -> &mut HttpGrant {
        self.world.config.plugins.named.get_mut("ask").unwrap().http.as_mut().unwrap()
    }

    /// What becomes of a delivery, and the host's metric of how its request ended.
    async fn outcome(&self, result: &str) -> (Outcome, f64) {
        let host = self.world.start().await;
        let mut attempts = host.telemetry.watch();
        self.world.publish("ask").await;
        let outcome = attempts.recv().await.unwrap().outcome;
        let count = requests(&host, result);
        host.stop().await;
        (outcome, count)
    }

    /// It is dropped, with these words.
    #[track_caller]
    fn is_dropped(outcome: &Outcome, words: &str) {
        let Outcome::Dropped(why) = outcome else { panic!("{outcome:?}") };
        assert!(why.contains(words), "{why}");
    }
}

fn requests(host: &TestHost, result: &str) -> f64 {
    host.metric(&format!("weft_plugin_http_requests_total{{plugin=\"ask\",result=\"{result}\"}}"))
}

#[tokio::test]
async fn what_another_server_says_gets_into_the_request() {
    let inquiry = Inquiry::new().await;
    inquiry.server.answers(FACT, |_| Answer::status(200).body("rack 7"));
    assert_eq!(inquiry.outcome("answered").await, (Outcome::Delivered, 1.0));
    let sent = inquiry.world.receiver.wait_for(1).await.remove(0);
    assert_eq!((sent.header("x-status"), sent.header("x-answer")), ("200", "rack 7"));
    let asked = inquiry.server.arrived().remove(0);
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", FACT));
    assert_eq!(asked.header("x-asked"), "yes");
    assert!(inquiry.server.url("").ends_with(asked.header("host")), "{asked:?}");
    assert!(asked.header("user-agent").starts_with("weft/"), "{asked:?}");
}

#[tokio::test]
async fn a_body_is_sent_up_to_its_limit() {
    let server = Receiver::start().await;
    let settings = json!({ "url": server.url(FACT), "method": "POST", "body_bytes": 10_000 });
    let mut inquiry = Inquiry::of(server, settings).await;
    assert_eq!(inquiry.outcome("answered").await.0, Outcome::Delivered);
    let asked = inquiry.server.arrived().remove(0);
    assert_eq!((asked.method.as_str(), asked.body.len()), ("POST", 10_000));

    inquiry.world.config.plugins.http_request_max = 9_999;
    let (outcome, count) = inquiry.outcome("size").await;
    Inquiry::is_dropped(&outcome, "the request is too large");
    assert_eq!((count, inquiry.server.arrived().len()), (1.0, 1));
}

#[tokio::test]
async fn whom_the_operator_does_not_list_is_not_asked() {
    let mut inquiry = Inquiry::new().await;
    // The port of another server.
    inquiry.grant().allow = vec![inquiry.world.receiver.url("").parse().unwrap(), "https://127.0.0.1".parse().unwrap()];
    let (outcome, count) = inquiry.outcome("denied").await;
    Inquiry::is_dropped(&outcome, "denied");
    assert_eq!((count, inquiry.server.arrived().len()), (1.0, 0));
}

#[tokio::test]
async fn a_private_address_is_not_reached_whatever_name_it_has() {
    for host in ["127.0.0.1", "localhost"] {
        let server = Receiver::start().await;
        let url = server.url(FACT).replace("127.0.0.1", host);
        let mut inquiry = Inquiry::of(server, json!({ "url": url })).await;
        inquiry.grant().allow = vec![inquiry.server.url("").replace("127.0.0.1", host).parse().unwrap()];
        inquiry.world.config.egress.allow.clear();
        let (outcome, count) = inquiry.outcome("blocked").await;
        Inquiry::is_dropped(&outcome, "must not be reached");
        assert_eq!((count, inquiry.server.arrived().len()), (1.0, 0), "{host}");
    }
}

#[tokio::test]
async fn a_slow_server_is_waited_for_as_long_as_was_granted() {
    let mut inquiry = Inquiry::new().await;
    inquiry.server.answers(FACT, |_| Answer::status(200).after(Duration::from_secs(3600)));
    inquiry.grant().timeout = Duration::from_millis(100);
    let (outcome, count) = inquiry.outcome("time").await;
    Inquiry::is_dropped(&outcome, "no answer in time");
    assert_eq!(count, 1.0);
}

#[tokio::test]
async fn waiting_for_a_server_is_not_a_plugins_own_time() {
    let mut inquiry = Inquiry::new().await;
    let wait = Duration::from_millis(600);
    inquiry.server.answers(FACT, move |_| Answer::status(200).after(wait));
    inquiry.world.config.plugins.time_max = Duration::from_millis(300);
    let began = Instant::now();
    assert_eq!(inquiry.outcome("answered").await, (Outcome::Delivered, 1.0));
    assert!(began.elapsed() >= wait);
}

#[tokio::test]
async fn a_huge_answer_is_none() {
    let mut inquiry = Inquiry::new().await;
    inquiry.world.config.plugins.http_answer_max = 100_000;
    inquiry.server.answers(FACT, |_| Answer::status(200).body(vec![b'x'; 100_001]));
    let (outcome, count) = inquiry.outcome("size").await;
    Inquiry::is_dropped(&outcome, "the answer is too large");
    assert_eq!(count, 1.0);
}

#[tokio::test]
async fn redirects_are_answers() {
    let inquiry = Inquiry::new().await;
    let elsewhere = inquiry.server.url("/elsewhere");
    inquiry.server.answers(FACT, move |_| Answer::status(302).header("location", elsewhere.clone()));
    assert_eq!(inquiry.outcome("answered").await.0, Outcome::Delivered);
    assert_eq!(inquiry.world.receiver.wait_for(1).await[0].header("x-status"), "302");
    assert_eq!(inquiry.server.arrived().len(), 1);
}

#[tokio::test]
async fn a_call_asks_no_more_often_than_it_may() {
    let server = Receiver::start().await;
    let settings = json!({ "url": server.url(FACT), "times": 5 });
    let inquiry = Inquiry::of(server, settings).await;
    let (outcome, count) = inquiry.outcome("answered").await;
    Inquiry::is_dropped(&outcome, "denied");
    assert_eq!((count, inquiry.server.arrived().len()), (4.0, 4));
}

#[tokio::test]
async fn a_reused_instance_asks_for_each_delivery() {
    let server = Receiver::start().await;
    let settings = json!({ "url": server.url(FACT), "times": 3 });
    let mut inquiry = Inquiry::of(server, settings).await;
    inquiry.world.config.plugins.named.get_mut("ask").unwrap().reuse = std::num::NonZeroU32::new(100);
    let host = inquiry.world.start().await;
    for number in 0..3 {
        inquiry.world.redis.publish(&inquiry.world.event("ask").id(format!("n-{number}")).json()).await;
        inquiry.world.receiver.wait_for(number + 1).await;
    }
    until("all are counted", || requests(&host, "answered") == 9.0).await;
    host.stop().await;
}

#[tokio::test]
async fn a_slow_server_holds_up_nobody_else() {
    let mut inquiry = Inquiry::new().await;
    inquiry.world = inquiry.world.guest("header");
    inquiry.server.answers(FACT, |_| Answer::status(200).after(Duration::from_secs(3600)));
    inquiry.world.config.plugins.calls_max = 4;
    inquiry.world.config.delivery.drain_timeout = Duration::from_millis(100);
    let host = inquiry.world.start().await;
    for number in 0..8 {
        inquiry.world.redis.publish(&inquiry.world.event("ask").id(format!("n-{number}")).json()).await;
    }
    until("half of the places are taken", || inquiry.server.arrived().len() == 2).await;
    inquiry.world.publish("header").await;
    assert_eq!(inquiry.world.receiver.wait_for(1).await[0].header("x-weft"), "seen");
    assert_eq!(inquiry.server.arrived().len(), 2, "the others wait for one of these");
    host.stop().await;
}

#[tokio::test]
async fn nobody_listens_there() {
    let mut inquiry = Inquiry::new().await;
    let port = tests::redis_server::free_port();
    let settings = json!({ "url": format!("http://127.0.0.1:{port}{FACT}") }).to_string();
    inquiry.world = inquiry.world.subscription("ask", "ask", &settings, None);
    let origin = format!("http://127.0.0.1:{port}").parse().unwrap();
    inquiry.grant().allow = vec![origin];
    let (outcome, count) = inquiry.outcome("failed").await;
    Inquiry::is_dropped(&outcome, "no connection");
    assert_eq!(count, 1.0);
}

/// A server whose certificate an authority of the operator's own signed, and whether the daemon is told of it.
async fn with_tls(certificates: &Certificates, tls_ca: Option<PathBuf>) -> Inquiry {
    let server = Receiver::with_tls(certificates).await;
    server.answers(FACT, |_| Answer::status(200).body("rack 7"));
    let settings = json!({ "url": server.url(FACT) });
    let mut inquiry = Inquiry::of(server, settings).await;
    inquiry.world.config.egress.tls_ca = tls_ca;
    inquiry
}

#[tokio::test]
async fn a_server_with_a_certificate_of_a_private_authority_is_asked() {
    let certificates = Certificates::new();
    let inquiry = with_tls(&certificates, Some(certificates.ca())).await;
    assert_eq!(inquiry.outcome("answered").await, (Outcome::Delivered, 1.0));
    let sent = inquiry.world.receiver.wait_for(1).await.remove(0);
    assert_eq!((sent.header("x-status"), sent.header("x-answer")), ("200", "rack 7"));
    assert!(inquiry.server.url("").starts_with("https://"));
}

#[tokio::test]
async fn a_certificate_of_an_authority_that_nobody_knows_is_refused_in_words() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    for tls_ca in [None, Some(others.ca())] {
        let inquiry = with_tls(&certificates, tls_ca).await;
        let (outcome, count) = inquiry.outcome("failed").await;
        Inquiry::is_dropped(&outcome, "the server's certificate is not to be trusted");
        assert_eq!((count, inquiry.server.arrived().len()), (1.0, 0));
    }
}

#[tokio::test]
async fn without_the_grant_it_is_refused_with_the_list() {
    let mut inquiry = Inquiry::new().await;
    inquiry.world.config.plugins.named.clear();
    let host = inquiry.world.start().await;
    inquiry.world.publish("ask").await;
    assert_eq!(inquiry.world.dead_letter("ask").await["reason"], "plugin");
    let plugin = host.plugin("ask").await.unwrap();
    let why = plugin["why"].as_str().unwrap();
    assert!(why.contains("imports what it was not granted") && why.contains("wasi:http/outgoing-handler"), "{why}");
    assert_eq!(plugin["grants"], json!([]));
    host.stop().await;
}

#[tokio::test]
async fn the_list_of_plugins_shows_whom_it_may_ask() {
    let inquiry = Inquiry::new().await;
    let host = inquiry.world.start().await;
    let plugin = host.plugin("ask").await.unwrap();
    assert_eq!(plugin["grants"], json!([format!("http {}", inquiry.server.url(""))]));
    host.stop().await;
}
