//! What is kept of a selector.

use crate::purge::Selector;

/// Sixty bits of a selector's digest, and its kind in the lowest four. It is the same in every
/// process, so that one can take over what another knows.
pub(crate) type Fingerprint = u64;

/// What the tables, the pending purges and the entries keep of a selector.
pub(super) fn fingerprint(selector: &Selector) -> Fingerprint {
    if *selector == Selector::EVERYTHING {
        return EVERYTHING;
    }
    let digest = selector.digest();
    let folded = digest as u64 ^ (digest >> 64) as u64;
    (folded & !KIND) | selector.kind() as u64
}

/// The fingerprint of everything. No other fingerprint is zero, since each contains its kind.
pub(super) const EVERYTHING: Fingerprint = 0;

/// The bits of a fingerprint that are its selector's kind.
pub(super) const KIND: Fingerprint = 0xf;
