//! The same plugin in every language, judged by the same fixtures: `examples/hello-*`, as `make languages` compiles them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tests::root;
use weft::event::{BodyForm, Notification};
use weft::plugin::{Cache, Call, Config, Decision, Plugins};
use weft::request::Draft;
use weft::subscription::{Mode, OnError, PluginUse};

const BODY_BYTES_MAX: usize = 1 << 20;

/// An event, and what a plugin is to do with it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    about: String,
    event: Box<RawValue>,
    expect: Expected,
}

#[derive(Debug, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    verdict: String,
    reason: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Option<String>>,
    body: Option<String>,
}

fn fixtures() -> Vec<Fixture> {
    let files = std::fs::read_dir(root().join("examples/fixtures")).unwrap().map(|entry| entry.unwrap().path());
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).unwrap();
        serde_json::from_str::<Vec<Fixture>>(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    files.flat_map(read).collect()
}

async fn answer(plugins: &Plugins, name: &str, fixture: &Fixture) -> Expected {
    let raw = Bytes::copy_from_slice(fixture.event.get().as_bytes());
    let event = Arc::new(Notification::parse(raw, BodyForm::WithoutCallback, String::new).unwrap().event);
    let before = Draft::new(Arc::clone(&event), BODY_BYTES_MAX);
    let call = Call {
        event,
        subscription_id: "sub-67890".into(),
        destination: "https://smo.example.com".into(),
        entry: weft::entry::EntryId::default(),
        replays: 0,
        run: 0,
        now: SystemTime::UNIX_EPOCH,
    };
    let chain = [PluginUse {
        name: name.to_owned(),
        settings: "{}".to_owned(),
        settings_revision: 1,
        on_error: OnError::Retry,
        mode: Mode::Live,
    }];
    match plugins.run(&chain, call, before.clone()).await.0 {
        Decision::Deliver { draft, .. } => {
            let changed = draft.headers().iter().filter(|(name, value)| before.headers().get(*name) != Some(*value));
            let text = |value: &http::HeaderValue| Some(String::from_utf8_lossy(value.as_bytes()).into_owned());
            Expected {
                verdict: "deliver".to_owned(),
                headers: changed.map(|(name, value)| (name.to_string(), text(value))).collect(),
                body: (draft.body() != before.body()).then(|| String::from_utf8_lossy(draft.body()).into_owned()),
                reason: None,
            }
        }
        Decision::Drop { reason, .. } => {
            Expected { verdict: "drop".to_owned(), reason: Some(reason), ..Expected::default() }
        }
        Decision::Failed { error, .. } => {
            println!("{name}: {error}");
            Expected { verdict: "failure".to_owned(), ..Expected::default() }
        }
        decision => panic!("{name}: {}: {decision:?}", fixture.about),
    }
}

#[tokio::test]
async fn hello_in_every_language_passes_the_same_fixtures() {
    let dir = root().join("target/languages");
    for name in ["hello-rust", "hello-ts", "hello-js", "hello-python", "hello-go", "hello-c"] {
        let file = dir.join(format!("{name}.wasm"));
        assert!(file.exists(), "{} is missing: `make languages` compiles it", file.display());
    }
    let cache = Cache::In(root().join("target/plugin-cache"));
    let plugins = Plugins::load(Config { cache, ..Config::new(&dir) }).await.unwrap();
    for status in plugins.list() {
        assert_eq!(status.state, weft::plugin::State::Ready, "{}", status.name);
        for fixture in fixtures() {
            let answer = answer(&plugins, &status.name, &fixture).await;
            assert_eq!(answer, fixture.expect, "{}: {}", status.name, fixture.about);
        }
    }
}
