//! What plugins get only if the operator grants it.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;

use super::*;
use crate::state::{Act, Answer, Error as StateError, Request};

/// Counts, and is slow or used up if told so. What real stores do is tested where they are.
#[derive(Debug, Default)]
struct Numbers {
    counts: Mutex<HashMap<(Arc<str>, String), i64>>,
    trouble: Option<StateError>,
    wait: Duration,
}

#[async_trait]
impl StateStore for Numbers {
    async fn perform(&self, request: Request) -> Result<Answer, StateError> {
        tokio::time::sleep(self.wait).await;
        let Act::Increment { by, .. } = request.act else { panic!("{request:?}") };
        if let Some(trouble) = &self.trouble {
            return Err(trouble.clone());
        }
        let mut counts = self.counts.lock().unwrap();
        let count = counts.entry((request.plugin, request.key)).or_default();
        *count += by;
        Ok(Answer::Number(*count))
    }
}

fn counter(store: Numbers) -> Fixture {
    Fixture::of(&["counter"]).file("other.wasm", &wasm("counter")).with(|config| {
        config.state = Some(Arc::new(store));
        for name in ["counter", "other"] {
            let named = Named { grants: BTreeSet::from([Grant::State]), ..Named::default() };
            config.named.insert(name.to_owned(), named);
        }
    })
}

async fn reason(plugins: &Plugins, name: &str) -> String {
    match run(plugins, &[name]).await.0 {
        Decision::Drop { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn state_stays_from_one_instance_to_the_next_and_is_the_plugins_own() {
    let plugins = counter(Numbers::default()).load().await;
    for expected in ["1", "2", "3"] {
        assert_eq!(reason(&plugins, "counter").await, expected);
    }
    assert_eq!(reason(&plugins, "other").await, "1");
}

#[tokio::test]
async fn without_the_grant_a_plugin_that_wants_state_is_refused() {
    let fixture = counter(Numbers::default()).with(|config| config.named.clear());
    let refusal = refusal(&fixture.load().await, "counter");
    assert_eq!(refusal, Refusal::NotGranted(vec!["weft:plugin/state@0.1.0".to_owned()]));
    assert!(refusal.to_string().contains("[plugins.named]"), "{refusal}");
}

#[tokio::test]
async fn a_plugin_is_told_what_is_wrong_with_its_state() {
    for (trouble, word) in [
        (StateError::Quota, "quota"),
        (StateError::NotANumber, "texts"),
        (StateError::Unavailable("Redis at 10.0.0.1".to_owned()), "store"),
    ] {
        let (ending, error, _) =
            failure(counter(Numbers { trouble: Some(trouble), ..Numbers::default() }), "counter").await;
        assert_eq!((ending, error.as_str()), (Ending::Transient, word));
    }
}

#[tokio::test]
async fn a_plugin_does_not_wait_long_for_its_state() {
    let store = Numbers { wait: Duration::from_secs(3600), ..Numbers::default() };
    let fixture = counter(store).with(|config| config.limits.state_time_max = Duration::from_millis(5));
    assert_eq!(failure(fixture, "counter").await.1, "store");
}

/// Eight bytes of the time, eight of chance and how many variables there are, each half byte as a letter.
const SENSES: &str = r#"(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "{\"verdict\":\"drop\",\"reason\":\"")
  (data (i32.const 200) "\"}")
  (func (export "_start")
    (local $at i32)
    (drop (call $time (i32.const 0) (i64.const 1) (i32.const 0)))
    (drop (call $random (i32.const 8) (i32.const 8)))
    (drop (call $environ (i32.const 16) (i32.const 24)))
    (loop $more
      (i32.store8 (i32.add (i32.const 92) (i32.shl (local.get $at) (i32.const 1)))
        (i32.add (i32.const 97) (i32.and (i32.load8_u (local.get $at)) (i32.const 15))))
      (i32.store8 (i32.add (i32.const 93) (i32.shl (local.get $at) (i32.const 1)))
        (i32.add (i32.const 97) (i32.shr_u (i32.load8_u (local.get $at)) (i32.const 4))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $at) (i32.const 17))))
    (i32.store16 (i32.const 126) (i32.load16_u (i32.const 200)))
    (i32.store (i32.const 32) (i32.const 64))
    (i32.store (i32.const 36) (i32.const 64))
    (drop (call $fd_write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 40)))))"#;

/// What it sees of time and chance, and of the environment.
async fn senses(named: Named) -> (String, String, String) {
    let fixture = Fixture::of(&[]).file("senses.wasm", &wat::parse_str(SENSES).unwrap());
    let fixture = fixture.with(|config| drop(config.named.insert("senses".to_owned(), named)));
    let plugins = fixture.load().await;
    let letters = reason(&plugins, "senses").await;
    assert_eq!(letters.len(), 34, "{letters}");
    (letters[..16].to_owned(), letters[16..32].to_owned(), letters[32..].to_owned())
}

#[tokio::test]
async fn time_stands_still_and_chance_repeats_itself_unless_granted() {
    let (time, random, env) = senses(Named::default()).await;
    assert_eq!((time.as_str(), env.as_str()), ("a".repeat(16).as_str(), "aa"), "the delivery came at the epoch");
    assert_eq!(senses(Named::default()).await.1, random, "the same delivery again");

    let grants = BTreeSet::from([Grant::Clock, Grant::Random]);
    let env = vec![Variable { name: "REGION".to_owned(), value: "eu".to_owned() }];
    let granted = || Named { grants: grants.clone(), env: env.clone(), ..Named::default() };
    let (time, first, env) = senses(granted()).await;
    assert_ne!(time, "a".repeat(16));
    assert_eq!(env, "ba", "one variable");
    assert_ne!(senses(granted()).await.1, first);
}

#[test]
fn values_of_variables_are_not_shown() {
    let variable = Variable { name: "TOKEN".to_owned(), value: "secret".to_owned() };
    assert_eq!(format!("{variable:?}"), "TOKEN=..");
}
