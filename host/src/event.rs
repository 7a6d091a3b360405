//! An event: what happened, an immutable fact. Reads the O2-IMS notification a producer writes and cuts the
//! callback URL out of it; every other byte of the body stays as the producer wrote it.

use std::sync::OnceLock;

use bytes::Bytes;
use memchr::memchr;

use crate::json::{self, Index, Kind, Place, Pointer};

/// What of an event's JSON becomes the request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyForm {
    /// Without `callbackUrl`, as the O2-IMS consumers expect it.
    #[default]
    WithoutCallback,
    /// The entry's bytes as they are, as the Go workers sent them.
    Verbatim,
}

/// What happened.
#[derive(Debug)]
pub struct Event {
    /// The producer's `notificationId`, or the entry's id if it gave none.
    pub id: String,
    /// `notificationEventType`, for example `o2ims.Resource.Created`; empty if the producer gave none.
    pub event_type: String,
    /// `tenantId`, if it is a string and not empty.
    pub tenant: Option<String>,
    /// The JSON as the producer wrote it.
    pub raw: Bytes,
    /// What is sent of it.
    pub body: Bytes,
    index: OnceLock<Index>,
}

/// An event and whom the producer addressed it to.
#[derive(Debug)]
pub struct Notification {
    /// The event itself.
    pub event: Event,
    /// `subscriptionId`, if it is there and not empty.
    pub subscription_id: Option<String>,
    /// `callbackUrl`, if it is there and not empty.
    pub callback_url: Option<String>,
}

/// Why bytes are not an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a JSON document at all.
    #[error("the event is not JSON: {0}")]
    NotJson(json::Error),
    /// JSON, but not an object.
    #[error("the event is not a JSON object")]
    NotAnObject,
    /// One of the members Weft reads is not a string.
    #[error("{0} is not a string")]
    NotAString(&'static str),
}

/// By hand, since what the message says already is not a source to be said again.
impl From<json::Error> for Error {
    fn from(error: json::Error) -> Self {
        Error::NotJson(error)
    }
}

impl Notification {
    /// Reads an event's JSON. `fallback_id` names it if the producer did not.
    pub fn parse(raw: Bytes, form: BodyForm, fallback_id: impl FnOnce() -> String) -> Result<Notification, Error> {
        let index = Index::build(&raw)?;
        let members = Members::read(&raw, &index)?;
        let (body, index) = match form {
            BodyForm::WithoutCallback if !members.callbacks.is_empty() => {
                let (body, index) = index.without(&raw, &members.callbacks);
                (body.into(), index)
            }
            BodyForm::WithoutCallback | BodyForm::Verbatim => (raw.clone(), index),
        };
        let event = Event {
            id: members.notification_id.unwrap_or_else(fallback_id),
            event_type: members.event_type.unwrap_or_default(),
            tenant: members.tenant,
            raw,
            body,
            index: index.into(),
        };
        Ok(Notification { event, subscription_id: members.subscription_id, callback_url: members.callback_url })
    }
}

impl Event {
    /// A further attribute by its plugin-facing name: `object-ref` (also `subject`), `resource-type-id`,
    /// `resource-pool-id`, `global-resource-id`, `time`, `tenant`, `source`. Anything but a string is absent.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<String> {
        let pointer = match name {
            "object-ref" | "subject" => "/objectRef",
            "resource-type-id" => "/resourceTypeId",
            "resource-pool-id" => "/resourcePoolId",
            "global-resource-id" => "/globalResourceId",
            "time" => "/timestamp",
            "tenant" => return self.tenant.clone(),
            "source" => "/source",
            _ => return None,
        };
        let place = self.index().find(&self.body, Pointer::parse(pointer)?)?;
        (place.kind == Kind::Text).then(|| json::text(&self.body[place.value]).into_owned())
    }

    /// Where everything stands in [`Event::body`].
    #[must_use]
    pub fn index(&self) -> &Index {
        self.index.get_or_init(|| Index::of_checked(&self.body))
    }

    /// Gives its memory back, which may be more than the event's, until somebody asks for it.
    pub fn forget_index(&mut self) {
        self.index = OnceLock::new();
    }
}

/// The members of an event's JSON that Weft itself reads.
#[derive(Default)]
struct Members {
    subscription_id: Option<String>,
    event_type: Option<String>,
    notification_id: Option<String>,
    callback_url: Option<String>,
    tenant: Option<String>,
    /// Where the callback URLs are, to be cut out.
    callbacks: Vec<Place>,
}

