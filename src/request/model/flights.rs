//! Leaders and followers.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use shuttle::future::block_on;
use shuttle::thread;

use super::{FLIGHTS, body, check, entry, flights, join, join_or_lead, join_request_by, key};
use crate::base::clock::Timestamp;
use crate::flight::{Flights, Follower, Joined, Stage, Uncacheable};
use crate::key::Key;
use crate::purge::{Purge, PurgeIndex};

#[test]
fn followers_see_what_the_leader_shared_and_the_table_is_left_empty() {
    check(|| {
        let flights = flights();
        let shared = Arc::new(AtomicUsize::new(0));
        let fetches = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (flights, shared, fetches) = (flights.clone(), shared.clone(), fetches.clone());
                thread::spawn(move || {
                    loop {
                        match join_or_lead(&flights) {
                            Joined::Lead(leader) => {
                                // What is stored already is not fetched again.
                                if shared.load(Ordering::SeqCst) == 0 {
                                    fetches.fetch_add(1, Ordering::SeqCst);
                                    thread::yield_now();
                                    shared.store(1, Ordering::SeqCst);
                                }
                                leader.share_entry(entry(body()), Arc::default());
                                return;
                            }
                            Joined::Follow(mut follower) => match block_on(follower.wait()) {
                                Stage::Complete(found, _) => {
                                    assert_eq!(found.body, body());
                                    return;
                                }
                                stage => panic!("{stage:?}"),
                            },
                            Joined::Alone => panic!("alone"),
                        }
                    }
                })
            })
            .collect();
        join(threads);
        assert_eq!(flights.len(), 0);
        assert_eq!(fetches.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_lost_leader_is_replaced_and_nobody_waits_for_ever() {
    check(|| {
        let flights = flights();
        let lost = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (flights, lost) = (flights.clone(), lost.clone());
                thread::spawn(move || {
                    loop {
                        match join_or_lead(&flights) {
                            Joined::Lead(leader) if lost.fetch_add(1, Ordering::SeqCst) == 0 => {
                                drop(leader);
                            }
                            Joined::Lead(leader) => {
                                leader.share_entry(entry(body()), Arc::default());
                                return;
                            }
                            Joined::Follow(mut follower) => match block_on(follower.wait()) {
                                Stage::Failed => {}
                                Stage::Complete(..) => return,
                                stage => panic!("{stage:?}"),
                            },
                            Joined::Alone => panic!("alone"),
                        }
                    }
                })
            })
            .collect();
        join(threads);
        assert_eq!(flights.len(), 0);
    });
}

#[test]
fn a_follower_that_gives_up_leaves_no_trace() {
    check(|| {
        let flights = flights();
        let Joined::Lead(leader) = join_or_lead(&flights) else {
            panic!("no flight yet");
        };
        let quitter = {
            let flights = flights.clone();
            thread::spawn(move || {
                if let Joined::Follow(mut follower) = join_or_lead(&flights) {
                    block_on(poll_once(&mut follower));
                }
            })
        };
        let waiter = {
            let flights = flights.clone();
            thread::spawn(move || follow_or_lead(&flights))
        };
        thread::yield_now();
        leader.release_as_uncacheable(Uncacheable::ForAll, Timestamp::from_millis(1));
        join([quitter, waiter]);
        assert_eq!(flights.len(), 0);
        assert!(matches!(join_or_lead(&flights), Joined::Alone));
    });
}

