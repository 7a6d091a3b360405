//! The headers of a draft, and which of them a plugin may make.

use std::borrow::Cow;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};

/// What headers a plugin may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderLimits {
    /// Headers of a draft.
    pub count_max: usize,
    /// Name and value together.
    pub bytes_max: usize,
}

impl Default for HeaderLimits {
    fn default() -> Self {
        HeaderLimits { count_max: 64, bytes_max: 8192 }
    }
}

/// The host's own headers, and those of the connection. A plugin can neither set nor remove them.
const RESERVED: [&str; 18] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "authorization",
    "x-o2ims-event-type",
    "x-o2ims-notification-id",
    "x-o2ims-subscription-id",
    "x-o2ims-signature",
    "x-o2ims-timestamp",
    "content-encoding",
];

/// Why a header edit is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not a header name.
    #[error("not a valid header name")]
    InvalidName,
    /// Not a header value; line breaks never are.
    #[error("not a valid header value")]
    InvalidValue,
    /// One of the host's own.
    #[error("this header is the host's own")]
    Reserved,
    /// Beyond [`HeaderLimits`].
    #[error("too many or too large headers")]
    TooLarge,
}

static OF_AN_EVENT: [(HeaderName, HeaderValue); 1] = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];

/// Few, each name once, in the order in which they were first set. While nobody changes them they cost no memory, and a
/// copy costs little: each plugin that changes something has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers(Cow<'static, [(HeaderName, HeaderValue)]>);

/// Those of an event's body.
impl Default for Headers {
    fn default() -> Self {
        Headers(Cow::Borrowed(&OF_AN_EVENT))
    }
}

/// The later of two of the same name counts.
impl FromIterator<(HeaderName, HeaderValue)> for Headers {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(pairs: I) -> Self {
        let mut headers = Headers(Cow::Owned(Vec::new()));
        pairs.into_iter().for_each(|(name, value)| headers.set(name, value));
        headers
    }
}

impl Headers {
    /// How many there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// The value of a name in whichever case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&HeaderValue> {
        self.iter().find(|(known, _)| known.as_str().eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Sets one as a plugin wishes, if it may.
    pub(super) fn edit(&mut self, name: &str, value: String, limits: HeaderLimits) -> Result<(), HeaderError> {
        let name = editable(name)?;
        if name.as_str().len() + value.len() > limits.bytes_max {
            return Err(HeaderError::TooLarge);
        }
        let value = HeaderValue::try_from(value).map_err(|_| HeaderError::InvalidValue)?;
        if self.len() >= limits.count_max && self.place(&name).is_none() {
            return Err(HeaderError::TooLarge);
        }
        self.set(name, value);
        Ok(())
    }

    /// Removes one if a plugin may; one that is not there is no error.
    pub(super) fn remove(&mut self, name: &str) -> Result<(), HeaderError> {
        if let Some(place) = self.place(&editable(name)?) {
            self.0.to_mut().remove(place);
        }
        Ok(())
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        let place = self.place(&name);
        let pairs = self.0.to_mut();
        match place {
            Some(place) => pairs[place].1 = value,
            None => pairs.push((name, value)),
        }
    }

    fn place(&self, name: &HeaderName) -> Option<usize> {
        self.0.iter().position(|(known, _)| known == name)
    }
}

fn editable(name: &str) -> Result<HeaderName, HeaderError> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HeaderError::InvalidName)?;
    if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("webhook-") {
        return Err(HeaderError::Reserved);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeaderLimits = HeaderLimits { count_max: 4, bytes_max: 100 };

    #[test]
    fn the_hosts_headers_are_reserved() {
        let mut headers = Headers::default();
        for name in RESERVED.into_iter().chain(["Host", "X-O2IMS-Signature", "Webhook-Id"]) {
            assert_eq!(headers.edit(name, "x".into(), LIMITS), Err(HeaderError::Reserved), "{name}");
            assert_eq!(headers.remove(name), Err(HeaderError::Reserved), "{name}");
        }
    }

    #[test]
    fn no_line_break_gets_into_a_header() {
        let mut headers = Headers::default();
        for value in ["a\r\nhost: evil", "a\nb", "a\rb", "a\0b"] {
            assert_eq!(headers.edit("x-a", value.into(), LIMITS), Err(HeaderError::InvalidValue));
        }
        for name in ["", "x a", "x:a", "x\r\ny", "ä"] {
            assert_eq!(headers.edit(name, "v".into(), LIMITS), Err(HeaderError::InvalidName));
        }
    }

    #[test]
    fn headers_are_bounded() {
        let mut headers = Headers::default();
        assert_eq!(headers.edit("x-a", "v".repeat(LIMITS.bytes_max), LIMITS), Err(HeaderError::TooLarge));
        for n in 1..LIMITS.count_max {
            headers.edit(&format!("x-{n}"), "v".into(), LIMITS).unwrap();
        }
        assert_eq!(headers.edit("x-one-more", "v".into(), LIMITS), Err(HeaderError::TooLarge));
        headers.edit("x-1", "changed".into(), LIMITS).unwrap();
    }

    #[test]
    fn a_name_is_there_once_in_whichever_case() {
        let mut headers = Headers::default();
        headers.edit("X-A", "1".into(), LIMITS).unwrap();
        headers.edit("Content-Type", "text/plain".into(), LIMITS).unwrap();
        headers.edit("x-a", "2".into(), LIMITS).unwrap();
        let pairs: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(pairs, [("content-type", "text/plain"), ("x-a", "2")]);
        assert_eq!(headers.get("X-a").unwrap(), "2");
        headers.remove("CONTENT-TYPE").unwrap();
        headers.remove("x-b").unwrap();
        assert_eq!((headers.len(), headers.get("content-type")), (1, None));
        assert_eq!(Headers::default().get("content-type").unwrap(), "application/json", "a copy was edited");
        let twice = ["1", "2"].map(|value| (HeaderName::from_static("x-a"), HeaderValue::from_static(value)));
        let read = Headers::from_iter(twice);
        assert_eq!((read.len(), read.get("x-a").unwrap().to_str().unwrap()), (1, "2"));
    }
}