impl Members {
    fn read(raw: &[u8], index: &Index) -> Result<Members, Error> {
        let mut read = Members::default();
        if index.root().kind != Kind::Object {
            return Err(Error::NotAnObject);
        }
        for member in index.inside(&index.root()) {
            let Some(name) = Name::of(&raw[member.name.clone()]) else { continue };
            let kept = match name {
                Name::SubscriptionId => &mut read.subscription_id,
                Name::EventType => &mut read.event_type,
                Name::NotificationId => &mut read.notification_id,
                Name::CallbackUrl => {
                    read.callbacks.push(member.clone());
                    &mut read.callback_url
                }
                Name::Tenant => &mut read.tenant,
            };
            // A repeated name counts as the last one says, as for most readers.
            *kept = match member.kind {
                Kind::Text => Some(json::text(&raw[member.value]).into_owned()).filter(|text| !text.is_empty()),
                Kind::Null => None,
                _ if name == Name::Tenant => None,
                Kind::Boolean | Kind::Number | Kind::Array | Kind::Object => {
                    return Err(Error::NotAString(name.text()));
                }
            };
        }
        Ok(read)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    SubscriptionId,
    EventType,
    NotificationId,
    CallbackUrl,
    Tenant,
}

impl Name {
    const ALL: [Name; 5] =
        [Name::SubscriptionId, Name::EventType, Name::NotificationId, Name::CallbackUrl, Name::Tenant];

    /// `None` for all others.
    fn of(quoted: &[u8]) -> Option<Name> {
        let known = |text: &[u8]| Name::ALL.into_iter().find(|name| name.text().as_bytes() == text);
        let is_escaped = || memchr(b'\\', quoted).is_some();
        known(&quoted[1..quoted.len() - 1])
            .or_else(|| if is_escaped() { known(json::text(quoted).as_bytes()) } else { None })
    }

