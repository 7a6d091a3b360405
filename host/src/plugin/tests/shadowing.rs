//! Plugins in shadow have no effect, and tell what they would have had.

use super::*;

async fn shadowed(plugins: &Plugins, name: &str, calls: u64) -> Shadowed {
    let look = async {
        loop {
            let status = plugins.list().into_iter().find(|status| status.name == name).unwrap();
            match status.shadowed {
                Some(shadowed) if shadowed.usage.calls == calls => return shadowed,
                _ => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), look).await.expect("it ends")
}

fn in_shadow(names: &[&str]) -> Vec<PluginUse> {
    let live = chain(names, OnError::Retry).into_iter();
    live.map(|step| PluginUse { mode: Mode::Shadow, ..step }).collect()
}

#[tokio::test]
async fn a_shadow_changes_nothing_and_says_what_it_would_have() {
    // A quarter of the places is for shadows, and all of these run at once.
    let fixture = Fixture::of(&["header", "drop", "trap", "deliver"]).with(|config| config.calls_max = 64);
    let plugins = fixture.load().await;
    let steps = [in_shadow(&["drop", "header", "trap", "absent"]), chain(&["deliver"], OnError::Retry)].concat();
    for _ in 0..2 {
        let (decision, endings) = run_with(&plugins, &steps).await;
        assert_eq!(endings, [Ending::Deliver], "no shadow is reported among those that count");
        let Decision::Deliver { draft, plugins } = decision else { panic!("{decision:?}") };
        assert_eq!((draft.body().as_ref(), draft.headers().len(), plugins.len()), (EVENT.as_bytes(), 1, 1));
    }
    let header = shadowed(&plugins, "header", 2).await;
    assert_eq!((header.changed, header.unchanged), (2, 0));
    let places: Vec<_> = header.places.iter().map(|(place, count)| (place.as_str(), *count)).collect();
    assert_eq!(places, [("+ header x-host", 2), ("+ header x-weft", 2)]);
    assert_eq!(shadowed(&plugins, "drop", 2).await.usage.endings, [(Ending::Drop, 2)]);
    assert_eq!(shadowed(&plugins, "trap", 2).await.usage.endings, [(Ending::Trap, 2)]);
    let totals = plugins.shadows();
    assert_eq!(totals[&("absent".to_owned(), Ending::Missing)], 2);
    assert_eq!(totals[&("drop".to_owned(), Ending::Drop)], 2);
    let usage = plugins.list().into_iter().find(|status| status.name == "header").unwrap().usage.unwrap();
    assert_eq!(usage.calls, 0, "those were no calls that count");
}

#[tokio::test]
async fn shadows_take_only_their_part_and_end_with_the_host() {
    let fixture = Fixture::of(&["loop", "deliver"]).with(|config| {
        config.limits.cpu_max = Duration::from_secs(3600);
        config.limits.time_max = Duration::from_secs(3600);
    });
    let plugins = fixture.load().await;
    // Of four places shadows may take one.
    let steps = [in_shadow(&["loop", "loop"]), chain(&["deliver"], OnError::Retry)].concat();
    let (decision, _) = run_with(&plugins, &steps).await;
    assert!(matches!(decision, Decision::Deliver { .. }));
    assert_eq!(plugins.shadows()[&("loop".to_owned(), Ending::Busy)], 1);
    plugins.stop().await;
    assert!(plugins.slots.are_all_free(fixture.config.calls_max));
}

#[tokio::test]
async fn what_fails_in_shadow_is_called_where_it_counts() {
    let fixture = Fixture::of(&["loop"]).with(|config| {
        config.limits.cpu_max = Duration::from_millis(2);
        config.breaking =
            Breaking { failures: 2, wait: Duration::from_secs(3600), wait_max: Duration::from_secs(3600) };
    });
    let plugins = fixture.load().await;
    for calls in 1..=2 {
        run_with(&plugins, &in_shadow(&["loop"])).await;
        shadowed(&plugins, "loop", calls).await;
    }
    let is_open = async {
        while !plugins.shadows().contains_key(&("loop".to_owned(), Ending::Open)) {
            run_with(&plugins, &in_shadow(&["loop"])).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), is_open).await.expect("its shadow has a breaker");
    assert_eq!(run(&plugins, &["loop"]).await.1, [Ending::Cpu]);
}
