//! Interleaved rounds: every candidate in turn, again and again, so that other work of the machine
//! affects all of them. The result is the median of the ratios, each taken within one round.

use std::time::{Duration, Instant};

use axum::Router;

use crate::ask::{Ask, exchange};

/// One row of a table.
pub struct Candidate {
    name: String,
    app: Router,
    ask: Ask,
    asked: usize,
    calls: usize,
    times: Vec<f64>,
    baseline: usize,
}

/// The rows of one table, measured together.
#[derive(Default)]
pub struct Table {
    candidates: Vec<Candidate>,
}

impl Table {
    /// Adds a row that is compared with the one at `baseline`, and returns its index. A row that is
    /// a baseline itself passes its own index.
    pub fn add(&mut self, name: &str, app: Router, ask: Ask, baseline: usize) -> usize {
        let app = crate::ask::served(app);
        self.candidates.push(Candidate {
            name: name.to_owned(),
            app,
            ask,
            asked: 0,
            calls: BATCH,
            times: Vec::new(),
            baseline,
        });
        self.candidates.len() - 1
    }

    /// The number of rows, which is the index of the next one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.candidates.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// Takes the rounds.
    pub async fn run(&mut self) {
        for candidate in &mut self.candidates {
            candidate.prepare().await;
        }
        for _ in 0..ROUNDS {
            for candidate in &mut self.candidates {
                let time = candidate.round().await;
                candidate.times.push(time);
            }
        }
    }

    /// Prints one line for each row: ns, the ratio to the baseline, and the difference from it.
    pub fn print(&self, title: &str) {
        println!(
            "\n| {title} | ns | ratio | over its baseline, ns | baseline |\n|---|---|---|---|---|"
        );
        for row in &self.candidates {
            let base = &self.candidates[row.baseline];
            let pairs = || row.times.iter().zip(&base.times);
            let time = median(row.times.clone());
            let ratio = median(pairs().map(|(one, base)| one / base).collect());
            let over = median(pairs().map(|(one, base)| one - base).collect());
            let Candidate { name, .. } = row;
            println!(
                "| {name} | {time:.0} | {ratio:.2} | {over:.0} | {} |",
                base.name
            );
        }
    }
}

impl Candidate {
    /// Fills the cache, and finds how many calls make a round.
    async fn prepare(&mut self) {
        if self.ask != Ask::Unique {
            for number in 0..3 {
                exchange(&mut self.app, Ask::Get.request(number)).await;
                exchange(&mut self.app, self.ask.request(number)).await;
            }
        }
        self.calls = 1024;
        let time = self.round().await;
        let calls = ROUND.as_nanos() as f64 / time;
        self.calls = (calls as usize / BATCH).max(1) * BATCH;
    }

    /// Nanoseconds a call. Requests are made beforehand, few at a time, so that they are still in
    /// the processor's cache when they are used.
    async fn round(&mut self) -> f64 {
        let mut spent = Duration::ZERO;
        for _ in 0..self.calls / BATCH {
            let requests: Vec<_> = (0..BATCH)
                .map(|number| self.ask.request(self.asked + number))
                .collect();
            self.asked += BATCH;
            let began = Instant::now();
            for request in requests {
                exchange(&mut self.app, request).await;
            }
            spent += began.elapsed();
        }
        spent.as_nanos() as f64 / self.calls as f64
    }
}

/// The candidates in the order of a round: to and fro, so that no candidate always follows the same
/// one.
pub fn to_and_fro(round: usize, candidates: usize) -> impl Iterator<Item = usize> {
    (0..candidates).map(move |at| match round % 2 {
        0 => at,
        _ => candidates - 1 - at,
    })
}

#[must_use]
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

const ROUNDS: usize = 41;
const ROUND: Duration = Duration::from_millis(20);
const BATCH: usize = 64;
