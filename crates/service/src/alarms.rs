//! Alarms: conditions that an administrator must know of, raised once and
//! cleared when they are over.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// How urgent an alarm is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is lost, somebody should look.
    Warning,
    /// Something does not work.
    Error,
    /// People are affected now.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        })
    }
}

/// An alarm that is raised now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Name, such as `CriticalServiceDown`.
    pub id: String,
    /// How urgent it is.
    pub severity: Severity,
    /// What happened and what to do, as a sentence.
    pub text: String,
    /// When it was raised.
    pub since: SystemTime,
}

/// The alarms of one service.
#[derive(Clone, Debug, Default)]
pub struct Alarms(Arc<Mutex<BTreeMap<String, Alarm>>>);

impl Alarms {
    /// Raises an alarm, or changes the text of one that is raised already.
    /// Only a new alarm, or one with new words, reaches the log.
    pub fn raise(&self, id: &str, severity: Severity, text: &str) {
        let mut raised = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match raised.get_mut(id) {
            Some(alarm) if alarm.text == text && alarm.severity == severity => return,
            Some(alarm) => {
                alarm.text = text.into();
                alarm.severity = severity;
            }
            None => {
                let alarm = Alarm {
                    id: id.into(),
                    severity,
                    text: text.into(),
                    since: SystemTime::now(),
                };
                raised.insert(id.into(), alarm);
            }
        }
        drop(raised);
        tracing::warn!(alarm = id, %severity, "Alarm raised: {text}");
    }

    /// Clears an alarm; clearing one that is not raised does nothing.
    pub fn clear(&self, id: &str) {
        let cleared = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
        if cleared.is_some() {
            tracing::info!(alarm = id, "Alarm cleared.");
        }
    }

    /// The alarms raised now, by id.
    pub fn raised(&self) -> Vec<Alarm> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_keeps_its_time_when_its_words_change() {
        let alarms = Alarms::default();
        alarms.raise("DiskLow", Severity::Warning, "10% left.");
        let since = alarms.raised()[0].since;
        alarms.raise("DiskLow", Severity::Critical, "1% left.");
        let now = alarms.raised();
        assert_eq!(
            (now.len(), now[0].since, now[0].text.as_str()),
            (1, since, "1% left.")
        );
        alarms.clear("DiskLow");
        assert!(alarms.raised().is_empty());
    }
}
