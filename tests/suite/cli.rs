//! The program as a person types it.

use std::time::Duration;

use serde_json::Value;
use tests::process::{run, run_in};
use tests::{Answer, Event, Receiver, RedisServer, TestHost, eventually, host, root, until};

#[tokio::test]
async fn usage_goes_to_whoever_asks_for_it() {
    let help = run(&["--help"], "").await;
    assert_eq!(help.code, Some(0));
    for command in ["serve", "demo", "check", "publish", "dlq", "plugin"] {
        assert!(help.out.contains(command), "{}", help.out);
        assert_eq!(run(&[command, "--help"], "").await.code, Some(0));
    }
    let wrong = run(&["serve", "--prot", "1"], "").await;
    assert_eq!((wrong.code, wrong.out.as_str()), (Some(64), ""));
    assert!(wrong.err.contains("--prot"));
    assert_eq!(run(&["frobnicate"], "").await.code, Some(64));
    for command in [&["plugin", "list"][..], &["dlq", "list"], &["publish"]] {
        for admin in ["foo", "127.0.0.1:8090", "https://127.0.0.1:8090", "http://127.0.0.1:8090?x"] {
            let wrong = run(&[command, &["--admin", admin]].concat(), "{}").await;
            assert_eq!(wrong.code, Some(64), "{admin}: {}", wrong.err);
            assert!(wrong.err.contains("--admin") && wrong.err.contains("not a URL"), "{}", wrong.err);
        }
    }
    assert_eq!(run(&["--version"], "").await.out.trim(), format!("weft {}", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn check_reports_three_mistakes_at_once_and_exits_64() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[queue]\nurl = \"mysql://h\"\n[delivery]\nworkercount = 3\n[admin]\nlisten = \"0.0.0.0:1\"\n";
    std::fs::write(directory.path().join("weft.toml"), text).unwrap();
    for command in ["check", "serve"] {
        let ran = run_in(directory.path(), &[command], "").await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(64), ""));
        assert_eq!(ran.err.lines().count(), 3, "{}", ran.err);
        for path in ["queue.url", "delivery.workercount", "admin.listen"] {
            assert!(ran.err.contains(path), "{}", ran.err);
        }
    }
}

#[tokio::test]
async fn check_looks_at_the_plugins_too() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("plugins")).unwrap();
    std::fs::write(directory.path().join("plugins/bad.wasm"), "nonsense").unwrap();
    std::fs::write(directory.path().join("weft.toml"), "[defaults]\nplugins = [\"absent\"]\n").unwrap();
    let ran = run_in(directory.path(), &["check"], "").await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("bad") && ran.err.contains("absent.wasm"), "{}", ran.err);

    std::fs::remove_file(directory.path().join("plugins/bad.wasm")).unwrap();
    std::fs::write(directory.path().join("weft.toml"), "").unwrap();
    let ran = run_in(directory.path(), &["check"], "").await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);

    let described = wat::parse_file(root().join("tests/fixtures/described.wat")).unwrap();
    std::fs::write(directory.path().join("plugins/described.wasm"), described).unwrap();
    let wrong = "[subscriptions.s]\nplugins = [{ name = \"described\", settings = { mask = 5 } }]\n";
    std::fs::write(directory.path().join("weft.toml"), wrong).unwrap();
    let ran = run_in(directory.path(), &["check"], "").await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("subscriptions.\"s\".plugins[0].settings/mask: "), "{}", ran.err);
}

#[tokio::test]
async fn publish_takes_objects_arrays_and_lines() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let host = TestHost::start(&redis.url()).await;
    let (admin, json) = (host.url(""), |id: &str| Event::to(&receiver.url("/")).id(id).json());
    let ran = run(&["publish", "--admin", &admin], &json("1")).await;
    assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 1), "{}", ran.err);
    let many = format!("[{},{}]\n{}\n", json("2"), json("3"), json("4"));
    let ran = run(&["publish", "--admin", &admin, "--json"], &many).await;
    let published: Value = serde_json::from_str(&ran.out).expect("JSON on stdout");
    assert_eq!(published["ids"].as_array().unwrap().len(), 3);
    receiver.wait_for(4).await;

    let ran = run(&["publish", "--admin", &admin], "{\"a\":").await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.contains("not JSON"), "{}", ran.err);
    let port = tests::redis_server::free_port();
    let ran = run(&["publish", "--admin", &format!("http://127.0.0.1:{port}")], &json("5")).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("is `weft serve` running"), "{}", ran.err);
    host.stop().await;
}

