//! Misbehaving guests: what each comes to, by name, and that the host is as well as before.

use super::*;

mod programs;

/// What becomes of a guest.
enum Fate {
    /// It delivers, and what it tried beside that had no effect.
    Delivers,
    /// It drops, with a reason of so many bytes.
    Drops(usize),
    /// Its call fails like this, with these words.
    Fails(Ending, &'static str),
    /// It is never called: it is refused with these words.
    IsRefused(&'static str),
}
use Fate::{Delivers, Drops, Fails, IsRefused};

const GUESTS: [(&str, Fate); 26] = [
    ("loop", Fails(Ending::Cpu, "ran longer than cpu_max, 50ms")),
    ("endless-start", IsRefused("fails before its first call: it ran longer than cpu_max, 50ms")),
    ("sleep", Fails(Ending::Time, "took longer than time_max, 200ms")),
    ("recursion", Fails(Ending::Stack, "call stack exhausted")),
    ("trap", Fails(Ending::Trap, "unreachable")),
    ("edit-then-trap", Fails(Ending::Trap, "unreachable")),
    ("memory", Fails(Ending::Memory, "memory_max, 67108864 bytes")),
    ("table-bomb", Fails(Ending::Table, "table_elements_max")),
    ("random-bomb", Fails(Ending::Trap, "")),
    ("huge-body", Delivers),
    ("huge-copy", Fails(Ending::Trap, "")),
    // Its mebibyte is cut, and an ellipsis says so.
    ("huge-reason", Drops(1024 + '…'.len_utf8())),
    ("print", Fails(Ending::Cpu, "cpu_max")),
    ("log-flood", Delivers),
    ("header-injection", Delivers),
    ("body-after-drop", Fails(Ending::Trap, "handle")),
    ("forged-handle", Fails(Ending::Trap, "handle")),
    ("kept-handle", Fails(Ending::Trap, "borrow")),
    ("bad-verdict", Fails(Ending::Trap, "discriminant")),
    ("bad-result", Fails(Ending::Trap, "pointer")),
    ("bad-text", Fails(Ending::Trap, "utf-8")),
    ("wrong-types", IsRefused("does not fit the contract")),
    ("wants-http", IsRefused("imports what it was not granted: wasi:http/outgoing-handler@0.2.0")),
    ("program-flood", Fails(Ending::Output, "its answer is larger")),
    ("not-wasm", IsRefused("not a WebAssembly file")),
    ("empty", IsRefused("exports neither")),
];

async fn check(plugins: &Plugins, name: &str, fate: &Fate) {
    let (call, draft) = delivery();
    let (decision, reports) = plugins.run(&chain(&[name], OnError::Retry), call, draft).await;
    match (fate, decision) {
        (Delivers, Decision::Deliver { draft, .. }) => {
            assert_eq!(draft.body(), EVENT, "{name}");
            assert_eq!(draft.headers().len(), 1, "{name}: {:?}", draft.headers());
        }
        (Drops(bytes), Decision::Drop { reason, .. }) => assert_eq!(reason.len(), *bytes, "{name}"),
        (Fails(ending, words), Decision::Failed { error, lasting, .. }) => {
            assert_eq!((reports[0].ending, lasting), (*ending, Lasting::Transient), "{name}: {error}");
            assert!(error.contains(words), "{name}: {error}");
        }
        (IsRefused(words), Decision::Failed { error, .. }) => {
            assert_eq!(reports[0].ending, Ending::Missing, "{name}: {error}");
            let why = refusal(plugins, name).to_string();
            assert!(why.contains(words) && error.contains(&why), "{name}: {error}");
        }
        (_, decision) => panic!("{name}: {decision:?}"),
    }
}

#[tokio::test]
async fn each_misbehaving_guest_has_its_name_and_harms_nobody() {
    let files = GUESTS.map(|(name, _)| name).into_iter().filter(|name| !["not-wasm", "empty"].contains(name));
    let fixture = Fixture::of(&files.chain(["deliver"]).collect::<Vec<_>>())
        .file("not-wasm.wasm", b"hello")
        .file("empty.wasm", &wat::parse_str("(component)").unwrap())
        .with(|config| {
            let named = Named { time_max: Some(Duration::from_millis(200)), ..Named::default() };
            config.named.insert("sleep".to_owned(), named);
        });
    let plugins = fixture.load().await;
    for (name, fate) in &GUESTS {
        check(&plugins, name, fate).await;
        all_is_well(&plugins, fixture.config.calls_max, name).await;
    }
}

/// The host is as it was: no place is taken, and a good plugin does what it does.
async fn all_is_well(plugins: &Plugins, calls_max: u32, after: &str) {
    assert!(plugins.slots.are_all_free(calls_max), "after {after}");
    let (call, draft) = delivery();
    let (decision, _) = plugins.run(&chain(&["deliver"], OnError::Retry), call, draft).await;
    assert!(matches!(decision, Decision::Deliver { draft, .. } if draft.body() == EVENT), "after {after}");
}
