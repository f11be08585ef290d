//! Faulty caches: the oracle has to find the fault of each.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt, service_fn};

use crate::finding::Kind;
use crate::generate;
use crate::known::recognise;
use crate::oracle::judge;
use crate::step::Sham;
use crate::world::{Service, run};

/// Runs seeds with each sham until the oracle has seen what is wrong, and fails if it does not.
pub fn shams_are_seen_through() -> Result<(), String> {
    for (sham, kinds) in SHAMS {
        let mut overlooked: BTreeSet<Kind> = kinds.iter().copied().collect();
        for seed in 0..SEEDS {
            if overlooked.is_empty() {
                break;
            }
            let mut scenario = generate::scenario(seed, STEPS);
            scenario.world.sham = *sham;
            let trace = run(&scenario);
            for finding in judge(&scenario, &trace) {
                if recognise(&finding).is_none() {
                    overlooked.remove(&finding.kind);
                }
            }
        }
        if !overlooked.is_empty() {
            return Err(format!("of {sham:?} the oracle overlooks {overlooked:?}"));
        }
    }
    println!("{} shams, all seen through", SHAMS.len());
    Ok(())
}

/// What has to be found with each, beyond what is known.
const SHAMS: &[(Sham, &[Kind])] = &[
    (Sham::NeverHits, &[Kind::NeedlessCall, Kind::NotCoalesced]),
    (
        Sham::Replays,
        &[
            Kind::TooOld,
            Kind::Outdated,
            Kind::PurgedServed,
            Kind::NotForRequester,
            Kind::SaysMiss,
        ],
    ),
    (Sham::Truncates, &[Kind::Truncated]),
    (Sham::Mixes, &[Kind::WrongBytes]),
];

/// A service that does to responses what a bad cache would.
pub fn sham(sham: Sham, inner: Service) -> Service {
    let memory = Arc::new(Mutex::new(HashMap::new()));
    BoxCloneSyncService::new(service_fn(move |request: http::Request<_>| {
        let (inner, memory) = (inner.clone(), Arc::clone(&memory));
        async move {
            let is_get = request.method() == Method::GET;
            let key = match sham {
                Sham::Mixes => String::new(),
                _ => request.uri().to_string(),
            };
            if let Some(copy) = look(&memory, &key).filter(|_| is_get && sham != Sham::Truncates) {
                return Ok(copy.answer());
            }
            let response = inner.oneshot(request).await?;
            if !is_get || response.status() != StatusCode::OK {
                return Ok(response);
            }
            let (head, body) = response.into_parts();
            // A body that breaks ends cleanly: one more thing to be seen.
            let mut body = body
                .collect()
                .await
                .map(|body| body.to_bytes())
                .unwrap_or_default();
            if sham == Sham::Truncates {
                body.truncate(body.len() / 2);
            }
            let copy = Copy {
                headers: head.headers,
                body,
            };
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.insert(key, copy.clone());
            Ok(copy.answer())
        }
    }))
}

#[derive(Clone)]
struct Copy {
    headers: HeaderMap,
    body: Bytes,
}

impl Copy {
    fn answer(self) -> Response<crate::world::Content> {
        let body = Full::new(self.body).map_err(|never: Infallible| match never {});
        let mut response = Response::new(body.boxed_unsync());
        *response.headers_mut() = self.headers;
        response
    }
}

fn look(memory: &Mutex<HashMap<String, Copy>>, key: &str) -> Option<Copy> {
    let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
    memory.get(key).cloned()
}

/// How many seeds it may take.
const SEEDS: u64 = 60;
const STEPS: usize = 60;