#[tokio::test]
async fn publish_takes_any_number_of_large_events() {
    let redis = RedisServer::start().await;
    let mut config = host::config(&redis.url());
    config.delivery.body_bytes_max = 64 * 1024;
    config.delivery.max_retries = 0;
    let host = TestHost::with(config).await;
    let nobody = format!("http://127.0.0.1:{}/", tests::redis_server::free_port());
    let padding = format!("{{\"padding\":\"{}\",", "x".repeat(20_000));
    let event = |number: usize| Event::to(&nobody).id(number.to_string()).json().replacen('{', &padding, 1);
    let events: String = (0..120).map(event).collect();
    let ran = run(&["publish", "--admin", &host.url("")], &events).await;
    assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 120), "{}", ran.err);
    host.stop().await;
}

#[tokio::test]
async fn what_cannot_be_a_header_is_refused_and_no_dead_letter() {
    let redis = RedisServer::start().await;
    let host = TestHost::start(&redis.url()).await;
    let good = Event::to("http://127.0.0.1:9/");
    // As it stands in JSON.
    let odd = "a\\nb";
    for (name, odd) in [("notificationId", good.clone().id(odd)), ("subscriptionId", good.subscription(odd))] {
        let odd = odd.json();
        let answer = reqwest::Client::new().post(host.url("/v1/events")).body(odd.clone()).send().await.unwrap();
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert_eq!(status, 400, "{odd}: {text}");
        assert!(text.contains(name) && text.contains("header"), "{text}");
    }
    host.stop().await;
}

#[tokio::test]
async fn variables_that_are_no_text_are_no_matter() {
    use std::os::unix::ffi::OsStrExt;
    let directory = tempfile::tempdir().unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"\xff");
    for (name, told) in [("X", false), ("WEFT_QUEUE__URL", true)] {
        let mut command = tokio::process::Command::new(tests::process::weft());
        command.arg("check").current_dir(directory.path()).env(name, odd);
        let ran = tests::process::finish(command, "").await;
        assert_eq!((ran.code, ran.err.contains(&format!("{name} is not UTF-8"))), (Some(0), told), "{}", ran.err);
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_a_command_quietly() {
    let directory = tempfile::tempdir().unwrap();
    let described = wat::parse_file(root().join("tests/fixtures/described.wat")).unwrap();
    std::fs::write(directory.path().join("described.wasm"), described).unwrap();
    // What they find is data, on standard output, and talk, on standard error.
    for (words, is_data) in [(vec!["plugin", "check", "described.wasm"], true), (vec!["check"], false)] {
        let mut command = tokio::process::Command::new(tests::process::weft());
        command.args(&words).current_dir(directory.path()).kill_on_drop(true);
        command.env("XDG_CACHE_HOME", root().join("target/test-cache"));
        // The end that is read is closed before the command begins.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        if is_data {
            command.stdout(writer)
        } else {
            command.stderr(writer)
        };
        let ended = tokio::time::timeout(Duration::from_secs(60), command.status()).await.expect("in time").unwrap();
        assert_eq!(ended.code(), Some(141), "{words:?}");
    }
}

#[tokio::test]
async fn dlq_lists_shows_replays_and_purges() {
    let redis = RedisServer::start().await;
    look_after_dead_letters(&redis.url()).await;
}

#[tokio::test]
async fn dlq_does_the_same_with_the_embedded_queue() {
    let directory = tempfile::tempdir().unwrap();
    look_after_dead_letters(&format!("embedded:{}", directory.path().join("queue").display())).await;
}

