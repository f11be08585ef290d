//! The same seed gives the same run.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tower_response_cache::{
    Cache, CacheConfig, InProcessStore, Outage, TokioClock, ValueOptions, testing,
};

#[test]
fn one_seed_gives_one_run_and_another_seed_another() {
    let runs = [1, 1, 2].map(|seed| std::thread::spawn(move || run(seed)));
    let [first, again, other] = runs.map(|run| run.join().unwrap());
    assert_eq!(first, again);
    assert_ne!(first.memory, other.memory, "which entries evict each other");
    assert_ne!(first.shared, other.shared, "who writes first");
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// What memory still holds, of much more than it has room for.
    memory: Vec<bool>,
    /// The shared store's log: the changes of two instances.
    shared: Vec<u8>,
}

/// Two instances write at the same time, each more than it can keep in memory.
fn run(seed: u64) -> Seen {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        testing::seed(seed);
        let server = InProcessStore::new();
        server.seed(seed);
        let (connection, other) = (server.instance(), server.instance());
        let (here, there) = (cache(&connection), cache(&other));
        tokio::join!(write(&here, "here"), write(&there, "there"));

        connection.cut_off(Outage::Refused);
        let mut memory = Vec::new();
        for number in 0..VALUES {
            memory.push(here.get(&format!("here-{number}")).await.is_some());
        }
        assert!(memory.contains(&true) && memory.contains(&false));
        let records = server.records().into_iter();
        let shared = records.flat_map(|(_, record)| record).collect();
        Seen { memory, shared }
    })
}

fn cache(store: &InProcessStore) -> Cache {
    let config = CacheConfig::builder()
        .memory_bytes(2 << 20)
        // So that the tier has more than one part, and the hash of a name says which.
        .max_body(16 << 10)
        .operation_timeout(Duration::from_secs(1))
        .clock(TokioClock::default())
        .build()
        .unwrap();
    Cache::with_store(config, Arc::new(store.clone()))
}

async fn write(cache: &Cache, name: &str) {
    for number in 0..VALUES {
        let name = format!("{name}-{number}");
        let options = ValueOptions::ttl(Duration::from_secs(600));
        cache
            .set(&name, vec![b'x'; 16 * 1024], options)
            .await
            .unwrap();
    }
}

const VALUES: usize = 200;
