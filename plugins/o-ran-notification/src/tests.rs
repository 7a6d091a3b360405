use weft_plugin::testing::event;

use super::*;

const EVENT: &str = r#"{"subscriptionId":"sub-1","notificationEventType":"o2ims.Resource.Updated","objectRef":"/o2ims/v1/resources/node-1","timestamp":"2026-01-08T10:30:00Z","notificationId":"n-1","priorObjectState":{"a":1.0},"postObjectState":{"a":2}}"#;

#[track_caller]
fn check(json: &str, settings: &str, expected: &str) {
    let left = event(json).settings(settings).call(handle);
    assert_eq!((left.verdict.as_ref(), left.text()), (Ok(&Verdict::Deliver), expected));
}

#[test]
fn a_change_has_both_states() {
    check(
        EVENT,
        "{}",
        r#"{"notificationId":"n-1","consumerSubscriptionId":"sub-1","notificationEventType":"MODIFY","objectRef":"/o2ims/v1/resources/node-1","updateTime":"2026-01-08T10:30:00Z","priorObjectState":{"a":1.0},"postObjectState":{"a":2}}"#,
    );
}

#[test]
fn a_creation_has_no_state_before_and_a_deletion_none_after() {
    let created = EVENT.replace("Updated", "Created").replace("\"timestamp\":\"2026-01-08T10:30:00Z\",", "");
    check(
        &created,
        r#"{"consumer_subscription_id":"smo-\"1\"","event_types":"numbers"}"#,
        r#"{"notificationId":"n-1","consumerSubscriptionId":"smo-\"1\"","notificationEventType":0,"objectRef":"/o2ims/v1/resources/node-1","postObjectState":{"a":2}}"#,
    );
    let deleted = EVENT.replace("Updated", "Deleted").replace('{', "{\"consumerSubscriptionId\":\"smo-2\",");
    check(
        &deleted.replacen("{\"consumerSubscriptionId\":\"smo-2\",\"a\"", "{\"a\"", 2),
        r#"{"prior_state":"/postObjectState"}"#,
        r#"{"notificationId":"n-1","consumerSubscriptionId":"smo-2","notificationEventType":"DELETE","objectRef":"/o2ims/v1/resources/node-1","updateTime":"2026-01-08T10:30:00Z","priorObjectState":{"a":2}}"#,
    );
}

#[test]
fn what_is_no_change_of_the_inventory_passes() {
    let alarm = EVENT.replace("Resource.Updated", "Alarm.Raised");
    check(&alarm, "{}", &alarm);
}
