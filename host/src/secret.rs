//! Secrets and the signatures made with them.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A signing key. Prints as `Secret(..)`; its bytes never leave this module.
#[derive(Clone)]
pub struct Secret {
    /// Keyed once: hashing the key anew for each request would double the cost of a small signature.
    keyed: Hmac<Sha256>,
}

impl Secret {
    /// A secret from its bytes, as operators write it.
    #[must_use]
    pub fn new(key: &[u8]) -> Secret {
        Secret { keyed: Hmac::new_from_slice(key).expect("HMAC takes keys of any length") }
    }

    /// Lower-case hex of HMAC-SHA256 over the parts, one after the other.
    #[must_use]
    pub fn hmac_hex(&self, parts: &[&[u8]]) -> String {
        let mut mac = self.keyed.clone();
        for part in parts {
            mac.update(part);
        }
        hex(&mac.finalize().into_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How a request is signed. A subscription may ask for any set of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `X-O2IMS-Signature`: HMAC over the body.
    O2ims,
    /// `X-O2IMS-Timestamp` (Unix seconds) and `X-O2IMS-Signature`: HMAC over timestamp, `.` and body.
    O2imsTimestamped,
}

impl Scheme {
    /// Its name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Scheme::O2ims => "o2ims",
            Scheme::O2imsTimestamped => "o2ims-timestamped",
        }
    }

    /// All there are.
    pub const ALL: [Scheme; 2] = [Scheme::O2ims, Scheme::O2imsTimestamped];
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"subscriptionId":"sub-123"}"#;

    #[test]
    fn the_o2ims_vector() {
        let signature = Secret::new(b"test-secret").hmac_hex(&[BODY]);
        assert_eq!(signature, "6a89db8cbf066b5cd76ac48bbb2a5c7abc06128c06d8c484ab7c8b611095b8c4");
    }

    #[test]
    fn the_o2ims_timestamped_vector() {
        let signature = Secret::new(b"test-secret").hmac_hex(&[b"1705244400", b".", BODY]);
        assert_eq!(signature, "85b5841667e148a90ee258793ef1b0c5b4ead50081e7dada6713de3825eb95fe");
    }

    #[test]
    fn a_secret_never_prints() {
        assert_eq!(format!("{:?}", Secret::new(b"test-secret")), "Secret(..)");
    }
}
