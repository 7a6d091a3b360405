//! What a component may consist of: core instances and memories, counted and added up.

use super::*;

/// `deliver`, with more in it.
fn with(more: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/deliver.wat");
    let text = std::fs::read_to_string(file).unwrap();
    let (start, end) = text.rsplit_once(')').unwrap();
    wat::parse_str(format!("{start}{more}){end}")).unwrap()
}

fn modules(content: &str, count: usize) -> Vec<u8> {
    with(&format!("(core module $more {content}) {}", "(core instance (instantiate $more))".repeat(count)))
}

async fn loads(content: &[u8]) -> Result<(), String> {
    let plugins = Fixture::of(&[]).file("sized.wasm", content).load().await;
    match &plugins.list()[0].state {
        State::Ready => {
            let (call, draft) = delivery();
            let (decision, _) = plugins.run(&chain(&["sized"], OnError::Retry), call, draft).await;
            assert!(matches!(decision, Decision::Deliver { .. }), "{decision:?}");
            Ok(())
        }
        state => Err(format!("{state:?}")),
    }
}

#[tokio::test]
async fn a_component_of_many_core_instances_is_taken_up_to_a_limit() {
    // `deliver` has one of its own.
    assert_eq!(loads(&modules("", 63)).await, Ok(()));
    let error = loads(&modules("", 64)).await.unwrap_err();
    assert!(error.contains("exceeds the configured maximum of 64"), "{error}");
}

#[tokio::test]
async fn memories_are_counted_and_their_sizes_added_up() {
    // 64 MiB are 1024 pages, of which `deliver` has one.
    assert_eq!(loads(&modules("(memory 341)", 3)).await, Ok(()));
    let error = loads(&modules("(memory 342)", 3)).await.unwrap_err();
    assert!(error.contains("memory_max, 67108864 bytes"), "{error}");
    let error = loads(&modules("(memory 1)", 4)).await.unwrap_err();
    assert!(error.contains("exceeds the configured maximum of 4"), "{error}");
}
