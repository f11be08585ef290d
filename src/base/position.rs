//! Positions in the purge log.

use std::fmt;

/// The position of a record in the purge log. Later records have greater positions.
///
/// In Valkey it is the id of a stream entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    ms: u64,
    seq: u64,
}

impl LogPosition {
    /// The position before every record.
    pub const ZERO: Self = Self { ms: 0, seq: 0 };

    /// The position with these two parts of a stream id.
    #[must_use]
    pub const fn new(ms: u64, seq: u64) -> Self {
        Self { ms, seq }
    }

    /// The first part of the stream id: milliseconds since the Unix epoch by the server's clock.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.ms
    }

    /// The second part of the stream id.
    #[must_use]
    pub const fn seq(self) -> u64 {
        self.seq
    }

    /// The position right after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.seq.checked_add(1) {
            Some(seq) => Self { ms: self.ms, seq },
            None => Self {
                ms: self.ms.saturating_add(1),
                seq: 0,
            },
        }
    }

    /// The position as sixteen bytes, which sort as positions do.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        (((self.ms as u128) << 64) | self.seq as u128).to_be_bytes()
    }

    /// The position that [`LogPosition::to_bytes`] wrote.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let both = u128::from_be_bytes(bytes);
        Self {
            ms: (both >> 64) as u64,
            seq: both as u64,
        }
    }
}

impl LogPosition {
    /// Reads the text form, `ms-seq`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (ms, seq) = text.split_once('-')?;
        Some(Self {
            ms: ms.parse().ok()?,
            seq: seq.parse().ok()?,
        })
    }
}

/// The purges that an instance knew of at some moment, such as before it called a handler.
///
/// While a purge is not in the log yet, the position cannot tell a fetch before it from a fetch
/// after it. Within the process, the counter can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The position up to which the log had been read without a gap.
    pub(crate) position: LogPosition,
    /// The number of purges that this instance had applied before they were in the log. The counter
    /// is not stored: an entry that was read from the store has zero, which is before all of them.
    pub(crate) counter: u64,
}

impl Moment {
    pub(crate) fn is_later_than(self, other: Self) -> bool {
        (self.position, self.counter) > (other.position, other.counter)
    }

    /// The moment of an entry that was read from the store.
    pub(crate) const fn stored(position: LogPosition) -> Self {
        Self {
            position,
            counter: 0,
        }
    }
}

/// Writes the position as Valkey writes stream ids.
impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::LogPosition;

    #[test]
    fn positions_sort_as_their_bytes_do() {
        let ordered = [
            LogPosition::ZERO,
            LogPosition::new(0, 1),
            LogPosition::new(1, 0),
            LogPosition::new(1, u64::MAX),
            LogPosition::new(u64::MAX, 0),
        ];
        assert!(ordered.is_sorted());
        assert!(ordered.map(LogPosition::to_bytes).is_sorted());
        for position in ordered {
            assert_eq!(LogPosition::from_bytes(position.to_bytes()), position);
            assert_eq!(LogPosition::parse(&position.to_string()), Some(position));
        }
        assert_eq!(LogPosition::parse("1"), None);
        assert_eq!(LogPosition::parse("a-1"), None);
    }
}
