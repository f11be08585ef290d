//! The record of a run: every event in its order.

use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use tokio::time::Instant;

use crate::facts::Facts;
use crate::step::{Change, Fault, Get, Mode, Purge, Value};

/// A moment of the run: virtual milliseconds, and the order within one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    pub ms: u64,
    pub order: u64,
}

/// All that was seen.
#[derive(Debug, Default)]
pub struct Trace {
    pub calls: Vec<Call>,
    pub exchanges: Vec<Exchange>,
    pub purges: Vec<PurgeDone>,
    pub values: Vec<ValueDone>,
    /// Modes that were set, and resources that changed in silence.
    pub modes: Vec<(Moment, Mode)>,
    pub touches: Vec<(Moment, u8)>,
    pub faults: Vec<(Moment, Fault)>,
    /// Of each instance, when everything had come to rest.
    pub ends: Vec<Rest>,
    /// Tasks that were still there when every instance was gone.
    pub tasks_left: usize,
    order: u64,
}

/// One call of the handler.
#[derive(Clone, Debug)]
pub struct Call {
    pub at: u8,
    pub via: bool,
    /// The exchange that caused it.
    pub exchange: usize,
    pub r: u8,
    pub is_head: bool,
    pub facts: Facts,
    pub mode: Mode,
    /// The version that it read when it began, or wrote.
    pub version: u32,
    /// What it wrote.
    pub wrote: Vec<(u8, u32)>,
    pub began: Moment,
    pub answered: Option<(Moment, Answered)>,
}

/// What a call of the handler came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    Status(u16),
    Error,
    /// Cut off by a layer inside the cache.
    Cut,
}

/// One request of a client.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub asked: Asked,
    pub began: Moment,
    /// When the head came, or the error.
    pub head: Option<Moment>,
    pub ended: Option<Moment>,
    pub outcome: Outcome,
    /// The tag or date that the client sent.
    pub sent: Option<String>,
    /// What a handler reads of it.
    pub facts: Facts,
    /// With `Cookie` or `Authorization`.
    pub credentials: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asked {
    Get(Get),
    Change(Change),
}

impl Exchange {
    pub fn at(&self) -> u8 {
        match &self.asked {
            Asked::Get(it) => it.at,
            Asked::Change(it) => it.at,
        }
    }

    pub fn r(&self) -> u8 {
        match &self.asked {
            Asked::Get(it) => it.r,
            Asked::Change(it) => it.r,
        }
    }
}

/// What the client saw.
#[derive(Clone, Debug)]
pub enum Outcome {
    Pending,
    /// The client went away before the head came.
    Left,
    /// The service failed: with the call of the handler that failed.
    Error(usize),
    Panicked,
    Response(Seen),
}

#[derive(Clone, Debug)]
pub struct Seen {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub end: BodyEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    Clean,
    Broken,
    /// The client went away.
    Left,
    Pending,
}

/// A purge by the application.
#[derive(Clone, Debug)]
pub struct PurgeDone {
    pub purge: Purge,
    pub began: Moment,
    pub ended: Option<(Moment, bool)>,
}

/// An access to a value of the application's own.
#[derive(Clone, Debug)]
pub struct ValueDone {
    pub value: Value,
    pub began: Moment,
    pub ended: Option<Moment>,
    /// The version that was got or set, if any.
    pub version: Option<u32>,
    pub succeeded: bool,
}

/// What an instance says of itself when nothing is under way.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    pub flights: u64,
    pub fill_bytes: u64,
    /// How many responses it has counted.
    pub counted: u64,
}

/// The trace while it is being written.
#[derive(Clone, Debug)]
pub struct Recorder {
    trace: Arc<Mutex<Trace>>,
    began: Instant,
}

impl Recorder {
    pub fn new() -> Self {
        Self {
            trace: Arc::default(),
            began: Instant::now(),
        }
    }

    /// Milliseconds since the beginning.
    pub fn elapsed(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Writes down something that happens now.
    pub fn note<T>(&self, note: impl FnOnce(&mut Trace, Moment) -> T) -> T {
        let ms = self.elapsed();
        let mut trace = self.trace.lock().unwrap_or_else(PoisonError::into_inner);
        trace.order += 1;
        let order = trace.order;
        note(&mut trace, Moment { ms, order })
    }

    pub fn into_trace(self) -> Trace {
        std::mem::take(&mut self.trace.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
