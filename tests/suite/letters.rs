//! Dead letters as operators look after them: many at once, by what they have in common, and with their past.

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::process::{Ran, run};
use tests::{Answer, Event, Receiver, RedisServer, TestHost, WeftProcess, eventually, host, until};

/// A host whose endpoint fails until it is mended, with these dead letters.
struct World {
    redis: RedisServer,
    receiver: Receiver,
    host: TestHost,
}

impl World {
    async fn with(subscriptions: &[&str]) -> World {
        let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
        let mut config = host::config(&redis.url());
        config.delivery.max_retries = 0;
        receiver.answers("/", |_| Answer::status(500));
        let host = TestHost::with(config).await;
        let world = World { redis, receiver, host };
        for (number, subscription) in subscriptions.iter().enumerate() {
            world.publish(subscription, &format!("n-{number}")).await;
            // One by one, so that their order is theirs.
            world.until_dead(number + 1).await;
        }
        world
    }

    async fn publish(&self, subscription: &str, id: &str) {
        self.redis.publish(&Event::to(&self.receiver.url("/")).subscription(subscription).id(id).json()).await;
    }

    async fn until_dead(&self, count: usize) {
        let dead = async || (self.redis.dead_letters().await.len() == count).then_some(());
        eventually("so many dead letters", dead).await;
    }

    fn mend(&self) {
        self.receiver.answers("/", |_| Answer::status(204));
    }

    async fn dlq(&self, words: &[&str]) -> Ran {
        let admin = self.host.url("");
        run(&[&["dlq"], words, &["--admin", &admin]].concat(), "").await
    }

    async fn listed(&self, words: &[&str]) -> Vec<Value> {
        let ran = self.dlq(&[&["list", "--json"], words].concat()).await;
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        ran.out.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect()
    }
}

#[tokio::test]
async fn all_that_match_are_replayed_at_a_pace_and_oldest_first() {
    let world = World::with(&["a", "b", "a", "a", "b", "a", "a", "a", "a"]).await;
    world.mend();
    let ran = world.dlq(&["replay", "--all", "--subscription", "a", "--dry-run"]).await;
    assert!(ran.code == Some(0) && ran.out.lines().count() == 7, "{}{}", ran.out, ran.err);
    let ran = world.dlq(&["replay", "--all", "--until", "1h", "--reason", "exhausted"]).await;
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "", "0 replayed\n"));
    assert_eq!(world.receiver.arrived().len(), 9, "nothing was replayed yet");

    let began = Instant::now();
    let ran = world.dlq(&["replay", "--all", "--subscription", "a", "--since", "1h", "--rate", "20/s"]).await;
    assert_eq!((ran.code, ran.out.lines().count(), ran.err.as_str()), (Some(0), 7, "7 replayed\n"));
    // The first two may go at once.
    assert!(began.elapsed() >= Duration::from_millis(5 * 50 - 5), "{:?}", began.elapsed());
    until("they arrive", || world.receiver.arrived().len() == 9 + 7).await;
    assert_eq!(world.receiver.ids()[9..], ["n-0", "n-2", "n-3", "n-5", "n-6", "n-7", "n-8"]);
    assert_eq!(world.listed(&[]).await.len(), 2, "the others are as they were");

    let wrongs = [
        (["--since", "yesterday"], "times look like"),
        (["--since", "1970-01-01T00:00:00+01:00"], "from 1970 to 9999"),
        (["--until", "9999-12-31T23:59:59-01:00"], "from 1970 to 9999"),
        (["--rate", "fast"], "rates look like"),
    ];
    for (words, wrong) in wrongs {
        let ran = world.dlq(&[&["replay", "--all"], &words[..]].concat()).await;
        assert!(ran.code == Some(64) && ran.err.contains(wrong), "{}", ran.err);
    }
    world.host.stop().await;
}

