//! A subscription: who wants events, where, and how.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::breaker::BreakerPolicy;
use crate::rate::Rate;
use crate::retry::RetryPolicy;
use crate::secret::{Scheme, Secret};

/// Longer URLs are refused.
pub const URL_BYTES_MAX: usize = 8192;

/// Of the name of a tenant.
const TENANT_BYTES_MAX: usize = 256;

/// Who wants events, where and how, as far as one delivery needs it.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// `subscriptionId`.
    pub id: Arc<str>,
    /// Where its requests go.
    pub endpoint: Arc<Endpoint>,
    /// How.
    pub settings: Arc<Settings>,
}

/// What is on record for a subscription, laid over the defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The plugins, in order.
    pub chain: Vec<PluginUse>,
    /// How requests are signed, when there is a secret.
    pub schemes: Vec<Scheme>,
    /// What they are signed with.
    pub secret: Option<Secret>,
    /// How often and when a delivery is tried again.
    pub retry: RetryPolicy,
    /// For one attempt: connect, send, answer and its body together.
    pub timeout: Duration,
    /// Attempts at once.
    pub in_flight_max: usize,
    /// How often attempts may be made; as often as they come if not given.
    pub rate: Option<Rate>,
    /// When nothing goes for a while because nothing succeeds.
    pub breaker: BreakerPolicy,
    /// Whether deliveries wait for the ones before them.
    pub ordering: Ordering,
    /// Whose it is.
    pub tenant: Option<Tenant>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            chain: Vec::new(),
            schemes: vec![Scheme::O2ims],
            secret: None,
            retry: RetryPolicy::default(),
            timeout: Duration::from_secs(10),
            in_flight_max: 32,
            rate: None,
            breaker: BreakerPolicy::default(),
            ordering: Ordering::None,
            tenant: None,
        }
    }
}

/// Whether deliveries wait for the ones before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Ordering {
    /// They do not.
    #[default]
    None,
    /// For all of the same subscription.
    Subscription,
    /// For those of the same subscription and `objectRef`.
    Object,
}

/// The name of one of those whom an operator delivers for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenant(Arc<str>);

/// No name of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tenant's name has 1 to {TENANT_BYTES_MAX} bytes, and no control characters")]
pub struct BadTenant;

impl FromStr for Tenant {
    type Err = BadTenant;

    fn from_str(name: &str) -> Result<Tenant, BadTenant> {
        let is_good = (1..=TENANT_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
        if is_good { Ok(Tenant(name.into())) } else { Err(BadTenant) }
    }
}

/// One plugin in a subscription's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginUse {
    /// The file's name without `.wasm`.
    pub name: Arc<str>,
    /// This subscription's settings for it, as JSON text.
    pub settings: Arc<str>,
    /// Changes when `settings` would.
    pub settings_revision: u64,
    /// What a failed call means.
    pub on_error: OnError,
    /// Whether what it says counts.
    pub mode: Mode,
}

/// Whether what a plugin says counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// It does.
    #[default]
    Live,
    /// It runs beside the delivery, and what it would have done is only counted.
    Shadow,
}

/// What becomes of a delivery when a plugin fails on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnError {
    /// Tried again like a failed attempt, in the end a dead letter with reason `plugin`.
    #[default]
    Retry,
    /// Goes on as if the plugin were absent.
    Deliver,
    /// Dropped.
    Drop,
}

/// Where requests go: an `http` or `https` URL that has been read and found usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Without credentials and fragment.
    pub uri: Uri,
    /// Scheme, host and port, which is all that plugins and logs see of it.
    pub destination: Arc<str>,
    /// From credentials in the URL, as `Authorization: Basic`.
    pub authorization: Option<HeaderValue>,
}

/// Why a text is not a usable endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// There is none.
    #[error("the event has no callbackUrl")]
    Missing,
    /// Longer than [`URL_BYTES_MAX`].
    #[error("the callback URL is longer than {URL_BYTES_MAX} bytes")]
    TooLong,
    /// Not a URL.
    #[error("the callback URL cannot be read: {0}")]
    Unreadable(String),
    /// A scheme that Weft does not speak.
    #[error("the callback URL's scheme is {0:?}, only http and https are served")]
    Scheme(String),
}

impl Endpoint {
    /// Reads a URL as browsers do, so that `http://0x7f.1/` is seen for what it is.
    pub fn parse(text: &str) -> Result<Endpoint, BadUrl> {
        if text.len() > URL_BYTES_MAX {
            return Err(BadUrl::TooLong);
        }
        let mut url = Url::parse(text).map_err(|error| BadUrl::Unreadable(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BadUrl::Scheme(url.scheme().to_owned()));
        }
        let authorization = basic_authorization(&url);
        url.set_fragment(None);
        // Neither can fail for http and https, which always have a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let uri: Uri = url.as_str().parse().map_err(|error| BadUrl::Unreadable(format!("{error}")))?;
        let destination = url.origin().ascii_serialization().into();
        Ok(Endpoint { uri, destination, authorization })
    }
}

fn basic_authorization(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(url.password().unwrap_or_default()));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).expect("base64 is visible ASCII");
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(text: &str, uri: &str, destination: &str) {
        let endpoint = Endpoint::parse(text).expect("usable");
        assert_eq!((endpoint.uri.to_string().as_str(), &*endpoint.destination), (uri, destination));
    }

    #[test]
    fn urls_are_read_as_browsers_do() {
        reads("https://smo.example.com/notify", "https://smo.example.com/notify", "https://smo.example.com");
        reads("HTTP://SMO.example.com:80/a?b=c#d", "http://smo.example.com/a?b=c", "http://smo.example.com");
        reads("http://0x7f.1/", "http://127.0.0.1/", "http://127.0.0.1");
        reads("http://2130706433:8080", "http://127.0.0.1:8080/", "http://127.0.0.1:8080");
        reads("http://[::ffff:127.0.0.1]/x", "http://[::ffff:7f00:1]/x", "http://[::ffff:7f00:1]");
        reads("http://bücher.example/ä b", "http://xn--bcher-kva.example/%C3%A4%20b", "http://xn--bcher-kva.example");
        reads("http://h/a|b{c}^", "http://h/a|b%7Bc%7D^", "http://h");
    }

    #[test]
    fn credentials_become_a_header() {
        let endpoint = Endpoint::parse("https://user:p%40ss+1@h/x").unwrap();
        assert_eq!(endpoint.uri, "https://h/x");
        assert_eq!(endpoint.authorization.unwrap(), "Basic dXNlcjpwQHNzKzE=");
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for text in ["", "notify", "/notify", "http://", "http:///", "http://a b/", "http://[::1", "http://h:99999/"] {
            assert!(matches!(Endpoint::parse(text), Err(BadUrl::Unreadable(_))), "{text}");
        }
        for text in ["ftp://h/", "file:///etc/passwd", "javascript:alert(1)", "unix:/run/x.sock"] {
            assert!(matches!(Endpoint::parse(text), Err(BadUrl::Scheme(_))), "{text}");
        }
        assert_eq!(Endpoint::parse(&format!("http://h/{}", "a".repeat(9000))), Err(BadUrl::TooLong));
    }
}
