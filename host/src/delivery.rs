//! A delivery: the duty to bring one event to one subscription. Made from an entry, turned into a draft, and in the
//! end into what the queue records.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderValue;
use sha2::{Digest, Sha256};

use crate::attempt::AttemptResult;
use crate::entry::{Condemned, Content, DeadLetter, Death, Entry, Handle, Record, Turn};
use crate::event::{BodyForm, Event, Notification};
use crate::outcome::{DeadReason, Outcome};
use crate::request::Draft;
use crate::stored::{self, Stored};
use crate::subscription::{BadUrl, Endpoint, Ordering, Settings, Subscription};

/// One event on its way to one subscription.
#[derive(Debug)]
pub struct Delivery {
    /// What settling its entry takes.
    pub handle: Handle,
    /// What happened.
    pub event: Arc<Event>,
    /// Whom it is for.
    pub subscription: Subscription,
    /// The headers that say which delivery it is.
    pub identity: Identity,
    /// The number of the attempt that comes next.
    pub attempt: NonZeroU32,
    /// How often the chain ran without reaching a final verdict.
    pub run: u32,
    /// The request as the chain left it, once it has.
    pub draft: Option<Draft>,
    /// The plugins that made the draft, as `name@digest`.
    pub plugins: Vec<String>,
    /// Where it comes from and what happened to it before.
    pub trail: Trail,
}

/// What happened to a delivery before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trail {
    /// When a host first saw the entry.
    pub first_seen: SystemTime,
    /// How often it was replayed.
    pub replays: u32,
    /// How it died before, oldest first.
    pub died_before: Vec<Death>,
}

/// The headers that say which delivery a request is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Absent if the producer gave no type.
    pub event_type: Option<HeaderValue>,
    /// The event's id.
    pub notification_id: HeaderValue,
    /// The subscription's id.
    pub subscription_id: HeaderValue,
}

/// What decoding takes beside the entry.
pub struct Context<'a> {
    /// What is on record for a subscription id.
    pub settings: &'a (dyn Fn(&str) -> Arc<Settings> + Sync),
    /// Reads a callback URL.
    pub endpoint: &'a (dyn Fn(&str) -> Result<Arc<Endpoint>, BadUrl> + Sync),
    /// What of an event becomes the body.
    pub body: BodyForm,
    /// Larger events and bodies are refused.
    pub body_bytes_max: usize,
    /// The time this host sees the entry.
    pub now: SystemTime,
}

/// An entry that no delivery can be made of: the dead letter it becomes.
#[derive(Debug)]
pub struct Undeliverable(pub Box<DeadLetter>);

impl Delivery {
    /// Reads an entry.
    pub fn decode(entry: &Entry, context: &Context<'_>) -> Result<Delivery, Undeliverable> {
        let envelope = Envelope::open(entry, context.now)?;
        if let Some(condemned) = &entry.condemned {
            return Err(envelope.condemned(condemned, context));
        }
        if envelope.event.len() > context.body_bytes_max {
            let error =
                format!("the event has {} bytes, at most {} are taken", envelope.event.len(), context.body_bytes_max);
            return Err(envelope.dead(DeadReason::TooLarge, error, context.now));
        }
        let id = entry.handle.id;
        let notification = Notification::parse(envelope.event.clone(), context.body, || id.to_string());
        let notification =
            notification.map_err(|error| envelope.dead(DeadReason::Malformed, error.to_string(), context.now))?;
        let Some(subscription_id) = notification.subscription_id else {
            let error = "the event names no subscription: subscriptionId is missing or empty".to_owned();
            return Err(envelope.dead(DeadReason::Malformed, error, context.now));
        };
        let envelope = Envelope { subscription_id, ..envelope };
        let endpoint = notification.callback_url.as_deref().ok_or(BadUrl::Missing).and_then(context.endpoint);
        let endpoint = endpoint.map_err(|error| envelope.dead(DeadReason::BadUrl, error.to_string(), context.now))?;
        let identity = Identity::of(&notification.event, &envelope.subscription_id)
            .map_err(|error| envelope.dead(DeadReason::Malformed, error, context.now))?;
        let settings = (context.settings)(&envelope.subscription_id);
        let mut event = notification.event;
        if settings.chain.is_empty() {
            event.forget_index();
        }
        let event = Arc::new(event);
        let subscription = Subscription { id: envelope.subscription_id.into(), endpoint, settings };
        Ok(Delivery {
            handle: entry.handle,
            draft: envelope.draft.map(|draft| draft.restore(Arc::clone(&event), context.body_bytes_max)),
            event,
            subscription,
            identity,
            attempt: envelope.attempt,
            run: envelope.run,
            plugins: envelope.plugins,
            trail: envelope.trail,
        })
    }

