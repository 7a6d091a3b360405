//! Both stores of plugin state keep the same promises.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tests::{RedisServer, eventually};
use weft::link::Address;
use weft::state::{Act, Answer, ENTRY_BYTES, Error, Request};
use weft::store::Store;

/// A store and what must live as long as it does.
struct Kept {
    store: Arc<Store>,
    _redis: Option<RedisServer>,
    _directory: tempfile::TempDir,
}

async fn both() -> [(&'static str, Kept); 2] {
    let (redis, directory) = (RedisServer::start().await, tempfile::tempdir().unwrap());
    let in_redis = Arc::new(Store::redis(Address::parse(&redis.url()).unwrap()));
    let in_file = Arc::new(Store::embedded(directory.path()).unwrap());
    let none = tempfile::tempdir().unwrap();
    [
        ("redis", Kept { store: in_redis, _redis: Some(redis), _directory: none }),
        ("embedded", Kept { store: in_file, _redis: None, _directory: directory }),
    ]
}

impl Kept {
    async fn ask(&self, key: &str, act: Act) -> Result<Answer, Error> {
        self.ask_for("p", key, act, 1 << 20).await
    }

    async fn ask_for(&self, plugin: &str, key: &str, act: Act, quota: u64) -> Result<Answer, Error> {
        self.store.perform(Request { plugin: plugin.into(), key: key.to_owned(), act, quota }).await
    }

    async fn get(&self, key: &str) -> Option<Bytes> {
        match self.ask(key, Act::Get).await {
            Ok(Answer::Value(value)) => value,
            other => panic!("{other:?}"),
        }
    }
}

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn set(text: &str) -> Act {
    Act::Set { value: value(text), lifetime: None }
}

fn set_if_absent(text: &str) -> Act {
    Act::SetIfAbsent { value: value(text), lifetime: None }
}

fn increment(by: i64) -> Act {
    Act::Increment { by, lifetime: None }
}

const SHORT: Option<Duration> = Some(Duration::from_millis(500));

#[tokio::test]
async fn what_is_kept_is_found_until_it_is_deleted() {
    for (name, kept) in both().await {
        assert_eq!(kept.get("a").await, None, "{name}");
        assert_eq!(
            kept.ask("a", Act::Set { value: Bytes::from_static(b"\0\xff"), lifetime: None }).await,
            Ok(Answer::Done)
        );
        assert_eq!(kept.get("a").await.as_deref(), Some(&b"\0\xff"[..]), "{name}");
        assert_eq!(kept.ask("a", set_if_absent("b")).await, Ok(Answer::Kept(false)), "{name}");
        assert_eq!(kept.ask("a", Act::Delete).await, Ok(Answer::Done));
        assert_eq!(kept.ask("a", Act::Delete).await, Ok(Answer::Done), "what is not there is no error");
        assert_eq!(kept.ask("a", set_if_absent("b")).await, Ok(Answer::Kept(true)), "{name}");
        assert_eq!(kept.get("a").await.as_deref(), Some(&b"b"[..]), "{name}");
    }
}

#[tokio::test]
async fn a_plugin_sees_only_its_own() {
    for (name, kept) in both().await {
        kept.ask("a", set("mine")).await.unwrap();
        for other in ["q", "p.x", "p-x"] {
            assert_eq!(kept.ask_for(other, "a", Act::Get, 0).await, Ok(Answer::Value(None)), "{name}");
        }
    }
}

#[tokio::test]
async fn values_end_with_their_lifetime() {
    for (name, kept) in both().await {
        kept.ask("a", Act::Set { value: value("x"), lifetime: SHORT }).await.unwrap();
        kept.ask("b", set("stays")).await.unwrap();
        kept.ask("c", Act::SetIfAbsent { value: value("x"), lifetime: SHORT }).await.unwrap();
        kept.ask("c", set("now for ever")).await.unwrap();
        eventually("it ends", || async { kept.get("a").await.is_none().then_some(()) }).await;
        tokio::time::sleep(Duration::from_millis(40)).await;
        assert!(kept.get("b").await.is_some() && kept.get("c").await.is_some(), "{name}");
        assert_eq!(kept.ask("a", set_if_absent("y")).await, Ok(Answer::Kept(true)), "{name}");
    }
}

#[tokio::test]
async fn numbers_are_exact_and_keep_the_time_they_began_with() {
    for (name, kept) in both().await {
        assert_eq!(kept.ask("n", increment(9_007_199_254_740_993)).await, Ok(Answer::Number(9_007_199_254_740_993)));
        assert_eq!(kept.ask("n", increment(-1)).await, Ok(Answer::Number(9_007_199_254_740_992)), "{name}");
        assert_eq!(kept.get("n").await.as_deref(), Some(&b"9007199254740992"[..]), "{name}");
        assert_eq!(kept.ask("n", increment(i64::MAX)).await, Err(Error::NotANumber), "{name}: it would be too large");
        kept.ask("t", set("text")).await.unwrap();
        assert_eq!(kept.ask("t", increment(1)).await, Err(Error::NotANumber), "{name}");
        kept.ask("w", Act::Increment { by: 1, lifetime: SHORT }).await.unwrap();
        let hour = Some(Duration::from_secs(3600));
        kept.ask("w", Act::Increment { by: 1, lifetime: hour }).await.unwrap();
        eventually("the window ends", || async { kept.get("w").await.is_none().then_some(()) }).await;
    }
}

#[tokio::test]
async fn a_quota_is_reached_and_room_is_made() {
    // Two keys of one letter with ten bytes each, and not a byte more.
    let quota = 2 * (ENTRY_BYTES + 11);
    for (name, kept) in both().await {
        let ask = |key: &'static str, act: Act| kept.ask_for("p", key, act, quota);
        assert_eq!(ask("a", set("0123456789")).await, Ok(Answer::Done));
        assert_eq!(ask("b", set("0123456789")).await, Ok(Answer::Done), "{name}");
        assert_eq!(ask("c", set("")).await, Err(Error::Quota), "{name}");
        assert_eq!(ask("c", set_if_absent("")).await, Err(Error::Quota), "{name}");
        assert_eq!(ask("c", increment(1)).await, Err(Error::Quota), "{name}");
        assert_eq!(ask("a", set("0123456789x")).await, Err(Error::Quota), "{name}");
        assert_eq!(ask("a", set("9876543210")).await, Ok(Answer::Done), "{name}: no larger than before");
        let short = Act::Set { value: value("0123456789"), lifetime: SHORT };
        assert_eq!(ask("b", short).await, Ok(Answer::Done), "{name}");
        eventually("what ended makes room", || async { ask("c", set("0123456789")).await.is_ok().then_some(()) }).await;
        assert_eq!(ask("a", Act::Delete).await, Ok(Answer::Done));
        assert_eq!(ask("d", set("0123456789")).await, Ok(Answer::Done), "{name}: deleting makes room");
        assert_eq!(
            kept.ask_for("q", "a", set("0123456789"), quota).await,
            Ok(Answer::Done),
            "{name}: each has its own"
        );
    }
}

#[tokio::test]
async fn of_many_at_once_one_is_first_and_none_is_lost() {
    for (name, kept) in both().await {
        let mut asked = tokio::task::JoinSet::new();
        for n in 0..100 {
            let store = Arc::clone(&kept.store);
            asked.spawn(async move {
                let request = |key: &str, act| Request { plugin: "p".into(), key: key.to_owned(), act, quota: 1 << 20 };
                let first = store.perform(request("first", set_if_absent(&n.to_string()))).await.unwrap();
                store.perform(request("count", increment(1))).await.unwrap();
                first == Answer::Kept(true)
            });
        }
        let firsts = asked.join_all().await.into_iter().filter(|first| *first).count();
        assert_eq!(firsts, 1, "{name}");
        assert_eq!(kept.get("count").await.as_deref(), Some(&b"100"[..]), "{name}");
    }
}

#[tokio::test]
async fn state_in_a_file_outlives_the_host() {
    let directory = tempfile::tempdir().unwrap();
    let request = |act| Request { plugin: "p".into(), key: "a".to_owned(), act, quota: 1 << 20 };
    Store::embedded(directory.path()).unwrap().perform(request(set("kept"))).await.unwrap();
    let again = Store::embedded(directory.path()).unwrap();
    assert_eq!(again.perform(request(Act::Get)).await, Ok(Answer::Value(Some(value("kept")))));
}

#[tokio::test]
async fn a_server_that_is_gone_is_unavailable() {
    let redis = RedisServer::start().await;
    let store = Store::redis(Address::parse(&redis.url()).unwrap());
    drop(redis);
    let request = Request { plugin: "p".into(), key: "a".to_owned(), act: Act::Get, quota: 1 << 20 };
    assert!(matches!(store.perform(request).await, Err(Error::Unavailable(why)) if why.starts_with("Redis at ")));
}

#[tokio::test]
async fn in_memory_it_is_as_late_as_somebody_says() {
    let hands = Arc::new(AtomicU64::new(1_000));
    let store = Store::in_memory(Arc::clone(&hands)).unwrap();
    let ask = async |act| {
        let request = Request { plugin: "p".into(), key: "a".to_owned(), act, quota: 1 << 20 };
        store.perform(request).await.unwrap()
    };
    let seen = || Act::SetIfAbsent { value: value("seen"), lifetime: Some(Duration::from_secs(60)) };
    assert_eq!(ask(seen()).await, Answer::Kept(true));
    hands.fetch_add(59_999, Ordering::Relaxed);
    assert_eq!(ask(seen()).await, Answer::Kept(false));
    assert_eq!(ask(Act::Get).await, Answer::Value(Some(value("seen"))));
    hands.fetch_add(1, Ordering::Relaxed);
    assert_eq!(ask(Act::Get).await, Answer::Value(None));
    assert_eq!(ask(seen()).await, Answer::Kept(true));
}
