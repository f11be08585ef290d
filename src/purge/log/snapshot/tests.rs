use std::collections::HashSet;

use super::*;

fn snapshot(places: u64) -> Snapshot {
    let mut random = fastrand::Rng::with_seed(places);
    let mut place = |position| Place {
        fingerprint: random.u64(1..),
        position: Compact::from_bits(position),
    };
    Snapshot {
        known: Known {
            tail: LogPosition::new(5, 1),
            horizon: LogPosition::new(1, 2),
            latest: LogPosition::new(6, 3),
            hard: LogPosition::new(2, 4),
            soft: LogPosition::new(3, 5),
            deepest: 7,
        },
        hard: (0..places).map(&mut place).collect(),
        soft: (0..places / 3).map(&mut place).collect(),
    }
}

#[test]
fn parts_read_back_and_hold_every_selector_once() {
    for (places, parts) in [(0, 1), (1, 1), (6000, 1), (7000, 2), (100_000, 32)] {
        let whole = snapshot(places);
        let shares = shares(whole.clone());
        assert_eq!(shares.len(), parts, "{places}");
        for share in &shares {
            let read = decode("name", &encode("name", share));
            assert_eq!(read.as_ref(), Some(share));
        }
        let hard: HashSet<_> = shares.iter().flat_map(|it| &it.hard).collect();
        assert_eq!(hard, whole.hard.iter().collect());
        let soft: usize = shares.iter().map(|it| it.soft.len()).sum();
        assert_eq!(soft, whole.soft.len());
    }
}

#[test]
fn the_longest_part_is_short_enough_for_a_connection_that_others_use() {
    let most = 1_050_000;
    let longest = shares(snapshot(most * 3 / 4)).into_iter();
    let longest = longest.map(|share| encode("", &share).len()).max();
    assert!(
        longest.is_some_and(|bytes| bytes < 160 << 10),
        "{longest:?}"
    );
}

#[test]
fn a_part_that_is_not_as_it_was_written_is_none() {
    let share = snapshot(10);
    let bytes = encode("name", &share);
    assert_eq!(decode("other", &bytes), None);
    for length in 0..bytes.len() {
        assert_eq!(decode("name", &bytes[..length]), None);
    }
    for place in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[place] ^= 1;
        assert_eq!(decode("name", &changed), None, "{place}");
    }
}

#[test]
fn parts_of_two_moments_hold_up_to_the_earlier() {
    let (earlier, mut later) = (snapshot(0).known, snapshot(0).known);
    later.tail = LogPosition::new(9, 9);
    later.horizon = LogPosition::new(4, 4);
    let both = later.and(earlier);
    assert_eq!((both.tail, both.horizon), (earlier.tail, later.horizon));
}