    /// What the queue records for an outcome.
    #[must_use]
    pub fn record(&self, outcome: &Outcome, result: Option<&AttemptResult>, now: SystemTime) -> Record {
        match outcome {
            Outcome::Delivered | Outcome::Dropped(_) => Record::Done,
            Outcome::Retry { after } => {
                let attempt = self.attempt.saturating_add(1);
                let run = if self.draft.is_some() { self.run } else { self.run.saturating_add(1) };
                Record::Schedule { after: *after, stored: self.stored(attempt, run) }
            }
            Outcome::Postponed { after, .. } => {
                Record::Schedule { after: *after, stored: self.stored(self.attempt, self.run.saturating_add(1)) }
            }
            Outcome::Parked(_) => Record::Park {
                subscription: Arc::clone(&self.subscription.id),
                stored: self.stored(self.attempt, self.run),
            },
            Outcome::Dead(reason) => Record::Dead(Box::new(self.dead(*reason, result, now))),
        }
    }

    /// Where it stands in line, if its subscription keeps an order.
    #[must_use]
    pub fn turn(&self) -> Option<Turn> {
        let object = match self.subscription.settings.ordering {
            Ordering::None => return None,
            Ordering::Subscription => None,
            Ordering::Object => self.event.attribute("object-ref"),
        };
        // A digest, because what producers write may be long and have any character in it.
        let mut line = Sha256::new();
        line.update(&*self.subscription.id);
        line.update([u8::from(object.is_some())]);
        line.update(object.unwrap_or_default());
        let line = line.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Some(Turn { line, stored: self.stored(self.attempt, self.run) })
    }

    /// Its stored form, for a queue that has it wait elsewhere.
    #[must_use]
    pub fn as_it_is(&self) -> Bytes {
        self.stored(self.attempt, self.run)
    }

    fn stored(&self, attempt: NonZeroU32, run: u32) -> Bytes {
        let draft = self.draft.as_ref().map(stored::StoredDraft::of);
        Stored {
            event: self.event.raw.clone(),
            attempt,
            run,
            draft,
            plugins: self.plugins.clone(),
            trail: self.trail.clone(),
        }
        .to_bytes()
    }

    fn dead(&self, reason: DeadReason, result: Option<&AttemptResult>, now: SystemTime) -> DeadLetter {
        let tried = match result {
            Some(
                AttemptResult::Answered { .. } | AttemptResult::Unanswered { .. } | AttemptResult::PluginFailed { .. },
            ) => true,
            Some(AttemptResult::Blocked { .. } | AttemptResult::GivenUp { .. } | AttemptResult::Disabled { .. })
            | None => false,
        };
        DeadLetter {
            event: self.event.raw.clone(),
            original_id: self.handle.id,
            failed_at: now,
            subscription_id: self.subscription.id.to_string(),
            reason,
            attempts: self.attempt.get() - u32::from(!tried),
            last_status: result.and_then(AttemptResult::status).map(|status| status.as_u16()),
            last_error: result.map_or_else(|| Some(reason.to_string()), AttemptResult::error).unwrap_or_default(),
            first_seen: self.trail.first_seen,
            replays: self.trail.replays,
            died_before: self.trail.died_before.clone(),
            raw: Vec::new(),
        }
    }
}

