use std::time::Duration;

use super::*;
use crate::{EditError, HeaderError, StateError, log as lines, state};

const EVENT: &str = r#"{"notificationId":"n-1","notificationEventType":"o2ims.Resource.Created","subscriptionId":"s","objectRef":"/r/1","big":12345678901234567890.10,"list":[1,{"a":"b"}],"callbackUrl":"https://user:pw@smo.example.com:8443/notify?x"}"#;

#[test]
fn a_delivery_shows_what_the_hosts_would() {
    fn handle(delivery: &Delivery) -> Result<Verdict, Failure> {
        assert_eq!(delivery.id(), "n-1");
        assert_eq!(delivery.event_type(), "o2ims.Resource.Created");
        assert_eq!(delivery.attribute("subject").as_deref(), Some("/r/1"));
        assert_eq!(delivery.attribute("tenant"), None);
        assert_eq!((delivery.subscription_id().as_str(), delivery.run()), ("s", 2));
        assert_eq!(delivery.destination(), "https://smo.example.com:8443");
        assert_eq!(delivery.now_ms(), 1_767_868_200_000);
        assert_eq!(delivery.json("/list/1/a"), Some(Json::Text("b".to_owned())));
        assert_eq!(delivery.json("/list"), Some(Json::Composite(r#"[1,{"a":"b"}]"#.to_owned())));
        assert_eq!(delivery.json("/list/01"), None);
        assert_eq!(delivery.json_many(&["/list/0".to_owned(), "/no".to_owned()]), [Some(Json::Integer(1)), None]);
        assert_eq!(delivery.json("/callbackUrl"), None, "it is not in the body");
        assert_eq!(delivery.read_body(0, 5), br#"{"not"#);
        lines::write(lines::Level::Warn, "seen", &[("what", "it")]);
        Ok(Verdict::deliver())
    }
    let left = event(EVENT).run(2).call(handle);
    assert_eq!(left.verdict, Ok(Verdict::Deliver));
    assert_eq!(left.log, ["warn: seen what=it"]);
    assert_eq!(left.headers, [("content-type".to_owned(), "application/json".to_owned())]);
}

#[test]
fn edits_keep_what_they_do_not_touch() {
    fn handle(delivery: &Delivery) -> Result<Verdict, Failure> {
        delivery.json_set("/list/-", "true")?;
        delivery.json_set("/list/1/c", "null")?;
        delivery.set_text("/objectRef", "\"")?;
        delivery.json_remove("/subscriptionId")?;
        delivery.json_remove("/nothing/there")?;
        delivery.json_merge(r#"{"notificationId":null,"new":{"x":1,"y":null}}"#)?;
        delivery.set_header("X-Seen", "yes")?;
        Ok(Verdict::deliver())
    }
    let left = event(EVENT).header("x-before", "1").call(handle);
    assert_eq!(
        left.text(),
        r#"{"notificationEventType":"o2ims.Resource.Created","objectRef":"\"","big":12345678901234567890.10,"list":[1,{"a":"b","c":null},true],"new":{"x":1}}"#
    );
    assert_eq!((left.header("x-seen"), left.header("x-before")), (Some("yes"), Some("1")));
    assert_eq!(left.json("/new/x"), Some(Json::Integer(1)));
}

#[test]
fn edits_do_not_count_unless_it_is_delivered() {
    fn handle(delivery: &Delivery) -> Result<Verdict, Failure> {
        delivery.set_body(b"gone", Some("text/plain"))?;
        Ok(Verdict::drop("no"))
    }
    let left = event("{}").call(handle);
    assert_eq!((left.text(), left.header("content-type")), ("{}", Some("application/json")));
}

#[test]
fn what_cannot_be_edited_is_refused_by_name() {
    fn handle(delivery: &Delivery) -> Result<Verdict, Failure> {
        assert_eq!(delivery.json_set("list", "1"), Err(EditError::BadPointer));
        assert_eq!(delivery.json_set("/no/where", "1"), Err(EditError::BadPointer));
        assert_eq!(delivery.json_set("/a", "nothing"), Err(EditError::NotJson));
        assert_eq!(delivery.json_remove(""), Err(EditError::BadPointer));
        assert_eq!(delivery.json_merge("{"), Err(EditError::NotJson));
        assert_eq!(delivery.set_body(&[0; 2 << 20], None), Err(EditError::TooLarge));
        assert_eq!(delivery.set_header("Host", "x"), Err(HeaderError::Reserved));
        assert_eq!(delivery.set_header("x-o2ims-signature", "x"), Err(HeaderError::Reserved));
        assert_eq!(delivery.set_header("a b", "x"), Err(HeaderError::InvalidName));
        assert_eq!(delivery.set_header("a", "x\r\ny: z"), Err(HeaderError::InvalidValue));
        assert_eq!(delivery.set_header("a", &"x".repeat(9000)), Err(HeaderError::TooLarge));
        delivery.set_body_text("plain", Some("text/plain"))?;
        assert_eq!((delivery.json(""), delivery.json_set("/a", "1")), (None, Err(EditError::NotJson)));
        delivery.remove_header("host")?;
        Ok(Verdict::deliver())
    }
    let refused = event("{}").call(handle).verdict;
    assert_eq!(refused, Err(Failure::permanent("this header is the host's own")));
}

#[test]
fn state_is_handed_on_and_ends() {
    fn handle(_: &Delivery) -> Result<Verdict, Failure> {
        let second = Duration::from_secs(1);
        let count = state::increment("count", 1, second)?;
        let is_first = state::set_if_absent("first", b"yes", None)?;
        assert_eq!(state::get_text("first")?.as_deref(), Some("yes"));
        state::set("gone", b"x", None)?;
        state::delete("gone")?;
        Ok(Verdict::drop(format!("{count} {is_first}")))
    }
    let mut kept = State::new();
    assert_eq!(event("{}").now_ms(0).state(&mut kept).call(handle).verdict, Ok(Verdict::drop("1 true")));
    assert_eq!(event("{}").now_ms(999).state(&mut kept).call(handle).verdict, Ok(Verdict::drop("2 false")));
    assert_eq!(event("{}").now_ms(1000).state(&mut kept).call(handle).verdict, Ok(Verdict::drop("1 false")));
    assert_eq!((kept.get("count"), kept.get("gone")), (Some(&b"1"[..]), None));
    assert_eq!(event("{}").call(handle).verdict, Ok(Verdict::drop("1 true")), "without it nothing is there");
}

#[test]
fn what_the_state_refuses_may_work_another_time_or_not() {
    let mended = |error| Failure::from(error) == Failure::transient("state: the quota is used up");
    assert!(mended(StateError::Quota));
    fn handle(_: &Delivery) -> Result<Verdict, Failure> {
        state::set(&"k".repeat(513), b"", None)?;
        Ok(Verdict::deliver())
    }
    let refused = event("{}").call(handle).verdict;
    assert_eq!(refused, Err(Failure::permanent("state: the key or the value is too large")));
    assert_eq!(Failure::from("x".parse::<u8>().unwrap_err()), Failure::permanent("invalid digit found in string"));
}

#[cfg(feature = "http")]
#[test]
fn other_servers_answer_what_the_test_says() {
    use crate::http::{self, Answer};
    fn handle(_: &Delivery) -> Result<Verdict, Failure> {
        let answer = http::get("https://inventory.example.com/a")?;
        Ok(Verdict::drop(format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body))))
    }
    let servers = |request: &http::Request<'_>| {
        Ok(Answer { status: 200, headers: Vec::new(), body: request.url.as_bytes().to_vec() })
    };
    let left = event("{}").servers(servers).call(handle);
    assert_eq!(left.verdict, Ok(Verdict::drop("200 https://inventory.example.com/a")));
    let denied = event("{}").call(handle).verdict;
    assert_eq!(denied, Err(Failure::transient("http: denied: the test has no servers")));
}
