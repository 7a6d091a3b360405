//! The egress guard: which addresses must not be reached, whatever a subscriber's URL says.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Decides on addresses after resolution. Everything that is not plainly public is refused unless it is listed.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allow: Arc<[IpNet]>,
}

/// Why an address must not be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    address: IpAddr,
    what: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}; to reach it, list its range in egress.allow", self.address, self.what)
    }
}

impl Guard {
    /// A guard that lets these ranges through beside the public ones.
    #[must_use]
    pub fn new(allow: &[IpNet]) -> Guard {
        Guard { allow: allow.into() }
    }

    /// Whether the address may be dialled.
    pub fn check(&self, address: IpAddr) -> Result<(), Refusal> {
        if self.allow.iter().any(|range| range.contains(&address)) {
            return Ok(());
        }
        let special = match address {
            IpAddr::V4(address) => special_v4(address),
            IpAddr::V6(address) => special_v6(address),
        };
        special.map_or(Ok(()), |what| Err(Refusal { address, what }))
    }
}

/// The IANA special-purpose registry, multicast, reserved space, and one cloud's metadata service on a public address.
const SPECIAL_V4: [(Ipv4Net, &str); 17] = [
    (v4([0, 0, 0, 0], 8), "an address of this network"),
    (v4([10, 0, 0, 0], 8), "a private address"),
    (v4([100, 64, 0, 0], 10), "a carrier-grade NAT address"),
    (v4([127, 0, 0, 0], 8), "a loopback address"),
    (v4([168, 63, 129, 16], 32), "a cloud's metadata service"),
    (v4([169, 254, 0, 0], 16), "a link-local address (cloud metadata services live there)"),
    (v4([172, 16, 0, 0], 12), "a private address"),
    (v4([192, 0, 0, 0], 24), "an IETF protocol address"),
    (v4([192, 0, 2, 0], 24), "a documentation address"),
    (v4([192, 88, 99, 0], 24), "a 6to4 relay address"),
    (v4([192, 168, 0, 0], 16), "a private address"),
    (v4([198, 18, 0, 0], 15), "a benchmarking address"),
    (v4([198, 51, 100, 0], 24), "a documentation address"),
    (v4([203, 0, 113, 0], 24), "a documentation address"),
    (v4([224, 0, 0, 0], 4), "a multicast address"),
    (v4([240, 0, 0, 0], 4), "a reserved address"),
    (v4([192, 175, 48, 0], 24), "an AS112 address"),
];

/// What is special inside 2000::/3; everything outside of it is not global unicast and refused as a whole.
const SPECIAL_V6: [(Ipv6Net, &str); 4] = [
    (v6([0x2001, 0], 23), "an IETF protocol address (Teredo among them)"),
    (v6([0x2001, 0x0db8], 32), "a documentation address"),
    (v6([0x2002, 0], 16), "a 6to4 address"),
    (v6([0x3fff, 0], 20), "a documentation address"),
];

const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0], 3);

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    SPECIAL_V4.iter().find(|(range, _)| range.contains(&address)).map(|(_, what)| *what)
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_loopback() {
        return Some("a loopback address");
    }
    if address.to_ipv4_mapped().is_some() {
        return Some("an IPv4 address in IPv6 form");
    }
    if !GLOBAL_UNICAST.contains(&address) {
        return Some("not a global unicast address");
    }
    SPECIAL_V6.iter().find(|(range, _)| range.contains(&address)).map(|(_, what)| *what)
}

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6([a, b]: [u16; 2], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(guard: &Guard, address: &str, passes: bool) {
        let result = guard.check(address.parse().expect("an address"));
        assert_eq!(result.is_ok(), passes, "{address}: {result:?}");
    }

    #[test]
    fn special_addresses_are_refused() {
        let refused = "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16 \
            169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 \
            198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 \
            :: ::1 ::ffff:8.8.8.8 ::ffff:127.0.0.1 ::ffff:0:7f00:1 ::7f00:1 64:ff9b::7f00:1 64:ff9b:1::1 100::1 2001::1 \
            2001:1ff::1 2001:db8::1 2002:7f00:1::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1";
        for address in refused.split_whitespace() {
            check(&Guard::default(), address, false);
        }
    }

    #[test]
    fn public_addresses_pass() {
        for address in "1.1.1.1 8.8.8.8 100.63.255.255 172.15.0.1 172.32.0.1 192.0.1.1 223.255.255.255 2606:4700::1111 2a00:1450::1"
            .split_whitespace()
        {
            check(&Guard::default(), address, true);
        }
    }

    #[test]
    fn listed_ranges_pass_and_only_those() {
        let guard = Guard::new(&["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        check(&guard, "127.0.0.1", true);
        check(&guard, "fd00::1", true);
        check(&guard, "10.0.0.1", false);
        check(&guard, "::1", false);
        check(&guard, "::ffff:127.0.0.1", false);
    }

    #[test]
    fn the_refusal_says_what_and_how_to_mend_it() {
        let refusal = Guard::default().check("10.1.2.3".parse().unwrap()).unwrap_err();
        assert_eq!(refusal.to_string(), "10.1.2.3 is a private address; to reach it, list its range in egress.allow");
    }
}
