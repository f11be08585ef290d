//! Any sequence of requests and responses, beside RFC 9111, section 4.1.

use http::HeaderValue;
use proptest::prelude::*;

use super::tests::{at, base, response};
use super::*;
use crate::key::KeyBuilder;
use crate::store::{Lookup, Tiers};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// "… the cache MUST NOT use that stored response without revalidation unless all the
    /// presented request header fields nominated by that Vary field value match those fields in the
    /// original request".
    #[test]
    fn no_request_gets_what_section_4_1_does_not_allow(
        steps in prop::collection::vec((0..2_usize, steps()), 1..80),
    ) {
        let mut world = World::new();
        for (here, step) in steps {
            world.run(here, step)?;
        }
    }
}

/// A request's values of the three fields that there are.
type Asked = [Option<u8>; 3];

/// Which of them a response names.
type Named = [bool; 3];

#[derive(Clone, Copy, Debug)]
enum Step {
    Time(u64),
    /// A request. If memory has nothing for it, the handler answers in time.
    Get(Asked, Named, u64),
    /// The handler's answer to the request that has waited longest is complete.
    Complete,
    /// A request that is answered by a 304, if there is something to validate.
    Validate(Asked, Named, u64),
    /// What the other instance knows of names, this one reads.
    Learn,
    /// The other instance's response to a request is read by this one.
    Promote(Asked),
    Forget(Asked),
    Evict,
}

/// Two instances, and all responses that ever were.
struct World {
    now: u64,
    instances: [Tiers; 2],
    under_way: Vec<(usize, Answer)>,
    /// By their numbers, which are their bodies: for what request each was made or validated last,
    /// and what it names.
    made: Vec<(Asked, Named)>,
}

struct Answer {
    asked: Asked,
    named: Named,
    lasts: u64,
    fields: Arc<[HeaderName]>,
}

impl World {
    fn new() -> Self {
        let instance = || Tiers::new(Memory::new(1 << 20, 1 << 10), None, 3);
        Self {
            now: 1000,
            instances: [instance(), instance()],
            under_way: Vec::new(),
            made: Vec::new(),
        }
    }

    fn run(&mut self, here: usize, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Time(seconds) => self.now += seconds,
            Step::Get(asked, named, lasts) => {
                let lookup = self.look_up(here, asked)?;
                if lookup.entry.is_none() {
                    let answer = Answer {
                        asked,
                        named,
                        lasts,
                        fields: lookup.fields_and(&names(named)),
                    };
                    self.under_way.push((here, answer));
                }
            }
            Step::Complete if self.under_way.is_empty() => {}
            Step::Complete => {
                let (there, answer) = self.under_way.remove(0);
                self.store(there, answer)?;
            }
            Step::Validate(asked, new, lasts) => {
                let lookup = self.look_up(here, asked)?;
                let Some(entry) = &lookup.entry else {
                    return Ok(());
                };
                let (_, mut named) = self.made[number(entry)];
                (0..3).for_each(|at| named[at] |= new[at]);
                let fields = lookup.fields_and(&names(named));
                let answer = Answer {
                    asked,
                    named,
                    lasts,
                    fields,
                };
                self.store(here, answer)?;
            }
            Step::Learn => {
                if let Some(marker) = self.marker(1 - here) {
                    let Tiers {
                        variants, memory, ..
                    } = &self.instances[here];
                    variants.learn(memory, &base(), &marker, at(self.now));
                }
            }
            Step::Promote(asked) => {
                let lookup = self.look_up(1 - here, asked)?;
                self.instances[here].promote(&lookup, &|_| true, at(self.now));
            }
            Step::Forget(asked) => {
                let lookup = self.look_up(here, asked)?;
                self.instances[here].forget(&base(), lookup.key(), at(self.now));
            }
            Step::Evict => self.instances[here].memory.remove(base().hash()),
        }
        Ok(())
    }

    /// What an instance has in memory for a request, which is allowed to be given to it.
    fn look_up(&self, here: usize, asked: Asked) -> Result<Lookup, TestCaseError> {
        let mut builder = KeyBuilder::of_key(&base());
        let found = self.instances[here].look_in_memory(&mut builder, &fields(asked), at(self.now));
        let lookup = Lookup::new(&builder, found);
        if let Some(entry) = &lookup.entry {
            let (original, named) = self.made[number(entry)];
            for at in (0..3).filter(|at| named[*at]) {
                prop_assert_eq!(original[at], asked[at], "{}", number(entry));
            }
        }
        Ok(lookup)
    }

    /// The newcomer is found, whatever else there is.
    fn store(&mut self, here: usize, answer: Answer) -> Result<(), TestCaseError> {
        let Answer {
            asked,
            named,
            lasts,
            fields: by,
        } = answer;
        self.made.push((asked, named));
        let headers = fields(asked);
        let mut head = response(&by, &headers, self.now);
        head.lifetimes.kept_until = at(self.now + lasts);
        let new = NewResponse {
            base: &base(),
            vary: &names(named),
            fields: by,
            headers: &headers,
            head,
            body: Bytes::from((self.made.len() - 1).to_string()),
        };
        self.instances[here].place(new, &|_| true, at(self.now));
        let found = self.look_up(here, asked)?.entry;
        prop_assert_eq!(found.map(|it| number(&it)), Some(self.made.len() - 1));
        Ok(())
    }

    fn marker(&self, here: usize) -> Option<Arc<Marker>> {
        standing(&self.instances[here].memory, &base(), at(self.now))
    }
}

fn number(entry: &Entry) -> usize {
    std::str::from_utf8(&entry.body).unwrap().parse().unwrap()
}

fn names(named: Named) -> Arc<[HeaderName]> {
    let names = NAMES.iter().zip(named).filter(|(_, named)| *named);
    names
        .map(|(name, _)| HeaderName::from_static(name))
        .collect()
}

fn fields(asked: Asked) -> HeaderMap {
    let fields = NAMES.iter().zip(asked);
    let fields = fields.filter_map(|(name, value)| Some((name, value?)));
    fields
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from(u16::from(value)),
            )
        })
        .collect()
}

fn steps() -> impl Strategy<Value = Step> {
    let asked = || prop::array::uniform3(prop::option::of(0..2_u8));
    let named = || prop::array::uniform3(any::<bool>());
    let lasts = || prop::sample::select(vec![1, 20, 400]);
    prop_oneof![
        1 => (1..400_u64).prop_map(Step::Time),
        8 => (asked(), named(), lasts()).prop_map(|(asked, named, lasts)| Step::Get(asked, named, lasts)),
        6 => Just(Step::Complete),
        2 => (asked(), named(), lasts()).prop_map(|(asked, named, lasts)| Step::Validate(asked, named, lasts)),
        1 => Just(Step::Learn),
        1 => asked().prop_map(Step::Promote),
        1 => asked().prop_map(Step::Forget),
        1 => Just(Step::Evict),
    ]
}

const NAMES: [&str; 3] = ["accept-language", "origin", "x-tenant"];