#[test]
fn a_request_after_a_purge_never_joins_a_flight_from_before() {
    check(|| {
        let flights = flights();
        let purges = Arc::new(PurgeIndex::new());
        let is_purged = Arc::new(AtomicBool::new(false));
        let Joined::Lead(old) = flights.join_or_lead(&key(), &join_request_by(&purges, 0)) else {
            panic!("no flight yet");
        };
        let after = {
            let (flights, purges) = (flights.clone(), purges.clone());
            let is_purged = is_purged.clone();
            thread::spawn(move || {
                let seen = is_purged.load(Ordering::SeqCst);
                let arrived = flights.begun();
                match flights.join_or_lead(&key(), &join_request_by(&purges, arrived)) {
                    Joined::Lead(leader) => {
                        leader.share_entry(entry(Bytes::from_static(b"new")), Arc::default());
                    }
                    Joined::Follow(mut follower) => {
                        assert!(!seen, "it joined a flight from before the purge");
                        assert!(matches!(block_on(follower.wait()), Stage::Complete(..)));
                    }
                    Joined::Alone => {}
                }
            })
        };
        let purge = {
            thread::spawn(move || {
                purges.append(&Purge::uri(&"http://example.com/".parse().unwrap()).unwrap());
                is_purged.store(true, Ordering::SeqCst);
            })
        };
        thread::yield_now();
        old.share_entry(entry(body()), Arc::default());
        drop(old);
        join([after, purge]);
        assert_eq!(flights.len(), 0);
    });
}

#[test]
fn followers_that_refuse_a_purged_response_have_one_leader_among_them() {
    check(|| {
        let flights = flights();
        let purges = Arc::new(PurgeIndex::new());
        let (shared, fetches) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let Joined::Lead(old) = join_or_lead(&flights) else {
            panic!("no flight yet");
        };
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (flights, purges) = (flights.clone(), purges.clone());
                let (shared, fetches) = (shared.clone(), fetches.clone());
                thread::spawn(move || {
                    let arrived = flights.begun();
                    loop {
                        let join_request = join_request_by(&purges, arrived);
                        match flights.join_or_lead(&key(), &join_request) {
                            Joined::Lead(leader) => {
                                // What is stored already is not fetched again.
                                if !shared.load(Ordering::SeqCst) {
                                    fetches.fetch_add(1, Ordering::SeqCst);
                                    shared.store(true, Ordering::SeqCst);
                                }
                                leader.share_entry(entry(body()), Arc::default());
                                return;
                            }
                            Joined::Follow(mut follower) => match block_on(follower.wait()) {
                                Stage::Complete(found, _) if found.body == body() => return,
                                Stage::Complete(..) => follower.refuse_as_purged(),
                                stage => panic!("{stage:?}"),
                            },
                            Joined::Alone => panic!("alone"),
                        }
                    }
                })
            })
            .collect();
        old.share_entry(entry(Bytes::from_static(b"purged")), Arc::default());
        join(threads);
        drop(old);
        assert_eq!((flights.len(), fetches.load(Ordering::SeqCst)), (0, 1));
    });
}

#[test]
fn there_are_never_more_flights_than_there_may_be() {
    check(|| {
        let flights = flights();
        let under_way = Arc::<AtomicUsize>::default();
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let (flights, under_way) = (flights.clone(), under_way.clone());
                thread::spawn(move || {
                    let key = Key::of_value("model", &number.to_string());
                    let purges = PurgeIndex::new();
                    let joined = flights.join_or_lead(&key, &join_request_by(&purges, 0));
                    if let Joined::Lead(leader) = joined {
                        assert!(under_way.fetch_add(1, Ordering::SeqCst) < FLIGHTS);
                        thread::yield_now();
                        under_way.fetch_sub(1, Ordering::SeqCst);
                        drop(leader);
                    }
                })
            })
            .collect();
        join(threads);
        assert_eq!((flights.len(), flights.begun() >= 2), (0, true));
    });
}

fn follow_or_lead(flights: &Arc<Flights>) {
    if let Joined::Follow(mut follower) = join_or_lead(flights) {
        assert!(!matches!(block_on(follower.wait()), Stage::Waiting));
    }
}

async fn poll_once(follower: &mut Follower) {
    let mut wait = pin!(follower.wait());
    std::future::poll_fn(|context| {
        let _stage = wait.as_mut().poll(context);
        std::task::Poll::Ready(())
    })
    .await;
}
