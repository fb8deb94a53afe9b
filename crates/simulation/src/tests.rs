//! The walks: clean ones, and such with a broken rule that must be noticed.

use crate::mutation::Mutation;
use crate::walk::Walk;

/// Walks of an ordinary run; `SEEDS` asks for more.
const SEEDS: u64 = 1000;
/// A broken rule must be noticed within so many.
const SEEDS_OF_A_MUTATION: u64 = 200;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is {text:?}, not a number")))
}

/// Every eighth seed, beginning with this one: eight tests share the cores.
fn walk_from(first: u64) {
    let mut failed = Vec::new();
    for seed in (first..number("SEEDS").unwrap_or(SEEDS)).step_by(8) {
        if let Err(report) = Walk::new(seed, None).run() {
            let words = report.lines().next().unwrap_or_default().to_owned();
            println!("seed {seed}: {words}");
            failed.push(report);
        }
    }
    if let Some(report) = failed.first() {
        panic!("{} walks failed, this one first: {report}", failed.len());
    }
}

macro_rules! walks {
    ($($name:ident: $first:literal,)*) => {
        $(
            #[test]
            fn $name() {
                walk_from($first);
            }
        )*
    };
}

walks! {
    walks_keep_the_invariants_1: 0,
    walks_keep_the_invariants_2: 1,
    walks_keep_the_invariants_3: 2,
    walks_keep_the_invariants_4: 3,
    walks_keep_the_invariants_5: 4,
    walks_keep_the_invariants_6: 5,
    walks_keep_the_invariants_7: 6,
    walks_keep_the_invariants_8: 7,
}

#[test]
fn a_seed_is_all_that_a_walk_depends_on() {
    for seed in 0..10 {
        let [one, two] = [0, 1].map(|_| {
            let mut walk = Walk::new(seed, None);
            let end = walk.run();
            (end, walk.world.trace, walk.world.digest)
        });
        assert_eq!(one, two, "seed {seed}");
    }
}

#[test]
#[ignore = "shows the walk of SEED"]
fn a_seed_again() {
    let seed = number("SEED").expect("SEED is the walk to show");
    let rule = std::env::var("MUTATION").ok().map(|name| {
        let known = RULES.iter().find(|(known, _)| *known == name);
        known
            .unwrap_or_else(|| panic!("no rule is called {name:?}"))
            .1
    });
    let mut walk = Walk::new(seed, rule);
    walk.world.watched = std::env::var("WHO").ok();
    let end = walk.run();
    println!("{}", walk.world.trace.join("\n"));
    if let Err(report) = end {
        let first = report.lines().next().unwrap_or_default();
        panic!("seed {seed}: {first}");
    }
}

/// The seed that notices a broken rule.
fn caught(mutation: Mutation) {
    let noticed = (0..SEEDS_OF_A_MUTATION).find_map(|seed| {
        let end = Walk::new(seed, Some(mutation)).run();
        end.err().map(|report| (seed, report))
    });
    let Some((seed, report)) = noticed else {
        panic!("{mutation:?} is not noticed within {SEEDS_OF_A_MUTATION} seeds");
    };
    let first = report.lines().next().unwrap_or_default();
    println!("{mutation:?}: seed {seed}: {first}");
}

macro_rules! caught {
    ($($name:ident: $of:ident($rule:path),)*) => {
        /// Every broken rule, by the name of its test.
        const RULES: &[(&str, Mutation)] = &[$((stringify!($name), Mutation::$of($rule)),)*];

        $(
            #[test]
            fn $name() {
                caught(Mutation::$of($rule));
            }
        )*
    };
}

caught! {
    a_takeover_without_a_verdict: Recovery(recovery::Mutation::NoVerdict),
    an_owner_that_does_not_yield: Recovery(recovery::Mutation::NoYield),
    serving_while_failing_over: Recovery(recovery::Mutation::ServeWhileFailingOver),
    taking_back_at_once: Recovery(recovery::Mutation::TakeBackAtOnce),
    a_forgetful_manager: Recovery(recovery::Mutation::Forgetful),
    older_news: Recovery(recovery::Mutation::OlderNews),
    phantoms_that_are_not_adopted: Router(router::Mutation::PhantomsNotAdopted),
    adopted_sessions_shown_as_gone: Router(router::Mutation::AdoptedShownGone),
    phantoms_that_stay: Router(router::Mutation::PhantomsStay),
    acknowledging_before_storing: Router(router::Mutation::AcknowledgedBeforeStored),
    claims_that_are_not_heard: Router(router::Mutation::ClaimsNotHeard),
    presence_that_is_not_told_to_who_takes_over: Router(router::Mutation::PresenceNotTold),
    a_lost_connection_whose_frames_are_not_sent_again: Router(router::Mutation::NotSentAgain),
    a_refusal_taken_for_done: Router(router::Mutation::RefusedDropped),
    stanzas_for_inactive_connections: Router(router::Mutation::InactiveRoutedTo),
    inactive_connections_that_stay_so: Router(router::Mutation::ActivationForgotten),
    a_whole_copy_left_out: Datastore(datastore::Mutation::CopyLeftOut),
    old_copies_that_stay: Datastore(datastore::Mutation::OldCopiesStay),
    removals_that_are_not_sent: Datastore(datastore::Mutation::RemovalsNotSent),
}
