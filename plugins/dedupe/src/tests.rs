use weft_plugin::testing::{Left, State, event};

use super::*;

const EVENT: &str = r#"{"notificationId":"n-1","subscriptionId":"s","objectRef":"/r/1","severity":3}"#;

fn is_dropped(left: &Left) -> bool {
    matches!(&left.verdict, Ok(Verdict::Drop(_)))
}

#[test]
fn the_second_of_the_same_is_dropped_until_the_time_is_over() {
    let mut kept = State::new();
    let mut call = |delivery: &str, now| {
        let settings = r#"{"within_seconds":60}"#;
        event(EVENT).settings(settings).delivery(delivery).now_ms(now).state(&mut kept).call(handle)
    };
    assert_eq!(call("1-0", 0).verdict, Ok(Verdict::Deliver));
    assert_eq!(call("2-0", 59_999).verdict, Ok(Verdict::drop("the same was seen as delivery 1-0")));
    assert_eq!(call("2-0", 60_000).verdict, Ok(Verdict::Deliver));
}

#[test]
fn a_delivery_never_drops_itself() {
    let mut kept = State::new();
    for run in [0, 0, 1] {
        let left = event(EVENT).delivery("1-0").run(run).state(&mut kept).call(handle);
        assert_eq!(left.verdict, Ok(Verdict::Deliver), "after a crash, or once more");
    }
    assert!(is_dropped(&event(EVENT).delivery("2-0").state(&mut kept).call(handle)));
    let replayed = event(EVENT).delivery("3-0").replays(1).state(&mut kept).call(handle);
    assert_eq!(replayed.verdict, Ok(Verdict::Deliver), "a person wants it");
}

#[test]
fn what_is_the_same_is_the_settings_to_say() {
    let mut kept = State::new();
    let settings = r#"{"key":["/objectRef","/severity"]}"#;
    let mut call = |json: &str, delivery: &str| {
        is_dropped(&event(json).settings(settings).delivery(delivery).state(&mut kept).call(handle))
    };
    assert!(!call(EVENT, "1-0"));
    assert!(call(&EVENT.replace("n-1", "n-2"), "2-0"));
    assert!(!call(&EVENT.replace('3', "4"), "3-0"));
    assert!(!call(&EVENT.replace("\"s\"", "\"t\""), "4-0"), "another subscription");
    assert!(!call("{}", "5-0") && !call("{}", "6-0"), "nothing to tell them by");
}
