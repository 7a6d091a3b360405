use serde_json::from_str;
use weft_plugin::{Json, Verdict, testing};

use crate::condition::{Condition, Settings, is_type, like};

#[test]
fn a_star_is_any_text() {
    for (pattern, text) in [("a*", "abc"), ("*c", "abc"), ("a*c", "ac"), ("*", ""), ("a*b*c", "a1b2c"), ("abc", "abc")]
    {
        assert!(like(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [("a*", "ba"), ("a*a", "a"), ("a*b*c", "acb"), ("abc", "abcd"), ("", "x")] {
        assert!(!like(pattern, text), "{pattern} {text}");
    }
}

#[test]
fn stars_in_types_are_segments() {
    let event_type = "o2ims.Resource.Created";
    for pattern in
        ["o2ims.Resource.Created", "o2ims.*.Created", "**", "o2ims.**", "**.Created", "*.*.*", "o2ims.**.Created"]
    {
        assert!(is_type(pattern, event_type), "{pattern}");
    }
    for pattern in ["o2ims.*", "*.Created", "o2ims.Resource.Deleted", "**.Deleted", "", "o2ims.Resource.Created.*"] {
        assert!(!is_type(pattern, event_type), "{pattern}");
    }
}

#[track_caller]
fn check(condition: &str, value: Option<Json>, violated: Option<&str>) {
    let read: Condition = from_str(condition).unwrap();
    assert_eq!(read.violated(value.as_ref()), violated, "{condition} {value:?}");
}

#[test]
fn conditions_hold_or_name_the_part_that_does_not() {
    let text = |text: &str| Some(Json::Text(text.to_owned()));
    check(r#"{"equals":"a"}"#, text("a"), None);
    check(r#"{"equals":"a"}"#, text("b"), Some("equals"));
    check(r#"{"equals":"a"}"#, None, Some("equals"));
    check(r#"{"equals":1}"#, Some(Json::Number(1.0)), None);
    check(r#"{"equals":{"a":[1]}}"#, Some(Json::Composite(r#"{ "a": [1] }"#.to_owned())), None);
    check(r#"{"one_of":["a",2,null]}"#, Some(Json::Integer(2)), None);
    check(r#"{"one_of":["a",2,null]}"#, Some(Json::Null), None);
    check(r#"{"one_of":["a"]}"#, text("b"), Some("one_of"));
    check(r#"{"none_of":["a"]}"#, text("a"), Some("none_of"));
    check(r#"{"none_of":["a"]}"#, None, None);
    check(r#"{"like":"pool-*"}"#, text("pool-1"), None);
    check(r#"{"like":"pool-*"}"#, Some(Json::Integer(1)), Some("like"));
    check(r#"{"at_least":3}"#, Some(Json::Integer(3)), None);
    check(r#"{"at_least":3}"#, Some(Json::Number(2.9)), Some("at_least"));
    check(r#"{"at_most":3}"#, text("1"), Some("at_most"));
    check(r#"{"exists":true}"#, Some(Json::Null), None);
    check(r#"{"exists":false}"#, Some(Json::Null), Some("exists"));
    check(r#"{"exists":false}"#, None, None);
    check(r#"{"at_least":1,"at_most":2}"#, Some(Json::Integer(3)), Some("at_most"));
}

#[test]
fn settings_are_read_strictly() {
    assert!(from_str::<Settings>(r#"{"event_type":["a"]}"#).is_err());
    assert!(from_str::<Settings>(r#"{"json":{"/a":{"atleast":1}}}"#).is_err());
    assert!(from_str::<Settings>("{}").is_ok());
}

#[track_caller]
fn decides(settings: &str, reason: Option<&str>) {
    let event = r#"{"notificationEventType":"o2ims.Resource.Created","objectRef":"/r/1","pool":"a","n":3}"#;
    let left = testing::event(event).settings(settings).call(crate::handle);
    assert_eq!(left.verdict, Ok(reason.map_or(Verdict::Deliver, Verdict::drop)), "{settings}");
    assert_eq!(left.text(), event);
}

#[test]
fn the_first_condition_that_does_not_hold_is_the_reason() {
    decides("{}", None);
    decides(
        r#"{"event_types":["o2ims.*.Created"],"attributes":{"subject":"/r/*"},"json":{"/n":{"at_least":3}}}"#,
        None,
    );
    decides(r#"{"event_types":["a","b.*"]}"#, Some("event type o2ims.Resource.Created matches none of a, b.*"));
    decides(r#"{"attributes":{"tenant":"*"}}"#, Some("attribute tenant is missing"));
    decides(r#"{"attributes":{"object-ref":"/s/*"}}"#, Some("attribute object-ref is /r/1, not like /s/*"));
    decides(r#"{"json":{"/n":{"at_most":2},"/pool":{"equals":"a"}}}"#, Some("/n does not meet at_most"));
}