    fn text(self) -> &'static str {
        match self {
            Name::SubscriptionId => "subscriptionId",
            Name::EventType => "notificationEventType",
            Name::NotificationId => "notificationId",
            Name::CallbackUrl => "callbackUrl",
            Name::Tenant => "tenantId",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Notification, Error> {
        let raw = Bytes::copy_from_slice(json.as_bytes());
        Notification::parse(raw, BodyForm::WithoutCallback, || "1-0".to_owned())
    }

    #[track_caller]
    fn cut(json: &str, callback: Option<&str>, body: &str) {
        let notification = parse(json).expect("an event");
        assert_eq!(notification.callback_url.as_deref(), callback);
        assert_eq!(std::str::from_utf8(&notification.event.body).unwrap(), body);
        assert_eq!(notification.event.index(), &Index::build(body.as_bytes()).unwrap());
        assert_eq!(notification.event.raw, json.as_bytes());
    }

    #[test]
    fn a_tenant_is_a_text_or_none() {
        let tenant = |json: &str| parse(json).unwrap().event.tenant;
        assert_eq!(tenant(r#"{"tenantId":"\u0061b"}"#).as_deref(), Some("ab"));
        assert_eq!(tenant(r#"{"tenantId":"a","tenantId":null}"#), None);
        for none in ["{}", r#"{"tenantId":""}"#, r#"{"tenantId":7}"#, r#"{"a":{"tenantId":"a"}}"#] {
            assert_eq!(tenant(none), None, "{none}");
        }
    }

    #[test]
    fn the_callback_url_is_cut_out_wherever_it_stands() {
        cut(r#"{"a":1,"callbackUrl":"u"}"#, Some("u"), r#"{"a":1}"#);
        cut(r#"{"callbackUrl":"u","a":1}"#, Some("u"), r#"{"a":1}"#);
        cut(r#"{"a":1,"callbackUrl":"u","b":2}"#, Some("u"), r#"{"a":1,"b":2}"#);
        cut(r#"{"callbackUrl":"u"}"#, Some("u"), "{}");
        cut("{}", None, "{}");
    }

    #[test]
    fn whitespace_around_it_goes_and_the_rest_stays() {
        cut("{ \"a\" : 1 ,\n \"callbackUrl\" :\t\"u\" , \"b\":2 }", Some("u"), "{ \"a\" : 1 , \"b\":2 }");
        cut("{ \"callbackUrl\" : \"u\" }", Some("u"), "{  }");
        cut("\n{\"callbackUrl\" : \"u\" ,  \"a\":1}\n", Some("u"), "\n{\"a\":1}\n");
    }

    #[test]
    fn a_nested_callback_url_stays() {
        cut(
            r#"{"x":{"callbackUrl":"n"},"y":[{"callbackUrl":1}],"callbackUrl":"u"}"#,
            Some("u"),
            r#"{"x":{"callbackUrl":"n"},"y":[{"callbackUrl":1}]}"#,
        );
        cut(r#"{"x":"\"callbackUrl\":\"n\""}"#, None, r#"{"x":"\"callbackUrl\":\"n\""}"#);
    }

    #[test]
    fn an_escaped_name_is_the_same_name() {
        cut(r#"{"callback\u0055rl":"http:\/\/u","a":"\\"}"#, Some("http://u"), r#"{"a":"\\"}"#);
    }

    #[test]
    fn of_duplicates_all_are_cut_and_the_last_counts() {
        cut(r#"{"callbackUrl":"1","a":1,"callbackUrl":"2"}"#, Some("2"), r#"{"a":1}"#);
        cut(r#"{"callbackUrl":"1","callbackUrl":"2"}"#, Some("2"), "{}");
        cut(r#"{"callbackUrl":"1","callbackUrl":"2","a":1,"callbackUrl":"3","b":0}"#, Some("3"), r#"{"a":1,"b":0}"#);
    }

    #[test]
    fn numbers_and_unicode_are_untouched() {
        let body = r#"{"n":1.10,"big":123456789012345678901234567890,"e":1E+2,"z":-0.0,"u":"é\u00e9😀","s":""}"#;
        cut(&body.replacen('{', r#"{"callbackUrl":"u","#, 1), Some("u"), body);
    }

    #[test]
    fn half_a_surrogate_pair_is_sent_as_it_is_and_read_as_no_character() {
        cut(r#"{"callbackUrl":"u","notificationId":"a\ud800b"}"#, Some("u"), r#"{"notificationId":"a\ud800b"}"#);
        assert_eq!(parse(r#"{"notificationId":"a\ud800b"}"#).unwrap().event.id, "a\u{fffd}\u{fffd}\u{fffd}b");
    }

    #[test]
    fn null_and_empty_are_absent() {
        cut(r#"{"callbackUrl":null,"a":1}"#, None, r#"{"a":1}"#);
        cut(r#"{"callbackUrl":""}"#, None, "{}");
        let notification = parse(r#"{"notificationId":null,"subscriptionId":""}"#).unwrap();
        assert_eq!(notification.event.id, "1-0");
        assert_eq!(notification.subscription_id, None);
    }

    #[test]
    fn what_is_no_event_is_refused_with_the_reason() {
        assert_eq!(parse("[]").unwrap_err(), Error::NotAnObject);
        assert_eq!(parse("3").unwrap_err(), Error::NotAnObject);
        assert_eq!(parse(r#"{"subscriptionId":5}"#).unwrap_err(), Error::NotAString("subscriptionId"));
        assert_eq!(parse(r#"{"callbackUrl":["u"]}"#).unwrap_err(), Error::NotAString("callbackUrl"));
        for bad in ["", "{", r#"{"a":1"#, r#"{"a":1}}"#, r#"{"a" 1}"#, "{'a':1}", r#"{"a":tru}"#] {
            assert!(matches!(parse(bad), Err(Error::NotJson(_))), "{bad}");
        }
        let raw = Bytes::from_static(b"{\"a\":\"\xff\"}");
        let error = Notification::parse(raw, BodyForm::WithoutCallback, String::new).unwrap_err();
        assert_eq!(error, Error::NotJson(json::Error::NotUtf8(6)));
    }

    #[test]
    fn attributes_have_their_plugin_names() {
        let event =
            parse(r#"{"objectRef":"/r/1","timestamp":"2026-01-08T10:30:00Z","resourceTypeId":3}"#).unwrap().event;
        assert_eq!(event.attribute("object-ref").as_deref(), Some("/r/1"));
        assert_eq!(event.attribute("time").as_deref(), Some("2026-01-08T10:30:00Z"));
        assert_eq!(event.attribute("resource-type-id"), None);
        assert_eq!(event.attribute("secret"), None);
    }

    proptest::proptest! {
        #[test]
        fn cutting_leaves_the_same_document_without_the_member(
            before in proptest::collection::vec("[a-z]{1,3}", 0..3),
            after in proptest::collection::vec("[a-z]{1,3}", 0..3),
            space in "[ \n\t]{0,2}",
        ) {
            let member = |name: &String| format!("{space}\"{name}\"{space}:{space}[{{\"a\":1.0}}]{space}");
            let callback = format!("{space}\"callbackUrl\"{space}:{space}\"u\"{space}");
            let mut members: Vec<String> = before.iter().map(member).collect();
            members.push(callback);
            members.extend(after.iter().map(member));
            let notification = parse(&format!("{{{}}}", members.join(","))).unwrap();
            let expected: serde_json::Value = serde_json::from_str(&format!(
                "{{{}}}", before.iter().chain(&after).map(member).collect::<Vec<_>>().join(",")
            )).unwrap();
            let body: serde_json::Value = serde_json::from_slice(&notification.event.body).unwrap();
            proptest::prop_assert_eq!(body, expected);
            proptest::prop_assert_eq!(notification.event.index(), &Index::build(&notification.event.body).unwrap());
        }
    }
}