#[tokio::test]
async fn what_dies_again_keeps_its_past_and_is_replayed_once() {
    let world = World::with(&["a", "a"]).await;
    for times in 1..=3 {
        let ran = world.dlq(&["replay", "--all"]).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), "2 replayed\n"), "those that die meanwhile are not meant");
        until("they are tried", || world.receiver.arrived().len() == 2 + 2 * times).await;
        world.until_dead(2).await;
    }
    let id = world.listed(&["--limit", "1"]).await[0]["id"].as_str().unwrap().to_owned();
    let shown: Value = serde_json::from_str(&world.dlq(&["show", &id]).await.out).expect("JSON");
    assert_eq!((&shown["replays"], &shown["reason"]), (&3.into(), &"exhausted".into()));
    let past = shown["died_before"].as_array().unwrap();
    assert_eq!(past.len(), 3);
    for death in past {
        let time = |name: &str| humantime::parse_rfc3339(death[name].as_str().unwrap()).unwrap();
        assert_eq!(death["reason"], "exhausted");
        assert!(time("died") <= time("replayed") && time("died").elapsed().unwrap() < Duration::from_secs(60));
    }
    let ran = world.dlq(&["list"]).await;
    assert!(ran.out.contains("1 attempts after 3 replays"), "{}", ran.out);
    world.host.stop().await;
}

#[tokio::test]
async fn what_was_replayed_before_one_that_cannot_be_is_told() {
    let world = World::with(&["a", "b"]).await;
    // More fields than a script can hand on; somebody else wrote it.
    let mut words = vec!["XADD".to_owned(), "o2ims:dlq".to_owned(), "*".to_owned()];
    words.extend((0..5000).flat_map(|number| [format!("raw.f-{number}"), String::new()]));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let odd: String = world.redis.run(&words).await;
    world.mend();
    let ran = world.dlq(&["replay", "--all"]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert_eq!(ran.out.lines().count(), 2, "those before it: {}{}", ran.out, ran.err);
    let left = world.listed(&[]).await;
    assert!(left.len() == 1 && left[0]["id"] == odd.as_str());
    world.host.stop().await;
}

#[tokio::test]
async fn purging_many_wants_a_word() {
    let world = World::with(&["a", "b", "a"]).await;
    let ran = world.dlq(&["purge", "--all"]).await;
    assert!(ran.code == Some(1) && ran.err.contains("deletes 3 dead letters for good; say --yes"), "{}", ran.err);
    let ran = world.dlq(&["purge", "--all", "--subscription", "a", "--dry-run"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), "2 would be deleted, nothing is\n"));
    let refused = reqwest::Client::new().delete(world.host.url("/v1/dead-letters")).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    assert_eq!(world.listed(&[]).await.len(), 3);

    let ran = world.dlq(&["purge", "--all", "--subscription", "a", "--yes"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), "2 deleted\n"));
    assert_eq!(world.listed(&[]).await[0]["subscription_id"], "b");
    for (typed, told, left) in [("n", "nothing is deleted", 1), ("y", "1 deleted", 0)] {
        let told_by = on_a_terminal(&format!("dlq purge --all --admin {}", world.host.url("")), typed).await;
        assert!(told_by.contains("delete 1 dead letters for good? [y/N]") && told_by.contains(told), "{told_by}");
        assert_eq!(world.listed(&[]).await.len(), left);
    }
    world.host.stop().await;
}

/// What `weft` shows on a terminal where somebody types this.
async fn on_a_terminal(words: &str, typed: &str) -> String {
    let command = format!("{} {words}", tests::process::weft().display());
    let mut script = tokio::process::Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).kill_on_drop(true);
    script.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut script = script.spawn().expect("script of util-linux runs");
    let mut stdin = script.stdin.take().expect("piped");
    tokio::io::AsyncWriteExt::write_all(&mut stdin, format!("{typed}\n").as_bytes()).await.expect("it reads");
    let output = tokio::time::timeout(Duration::from_secs(30), script.wait_with_output()).await;
    drop(stdin);
    String::from_utf8_lossy(&output.expect("it ends in time").expect("it ends").stdout).into_owned()
}