impl Identity {
    /// What says which delivery an event of a subscription becomes, or what of it cannot be sent as a header.
    pub(crate) fn of(event: &Event, subscription_id: &str) -> Result<Identity, String> {
        let value = |name: &str, text: &str| {
            HeaderValue::from_bytes(text.as_bytes()).map_err(|_| format!("{name} cannot be sent as a header: {text:?}"))
        };
        let event_type = (!event.event_type.is_empty()).then_some(event.event_type.as_str());
        Ok(Identity {
            event_type: event_type.map(|text| value("notificationEventType", text)).transpose()?,
            notification_id: value("notificationId", &event.id)?,
            subscription_id: value("subscriptionId", subscription_id)?,
        })
    }
}

/// What an entry says beside the event itself.
struct Envelope {
    handle: Handle,
    event: Bytes,
    attempt: NonZeroU32,
    run: u32,
    draft: Option<stored::StoredDraft>,
    plugins: Vec<String>,
    trail: Trail,
    subscription_id: String,
    raw: Vec<(Bytes, Bytes)>,
}

impl Envelope {
    fn open(entry: &Entry, now: SystemTime) -> Result<Envelope, Undeliverable> {
        let unread = |event: Bytes, raw: Vec<(Bytes, Bytes)>| Envelope {
            handle: entry.handle,
            event,
            attempt: NonZeroU32::MIN,
            run: 0,
            draft: None,
            plugins: Vec::new(),
            trail: Trail { first_seen: now, replays: 0, died_before: Vec::new() },
            subscription_id: String::new(),
            raw,
        };
        match &entry.content {
            Content::Stored(bytes) => match Stored::from_bytes(bytes) {
                Ok(stored) => Ok(Envelope {
                    attempt: stored.attempt,
                    run: stored.run,
                    draft: stored.draft,
                    plugins: stored.plugins,
                    trail: stored.trail,
                    ..unread(stored.event, Vec::new())
                }),
                Err(error) => {
                    let raw = vec![(Bytes::from_static(b"stored"), bytes.clone())];
                    Err(unread(Bytes::new(), raw).dead(DeadReason::Malformed, error.to_string(), now))
                }
            },
            Content::Fields(fields) => {
                let ours = |name: &Bytes| name == "event" || stored::is_trail_field(name);
                let raw = fields.iter().filter(|(name, _)| !ours(name)).cloned().collect();
                let Some(event) = entry.field("event") else {
                    let error = "the entry has no field \"event\"".to_owned();
                    return Err(unread(Bytes::new(), raw).dead(DeadReason::Malformed, error, now));
                };
                Ok(Envelope { trail: stored::trail_of(entry, now), ..unread(event.clone(), raw) })
            }
        }
    }

    /// Of what must not be tried it is still said whose it was, where that can be read.
    fn condemned(self, condemned: &Condemned, context: &Context<'_>) -> Undeliverable {
        let is_readable = self.event.len() <= context.body_bytes_max;
        let read = is_readable.then(|| Notification::parse(self.event.clone(), context.body, String::new));
        let subscription_id = read.and_then(Result::ok).and_then(|notification| notification.subscription_id);
        let envelope = Envelope { subscription_id: subscription_id.unwrap_or_default(), ..self };
        envelope.dead(condemned.reason, condemned.why.clone(), context.now)
    }

    fn dead(&self, reason: DeadReason, error: String, now: SystemTime) -> Undeliverable {
        Undeliverable(Box::new(DeadLetter {
            event: self.event.clone(),
            original_id: self.handle.id,
            failed_at: now,
            subscription_id: self.subscription_id.clone(),
            reason,
            attempts: self.attempt.get() - 1,
            last_status: None,
            last_error: error,
            first_seen: self.trail.first_seen,
            replays: self.trail.replays,
            died_before: self.trail.died_before.clone(),
            raw: self.raw.clone(),
        }))
    }
}
