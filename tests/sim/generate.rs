//! Makes a scenario from a seed.

use fastrand::Rng;

use crate::fields::RESOURCES;
use crate::step::*;
use crate::text::{Record, read_record};

/// The scenario of a seed: always the same one.
pub fn scenario(seed: u64, steps: usize) -> Scenario {
    let mut dice = Dice(Rng::with_seed(seed));
    let world = dice.world(seed);
    let busy = dice.number(1..=3);
    let mut at = 0;
    let mut all = Vec::with_capacity(steps);
    let mut theme = Theme {
        world,
        busy,
        calm: dice.one_in(3),
        spice: dice.pick(&[(2, 1), (2, 2), (3, 4), (2, 8)]),
        steady: dice.one_in(3),
        values: dice.one_in(8),
        gets: Vec::new(),
        modes: Vec::new(),
    };
    let first = Act::Mode(dice.mode(0, &theme.world));
    all.push(Step { at, act: first });
    while all.len() < steps {
        at += dice.pause();
        let act = dice.act(&mut theme);
        all.push(Step { at, act });
        // What straddles is what is looked for.
        if dice.one_in(3) {
            all.push(Step {
                at: at + dice.number(0..=60),
                act: dice.act(&mut theme),
            });
        }
    }
    all.sort_by_key(|step| step.at);
    Scenario { world, steps: all }
}

/// What a scenario is about.
struct Theme {
    world: World,
    /// How many resources are used.
    busy: u32,
    /// Nothing is purged or changed by itself, no fault happens.
    calm: bool,
    /// Of so many peculiarities one is kept.
    spice: u32,
    /// Handlers seldom change how they answer.
    steady: bool,
    /// The application's own values are used much.
    values: bool,
    /// What was asked for so far: most of it is asked for again.
    gets: Vec<Get>,
    /// How handlers have answered so far: mostly one thing changes at a time.
    modes: Vec<Mode>,
}

struct Dice(Rng);

impl Dice {
    fn world(&mut self, seed: u64) -> World {
        let store = self.one_in(2);
        World {
            seed,
            others: if store { self.number(0..=2) as u8 } else { 0 },
            store,
            memory: self.pick(&[
                (8, Memory::Plenty),
                (2, Memory::Small),
                (1, Memory::Middling),
                (2, Memory::Off),
            ]),
            two_variants: self.one_in(6),
            nested: self.one_in(7),
            keyed: self.one_in(8),
            query: self.one_in(6),
            strip: self.one_in(5),
            picky: self.one_in(10),
            lease: store && self.one_in(8),
            short_log: self.one_in(10),
            tight: self.one_in(8),
            sham: Sham::None,
            skew: if store && self.one_in(5) {
                self.number(1..=30) as u8
            } else {
                0
            },
        }
    }

    /// Milliseconds between two steps.
    fn pause(&mut self) -> u32 {
        match self.0.u32(0..100) {
            0..45 => self.number(0..=15),
            45..75 => self.number(20..=300),
            75..95 => self.number(500..=5_000),
            95..98 => self.number(5_000..=15_000),
            _ => self.number(15_000..=70_000),
        }
    }

    fn act(&mut self, theme: &mut Theme) -> Act {
        match self.any_act(theme) {
            Act::Get(get) => {
                if self.one_in(3) && !theme.gets.is_empty() {
                    return Act::Get(theme.gets[self.0.usize(0..theme.gets.len())]);
                }
                let get = self.thin(&get, theme.spice);
                theme.gets.push(get);
                Act::Get(get)
            }
            Act::Change(change) => Act::Change(self.thin(&change, theme.spice)),
            Act::Purge(purge) => Act::Purge(purge),
            Act::Mode(mode) => {
                let last = theme.modes.iter().rev().find(|last| last.r == mode.r);
                let mode = match last.copied() {
                    Some(last) if self.one_in(2) => self.shift(last, &mode),
                    _ => self.thin(&mode, theme.spice),
                };
                theme.modes.push(mode);
                Act::Mode(mode)
            }
            other => other,
        }
    }

    /// The same with fewer peculiarities.
    fn thin<R: Record>(&mut self, record: &R, spice: u32) -> R {
        let mut text = String::new();
        record.write(&mut text);
        let mut words: Vec<&str> = text.split_whitespace().collect();
        words.retain(|word| {
            let essential = ["at=", "r=", "cc=", "delay="];
            essential.iter().any(|it| word.starts_with(it)) || self.one_in(spice)
        });
        read_record(&words).unwrap_or_default()
    }

