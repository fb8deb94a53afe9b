//! Whose users a node serves: what a manager tells its node's router.

use std::collections::BTreeMap;

/// What is known of a home node's users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// The latest epoch of a claim to serve them. Every write for them carries
    /// the epoch of who wrote it, and one with an older epoch is refused.
    pub epoch: u64,
    /// Whether this node serves them, in that epoch.
    pub served: bool,
}

/// Home nodes, by the name of their row among the cluster's nodes, and who of
/// them is served here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serving(BTreeMap<String, Home>);

impl Serving {
    /// The homes that this node serves, with the epoch of each.
    pub fn served(&self) -> BTreeMap<String, u64> {
        let served = self.0.iter().filter(|(_, home)| home.served);
        served
            .map(|(name, home)| (name.clone(), home.epoch))
            .collect()
    }

    /// What is known of each home, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Home)> {
        self.0.iter().map(|(name, home)| (name.as_str(), *home))
    }

    /// What is known of a home.
    pub fn get(&self, home: &str) -> Option<Home> {
        self.0.get(home).copied()
    }

    /// Sets what is known of a home.
    pub fn set(&mut self, name: &str, home: Home) {
        self.0.insert(name.into(), home);
    }

    /// Takes the manager's word over; homes of which it says nothing stay as
    /// they are. What is older than what is known is refused: a manager that
    /// lost its memory knows less than this. Gives the homes of which the word
    /// was refused.
    pub fn take(&mut self, word: Self) -> Vec<String> {
        let mut refused = Vec::new();
        for (name, home) in word.0 {
            if self
                .get(&name)
                .is_some_and(|known| known.epoch > home.epoch)
            {
                refused.push(name);
            } else {
                self.0.insert(name, home);
            }
        }
        refused
    }
}

impl FromIterator<(String, Home)> for Serving {
    fn from_iter<I: IntoIterator<Item = (String, Home)>>(homes: I) -> Self {
        Self(homes.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(homes: &[(&str, u64, bool)]) -> Serving {
        let mut serving = Serving::default();
        for (name, epoch, served) in homes {
            let home = Home {
                epoch: *epoch,
                served: *served,
            };
            serving.set(name, home);
        }
        serving
    }

    #[test]
    fn an_older_epoch_is_refused() {
        let mut known = word(&[("a", 1, true), ("b", 2, false)]);
        assert!(
            known
                .take(word(&[("a", 4, false), ("b", 2, false)]))
                .is_empty()
        );
        assert_eq!(known.served(), BTreeMap::new());
        // A manager without memory believes that all is as in the beginning.
        let refused = known.take(word(&[("a", 1, true), ("b", 2, false)]));
        assert_eq!(refused, ["a"]);
        assert_eq!(known.served(), BTreeMap::new());
        assert!(
            known
                .take(word(&[("a", 5, true), ("b", 2, false)]))
                .is_empty()
        );
        assert_eq!(known.served(), BTreeMap::from([("a".into(), 5)]));
    }

    #[test]
    fn a_home_of_which_nothing_is_said_stays_as_it_is() {
        let mut known = word(&[("a", 3, true), ("b", 5, true)]);
        known.take(word(&[("b", 5, false)]));
        assert_eq!(known.served(), BTreeMap::from([("a".into(), 3)]));
    }
}
