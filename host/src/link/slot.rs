//! Where a Cluster keeps a key: the part of the key in braces, if there is one, decides.

/// Slots of a Cluster.
const SLOTS: u16 = 16384;

/// What stands in the first pair of braces, if anything does.
#[must_use]
pub fn hash_tag(key: &str) -> Option<&str> {
    let (_, behind) = key.split_once('{')?;
    let (tag, _) = behind.split_once('}')?;
    (!tag.is_empty()).then_some(tag)
}

/// The slot of a key.
#[must_use]
pub(super) fn of(key: &str) -> u16 {
    crc16(hash_tag(key).unwrap_or(key).as_bytes()) % SLOTS
}

/// The checksum that Redis uses for slots: CRC-16/XMODEM.
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        // As CLUSTER KEYSLOT answers.
        for (key, slot) in [("foo", 12182), ("{foo}:bar", 12182), ("a{foo}{bar}", 12182), ("{}foo", 9500), ("", 0)] {
            assert_eq!(of(key), slot, "{key}");
        }
    }

    #[test]
    fn a_tag_is_what_the_first_braces_hold() {
        for (key, tag) in [
            ("{a}:b", Some("a")),
            ("b{a}", Some("a")),
            ("{}{a}", None),
            ("{a", None),
            ("a", None),
            ("{{a}}", Some("{a")),
        ] {
            assert_eq!(hash_tag(key), tag, "{key}");
        }
    }
}
