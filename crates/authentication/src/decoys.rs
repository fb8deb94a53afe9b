//! Keys for users who do not exist: whoever asks is not to learn that there is
//! no such user.
//!
//! A decoy is always the same for a name, on every node of a cluster: it comes
//! from a secret that the nodes share. Its number of iterations is that of
//! some user, chosen by the name, so that decoys have each number as often as
//! users do, whatever the parameter for new passwords was over the years. When
//! users change their passwords to another number, some decoys follow, with
//! another salt, as if their passwords had been changed.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use database::WatchEvent;
use database::tables::EndUser;
use ring::hmac;
use xmpp::sasl::{Hash, Keys};

/// How many users have which number of iterations.
#[derive(Debug, Default)]
struct Numbers {
    of_user: HashMap<String, u32>,
    users: BTreeMap<u32, u64>,
}

impl Numbers {
    fn set(&mut self, user: &str, number: Option<u32>) {
        let old = match number {
            Some(number) => {
                *self.users.entry(number).or_default() += 1;
                self.of_user.insert(user.into(), number)
            }
            None => self.of_user.remove(user),
        };
        if let Some(old) = old
            && let Some(users) = self.users.get_mut(&old)
        {
            *users -= 1;
            if *users == 0 {
                self.users.remove(&old);
            }
        }
    }

    /// The number at a point of the whole range of `u64`, each taking as much
    /// of the range as it has users; none without users.
    fn at(&self, point: u64) -> Option<u32> {
        let all: u64 = self.users.values().sum();
        let place = (u128::from(point) * u128::from(all)) >> 64;
        let mut passed = 0;
        self.users.iter().find_map(|(number, users)| {
            passed += u128::from(*users);
            (place < passed).then_some(*number)
        })
    }
}

/// The iterations of a user who can sign in with SCRAM.
fn number(user: &EndUser) -> Option<u32> {
    let keys = user.scram_sha256.as_ref().or(user.scram_sha1.as_ref());
    keys.map(|keys| keys.iterations)
}

/// Makes the keys of users who do not exist.
#[derive(Debug)]
pub(crate) struct Decoys {
    key: hmac::Key,
    numbers: Mutex<Numbers>,
}

impl Decoys {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
            numbers: Mutex::default(),
        }
    }

    /// Learns what numbers of iterations users have.
    pub(crate) fn follow(&self, event: WatchEvent<EndUser>) {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            WatchEvent::Snapshot(users) => {
                *numbers = Numbers::default();
                for user in &users {
                    numbers.set(&user.user, number(user));
                }
            }
            WatchEvent::Put(user) => numbers.set(&user.user, number(&user)),
            WatchEvent::Delete(key) => {
                if let Some(user) = key.0.first() {
                    numbers.set(user, None);
                }
            }
        }
    }

    /// The keys of somebody who does not exist; `iterations` where nobody does.
    pub(crate) fn keys(&self, name: &str, hash: Hash, iterations: NonZeroU32) -> Keys {
        let mut point = [0; 8];
        point.copy_from_slice(&self.part("iterations", name, 0)[..8]);
        let iterations = {
            let numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
            let number = numbers.at(u64::from_be_bytes(point));
            number.and_then(NonZeroU32::new).unwrap_or(iterations)
        };
        let length = hash.output_length();
        // As with users, keys of another number are of another password.
        let variant = (u64::from(iterations.get()) << 8) | length as u64;
        let part = |what, length| self.part(what, name, variant)[..length].to_vec();
        Keys {
            hash,
            salt: part("salt", 16),
            iterations,
            stored_key: part("stored key", length),
            server_key: part("server key", length),
        }
    }

    /// 32 bytes that only the secret tells.
    fn part(&self, what: &str, name: &str, variant: u64) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        for text in [what, name] {
            context.update(&(text.len() as u64).to_le_bytes());
            context.update(text.as_bytes());
        }
        context.update(&variant.to_le_bytes());
        context.sign().as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use database::tables::ScramKeys;

    const DEFAULT: NonZeroU32 = NonZeroU32::new(5000).expect("not zero");

    fn user(name: &str, iterations: u32) -> EndUser {
        let keys = ScramKeys {
            salt: String::new(),
            iterations,
            stored_key: String::new(),
            server_key: String::new(),
        };
        EndUser {
            user: name.into(),
            name: String::new(),
            mail: String::new(),
            enabled: true,
            node: String::new(),
            scram_sha1: Some(keys.clone()),
            scram_sha256: Some(keys),
        }
    }

    fn counts(decoys: &Decoys) -> BTreeMap<u32, usize> {
        let mut counts = BTreeMap::new();
        for ghost in 0..2000 {
            let keys = decoys.keys(&format!("ghost{ghost}"), Hash::Sha256, DEFAULT);
            *counts.entry(keys.iterations.get()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn nobody_looks_like_somebody() {
        let decoys = Decoys::new(b"secret");
        let ask = |name, hash| decoys.keys(name, hash, DEFAULT);
        let one = ask("ghost", Hash::Sha256);
        assert_eq!(one, ask("ghost", Hash::Sha256));
        assert_ne!(one.salt, ask("spirit", Hash::Sha256).salt);
        assert_ne!(one.salt, ask("ghost", Hash::Sha1).salt);
        assert_eq!((one.salt.len(), one.iterations), (16, DEFAULT));
        let elsewhere = Decoys::new(b"other").keys("ghost", Hash::Sha256, DEFAULT);
        assert_ne!(one.salt, elsewhere.salt);
        let same_cluster = Decoys::new(b"secret").keys("ghost", Hash::Sha256, DEFAULT);
        assert_eq!(one, same_cluster);
    }

    #[test]
    fn decoys_have_each_number_of_iterations_as_often_as_users_do() {
        let decoys = Decoys::new(b"secret");
        let mut users: Vec<_> = (0..30).map(|n| user(&format!("old{n}"), 4096)).collect();
        users.extend((0..10).map(|n| user(&format!("new{n}"), 10_000)));
        decoys.follow(WatchEvent::Snapshot(users));
        let seen = counts(&decoys);
        assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [4096, 10_000]);
        // Three in four, give or take what 2,000 draws give.
        assert!((1400..1600).contains(&seen[&4096]), "{seen:?}");
    }

    #[test]
    fn decoys_follow_users_and_change_their_salt_as_users_do() {
        let decoys = Decoys::new(b"secret");
        decoys.follow(WatchEvent::Snapshot(vec![user("anna", 4096)]));
        let before = decoys.keys("ghost", Hash::Sha256, DEFAULT);
        assert_eq!(before.iterations.get(), 4096);
        // The parameter alone changes nothing that a stranger sees.
        let raised = NonZeroU32::new(20_000).unwrap();
        assert_eq!(before, decoys.keys("ghost", Hash::Sha256, raised));
        decoys.follow(WatchEvent::Put(user("anna", 10_000)));
        assert_eq!(counts(&decoys), BTreeMap::from([(10_000, 2000)]));
        let after = decoys.keys("ghost", Hash::Sha256, DEFAULT);
        assert_ne!(before.salt, after.salt);
        decoys.follow(WatchEvent::Delete(database::Key(vec!["anna".into()])));
        assert_eq!(counts(&decoys), BTreeMap::from([(5000, 2000)]));
    }
}
