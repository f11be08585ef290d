//! Usual sites, and who of their visitors gets what: the table of docs/credentials.md.

use tower_response_cache::{ANALYTICS_COOKIES, CookieRule, Policy, PolicyBuilder};

use crate::support::app::{App, Lines, response};

struct Site {
    name: &'static str,
    /// Who comes, one after the other.
    visitors: [&'static str; 3],
    says: Lines<'static>,
    policy: (&'static str, fn(PolicyBuilder) -> PolicyBuilder),
    /// What each got when credentials counted for what is stored only, and gets now.
    before: &'static str,
    now: &'static str,
}

const DEFAULT: (&str, fn(PolicyBuilder) -> PolicyBuilder) = ("–", |policy| policy);

const SITES: [Site; 13] = [
    Site {
        name: "brochure",
        visitors: ["–", "–", "–"],
        says: &[("cache-control", "max-age=60")],
        policy: DEFAULT,
        before: "own, hit, hit",
        now: "own, hit, hit",
    },
    Site {
        name: "blog with analytics",
        visitors: ["–", "_ga=1", "_ga=2"],
        says: &[("cache-control", "max-age=60")],
        policy: DEFAULT,
        before: "own, hit, hit",
        now: "own, own, own",
    },
    Site {
        name: "the same, its cookies named",
        visitors: ["_ga=1", "_ga=2", "–"],
        says: &[("cache-control", "max-age=60")],
        policy: ("`ignore_cookies(ANALYTICS_COOKIES)`", |policy| {
            policy.ignore_cookies(ANALYTICS_COOKIES)
        }),
        before: "own, own, own",
        now: "own, hit, hit",
    },
    Site {
        name: "catalogue, with sessions",
        visitors: ["sid=alice", "sid=bob", "–"],
        says: &[("cache-control", "public, max-age=60")],
        policy: DEFAULT,
        before: "own, hit, hit",
        now: "own, hit, hit",
    },
    Site {
        name: "shop whose pages show the basket",
        visitors: ["–", "sid=alice", "sid=bob"],
        says: &[("cache-control", "max-age=60")],
        policy: DEFAULT,
        before: "own, **hit**, **hit**",
        now: "own, own, own",
    },
    Site {
        name: "forum that greets its users",
        visitors: ["–", "sid=alice", "sid=alice"],
        says: &[("cache-control", "s-maxage=60"), ("vary", "cookie")],
        policy: DEFAULT,
        before: "own, own, hit",
        now: "own, own, hit",
    },
    Site {
        name: "news with a theme cookie",
        visitors: ["theme=dark", "theme=dark", "–"],
        says: &[("cache-control", "max-age=60"), ("vary", "cookie")],
        policy: ("`cookies(CookieRule::Ignore)`", |policy| {
            policy.cookies(CookieRule::Ignore)
        }),
        before: "own, hit, own",
        now: "own, hit, own",
    },
    Site {
        name: "assets",
        visitors: ["sid=alice", "sid=bob", "–"],
        says: &[("cache-control", "public, max-age=31536000, immutable")],
        policy: DEFAULT,
        before: "own, hit, hit",
        now: "own, hit, hit",
    },
    Site {
        name: "site behind a CDN",
        visitors: ["sid=alice", "sid=bob", "–"],
        says: &[
            ("cache-control", "max-age=0"),
            ("cdn-cache-control", "max-age=60"),
        ],
        policy: DEFAULT,
        before: "own, hit, hit",
        now: "own, hit, hit",
    },
    Site {
        name: "API, open and with tokens",
        visitors: ["–", "Bearer alice", "Bearer bob"],
        says: &[("cache-control", "max-age=60")],
        policy: DEFAULT,
        before: "own, **hit**, **hit**",
        now: "own, own, own",
    },
    Site {
        name: "API, the same for all tokens",
        visitors: ["Bearer alice", "Bearer bob", "–"],
        says: &[("cache-control", "max-age=60, must-revalidate")],
        policy: DEFAULT,
        before: "own, hit, hit",
        now: "own, hit, hit",
    },
    Site {
        name: "API, personal",
        visitors: ["Bearer alice", "Bearer alice", "–"],
        says: &[("cache-control", "private, max-age=60")],
        policy: DEFAULT,
        before: "own, own, own",
        now: "own, own, own",
    },
    Site {
        name: "pages that answer 401 to who is not logged in",
        visitors: ["–", "sid=alice", "–"],
        says: &[("cache-control", "max-age=60"), ("x-guarded", "yes")],
        policy: DEFAULT,
        before: "own, **hit**, hit",
        now: "own, own, own",
    },
];

#[tokio::test]
async fn usual_sites_give_their_visitors_what_the_docs_say() {
    let docs = include_str!("../../../docs/credentials.md");
    for site in &SITES {
        let (policy_name, policy) = site.policy;
        let policy = policy(Policy::builder()).build().unwrap();
        let guards = site.says.iter().any(|(name, _)| *name == "x-guarded");
        let app = App::with(policy, move |request, _| {
            let is_refused = guards && !request.headers.contains_key("cookie");
            response(if is_refused { 401 } else { 200 }, site.says, "page")
        });
        let mut got = Vec::new();
        for visitor in site.visitors {
            let line = match visitor {
                "–" => None,
                token if token.starts_with("Bearer") => Some(("authorization", token)),
                cookie => Some(("cookie", cookie)),
            };
            let answer = app.get("/", line.as_slice()).await;
            got.push(if answer.is_hit() { "hit" } else { "own" });
        }
        assert_eq!(got.join(", "), site.now, "{}", site.name);
        let said = site.says.iter().filter(|(name, _)| *name != "x-guarded");
        let said: Vec<_> = said
            .map(|(name, value)| format!("`{name}: {value}`"))
            .collect();
        let row = format!(
            "| {} | {} | {} | {policy_name} | {} | {} |",
            site.name,
            site.visitors.join(", "),
            said.join(", ")
                .replace("cache-control: ", "")
                .replace("cdn-", "CDN: "),
            site.before,
            site.now
        );
        assert!(docs.contains(&row), "docs/credentials.md lacks:\n{row}");
    }
}
