//! Numbers of seconds, as directives and `Age` have them (RFC 9111, section 1.2.2).

/// A directive that takes seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Delta {
    #[default]
    Absent,
    Seconds(u32),
    /// "Caches are encouraged to consider responses that have invalid freshness information
    /// … to be stale." (RFC 9111, section 4.2.1)
    Invalid,
}

impl Delta {
    /// RFC 9111, section 1.2.2: "If a cache receives a delta-seconds value greater than the
    /// greatest integer it can represent … the cache MUST consider the value to be
    /// 2147483648 (2^31) or the greatest positive integer it can conveniently represent."
    pub(crate) fn parse(digits: &[u8]) -> Self {
        parse_seconds(digits).map_or(Self::Invalid, Self::Seconds)
    }

    pub(crate) const fn seconds(self) -> Option<u32> {
        match self {
            Self::Seconds(secs) => Some(secs),
            Self::Absent | Self::Invalid => None,
        }
    }

    /// RFC 9111, section 4.2.1: "If directives conflict …, the most restrictive directive
    /// should be honored."
    pub(super) const fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Invalid, _) | (_, Self::Invalid) => Self::Invalid,
            (Self::Seconds(a), Self::Seconds(b)) => Self::Seconds(if a < b { a } else { b }),
            (Self::Absent, given) | (given, Self::Absent) => given,
        }
    }
}

/// Reads decimal digits as seconds. Too many digits are the largest number. `None` for anything
/// else.
pub(crate) fn parse_seconds(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |secs, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        Some(secs.saturating_mul(10).saturating_add(digit))
    })
}
