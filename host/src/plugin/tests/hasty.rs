//! Calls that are made at once, and those that turn out too long for that.

use super::*;

fn is_hasty(plugins: &Plugins, name: &str) -> bool {
    plugins.shelf.version(name).unwrap().haste.is_due()
}

#[tokio::test]
async fn a_call_that_is_not_over_at_once_leaves_nothing_of_the_first_time() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let fixture = Fixture::of(&["count", "log-flood"]).with(|config| config.limits.cpu_max = Duration::from_secs(20));
    let plugins = fixture.load().await;
    // Another test may be logging for the first time just now, when this subscriber is not asked whether it listens.
    run(&plugins, &["log-flood"]).await;
    tracing::callsite::rebuild_interest_cache();
    lines.0.lock().unwrap().clear();
    assert!(is_hasty(&plugins, "count"));
    assert_eq!(run(&plugins, &["count"]).await.1, [Ending::Deliver]);
    assert_eq!(lines.text().matches("counting").count(), 1, "{}", lines.text());
    assert!(!is_hasty(&plugins, "count"), "the next ones would only be begun twice");
    assert!(plugins.slots.are_all_free(fixture.config.calls_max));
}

#[tokio::test]
async fn one_that_is_over_at_once_is_made_so_again() {
    let plugins = Fixture::of(&["header", "trap"]).load().await;
    for (name, ending) in [("header", Ending::Deliver), ("trap", Ending::Trap)] {
        assert_eq!(run(&plugins, &[name]).await.1, [ending]);
        assert!(is_hasty(&plugins, name), "{name}");
    }
}

#[tokio::test]
async fn the_deepest_that_is_called_at_once_fits_on_a_thread() {
    let fixture = Fixture::of(&["recursion"]).with(|config| config.stack_bytes_max = 1 << 20);
    assert!(is_hasty(&fixture.load().await, "recursion"));
    // A thread that has too little would end the process.
    assert_eq!(failure(fixture, "recursion").await.0, Ending::Stack);
}