    /// The last mode but for one thing that the next one has.
    fn shift(&mut self, mut last: Mode, next: &Mode) -> Mode {
        let mut text = String::new();
        next.write(&mut text);
        let words: Vec<&str> = text.split_whitespace().collect();
        if !words.is_empty()
            && let Some((name, word)) = words[self.0.usize(0..words.len())].split_once('=')
        {
            let _same_if_not_understood = last.set(name, word);
        }
        last
    }

    fn any_act(&mut self, theme: &Theme) -> Act {
        let r = self.number(0..=theme.busy - 1) as u8 % RESOURCES;
        let at = self.number(0..=u32::from(theme.world.others)) as u8;
        match self.0.u32(0..100) {
            0..30 if theme.values => Act::Value(self.value(at, r)),
            0..58 => Act::Get(self.get(at, r, &theme.world)),
            58..69 if theme.steady => Act::Get(self.get(at, r, &theme.world)),
            58..70 => Act::Mode(self.mode(r, &theme.world)),
            70..73 => Act::Touch(Touch { r }),
            73..83 if !theme.calm => Act::Change(self.change(at, r, &theme.world)),
            83..91 if !theme.calm => Act::Purge(self.purge(at, r, &theme.world)),
            91..94 if !theme.calm => Act::Value(self.value(at, r)),
            94..100 if !theme.calm && theme.world.store => Act::Fault(self.fault(at)),
            _ => Act::Get(self.get(at, r, &theme.world)),
        }
    }

    fn get(&mut self, at: u8, r: u8, world: &World) -> Get {
        Get {
            at,
            r,
            head: self.one_in(14),
            via: self.one_in(16),
            user: self.pick(&[
                (if world.keyed { 3 } else { 12 }, User::Nobody),
                (2, User::Alice),
                (1, User::Bob),
            ]),
            how: self.pick(&[
                (6, How::Cookie),
                (2, How::Authorization),
                (1, How::Twice),
                (1, How::Spaced),
                (1, How::Escaped),
                (1, How::Beside),
            ]),
            lang: self.pick(&[(8, 0), (3, 1), (2, 2), (1, 3)]),
            origin: self.pick(&[(10, 0), (2, 1), (1, 2)]),
            host: self.pick(&[(20, Host::Plain), (1, Host::Port), (1, Host::Capitals)]),
            cond: self.pick(&[
                (20, Cond::None),
                (1, Cond::Current),
                (1, Cond::Old),
                (1, Cond::Other),
                (1, Cond::Since),
            ]),
            range: self.pick(&[
                (24, Range::None),
                (1, Range::First),
                (1, Range::Last),
                (1, Range::Beyond),
            ]),
            asks: self.pick(&[
                (40, Asks::Nothing),
                (1, Asks::NoStore),
                (1, Asks::OnlyIfCached),
            ]),
            proxied: self.one_in(14),
            upgrade: self.one_in(25),
            session: self.one_in(20),
            utm: world.query && self.one_in(4),
            leave: if self.one_in(10) {
                self.number(1..=200)
            } else {
                0
            },
            slow: if self.one_in(16) {
                self.number(1..=400)
            } else {
                0
            },
            more: if self.one_in(8) {
                self.number(1..=3) as u8
            } else {
                0
            },
        }
    }

    fn mode(&mut self, r: u8, world: &World) -> Mode {
        let by = self.pick(&[
            (6, By::Nothing),
            (3, By::Lang),
            (if world.keyed { 9 } else { 3 }, By::User),
            (2, By::Origin),
            (1, By::Host),
        ]);
        let size = match self.0.u32(0..40) {
            0..10 if world.memory == Memory::Middling => 600_000,
            0 => 600_000,
            1..7 => self.number(1..=9) * 1_000,
            7..12 => self.number(1..=400),
            _ => 0,
        };
        Mode {
            r,
            cc: self.cc(),
            by,
            vary: self.pick(&[
                (10, Vary::Right),
                (2, Vary::Sometimes),
                (2, Vary::Changing),
                (1, Vary::Star),
                (1, Vary::OddStar),
            ]),
            check: self.pick(&[
                (6, Check::Strong),
                (1, Check::Weak),
                (2, Check::Date),
                (2, Check::Coarse),
                (2, Check::None),
            ]),
            on_match: self.pick(&[
                (8, OnMatch::NotModified),
                (2, OnMatch::Narrow),
                (1, OnMatch::Typed),
                (1, OnMatch::OtherTag),
                (if world.picky { 6 } else { 0 }, OnMatch::Draft),
                (2, OnMatch::Whole),
            ]),
            status: self.pick(&[
                (24, Status::Ok),
                (1, Status::NotFound),
                (1, Status::Guarded),
                (1, Status::Failed),
                (1, Status::Unavailable),
                (1, Status::Error),
                (1, Status::Panic),
            ]),
            length: self.pick(&[(4, Length::Declared), (2, Length::Unknown)]),
            end: self.pick(&[(16, End::Clean), (1, End::Broken), (1, End::Trailers)]),
            extra: self.pick(&[
                (16, Extra::Nothing),
                (1, Extra::SetCookie),
                (1, Extra::ClearSiteData),
            ]),
            delay: self.delay(),
            size,
            frames: self.pick(&[(6, 0), (2, 1), (1, 3), (1, 9)]),
            gap: if self.one_in(3) {
                self.number(1..=200)
            } else {
                0
            },
        }
    }

