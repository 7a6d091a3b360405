//! Whom a plugin may ask: scheme, host and port.

use std::fmt;
use std::str::FromStr;

use http::Uri;

/// Scheme, host and port of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: Scheme,
    /// In small letters.
    host: String,
    port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// The text is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no origin")]
pub struct BadOrigin;

impl Scheme {
    fn of(uri: &Uri) -> Option<Scheme> {
        match uri.scheme_str()? {
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            _ => None,
        }
    }

    fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl Origin {
    /// Whether a URL is of this origin.
    pub(super) fn is_of(&self, uri: &Uri) -> bool {
        Origin::read(uri).is_some_and(|origin| origin == *self)
    }

    fn read(uri: &Uri) -> Option<Origin> {
        let (scheme, authority) = (Scheme::of(uri)?, uri.authority()?);
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return None;
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str().ends_with(':') => return None,
            None => scheme.port(),
        };
        Some(Origin { scheme, host: authority.host().to_ascii_lowercase(), port })
    }
}

impl FromStr for Origin {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_| BadOrigin)?;
        // A path would look as if it counted.
        let is_bare = uri.path_and_query().is_none_or(|path| path.as_str() == "/") && !text.ends_with('/');
        Origin::read(&uri).filter(|_| is_bare).ok_or(BadOrigin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == self.scheme.port() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_and_written() {
        for (text, written) in [
            ("https://api.example.com", "https://api.example.com"),
            ("https://API.example.com:443", "https://api.example.com"),
            ("http://10.0.0.5:8080", "http://10.0.0.5:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(text.parse::<Origin>().map(|origin| origin.to_string()).as_deref(), Ok(written), "{text}");
        }
        for text in [
            "api.example.com",
            "api.example.com:443",
            "ftp://a",
            "https://",
            "https://a/path",
            "https://a/",
            "https://u@a",
            "https://a:",
            "*",
        ] {
            assert_eq!(text.parse::<Origin>(), Err(BadOrigin), "{text}");
        }
    }

    #[test]
    fn a_url_is_of_one_origin() {
        let origin: Origin = "https://api.example.com".parse().unwrap();
        for (uri, is_of) in [
            ("https://api.example.com/a?b", true),
            ("https://API.EXAMPLE.COM:443/", true),
            ("https://api.example.com:444/", false),
            ("http://api.example.com/", false),
            ("https://evil.example.com/", false),
            ("https://api.example.com.evil.org/", false),
            ("https://api.example.com@evil.org/", false),
            ("/relative", false),
        ] {
            assert_eq!(origin.is_of(&uri.parse().unwrap()), is_of, "{uri}");
        }
    }
}
