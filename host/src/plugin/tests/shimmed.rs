//! Components as tools make them, whose shim is left out.

use super::*;

#[tokio::test]
async fn a_component_without_its_shim_does_the_same() {
    let plugins = Fixture::of(&["shimmed"]).load().await;
    for _ in 0..2 {
        let (call, draft) = delivery();
        let (decision, _) = plugins.run(&chain(&["shimmed"], OnError::Retry), call, draft).await;
        let Decision::Deliver { draft, .. } = decision else { panic!("{decision:?}") };
        assert_eq!(draft.headers().get("x-weft").unwrap(), "seen");
    }
}
