//! The concurrent core, model-checked: every test runs under many schedules of its threads.
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test --lib model:: --release`

mod fills;
mod flights;
mod purges;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use shuttle::thread;

use crate::base::clock::{SystemClock, Timestamp};
use crate::base::lines::Lines;
use crate::base::position::Moment;
use crate::base::tags::Tags;
use crate::entry::{Entry, Head, StoredHeaders, Verified};
use crate::flight::{Credentials, Flights, JoinRequest, Joined, Limits, Role};
use crate::key::{Key, KeyBuilder, KeyRules};
use crate::purge::PurgeIndex;
use crate::semantics::{Flags, Lifetimes};

/// How many schedules each test runs, unless `MODEL_SCHEDULES` says otherwise.
const SCHEDULES: usize = 5_000;

/// How many flights there may be at once.
const FLIGHTS: usize = 2;

fn check(test: impl Fn() + Send + Sync + 'static) {
    let schedules = std::env::var("MODEL_SCHEDULES").ok();
    let schedules = schedules.and_then(|count| count.parse().ok());
    let schedules = schedules.unwrap_or(SCHEDULES);
    let test = Arc::new(test);
    let again = test.clone();
    shuttle::check_random(move || test(), schedules);
    shuttle::check_pct(move || again(), schedules, 3);
}

fn join(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

fn flights() -> Arc<Flights> {
    let limits = Limits {
        flights: FLIGHTS,
        followers: 8,
        keys: 8,
        hit_for_miss_ttl: Duration::from_secs(10),
        deadline: Duration::from_secs(30),
    };
    Arc::new(Flights::new(limits, Arc::new(SystemClock)))
}

/// Joins the only flight or leads it, where nothing is purged.
fn join_or_lead(flights: &Arc<Flights>) -> Joined {
    flights.join_or_lead(&key(), &join_request_by(&PurgeIndex::new(), 0))
}

/// Of a request that arrived when so many flights had begun.
fn join_request_by(purges: &PurgeIndex, arrived: u64) -> JoinRequest<'_> {
    JoinRequest {
        credentials: Credentials::Anonymous,
        role: Role::Any,
        purges,
        arrived,
        now: Timestamp::from_millis(1),
    }
}

fn key() -> Key {
    let request = Request::builder()
        .method(Method::GET)
        .uri("http://example.com/")
        .body(())
        .unwrap();
    let parts = request.into_parts().0;
    let builder = KeyBuilder::of_request(&parts, &KeyRules::default(), 0).unwrap();
    builder.base().to_key()
}

fn body() -> Bytes {
    Bytes::from_static(b"body")
}

fn entry(body: Bytes) -> Arc<Entry> {
    Arc::new(Entry { head: head(), body })
}

fn head() -> Head {
    let lifetimes = Lifetimes {
        born: NOW,
        stored: NOW,
        fresh_until: Timestamp::MAX,
        swr_until: Timestamp::MAX,
        sie_until: Timestamp::MAX,
        kept_until: Timestamp::MAX,
        flags: Flags::default(),
    };
    Head {
        key: key(),
        status: StatusCode::OK,
        headers: StoredHeaders::new(Lines::default(), None),
        lifetimes,
        moment: Moment::default(),
        tags: Tags::default(),
        verified: Verified::never(),
    }
}

const NOW: Timestamp = Timestamp::from_millis(1);
