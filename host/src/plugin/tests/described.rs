//! What plugins say about themselves, and what follows from it: which events, which settings, how long an instance lives.

use std::num::NonZeroU32;

use super::*;

/// The one plugin `described`, with so many calls for each instance.
fn described(reuse: u32) -> Fixture {
    Fixture::of(&["described"]).with(|config| {
        config.calls_max = 1;
        let named = Named { reuse: NonZeroU32::new(reuse), ..Named::default() };
        config.named.insert("described".to_owned(), named);
    })
}

/// The delivery of another subscription or tenant.
fn delivery_of(subscription: &str, event: &str) -> (Call, Draft) {
    let event = Notification::parse(Bytes::copy_from_slice(event.as_bytes()), BodyForm::Verbatim, String::new).unwrap();
    let (call, _) = delivery();
    let event = Arc::new(event.event);
    let draft = Draft::new(Arc::clone(&event), BODY_BYTES_MAX);
    (Call { event, subscription_id: subscription.into(), ..call }, draft)
}

/// How often the instance that served it had been called.
async fn count(plugins: &Plugins, subscription: &str, event: &str) -> String {
    let (call, draft) = delivery_of(subscription, event);
    counted(plugins, call, draft).await
}

async fn counted(plugins: &Plugins, call: Call, draft: Draft) -> String {
    match plugins.run(&chain(&["described"], OnError::Retry), call, draft).await.0 {
        Decision::Drop { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

fn of_tenant(tenant: &str) -> String {
    EVENT.replace('{', &format!(r#"{{"tenantId":"{tenant}","#))
}

#[tokio::test]
async fn a_plugin_says_what_it_is() {
    let status = described(0).load().await.list().remove(0);
    assert_eq!(status.state, State::Ready);
    let about = status.about;
    assert_eq!((about.version.as_str(), about.summary.as_str()), ("1.2.0", "counts its calls"));
    assert_eq!((about.accepts, about.is_reusable), (vec!["o2ims.*.Created".to_owned()], true));
    assert!(about.settings_schema.unwrap().contains("mask"));
}

#[tokio::test]
async fn events_that_it_does_not_accept_cost_no_call() {
    let plugins = described(0).load().await;
    let (call, draft) = delivery_of("sub-1", &EVENT.replace("Created", "Deleted"));
    let (decision, reports) = plugins.run(&chain(&["described"], OnError::Retry), call, draft).await;
    assert!(matches!(decision, Decision::Deliver { plugins, .. } if plugins.is_empty()));
    assert!(reports.is_empty());
}

#[tokio::test]
async fn settings_that_do_not_fit_fail_its_deliveries() {
    let plugins = described(0).load().await;
    let mut chain = chain(&["described"], OnError::Retry);
    chain[0].settings = r#"{"mask":5,"maks":"secret"}"#.into();
    let (decision, endings) = run_with(&plugins, &chain).await;
    assert_eq!(endings, [Ending::Settings]);
    let Decision::Failed { error, .. } = decision else { panic!("{decision:?}") };
    assert!(error.starts_with("its settings do not fit: settings") && error.contains("settings/mask: "), "{error}");
    assert!(!error.contains("secret"), "{error}");
    let mistakes = plugins.check_settings("described", &chain[0].settings);
    assert_eq!(mistakes.len(), 2);
    assert!(plugins.check_settings("described", r#"{"mask":"x"}"#).is_empty());
    assert!(plugins.check_settings("absent", "{}").is_empty());
}

#[tokio::test]
async fn an_instance_is_fresh_unless_both_sides_agree() {
    let plugins = described(0).load().await;
    for _ in 0..3 {
        assert_eq!(count(&plugins, "sub-1", EVENT).await, "1");
    }
    let fixture = Fixture::of(&["deliver"]).with(|config| {
        let named = Named { reuse: NonZeroU32::new(5), ..Named::default() };
        config.named.insert("deliver".to_owned(), named);
    });
    assert!(fixture.load().await.shelf.version("deliver").unwrap().reuse.is_none(), "it did not say that it can");
}

#[tokio::test]
async fn a_reused_instance_serves_so_many_calls() {
    let plugins = described(3).load().await;
    for expected in ["1", "2", "3", "1", "2", "3", "1"] {
        assert_eq!(count(&plugins, "sub-1", EVENT).await, expected);
    }
}

#[tokio::test]
async fn an_instance_that_is_too_old_serves_no_more() {
    let plugins = described(9).with(|config| config.idle_age_max = Duration::ZERO).load().await;
    for _ in 0..3 {
        assert_eq!(count(&plugins, "sub-1", EVENT).await, "1");
    }
}

#[tokio::test]
async fn what_a_plugin_registers_is_held_to_its_limits() {
    type Change = fn(&mut Config);
    let changes: [(Change, &str); 2] = [
        (
            |config| config.limits.accepts_max = 0,
            "at most 0 event types can be accepted one by one (plugins.accepts_max)",
        ),
        (|config| config.limits.schema_bytes_max = 10, "a schema has at most 10 bytes (plugins.schema_max)"),
    ];
    for (change, words) in changes {
        let plugins = described(0).with(change).load().await;
        let why = refusal(&plugins, "described").to_string();
        assert!(why.contains(words), "{why}");
    }
}

#[tokio::test]
async fn no_call_leaves_a_handle_behind_in_a_reused_instance() {
    let plugins = described(9).with(|config| config.limits.handles_max = 2).load().await;
    for calls in 1..=9 {
        assert_eq!(count(&plugins, "sub-1", EVENT).await, calls.to_string());
    }
}

#[tokio::test]
async fn an_instance_serves_one_tenant_only() {
    let plugins = described(9).with(|config| config.calls_max = 4).load().await;
    assert_eq!(count(&plugins, "sub-1", EVENT).await, "1");
    assert_eq!(count(&plugins, "sub-2", EVENT).await, "1", "another subscription is another tenant");
    assert_eq!(count(&plugins, "sub-1", EVENT).await, "2");
    assert_eq!(count(&plugins, "sub-1", &of_tenant("a")).await, "1");
    assert_eq!(count(&plugins, "sub-2", &of_tenant("a")).await, "2", "the same tenant");
    assert_eq!(count(&plugins, "sub-1", &of_tenant("b")).await, "1");
    assert_eq!(count(&plugins, "a", EVENT).await, "1", "a subscription that is named like a tenant");
}

#[tokio::test]
async fn what_the_operator_says_of_tenants_is_above_what_events_say() {
    let plugins = described(9).with(|config| config.calls_max = 4).load().await;
    let count = async |subscription, tenant: &str, event: &str| {
        let (call, draft) = delivery_of(subscription, event);
        let call = Call { tenant: Some(tenant.parse().unwrap()), ..call };
        counted(&plugins, call, draft).await
    };
    assert_eq!(count("sub-1", "a", EVENT).await, "1");
    assert_eq!(count("sub-2", "a", EVENT).await, "2", "another subscription of the same tenant");
    assert_eq!(count("sub-3", "b", EVENT).await, "1");
    assert_eq!(count("sub-3", "b", &of_tenant("a")).await, "2", "an event does not bring it to another tenant");
    let (call, draft) = delivery_of("sub-4", &of_tenant("a"));
    assert_eq!(counted(&plugins, call, draft).await, "1", "a name that only an event has");
}

#[tokio::test]
async fn more_tenants_than_may_wait_push_one_another_out() {
    let changes: [fn(&mut Config); 2] = [|config| config.idle_max = 2, |config| config.idle_bytes_max = 2 * 65536];
    for change in changes {
        let plugins = described(9).with(change).load().await;
        assert_eq!(count(&plugins, "sub-1", EVENT).await, "1");
        assert_eq!(count(&plugins, "sub-2", EVENT).await, "1");
        assert_eq!(count(&plugins, "sub-1", EVENT).await, "2");
        assert_eq!(count(&plugins, "sub-3", EVENT).await, "1");
        assert_eq!(count(&plugins, "sub-1", EVENT).await, "3");
        assert_eq!(count(&plugins, "sub-2", EVENT).await, "1", "only two can wait, and it waited longest");
    }
}