#[tokio::test]
async fn a_long_replay_shows_on_a_terminal_how_far_it_is() {
    let world = World::with(&["a"; 4]).await;
    world.mend();
    let told = on_a_terminal(&format!("dlq replay --all --rate 10/s --admin {}", world.host.url("")), "").await;
    assert!(told.contains(" of 4, ") && told.contains("4 replayed"), "{told}");
    world.host.stop().await;
}

#[tokio::test]
async fn a_replay_ends_with_its_client_and_with_its_daemon() {
    let world = World::with(&["a"; 8]).await;
    world.mend();
    let ask = async |rate: &str| {
        let url = world.host.url(&format!("/v1/dead-letters/replay?rate={rate}"));
        reqwest::Client::new().post(url).send().await.unwrap()
    };
    let mut answer = ask("2/s").await;
    let line = answer.chunk().await.unwrap().expect("a line");
    assert!(String::from_utf8_lossy(&line).contains("\"delivery\""), "{line:?}");
    drop(answer);
    // Three times as long as between two replays.
    let seen = std::cell::Cell::new(0);
    let left = eventually("nobody goes on", async || {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let left = world.redis.dead_letters().await.len();
        (seen.replace(left) == left).then_some(left)
    })
    .await;
    assert!(left > 3, "{left}");

    let mut answer = ask("1/min").await;
    answer.chunk().await.unwrap().expect("a line");
    world.host.stop().await;
    let rest = answer.text().await.expect("it is told in order");
    let last: Value = serde_json::from_str(rest.trim().lines().last().expect("a last line")).unwrap();
    assert_eq!((&last["error"], &last["total"]), (&"the daemon is stopping".into(), &1.into()));
    assert_eq!(world.redis.dead_letters().await.len(), left - 1);
}

/// Between two that match may be any number of others.
#[tokio::test]
async fn looking_for_the_next_one_does_not_wait_for_the_rate() {
    let world = World::with(&[]).await;
    let add = "local function add(reason) redis.call('XADD', KEYS[1], '*', 'event', '{}', 'reason', reason) end
        add('gone') for _ = 1, 30000 do add('stale') end return redis.status_reply('OK')";
    let _: String = world.redis.run(&["EVAL", add, "1", "o2ims:dlq"]).await;
    let url = world.host.url("/v1/dead-letters/replay?reason=gone&rate=1/min");
    let asked = async { reqwest::Client::new().post(url).send().await.unwrap().text().await.unwrap() };
    // 10 s for each 10,000 of the others, otherwise.
    let answer = tokio::time::timeout(Duration::from_secs(20), asked).await.expect("it ends");
    let last: Value = serde_json::from_str(answer.trim().lines().last().expect("a last line")).unwrap();
    assert_eq!((&last["error"], &last["total"]), (&Value::Null, &1.into()), "{answer}");
    world.host.stop().await;
}

#[tokio::test]
async fn too_many_dead_letters_are_warned_of_once() {
    let redis = RedisServer::start().await;
    let config = format!("[queue]\nurl = \"{}\"\ndead_letters_warn = 2\n", redis.url());
    let mut weft = WeftProcess::serve(&config).await;
    for _ in 0..4 {
        redis.publish("no event").await;
    }
    let metric = async |line: &str| {
        let text = reqwest::get(format!("{}/metrics", weft.admin)).await.unwrap().text().await.unwrap();
        host::metric(&text, line)
    };
    eventually("they are counted", async || (metric("weft_dead_letters").await == 4.0).then_some(())).await;
    assert_eq!(metric("weft_dead_letters_warn").await, 2.0);
    redis.publish("no event").await;
    eventually("one more", async || (metric("weft_dead_letters").await == 5.0).then_some(())).await;
    assert_eq!(weft.terminate().await, Some(0));
    assert_eq!(weft.log().matches("more dead letters than queue.dead_letters_warn").count(), 1, "{}", weft.log());
}
