//! Faults that are mended: their steps find nothing any more.
//!
//! Whoever mends a fault of the list of known ones moves its steps here. So does whoever mends one
//! that a fresh seed has found.

/// The names of mended faults, and the steps that showed them.
pub const MENDED: &[(&str, &str)] = &[
    (
        "purged-flight-scatters",
        "world; 0 mode delay=5500 frames=1 gap=1; 0 get; 1 purge; 4983 get; 5983 get",
    ),
    ("nested-waits", "world nested=yes; 0 get"),
    (
        "nested-waits-failing",
        "world nested=yes; 0 mode status=500; 1 get",
    ),
    (
        "nested-strips-tags",
        "world nested=yes strip=yes; 0 get; 7000 purge; 7001 get",
    ),
    (
        "nested-says-hit",
        "world nested=yes; 0 get; 0 get; 0 mode cc=short; 0 get",
    ),
    (
        "nested-stale",
        "world nested=yes; 0 mode cc=sie; 0 get; 10000 get",
    ),
    (
        "nested-soft-purge",
        "world nested=yes; 0 get; 5100 purge soft=yes; 5101 get; 16000 get",
    ),
    (
        "nested-invents",
        "world nested=yes; 0 mode check=date; 0 get; 30696 mode check=coarse; 99889 get",
    ),
    ("nested-forgets", "world nested=yes; 0 get; 61751 get"),
    (
        "nested-fetches-twice",
        "world nested=yes; 0 mode r=1 cc=sie delay=5; 0 get r=1; 3360 change r=1; 7477 get r=1; 7478 get r=1",
    ),
    ("nested-counts", "world nested=yes; 0 mode cc=swr; 0 get"),
    (
        "nested-length",
        "world nested=yes; 0 get; 63990 get; 63990 mode on_match=whole size=1; 82224 get head=yes",
    ),
    (
        "nested-too-old",
        "world nested=yes; 0 mode cc=swr; 0 get cond=other; 18814 get; 22712 get",
    ),
    (
        "narrower-304",
        "world; 0 mode by=lang cc=short on_match=narrow; 1 get lang=1; 3000 get lang=1; 3001 get lang=2",
    ),
    (
        "typed-304",
        "world; 0 get; 1 mode on_match=typed; 61000 get",
    ),
    (
        "other-tag-304",
        "world; 0 get; 1 mode on_match=other-tag; 61000 get",
    ),
    (
        "hidden-variants",
        "world; 0 mode by=origin vary=sometimes; 1 get origin=1; 2 get; 3 get origin=1",
    ),
    (
        "changing-vary",
        "world; 0 mode by=lang vary=changing; 1 get lang=1; 2 get lang=2; 3 get lang=3; 4 get lang=1; 5 get lang=2; 6 get lang=1",
    ),
    (
        "variants-at-cap",
        "world two_variants=yes; 0 mode by=lang; 1 get lang=1; 2 get lang=2; 3 get lang=3; 4 get lang=3",
    ),
    (
        "dead-variants-count",
        "world two_variants=yes; 0 mode by=lang; 1 get lang=1; 2 get lang=2; 3 purge; 104 get lang=3; 105 get lang=3",
    ),
    (
        "odd-vary",
        "world; 0 mode by=lang vary=odd-star; 1 get lang=1; 2 get",
    ),
    (
        "other-tag-304-stale",
        "world; 0 mode cc=sie on_match=other-tag; 0 get; 10000 get",
    ),
    (
        "vary-differs",
        "world; 0 mode cc=short by=lang; 0 get; 2347 mode cc=zero delay=5; 2347 get lang=1; 2348 mode; 2348 get",
    ),
    (
        "changing-vary-fetches",
        "world memory=off; 0 mode by=origin vary=changing delay=227; 0 get; 581 get origin=1; 807 get; 808 get",
    ),
    (
        "changing-vary-regresses",
        "world store=yes; 0 mode by=lang vary=changing; 0 get; 0 get lang=1; 1 get; 1 touch; 2 get lang=1",
    ),
    (
        "cookie-twice",
        "world keyed=yes; 0 mode by=user cc=public; 1 get user=alice how=twice; 2 get user=bob how=twice",
    ),
    (
        "host-spelling",
        "world; 0 mode by=host; 1 get host=port; 2 get",
    ),
    (
        "strip-tags",
        "world strip=yes; 0 mode cc=no-cache; 1 get; 2 get how=beside",
    ),
    (
        "strip-tags-refused",
        "world strip=yes; 0 get r=1; 1 mode r=1 cc=no-store; 56933 get",
    ),
    (
        "credentials",
        "world; 0 mode by=user; 1 get; 2 get user=alice",
    ),
    (
        "guarded",
        "world; 0 mode status=401; 1 get; 2 get user=alice",
    ),
    (
        "clear-site-data",
        "world; 0 mode extra=clear-site-data; 1 get; 2 get",
    ),
    (
        "odd-public",
        "world; 0 mode by=user cc=odd-public; 1 get user=alice; 2 get user=bob",
    ),
    ("odd-private", "world; 0 mode cc=odd-private; 1 get; 2 get"),
    ("upgrade-bypass", "world; 0 get; 1 get upgrade=yes"),
    (
        "upgrade-alone",
        "world; 0 mode delay=50; 1 get; 10 get upgrade=yes",
    ),
    (
        "credentials-hold-refresh",
        "world; 0 get; 100 purge soft=yes; 100 get how=authorization user=alice; 100 get; 101 get",
    ),
];
