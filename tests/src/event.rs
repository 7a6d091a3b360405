//! Events as the O2-IMS gateway writes them.

/// An event under construction; the seed's, unless changed.
#[derive(Debug, Clone)]
pub struct Event {
    /// `subscriptionId`
    pub subscription: String,
    /// `notificationEventType`
    pub event_type: String,
    /// `notificationId`
    pub id: String,
    /// `callbackUrl`
    pub callback: String,
    /// `objectRef`
    pub object: String,
}

impl Event {
    /// The seed document's event, to this URL.
    #[must_use]
    pub fn to(callback: &str) -> Event {
        Event {
            subscription: "sub-67890".to_owned(),
            event_type: "o2ims.Resource.Created".to_owned(),
            id: "notif-12345".to_owned(),
            callback: callback.to_owned(),
            object: "/o2ims/v1/resources/node-1".to_owned(),
        }
    }

    /// With this `notificationId`.
    #[must_use]
    pub fn id(self, id: impl Into<String>) -> Event {
        Event { id: id.into(), ..self }
    }

    /// With this `subscriptionId`.
    #[must_use]
    pub fn subscription(self, subscription: &str) -> Event {
        Event { subscription: subscription.to_owned(), ..self }
    }

    /// With this `notificationEventType`.
    #[must_use]
    pub fn event_type(self, event_type: &str) -> Event {
        Event { event_type: event_type.to_owned(), ..self }
    }

    /// Its JSON, as the producer writes it.
    #[must_use]
    pub fn json(&self) -> String {
        self.with_callback(&format!(",\"callbackUrl\":\"{}\"", self.callback))
    }

    /// What a subscriber gets of it.
    #[must_use]
    pub fn body(&self) -> String {
        self.with_callback("")
    }

    fn with_callback(&self, callback: &str) -> String {
        let Event { subscription, event_type, id, object, .. } = self;
        format!(
            r#"{{"subscriptionId":"{subscription}","notificationEventType":"{event_type}","objectRef":"{object}","resourceTypeId":"k8s-node","resourcePoolId":"pool-1","globalResourceId":"node-1","timestamp":"2026-01-08T10:30:00Z","notificationId":"{id}"{callback}}}"#
        )
    }
}