    fn cc(&mut self) -> Cc {
        self.pick(&[
            (8, Cc::Fresh),
            (5, Cc::Public),
            (1, Cc::Shared),
            (1, Cc::Targeted),
            (2, Cc::Short),
            (2, Cc::Swr),
            (2, Cc::Sie),
            (1, Cc::Must),
            (1, Cc::Zero),
            (2, Cc::NoCache),
            (1, Cc::NoStore),
            (1, Cc::Private),
            (1, Cc::None),
            (1, Cc::OddPublic),
            (1, Cc::OddPrivate),
        ])
    }

    /// Milliseconds that a handler takes.
    fn delay(&mut self) -> u32 {
        match self.0.u32(0..10) {
            0..5 => 0,
            5..9 => self.number(1..=300),
            _ => self.number(300..=7_000),
        }
    }

    fn change(&mut self, at: u8, r: u8, world: &World) -> Change {
        Change {
            at,
            r,
            via: self.one_in(16),
            utm: world.query && self.one_in(4),
            method: self.pick(&[(2, Method::Put), (1, Method::Post), (1, Method::Delete)]),
            answer: self.pick(&[
                (6, ChangeAnswer::NoContent),
                (2, ChangeAnswer::Ok),
                (3, ChangeAnswer::Created),
                (2, ChangeAnswer::SeeOther),
                (1, ChangeAnswer::Refused),
                (1, ChangeAnswer::Failed),
                (1, ChangeAnswer::Error),
                (1, ChangeAnswer::Panic),
            ]),
            before: if self.one_in(2) {
                self.number(1..=100)
            } else {
                0
            },
            leave: if self.one_in(6) {
                self.number(1..=60)
            } else {
                0
            },
            cut: if self.one_in(10) {
                self.number(1..=80)
            } else {
                0
            },
        }
    }

    fn purge(&mut self, at: u8, r: u8, world: &World) -> Purge {
        Purge {
            at,
            r,
            what: self.pick(&[
                (4, What::Tag),
                (2, What::Uri),
                (2, What::Full),
                (1, What::Https),
                (if world.query { 3 } else { 0 }, What::Utm),
                (1, What::Path),
                (1, What::Everything),
                (1, What::Empty),
                (4, What::Unrelated),
            ]),
            soft: self.one_in(4),
            more: if self.one_in(if world.short_log { 2 } else { 6 }) {
                self.number(1..=30) as u8
            } else {
                0
            },
        }
    }

    fn value(&mut self, at: u8, r: u8) -> Value {
        Value {
            at,
            r,
            what: self.pick(&[
                (3, Access::Get),
                (3, Access::GetOrSet),
                (3, Access::Set),
                (1, Access::Remove),
            ]),
            delay: self.delay().min(500),
        }
    }

    fn fault(&mut self, at: u8) -> Fault {
        let what = self.pick(&[
            (6, StoreFault::Heal),
            (2, StoreFault::Full),
            (3, StoreFault::Evict),
            (1, StoreFault::EvictAll),
            (1, StoreFault::Lose),
            (1, StoreFault::Delay),
            (2, StoreFault::Cut),
            (1, StoreFault::Silence),
            (1, StoreFault::LoseReplies),
            (1, StoreFault::Restart),
            (1, StoreFault::Failover),
            (1, StoreFault::Slow),
            (1, StoreFault::Cross),
            (1, StoreFault::Reboot),
        ]);
        let n = match what {
            StoreFault::Slow => self.number(1..=60),
            StoreFault::Delay => self.number(1..=500),
            _ => self.number(0..=9),
        };
        Fault { what, at, n }
    }

    fn number(&mut self, range: std::ops::RangeInclusive<u32>) -> u32 {
        self.0.u32(range)
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.0.u32(0..n) == 0
    }

    /// One of them, by their weights.
    fn pick<T: Copy>(&mut self, choices: &[(u32, T)]) -> T {
        let all: u32 = choices.iter().map(|(weight, _)| weight).sum();
        let mut rest = self.0.u32(0..all);
        for (weight, choice) in choices {
            if rest < *weight {
                return *choice;
            }
            rest -= weight;
        }
        choices[0].1
    }
}
