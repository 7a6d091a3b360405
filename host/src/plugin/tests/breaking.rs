//! Plugins that keep failing are left alone.

use super::*;

fn breaker(plugins: &Plugins, name: &str) -> BreakerState {
    plugins.list().into_iter().find(|status| status.name == name).expect("listed").breaker
}

#[tokio::test]
async fn what_keeps_failing_is_not_called_and_on_error_applies() {
    let fixture = Fixture::of(&["loop", "deliver"]).with(|config| {
        config.limits.cpu_max = Duration::from_millis(2);
        config.breaking.wait = Duration::from_secs(3600);
    });
    let plugins = fixture.load().await;
    for _ in 0..5 {
        assert_eq!(run(&plugins, &["loop"]).await.1, [Ending::Cpu]);
    }
    assert!(matches!(breaker(&plugins, "loop"), BreakerState::Open(_)));
    let (decision, endings) = run(&plugins, &["loop"]).await;
    assert_eq!(endings, [Ending::Open]);
    let Decision::Failed { error, lasting, .. } = decision else { panic!("{decision:?}") };
    assert!(error.starts_with("it keeps failing and is not called, for 59m") || error.contains("35"), "{error}");
    assert_eq!(lasting, Lasting::Transient);
    let (decision, _) = run_with(&plugins, &chain(&["loop", "deliver"], OnError::Deliver)).await;
    assert!(matches!(decision, Decision::Deliver { plugins, .. } if plugins.len() == 1));
    let (decision, _) = run_with(&plugins, &chain(&["loop"], OnError::Drop)).await;
    assert!(matches!(decision, Decision::Drop { .. }));
    assert_eq!(breaker(&plugins, "deliver"), BreakerState::Closed, "each has its own");
}

#[tokio::test]
async fn one_call_finds_out_whether_it_is_well_again() {
    let fixture = Fixture::of(&["loop"]).with(|config| {
        config.limits.cpu_max = Duration::from_millis(2);
        config.breaking = Breaking { failures: 1, wait: Duration::from_nanos(1), wait_max: Duration::from_secs(3600) };
    });
    let plugins = fixture.load().await;
    assert_eq!(run(&plugins, &["loop"]).await.1, [Ending::Cpu]);
    // What is open for so short a time is always probed.
    assert_eq!(run(&plugins, &["loop"]).await.1, [Ending::Cpu]);
    let usage = plugins.list()[0].usage.clone().expect("ready");
    assert_eq!(usage.endings, [(Ending::Cpu, 2)]);
}

#[tokio::test]
async fn a_probe_that_is_dropped_leaves_the_next_one_free() {
    let fixture = Fixture::of(&["loop"]).with(|config| {
        config.limits.cpu_max = Duration::from_millis(20);
        config.breaking = Breaking { failures: 1, wait: Duration::from_nanos(1), wait_max: Duration::from_nanos(1) };
    });
    let plugins = fixture.load().await;
    assert_eq!(run(&plugins, &["loop"]).await.1, [Ending::Cpu]);
    {
        let mut probe = std::pin::pin!(run(&plugins, &["loop"]));
        // Polled once, it has the probe.
        assert!(
            std::future::poll_fn(|context| std::task::Poll::Ready(probe.as_mut().poll(context))).await.is_pending()
        );
        assert_eq!(breaker(&plugins, "loop"), BreakerState::Probing);
        assert_eq!(run(&plugins, &["loop"]).await.1, [Ending::Open]);
    }
    assert_eq!(run(&plugins, &["loop"]).await.1, [Ending::Cpu]);
}
