//! Recordings, what is made of them, and purges meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use shuttle::future::block_on;
use shuttle::thread;
use tokio::sync::Semaphore;

use super::{NOW, check, head, join, join_or_lead, join_request_by, key};
use crate::cache::Cache;
use crate::config::CacheConfig;
use crate::entry::{Entry, Head};
use crate::flight::{Credentials, Joined, Leader, Stage};
use crate::key::KeyBuilder;
use crate::purge::{Purge, Validity};
use crate::recording::{End, Incomplete, Reader, Recording};
use crate::request::fill::{Commit, Fill, NewEntry, PushResult};

#[test]
fn readers_get_the_whole_or_an_error_and_never_a_short_body_that_looks_whole() {
    for end in [End::Complete, End::Failed] {
        check(move || {
            let recording = Arc::new(Recording::new(Some(4), None));
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let recording = recording.clone();
                    thread::spawn(move || match block_on(read(&recording)) {
                        Ok(bytes) => assert_eq!((&bytes[..], end), (&b"abcd"[..], End::Complete)),
                        Err(Incomplete) => assert_eq!(end, End::Failed),
                    })
                })
                .collect();
            let whole = {
                let recording = recording.clone();
                thread::spawn(move || {
                    let whole = block_on(recording.whole());
                    assert_eq!(whole.is_ok(), end == End::Complete);
                })
            };
            recording.push(Bytes::from_static(b"ab"), None);
            if end == End::Complete {
                recording.push(Bytes::from_static(b"cd"), None);
                assert_eq!(&recording.join()[..], b"abcd");
            }
            recording.finish(end);
            join(readers);
            join([whole]);
        });
    }
}

#[test]
fn memory_comes_back_however_writer_and_client_part() {
    for end in [End::Complete, End::Failed] {
        check(move || {
            let budget = Arc::new(Semaphore::new(2));
            let first = budget.clone().try_acquire_owned().ok();
            let recording = Arc::new(Recording::new(None, first));
            let client = {
                let recording = recording.clone();
                thread::spawn(move || {
                    let mut reader = Reader::default();
                    block_on(std::future::poll_fn(|context| {
                        let _frame = recording.poll_as_leader(&mut reader, context);
                        std::task::Poll::Ready(())
                    }));
                    recording.leave_as_leader(&mut reader);
                })
            };
            let slow_follower = recording.clone();
            let more = budget.clone().try_acquire_owned().ok();
            recording.push(Bytes::from_static(b"ab"), more);
            recording.finish(end);
            join([client]);
            assert_eq!(budget.available_permits(), 2);
            drop(slow_follower);
        });
    }
}

#[test]
fn a_fill_that_fails_shows_its_followers_why_before_they_see_that_it_did() {
    check(|| {
        let cache = cache();
        let Joined::Lead(leader) = join_or_lead(cache.flights()) else {
            panic!("no flight yet");
        };
        let recording = Arc::new(Recording::new(None, None));
        let recorder = fill(&cache, leader).recorder(&recording, 0);
        let follower = {
            let cache = cache.clone();
            thread::spawn(move || {
                let joined = join_or_lead(cache.flights());
                let Joined::Follow(mut follower) = joined else {
                    return;
                };
                if let Stage::Recording(_, recording) = block_on(follower.wait()) {
                    assert!(block_on(recording.whole()).is_err());
                    assert!(matches!(follower.stage(), Stage::Failed));
                }
            })
        };
        drop(recorder);
        join([follower]);
        assert_eq!(cache.flights().len(), 0);
    });
}

#[test]
fn a_fill_that_is_committed_is_seen_by_whoever_does_not_see_its_flight() {
    check(|| {
        let cache = cache();
        let fetches = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (cache, fetches) = (cache.clone(), fetches.clone());
                thread::spawn(move || assert_eq!(request(&cache, &fetches, 0), "0"))
            })
            .collect();
        join(threads);
        assert_eq!(fetches.load(Ordering::SeqCst), 1);
        assert_eq!(cache.flights().len(), 0);
        assert!(cache.fill_budget(FILL_BYTES).is_some());
    });
}

#[test]
fn after_a_purge_nobody_gets_what_was_fetched_before_it() {
    check(|| {
        let cache = cache_with_room_for(2);
        let content = Arc::new(AtomicUsize::new(0));
        let before = {
            let (cache, content) = (cache.clone(), content.clone());
            thread::spawn(move || {
                request(&cache, &content, 0);
            })
        };
        let after = {
            let (cache, content) = (cache.clone(), content.clone());
            thread::spawn(move || {
                let changed = content.fetch_add(10, Ordering::SeqCst);
                block_on(cache.purge(Purge::everything())).unwrap();
                let got: usize = request(&cache, &content, 0).parse().unwrap();
                assert!(got >= 10, "{got} is from before {changed} was changed");
            })
        };
        join([before, after]);
        assert_eq!(cache.flights().len(), 0);
    });
}

