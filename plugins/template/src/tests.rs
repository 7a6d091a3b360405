use weft_plugin::testing::event;

use super::*;

const EVENT: &str = r#"{"notificationId":"n-1","notificationEventType":"o2ims.Alarm.Raised","objectRef":"/r/\"1\"","severity":3,"tags":["a"],"note":null}"#;

#[track_caller]
fn check(settings: &str, expected: &str, content_type: &str) {
    let left = event(EVENT).settings(settings).call(handle);
    assert_eq!(left.verdict, Ok(Verdict::Deliver));
    assert_eq!((left.text(), left.header("content-type")), (expected, Some(content_type)));
}

#[test]
fn places_are_filled() {
    let plain = "text/plain; charset=utf-8";
    check(
        r#"{"text":"{{@event-type}} of {{/objectRef}}, {{ /severity }}"}"#,
        r#"o2ims.Alarm.Raised of /r/"1", 3"#,
        plain,
    );
    check(r#"{"text":"{{/tags}}{{/no}}{{/note}}!"}"#, r#"["a"]null!"#, plain);
    check(
        r#"{"text":"{{@id | upper}} {{@event-type|lower}} {{/objectRef | json}}"}"#,
        r#"N-1 o2ims.alarm.raised "/r/\"1\"""#,
        plain,
    );
    check(r#"{"text":"{{/no | default \"none at all\"}} {{/note | default nothing}}"}"#, "none at all nothing", plain);
    check(r#"{"text":"<p>{{@subscription-id}}</p>","content_type":"text/html"}"#, "<p>sub-1</p>", "text/html");
}

#[test]
fn json_stays_json_whatever_stands_in_the_event() {
    check(
        r#"{"json":{"text":"{{/objectRef}} raised","n":["{{/severity}}",1.5,true],"tags":"{{/tags}}","no":"{{/no}}","s":"{{/severity | json}}"}}"#,
        r#"{"n":[3,1.5,true],"no":null,"s":"3","tags":["a"],"text":"/r/\"1\" raised"}"#,
        "application/json",
    );
}

#[test]
fn a_template_that_is_none_says_what_is_wrong() {
    for (settings, word) in [
        (r#"{"text":"{{/a"}"#, "has no }}"),
        (r#"{"text":"{{a}}"}"#, "begins neither with /"),
        (r#"{"json":{"a":["{{/a | shout}}"]}}"#, "\"shout\" is none of"),
        (r#"{"json":"x","text":"x"}"#, "one of json and text"),
        ("{}", "one of json and text"),
        (r#"{"txt":"x"}"#, "unknown field"),
    ] {
        let Err(Failure::Permanent(why)) = event(EVENT).settings(settings).call(handle).verdict else {
            panic!("{settings}")
        };
        assert!(why.starts_with("settings: ") && why.contains(word), "{why}");
    }
}
