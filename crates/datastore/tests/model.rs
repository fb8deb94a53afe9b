//! The store against the simplest model of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use datastore::{Batch, Change, LINGER, Refused, Store};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Begin {
        owner: usize,
        epoch: u64,
    },
    Put {
        owner: usize,
        key: u8,
        value: u8,
        ttl: u64,
    },
    Delete {
        owner: usize,
        key: u8,
    },
    Synced {
        owner: usize,
    },
    Stale {
        owner: usize,
    },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let owner = || 0usize..2;
    prop_oneof![
        1 => (owner(), 0u64..4).prop_map(|(owner, epoch)| Step::Begin { owner, epoch }),
        6 => (owner(), 0u8..6, any::<u8>(), prop_oneof![Just(0u64), 1u64..50])
            .prop_map(|(owner, key, value, ttl)| Step::Put { owner, key, value, ttl }),
        3 => (owner(), 0u8..6).prop_map(|(owner, key)| Step::Delete { owner, key }),
        1 => owner().prop_map(|owner| Step::Synced { owner }),
        1 => owner().prop_map(|owner| Step::Stale { owner }),
        1 => (1u64..30).prop_map(Step::Wait),
    ]
}

#[derive(Default)]
struct Owner {
    begun: bool,
    epoch: u64,
    sequence: u64,
    /// Value, end, and whether it was sent since the last Begin.
    rows: BTreeMap<String, (u8, Option<u64>, bool)>,
}

proptest! {
    #[test]
    fn rows_are_those_of_the_model(steps in proptest::collection::vec(step(), 0..80)) {
        let mut store = Store::default();
        let mut model = [Owner::default(), Owner::default()];
        let mut now = 0;
        // What a watcher makes of the changes it is told.
        let mut seen: BTreeMap<(String, String), Bytes> = BTreeMap::new();
        for step in steps {
            let mut changes = Vec::new();
            match step {
                Step::Begin { owner, epoch } => {
                    let result = store.begin(&name(owner), epoch);
                    let known = &mut model[owner];
                    if known.begun && epoch < known.epoch {
                        let refused = matches!(result, Err(Refused::OldEpoch { .. }));
                        prop_assert!(refused);
                    } else {
                        prop_assert!(result.is_ok());
                        known.begun = true;
                        known.epoch = epoch;
                        known.sequence = 0;
                        for row in known.rows.values_mut() {
                            row.2 = false;
                        }
                    }
                }
                Step::Put { owner, key, value, ttl } => {
                    let known = &mut model[owner];
                    let batch = Batch {
                        sequence: known.sequence + 1,
                        puts: vec![(format!("k{key}"), Bytes::from(vec![value]), ttl)],
                        ..Batch::default()
                    };
                    match store.batch(&name(owner), known.epoch, batch, now) {
                        Ok(told) => {
                            prop_assert!(known.begun);
                            changes = told;
                            known.sequence += 1;
                            let end = (ttl > 0).then(|| now + ttl);
                            known.rows.insert(format!("k{key}"), (value, end, true));
                        }
                        Err(_) => prop_assert!(!known.begun),
                    }
                }
                Step::Delete { owner, key } => {
                    let known = &mut model[owner];
                    let batch = Batch {
                        sequence: known.sequence + 1,
                        deletes: vec![format!("k{key}")],
                        ..Batch::default()
                    };
                    if let Ok(told) = store.batch(&name(owner), known.epoch, batch, now) {
                        changes = told;
                        known.sequence += 1;
                        known.rows.remove(&format!("k{key}"));
                    }
                }
                Step::Synced { owner } => {
                    let known = &mut model[owner];
                    let batch = Batch {
                        sequence: known.sequence + 1,
                        synced: true,
                        ..Batch::default()
                    };
                    if let Ok(told) = store.batch(&name(owner), known.epoch, batch, now) {
                        changes = told;
                        known.sequence += 1;
                        known.rows.retain(|_, row| row.2);
                    }
                }
                Step::Stale { owner } => {
                    // A batch of an epoch that is over, and one again, and one
                    // too early: none changes anything.
                    let known = &model[owner];
                    let put = |sequence| Batch {
                        sequence,
                        puts: vec![("stale".into(), Bytes::from_static(b"x"), 0)],
                        ..Batch::default()
                    };
                    if known.begun && known.epoch > 0 {
                        let old = store.batch(&name(owner), known.epoch - 1, put(known.sequence + 1), now);
                        let refused = matches!(old, Err(Refused::OldEpoch { .. }));
                        prop_assert!(refused);
                    }
                    if known.begun && known.sequence > 0 {
                        let again = store.batch(&name(owner), known.epoch, put(known.sequence), now);
                        prop_assert_eq!(again, Ok(Vec::new()));
                    }
                    let early = store.batch(&name(owner), known.epoch, put(known.sequence + 2), now);
                    prop_assert!(early.is_err());
                }
                Step::Wait(time) => {
                    now += time;
                    changes = store.expire(now);
                    for owner in &mut model {
                        owner.rows.retain(|_, (_, end, _)| end.is_none_or(|end| end > now));
                    }
                }
            }
            for change in changes {
                let row = change.row();
                let place = (row.owner.to_string(), row.key.to_string());
                match change {
                    Change::Put(row) => drop(seen.insert(place, row.value)),
                    Change::Gone(_) => drop(seen.remove(&place)),
                }
            }
            let mut expected: Vec<(String, String, u8)> = Vec::new();
            for (index, owner) in model.iter().enumerate() {
                for (key, row) in &owner.rows {
                    expected.push((key.clone(), name(index), row.0));
                }
            }
            expected.sort();
            let listed: Vec<(String, String, u8)> = store
                .list("", "", 100)
                .into_iter()
                .map(|row| (row.key.to_string(), row.owner.to_string(), row.value[0]))
                .collect();
            prop_assert_eq!(&listed, &expected);
            let watched: Vec<(String, String, u8)> = {
                let mut rows: Vec<_> = seen
                    .iter()
                    .map(|((owner, key), value)| (key.clone(), owner.clone(), value[0]))
                    .collect();
                rows.sort();
                rows
            };
            prop_assert_eq!(&watched, &expected);
            prop_assert_eq!(store.figures().rows, expected.len());
            let bytes: usize = expected.iter().map(|(key, _, _)| key.len() + 1).sum();
            prop_assert_eq!(store.figures().bytes, bytes);
        }
    }
}