#[test]
fn memory_for_fills_is_never_exceeded_and_always_comes_back() {
    check(|| {
        let cache = cache();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let cache = cache.clone();
                thread::spawn(move || {
                    let Joined::Lead(leader) = join_or_lead(cache.flights()) else {
                        return;
                    };
                    let recording = Arc::new(Recording::new(None, None));
                    let mut recorder = fill(&cache, leader).recorder(&recording, 0);
                    let mut reader = Reader::default();
                    match recorder.push(&Bytes::from_static(b"0")) {
                        PushResult::Recorded => recorder.end(),
                        result => recorder.give_up(&result),
                    }
                    recording.leave_as_leader(&mut reader);
                })
            })
            .collect();
        let other = {
            let cache = cache.clone();
            thread::spawn(move || {
                let all = cache.fill_budget(FILL_BYTES);
                thread::yield_now();
                drop(all);
            })
        };
        join(threads);
        join([other]);
        assert!(cache.fill_budget(FILL_BYTES).is_some());
        assert_eq!(cache.flights().len(), 0);
    });
}

/// What a request does, in short: memory, then the flight, then the handler, whose answer is the
/// number that `content` counts up.
fn request(cache: &Cache, content: &AtomicUsize, attempt: usize) -> String {
    assert!(attempt < 5, "no end of it");
    let arrived = cache.flights().begun();
    let join_request = join_request_by(cache.log().index(), arrived);
    match cache.flights().join_or_lead(&key(), &join_request) {
        Joined::Lead(leader) => {
            if let Some(entry) = in_memory(cache) {
                leader.share_entry(Arc::clone(&entry), Arc::default());
                return text(&entry.body);
            }
            let mut fill = fill(cache, leader);
            fill.new_entry.head.moment = cache.log().index().moment();
            let body = content.fetch_add(1, Ordering::SeqCst).to_string();
            let recording = Arc::new(Recording::new(None, None));
            let mut recorder = fill.recorder(&recording, 0);
            assert!(matches!(
                recorder.push(&body.clone().into()),
                PushResult::Recorded
            ));
            recorder.end();
            recording.leave_as_leader(&mut Reader::default());
            body
        }
        Joined::Follow(mut follower) => {
            let found = match block_on(follower.wait()) {
                Stage::Complete(entry, _) => valid(cache, &entry.head).then(|| entry.body.clone()),
                Stage::Recording(shared, recording) => block_on(recording.whole())
                    .ok()
                    .filter(|_| valid(cache, &shared.head)),
                _ => None,
            };
            drop(follower);
            match found {
                Some(body) => text(&body),
                None => request(cache, content, attempt + 1),
            }
        }
        Joined::Alone => panic!("alone"),
    }
}

fn in_memory(cache: &Cache) -> Option<Arc<Entry>> {
    let headers = HeaderMap::new();
    let lookup = cache
        .tiers()
        .look_in_memory(&mut KeyBuilder::of_key(&key()), &headers, NOW);
    lookup.entry.filter(|entry| valid(cache, &entry.head))
}

fn valid(cache: &Cache, head: &Head) -> bool {
    cache.validity(head, NOW) == Validity::Valid
}

fn text(body: &Bytes) -> String {
    String::from_utf8(body.to_vec()).unwrap()
}

/// With room for one fill at a time.
fn cache() -> Cache {
    cache_with_room_for(1)
}

fn cache_with_room_for(fills: u64) -> Cache {
    let config = CacheConfig::builder()
        .memory_bytes(1 << 16)
        .max_body(FILL_BYTES)
        .fill_bytes(fills * FILL_BYTES)
        .purge_log_length(16);
    Cache::new(config.build().unwrap())
}

fn fill(cache: &Cache, leader: Leader) -> Fill {
    Fill {
        commit: Commit {
            cache: cache.clone(),
            base: key(),
            replaced: None,
            updated: None,
            credentials: Credentials::Anonymous,
            leader: Some(leader),
            auto_etag: false,
        },
        new_entry: NewEntry {
            head: head(),
            fields: Arc::default(),
            vary: Arc::default(),
        },
        headers: HeaderMap::new(),
        declared: None,
        max_body: FILL_BYTES,
        deadline: Duration::from_secs(30),
    }
}

async fn read(recording: &Recording) -> Result<Vec<u8>, Incomplete> {
    let mut reader = Reader::default();
    let mut bytes = Vec::new();
    while let Some(frame) =
        std::future::poll_fn(|context| recording.poll_frame(&mut reader, context)).await
    {
        bytes.extend_from_slice(&frame?);
    }
    Ok(bytes)
}

/// The memory that a fill takes.
const FILL_BYTES: u64 = 1024;