async fn look_after_dead_letters(queue_url: &str) {
    // Built before anything waits for it.
    tests::process::weft();
    let receiver = Receiver::start().await;
    let mut config = host::config(queue_url);
    config.delivery.max_retries = 0;
    let host = TestHost::with(config).await;
    let admin = host.url("");
    let dlq = async |words: &[&str]| {
        let words: Vec<&str> = ["dlq"].iter().chain(words).copied().chain(["--admin", &admin]).collect();
        run(&words, "").await
    };
    receiver.answers("/down", |asked| Answer::status(if asked < 3 { 500 } else { 204 }));
    let events = ["a", "b", "c"].map(|id| Event::to(&receiver.url("/down")).subscription(id).id(id).json().into());
    host.queue.publish(&events).await.unwrap();
    let list = eventually("three dead letters", || async {
        let ran = dlq(&["list", "--json"]).await;
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        (ran.out.lines().count() == 3).then_some(ran.out)
    })
    .await;
    let letters: Vec<Value> = list.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    let id_of = |subscription: &str| {
        let letter = letters.iter().find(|letter| letter["subscription_id"] == subscription).expect("listed");
        letter["id"].as_str().unwrap().to_owned()
    };

    let ran = dlq(&["list", "--subscription", "b", "--reason", "exhausted"]).await;
    assert!(ran.out.lines().count() == 1 && ran.out.contains("exhausted"), "{}", ran.out);
    let ran = dlq(&["list", "--reason", "boredom"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("known are exhausted"), "{}", ran.err);

    let ran = dlq(&["show", &id_of("a")]).await;
    let shown: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((&shown["event"]["notificationId"], &shown["last_status"]), (&"a".into(), &500.into()));

    let ran = dlq(&["replay", &id_of("a")]).await;
    assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 1), "{}", ran.err);
    until("the replay", || receiver.arrived().len() == 4).await;
    let again = dlq(&["replay", &id_of("a")]).await;
    assert_eq!(again.code, Some(1), "it is gone: {}", again.err);

    assert_eq!(dlq(&["purge", "--all"]).await.code, Some(1), "not without --yes");
    for filter in ["--subscription", "--reason"] {
        let ran = dlq(&["purge", filter, "gone"]).await;
        assert!(ran.code == Some(64) && ran.err.contains("<IDS|--all>"), "which ones is not said: {}", ran.err);
        let ran = dlq(&["purge", &id_of("b"), filter, "gone"]).await;
        assert!(ran.code == Some(64) && ran.err.contains("cannot be used with"), "ids have no filter: {}", ran.err);
    }
    let ran = dlq(&["purge", &id_of("b")]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let ran = dlq(&["replay", "--all"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    until("the last one", || receiver.ids().iter().filter(|id| *id == "c").count() == 2).await;
    let ran = dlq(&["list"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""));
    let ran = dlq(&["purge", "--all"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), "0 deleted\n"), "nothing to confirm");
    assert_eq!(receiver.ids().iter().filter(|id| *id == "b").count(), 1, "purged, not replayed");
    host.stop().await;
}

#[tokio::test]
async fn tokens_decide_who_may_do_what() {
    let redis = RedisServer::start().await;
    let mut config = host::config(&redis.url());
    let token = |name: &str, role| weft::admin::Token {
        name: name.to_owned(),
        role,
        secret: weft::admin::TokenSecret::new(name),
    };
    config.admin.tokens = vec![token("looker", weft::admin::Role::Read), token("doer", weft::admin::Role::Write)];
    let host = TestHost::with(config).await;
    let ask = async |method: reqwest::Method, path: &str, token: Option<&str>| {
        let request = reqwest::Client::new().request(method, host.url(path)).body("[]");
        let request = token.map_or(request.try_clone().unwrap(), |token| request.bearer_auth(token));
        request.send().await.unwrap().status().as_u16()
    };
    let (get, post) = (reqwest::Method::GET, reqwest::Method::POST);
    assert_eq!(ask(get.clone(), "/healthz", None).await, 200);
    assert_eq!(ask(get.clone(), "/metrics", None).await, 401);
    assert_eq!(ask(get.clone(), "/metrics", Some("wrong")).await, 401);
    assert_eq!(ask(get.clone(), "/metrics", Some("looker")).await, 200);
    assert_eq!(ask(reqwest::Method::HEAD, "/metrics", Some("looker")).await, 200);
    assert_eq!(ask(post.clone(), "/v1/events", Some("looker")).await, 403);
    assert_ne!(ask(post, "/v1/events", Some("doer")).await, 403);
    assert_eq!(ask(get, "/v1/nonsense", Some("doer")).await, 404);
    host.stop().await;
}

#[tokio::test]
async fn without_a_token_web_pages_of_others_are_refused() {
    let redis = RedisServer::start().await;
    let host = TestHost::start(&redis.url()).await;
    let ask = async |name: &str, value: &str| {
        let replay = reqwest::Client::new().post(host.url("/v1/dead-letters/replay")).header(name, value);
        let answer = replay.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for (name, value) in
        [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("host", "evil.example:8090")]
    {
        let (status, text) = ask(name, value).await;
        assert!(status == 403 && text.contains("admin.tokens"), "{name}: {status} {text}");
    }
    assert_eq!(ask("host", "localhost:8090").await.0, 200);
    assert_eq!(ask("accept", "*/*").await.0, 200);
    host.stop().await;
}

#[tokio::test]
async fn connections_without_a_request_end_and_are_bounded() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let redis = RedisServer::start().await;
    let mut config = host::config(&redis.url());
    config.admin.connections_max = 1;
    config.admin.head_timeout = Duration::from_millis(500);
    let host = TestHost::with(config).await;
    let mut half = tokio::net::TcpStream::connect(host.admin).await.unwrap();
    half.write_all(b"GET /healthz HTTP/1.1\r\nHost: ").await.unwrap();
    // It has the only place, so this one is answered after the other was closed.
    let answer = tokio::time::timeout(Duration::from_secs(60), reqwest::get(host.url("/healthz"))).await;
    assert_eq!(answer.expect("in time").unwrap().status(), 200);
    let mut rest = Vec::new();
    // Either end is right: what was read and not answered may reset it.
    let _ = tokio::time::timeout(Duration::from_secs(60), half.read_to_end(&mut rest)).await.expect("it is closed");

    let mut config = host::config(&redis.url());
    config.admin.connections_max = 1;
    let patient = TestHost::with(config).await;
    let idle = tokio::net::TcpStream::connect(patient.admin).await.unwrap();
    let asked = tokio::spawn(reqwest::get(patient.url("/healthz")));
    // However long one waits, it is not answered: a short while shows it if it is.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!asked.is_finished(), "there is one place");
    drop(idle);
    assert_eq!(asked.await.unwrap().unwrap().status(), 200);
    patient.stop().await;
    host.stop().await;
}

#[tokio::test]
async fn the_demo_tells_its_whole_story() {
    let plugins = root().join("target/plugins").display().to_string();
    let told = run(&["demo", "--once", "--listen", "127.0.0.1:0", "--plugins", &plugins], "").await;
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    for word in ["delivered", "dropped", "retry", "dead letter", "replay", "***"] {
        assert!(told.out.to_lowercase().contains(word), "{word} in {}", told.out);
    }
    let untold = run(&["demo", "--once", "--plugins", "/no/such/place"], "").await;
    assert_eq!(untold.code, Some(1));
    assert!(untold.err.contains("make plugins"), "{}", untold.err);
}

#[tokio::test]
async fn an_attempt_is_one_line_of_log() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let config = format!(
        "[queue]\nurl = \"{}\"\n[egress]\nallow = [\"127.0.0.0/8\"]\n[delivery]\nhmac_secret = \"hunter2\"\n",
        redis.url()
    );
    let mut weft = tests::WeftProcess::serve(&config).await;
    redis.publish(&Event::to(&receiver.url("/")).json()).await;
    receiver.wait_for(1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    weft.terminate().await;
    let lines: Vec<Value> =
        weft.log().lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    let attempts: Vec<&Value> = lines.iter().filter(|line| line["message"] == "attempted").collect();
    assert_eq!(attempts.len(), 1);
    let attempt = attempts[0];
    assert_eq!((&attempt["event"], &attempt["subscription"]), (&"notif-12345".into(), &"sub-67890".into()));
    assert_eq!(
        (&attempt["result"], &attempt["outcome"], &attempt["attempt"]),
        (&"204".into(), &"delivered".into(), &1.into())
    );
    assert!(!weft.log().contains("hunter2") && !weft.log().contains("globalResourceId"));
}
