//! Performance counters, by class, instance and name, as monitoring tools
//! address them (`Cisco XCP CM`, the instance, `CmConnectedSockets`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One counter. Cheap to clone and to change from any thread.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicI64>);

impl Counter {
    /// Adds to the counter; a negative amount lowers a gauge.
    pub fn add(&self, amount: i64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Sets a gauge.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The value of one counter at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Class, such as `Cisco XCP CM`.
    pub class: String,
    /// Instance; empty where the class has only one.
    pub instance: String,
    /// Counter name, such as `CmConnectedSockets`.
    pub name: String,
    /// The value.
    pub value: i64,
}

type Key = (String, String, String);

/// The counters of one service.
#[derive(Clone, Debug, Default)]
pub struct Perf(Arc<Mutex<BTreeMap<Key, Counter>>>);

impl Perf {
    /// The counter of that class, instance and name, made at first use.
    pub fn counter(&self, class: &str, instance: &str, name: &str) -> Counter {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters
            .entry((class.into(), instance.into(), name.into()))
            .or_default()
            .clone()
    }

    /// Every counter with its value, in order of class, instance and name.
    pub fn samples(&self) -> Vec<Sample> {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters
            .iter()
            .map(|((class, instance, name), counter)| Sample {
                class: class.clone(),
                instance: instance.clone(),
                name: name.clone(),
                value: counter.get(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_is_the_same_counter() {
        let perf = Perf::default();
        perf.counter("Class", "", "Name").increment();
        perf.counter("Class", "", "Name").add(2);
        perf.counter("Class", "b", "Name").set(9);
        let values: Vec<_> = perf
            .samples()
            .into_iter()
            .map(|s| (s.instance, s.value))
            .collect();
        assert_eq!(values, [(String::new(), 3), ("b".into(), 9)]);
    }
}
