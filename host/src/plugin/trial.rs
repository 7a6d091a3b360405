//! Plugins of any bytes, tried one after the other in one host: for fuzzing. Whatever they are, what comes of them has a
//! name, and the plugin beside them goes on. The delivery that they are tried with is that of the tests as well.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::watch::Watcher;
use super::{Call, Config, Decision, Plugins, State, program};
use crate::entry::EntryId;
use crate::event::{BodyForm, Notification};
use crate::request::{Draft, HeaderLimits};
use crate::subscription::{Mode, OnError, PluginUse};

pub(super) const EVENT: &str =
    r#"{"notificationId":"n-1","notificationEventType":"o2ims.Resource.Created","objectRef":"/r/1"}"#;
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;
const CALLS_MAX: u32 = 4;

/// A host with one plugin that is good.
pub struct Trial {
    plugins: Plugins,
    watcher: Watcher,
    file: PathBuf,
}

impl Trial {
    /// In a directory of its own, with a plugin that delivers everything.
    #[must_use]
    pub fn new(dir: &Path, good: &[u8]) -> Trial {
        let mut config = Config::new(dir);
        config.calls_max = CALLS_MAX;
        config.limits.memory_max = 16 << 20;
        config.limits.cpu_max = Duration::from_millis(20);
        config.limits.time_max = Duration::from_millis(100);
        // Each is another one, and none has a past.
        config.breaking.failures = u32::MAX;
        let (plugins, mut watcher) = Plugins::prepare(config).expect("plugins can be run here");
        let file = dir.join("good.wasm");
        std::fs::write(&file, good).expect("the directory can be written");
        watcher.load_only(&file);
        Trial { plugins, watcher, file: dir.join("tried.wasm") }
    }

    /// What comes of a plugin of these bytes: why it is refused, or how its call ended.
    ///
    /// # Panics
    ///
    /// If it leaves something behind, or the good one does not serve any more.
    pub async fn plugin(&mut self, bytes: &[u8]) -> String {
        self.plugins.shelf.remove("tried");
        std::fs::write(&self.file, bytes).expect("the directory can be written");
        let (watcher, file) = (&mut self.watcher, &self.file);
        // Loading has a runtime of its own, which cannot be started on one.
        std::thread::scope(|scope| scope.spawn(|| watcher.load_only(file)).join().expect("loading does not panic"));
        let status = self.plugins.list().into_iter().find(|status| status.name == "tried").expect("it was looked into");
        let fate = match status.state {
            State::Refused(why) => format!("refused: {why}"),
            State::Waiting => panic!("it was looked into"),
            State::Ready => self.call("tried").await,
        };
        assert!(self.plugins.slots.are_all_free(CALLS_MAX), "it left something behind: {fate}");
        assert_eq!(self.call("good").await, "deliver", "after {fate}");
        fate
    }

    async fn call(&self, name: &str) -> String {
        let (name, settings) = (name.into(), "{}".into());
        let step = PluginUse { name, settings, settings_revision: 1, on_error: OnError::Retry, mode: Mode::Live };
        let (call, draft) = delivery();
        let (decision, reports) = self.plugins.run(&[step], call, draft).await;
        if let Decision::Deliver { draft, .. } = &decision {
            assert!(draft.body().len() <= BODY_BYTES_MAX);
        }
        reports.first().map(|report| report.ending.name()).unwrap_or_default().to_owned()
    }
}

/// As the answer of a WASI program: a verdict, or a failure that says what is wrong; what fails changes no body beyond
/// the limit.
pub fn answer(bytes: &[u8]) {
    let (_, mut draft) = delivery();
    if let Err(failure) = program::read(bytes, &mut draft, HeaderLimits::default()) {
        assert!(!failure.error.is_empty());
    }
    assert!(draft.body().len() <= BODY_BYTES_MAX);
    for name in ["host", "content-length", "x-o2ims-signature", "x-o2ims-notification-id"] {
        assert!(draft.headers().get(name).is_none(), "{name}");
    }
}

/// What a chain is told of the sample, and its draft.
pub(super) fn delivery() -> (Call, Draft) {
    let raw = Bytes::from_static(EVENT.as_bytes());
    let read = Notification::parse(raw, BodyForm::Verbatim, String::new);
    let event = Arc::new(read.expect("the sample is an event").event);
    let draft = Draft::new(Arc::clone(&event), BODY_BYTES_MAX);
    let call = Call {
        event,
        subscription_id: "sub-1".into(),
        tenant: None,
        destination: "https://smo.example.com".into(),
        entry: EntryId::new(5, 1),
        replays: 0,
        run: 0,
        now: SystemTime::UNIX_EPOCH,
    };
    (call, draft)
}
