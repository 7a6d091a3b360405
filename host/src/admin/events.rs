//! `POST /v1/events`: takes one event, or a JSON array of them, and stores all or none.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Admin, BATCH_MAX, Refusal};
use crate::delivery::Identity;
use crate::event::{BodyForm, Notification};
use crate::subscription::{BadUrl, Endpoint};

/// The ids under which the events are stored, in their order.
#[derive(Debug, Serialize, Deserialize)]
pub struct Published {
    /// Entry ids.
    pub ids: Vec<String>,
}

/// Stores events. What a worker would have to give up is refused here already.
pub async fn publish(State(admin): State<Arc<Admin>>, body: Bytes) -> Result<(StatusCode, Json<Published>), Refusal> {
    let events = split(&body)?;
    if events.len() > BATCH_MAX {
        return Err(Refusal::bad_request(format!("{} events, at most {BATCH_MAX} are taken at once", events.len())));
    }
    for (position, event) in events.iter().enumerate() {
        check(event, admin.body_bytes_max)
            .map_err(|why| Refusal::bad_request(format!("event {}: {why}", position + 1)))?;
    }
    let ids = admin.queue.publish(&events).await?;
    let ids = ids.iter().map(ToString::to_string).collect();
    Ok((StatusCode::ACCEPTED, Json(Published { ids })))
}

fn split(body: &Bytes) -> Result<Vec<Bytes>, Refusal> {
    if !body.trim_ascii_start().starts_with(b"[") {
        return Ok(vec![body.clone()]);
    }
    let events: Vec<&RawValue> = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad_request(format!("the array is not JSON: {error}")))?;
    Ok(events.into_iter().map(|event| body.slice_ref(event.get().as_bytes())).collect())
}

fn check(event: &Bytes, body_bytes_max: usize) -> Result<(), String> {
    if event.len() > body_bytes_max {
        return Err(format!("{} bytes, at most {body_bytes_max} are taken (delivery.body_bytes_max)", event.len()));
    }
    let notification = Notification::parse(event.clone(), BodyForm::Verbatim, String::new);
    let notification = notification.map_err(|error| error.to_string())?;
    let Some(subscription_id) = notification.subscription_id else {
        return Err("subscriptionId is missing or empty".to_owned());
    };
    Identity::of(&notification.event, &subscription_id)?;
    let endpoint = notification.callback_url.as_deref().ok_or(BadUrl::Missing).and_then(Endpoint::parse);
    endpoint.map(|_| ()).map_err(|error| error.to_string())
}
