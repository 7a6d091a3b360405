//! Components as tools make them, whose shim is left out.

use super::*;

/// As many core instances as it has without the shim.
const CORE_INSTANCES: u32 = 3;

#[tokio::test]
async fn a_component_without_its_shim_does_the_same() {
    let fixture = Fixture::of(&["shimmed"]).with(|config| config.limits.core_instances_max = CORE_INSTANCES);
    let plugins = fixture.load().await;
    for _ in 0..2 {
        let (call, draft) = delivery();
        let (decision, _) = plugins.run(&chain(&["shimmed"], OnError::Retry), call, draft).await;
        let Decision::Deliver { draft, .. } = decision else { panic!("{decision:?}") };
        assert_eq!(draft.headers().get("x-weft").unwrap(), "seen");
    }
}
