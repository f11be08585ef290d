//! Slots of a cluster: which one a key is in, and whose it is.

use super::command::SlotRange;
use super::url::Address;

/// The node that has a slot, of ranges in order.
pub(super) fn owner(ranges: &[SlotRange], slot: u16) -> Option<&Address> {
    let after = ranges.partition_point(|range| range.first <= slot);
    let range = ranges.get(after.checked_sub(1)?)?;
    (slot <= range.last).then_some(&range.owner)
}

/// The slot of a key: of the part between the first `{` and the next `}`, if there is one.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key
        .iter()
        .position(|byte| *byte == b'{')
        .and_then(|open| key.get(open + 1..))
        .and_then(|rest| {
            let close = rest.iter().position(|byte| *byte == b'}')?;
            rest.get(..close)
        })
        .filter(|tag| !tag.is_empty());
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM, as the cluster specification has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    })
}

const SLOTS: u16 = 16384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12182);
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
    }

    #[test]
    fn every_slot_has_its_owner() {
        let node = |port| Address {
            host: "h".to_owned(),
            port,
        };
        let range = |first, last, port| SlotRange {
            first,
            last,
            owner: node(port),
        };
        let ranges = [range(0, 10, 1), range(11, 11, 2), range(20, 30, 3)];
        for (slot, port) in [(0, 1), (10, 1), (11, 2), (20, 3), (30, 3)] {
            assert_eq!(owner(&ranges, slot), Some(&node(port)));
        }
        for slot in [12, 19, 31] {
            assert_eq!(owner(&ranges, slot), None);
        }
        assert_eq!(owner(&[], 0), None);
    }
}