fn name(owner: usize) -> String {
    format!("owner{owner}")
}

#[test]
fn rows_die_with_their_owner_some_time_after_it() {
    let mut store = Store::default();
    let put = Batch {
        sequence: 1,
        puts: vec![("x".into(), Bytes::from_static(b"v"), 0)],
        ..Batch::default()
    };
    let first = store.begin("a", 5).unwrap();
    store.batch("a", 5, put.clone(), 0).unwrap();
    // It was back before its end was seen.
    let second = store.begin("a", 5).unwrap();
    store.batch("a", 5, put, 0).unwrap();
    store.leave("a", first, 10);
    assert_eq!(store.expire(2 * LINGER), []);
    store.leave("a", second, 10);
    assert_eq!(store.expire(LINGER + 9), []);
    assert_eq!(store.get("x").len(), 1);
    assert_eq!(store.expire(LINGER + 10).len(), 1);
    assert_eq!((store.figures().rows, store.figures().bytes), (0, 0));
}

#[test]
fn pages_follow_each_other_without_a_gap() {
    let mut store = Store::default();
    for owner in ["a", "b"] {
        store.begin(owner, 1).unwrap();
        let puts = (0..50)
            .map(|number| (format!("p/{number:02}"), Bytes::from_static(b"v"), 0))
            .collect();
        let batch = Batch {
            sequence: 1,
            puts,
            ..Batch::default()
        };
        store.batch(owner, 1, batch, 0).unwrap();
    }
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let page = store.list("p/", &after, 7);
        let Some(last) = page.last() else { break };
        after = last.key.to_string();
        all.extend(page);
    }
    assert_eq!(all.len(), 100);
    assert!(store.list("q", "", 7).is_empty());
}
