//! What is done with bytes that nobody vouches for, and what must hold of it: the bodies of the fuzz targets under `fuzz/`,
//! and of the tests beside this file, which do the same over a fixed number of seeds. Not part of what people use.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::delivery::{Context, Delivery};
use crate::entry::{Content, DeadLetter, Entry, EntryId, Handle, Place, Record, Stream};
use crate::event::{BodyForm, Notification};
use crate::outcome::{DeadReason, Outcome};
use crate::queue::redis::letter;
use crate::request::Draft;
use crate::stored;
use crate::subscription::{Endpoint, Settings};

pub use crate::plugin::trial::{Trial, answer};

const BYTES_MAX: usize = 1024 * 1024;

/// As an event that a producer wrote: what can be read has a body that can be read, without the URL.
pub fn event(bytes: &[u8]) {
    for form in [BodyForm::WithoutCallback, BodyForm::Verbatim] {
        let raw = Bytes::copy_from_slice(bytes);
        let Ok(read) = Notification::parse(raw.clone(), form, || "1-1".to_owned()) else { continue };
        assert_eq!(read.event.raw, raw);
        let again = Notification::parse(read.event.body.clone(), BodyForm::Verbatim, || "1-1".to_owned());
        let again = again.expect("the body of an event is one");
        assert_eq!((again.event.id, again.subscription_id), (read.event.id.clone(), read.subscription_id));
        match form {
            BodyForm::Verbatim => assert_eq!(read.event.body, raw),
            BodyForm::WithoutCallback => assert_eq!(again.callback_url, None),
        }
        for attribute in ["type", "object-ref", "resource-type-id", "nothing"] {
            let _ = read.event.attribute(attribute);
        }
    }
}

/// As an entry of the stream, and as one of the retry schedule: what can be read can be sent, and stored and read again.
pub fn entry(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let field = |name: &'static str| (Bytes::from_static(name.as_bytes()), bytes.clone());
    decode(Content::Stored(bytes.clone()));
    decode(Content::Fields(vec![field("event"), field("died_before"), field("replays")]));
    decode(Content::Fields(vec![field("other")]));
    if let Ok(text) = std::str::from_utf8(&bytes) {
        let deaths = stored::split(text);
        assert_eq!(stored::split(&stored::join(&deaths)), deaths);
    }
}

fn decode(content: Content) {
    let settings = |_: &str| Arc::new(Settings::default());
    let endpoint = |url: &str| Endpoint::parse(url).map(Arc::new);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_868_200);
    let (body, body_bytes_max) = (BodyForm::WithoutCallback, BYTES_MAX);
    let context = Context { settings: &settings, endpoint: &endpoint, body, body_bytes_max, now };
    let handle = Handle { id: EntryId::new(1, 1), stream: Stream::Events, place: Place::Stream };
    let delivery = match Delivery::decode(&Entry { handle, content, condemned: None }, &context) {
        Ok(delivery) => delivery,
        Err(undeliverable) => return dead(handle, &undeliverable.0),
    };
    let gone = Outcome::Dead(DeadReason::Gone);
    let Record::Dead(letter) = delivery.record(&gone, None, now) else { panic!("it is given up") };
    dead(handle, &letter);
    let retry = Outcome::Retry { after: Duration::from_secs(1) };
    let Record::Schedule { stored, .. } = delivery.record(&retry, None, now) else { panic!("a retry is scheduled") };
    let again = Entry { handle, content: Content::Stored(stored), condemned: None };
    let again = Delivery::decode(&again, &context).expect("what was stored can be read");
    assert_eq!((&again.event.raw, &again.trail), (&delivery.event.raw, &delivery.trail));
    let draft = delivery.draft.clone().unwrap_or_else(|| Draft::new(Arc::clone(&delivery.event), BYTES_MAX));
    let (_, headers, _) = draft.sign(&delivery.identity, &delivery.subscription, now).into_parts();
    assert!(headers.contains_key("x-o2ims-notification-id"));
}

/// What is given up can be written, and read again.
fn dead(handle: Handle, letter: &DeadLetter) {
    let own = |(name, value): (Cow<'_, [u8]>, Cow<'_, [u8]>)| (name.into_owned().into(), value.into_owned().into());
    let content = Content::Fields(letter::to_fields(letter).into_iter().map(own).collect());
    let again = letter::from_entry(&Entry { handle, content, condemned: None });
    assert_eq!((&again.event, &again.raw, again.reason), (&letter.event, &letter.raw, letter.reason));
    assert_eq!((again.replays, &again.subscription_id), (letter.replays, &letter.subscription_id));
}

#[cfg(test)]
mod tests;
