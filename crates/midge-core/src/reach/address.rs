//! Which addresses everybody may reach: those that the registries of IANA call globally reachable, and that lead nowhere
//! else by another address within them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Blocks of IPv4 that are somebody's own, reserved, or no single host: IANA's registry of special-purpose addresses
/// (RFC 6890), and multicast.
const NOT_PUBLIC_V4: [([u8; 4], u32); 17] = [
    // "This host", which a connection takes for the loopback.
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    // Shared by the customers of a provider; one cloud has its metadata here.
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    // Link-local: the metadata of most clouds.
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    // Protocols of IETF; one cloud has its metadata here.
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    // 6to4 relays.
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    // Multicast, as whole as that which is reserved behind it.
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
    ([255, 255, 255, 255], 32),
    // Looks public: the agent of one cloud's own computers.
    ([168, 63, 129, 16], 32),
];
/// All of IPv6 that was given out to be reached by everybody.
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// What of that is not: protocols of IETF (but Teredo, which is judged by what is in it), benchmarks and documentation.
const NOT_PUBLIC_V6: [(Ipv6Addr, u32); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];
const TEREDO: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32);
const SIX_TO_FOUR: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);
/// What a network's translator reaches IPv4 by.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
const MAPPED: (Ipv6Addr, u32) = (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
/// An older form of the same.
const COMPATIBLE: (Ipv6Addr, u32) = (Ipv6Addr::UNSPECIFIED, 96);

/// Returns whether an address is public, by the one that is embedded in it where there is one.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let within = |(start, bits): &([u8; 4], u32)| {
        let differs = u32::from_be_bytes(*start) ^ u32::from(address);
        differs.leading_zeros() >= *bits
    };
    !NOT_PUBLIC_V4.iter().any(within)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let within =
        |(start, bits): (Ipv6Addr, u32)| (u128::from(start) ^ u128::from(address)).leading_zeros() >= bits;
    let embedded = |bits_behind: u32| {
        let [.., a, b, c, d] = (u128::from(address) >> bits_behind).to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    if [MAPPED, NAT64, COMPATIBLE].into_iter().any(within) {
        // The unspecified and the loopback address are such too: 0.0.0.0 and 0.0.0.1.
        return is_public_v4(embedded(0));
    }
    if within(SIX_TO_FOUR) {
        return is_public_v4(embedded(80));
    }
    if within(TEREDO) {
        // Its server, and its host, whose bits are turned over.
        return is_public_v4(embedded(64)) && is_public_v4(Ipv4Addr::from(!u32::from(embedded(0))));
    }
    within(GLOBAL_V6) && !NOT_PUBLIC_V6.into_iter().any(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_public_by_the_one_that_is_reached_by_it() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001:82b::200e",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
            // Its server is 65.54.227.120 and its host 192.0.2.45 turned over would not be: this one is 1.1.1.1.
            "2001:0:4136:e378:8000:63bf:fefe:fefe",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for own in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:0:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1.1.1.1",
            "100::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:0:a00:1:8000:63bf:fefe:fefe",
            "2001:2::1",
            "2001:db8::1",
            "2002:a00:1::1",
            "2002:7f00:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fdaa::3",
            "fdaa:0:18:a7b::2",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(own.parse().unwrap()), "{own}");
        }
    }
}
