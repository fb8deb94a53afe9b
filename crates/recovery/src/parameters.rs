//! The service parameters of the recovery manager (seed 004, "heartbeat
//! interval for failover").

use std::time::Duration;

use parameter::{Definition, Values};

/// A healthy home node waits for so long until users fall back by themselves.
pub const AUTOMATIC_FALLBACK_AFTER: Duration = Duration::from_secs(30 * 60);

const SERVICE_PORT: &str = "Service Port";
const ADMIN_PORT: &str = "Admin RPC Port";
const SERVICE_DELAY: &str = "Critical Service Down Delay";
const FALLBACK: &str = "Enable Automatic Fallback";
const PROFILE: &str = "Keep Alive Profile";
const INITIAL: &str = "Initialization Keep Alive (Heartbeat) Timeout";
const TIMEOUT: &str = "Keep Alive (Heartbeat) Timeout";
const INTERVAL: &str = "Keep Alive (Heartbeat) Interval";
const AUTHENTICATION: &str = "Enable monitoring of XCP Authentication Service";
const LOWER: &str = "Client Re-Login Lower Limit";
const UPPER: &str = "Client Re-Login Upper Limit";

/// Every parameter, in the order in which they are shown. Names, defaults and
/// scopes are the seed's; it has no ranges, those are ours.
pub const DEFINITIONS: [Definition; 11] = [
    Definition::new(
        SERVICE_PORT,
        "22001",
        Values::Number(1024, 65535, "port"),
        "TCP port on which a recovery manager is reached by its peer.",
    ),
    Definition::new(
        ADMIN_PORT,
        "20075",
        Values::Number(1024, 65535, "port"),
        "TCP port on which it takes administrators' requests.",
    ),
    Definition::new(
        SERVICE_DELAY,
        "90",
        Values::Number(1, 3600, "s"),
        "A critical service may be down for so long before its node fails over.",
    ),
    Definition::new(
        FALLBACK,
        "false",
        Values::Flag,
        "Whether users go home by themselves once their node has been healthy for 30 minutes.",
    ),
    Definition::new(
        PROFILE,
        "standard",
        Values::Word(&["standard", "fast"]),
        "\"fast\" sends a keepalive each second and gives a peer up after 3 s of silence, whatever \
         interval and timeout say.",
    ),
    Definition::new(
        INITIAL,
        "120",
        Values::Number(3, 3600, "s"),
        "A peer may be silent for so long while this node starts before its users are taken over.",
    ),
    Definition::new(
        TIMEOUT,
        "60",
        Values::Number(3, 3600, "s"),
        "A peer may be silent for so long before its users are taken over.",
    ),
    Definition::new(
        INTERVAL,
        "15",
        Values::Number(1, 600, "s"),
        "Time between two keepalives.",
    ),
    Definition::new(
        AUTHENTICATION,
        "false",
        Values::Flag,
        "Whether the authentication service counts as critical.",
    ),
    Definition::new(
        LOWER,
        "120",
        Values::Number(0, 86400, "s"),
        "The shortest time that a client waits before it signs in here again, or opens its \
         inactive connection.",
    )
    .on_each_node(),
    Definition::new(
        UPPER,
        "537",
        Values::Number(0, 86400, "s"),
        "The longest such time.",
    )
    .on_each_node(),
];

/// A value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// One value alone is wrong.
    #[error(transparent)]
    Value(#[from] parameter::Invalid),
    /// Two values do not go together.
    #[error("{0}")]
    Together(String),
}

/// The parameters as the machine and its driver use them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Parameters {
    /// Port for the peer.
    pub service_port: u16,
    /// Port for administrative requests.
    pub admin_port: u16,
    /// How long a critical service may be down.
    pub critical_service_delay: Duration,
    /// Whether users fall back by themselves.
    pub automatic_fallback: bool,
    /// How long a peer may be silent while this node starts.
    pub initial_timeout: Duration,
    /// How long a peer may be silent.
    pub keepalive_timeout: Duration,
    /// Time between keepalives.
    pub keepalive_interval: Duration,
    /// A manager that does not report to systemd for so long is killed
    /// (`WATCHDOG_USEC`). No parameter of its own: see [`Parameters::check`].
    pub watchdog: Duration,
    /// Whether the authentication service is critical.
    pub monitor_authentication: bool,
    /// Lower limit of a client's wait.
    pub relogin_lower: Duration,
    /// Upper limit of a client's wait.
    pub relogin_upper: Duration,
}

/// The watchdog of every unit; a manager's is never longer.
const WATCHDOG: Duration = Duration::from_secs(15);

impl Default for Parameters {
    fn default() -> Self {
        let read = Self::read(|_| None);
        read.unwrap_or_else(|invalid| unreachable!("a default is wrong: {invalid}"))
    }
}

impl Parameters {
    /// The defaults with the fast profile.
    pub fn fast() -> Self {
        Self::default().hurried()
    }

    fn hurried(self) -> Self {
        Self {
            keepalive_interval: Duration::from_secs(1),
            keepalive_timeout: Duration::from_secs(3),
            ..self
        }
        .watched()
    }

    /// Sets the longest watchdog time that leaves a quarter of the time
    /// between a last keepalive and the peer's decision.
    fn watched(self) -> Self {
        let left = self
            .keepalive_timeout
            .saturating_sub(self.keepalive_interval);
        Self {
            watchdog: (left * 3 / 4).min(WATCHDOG),
            ..self
        }
    }

    /// Reads the parameters from their texts; `get` gives none for one that is
    /// not set, which then has its default.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Invalid> {
        let text = |name| {
            let definition = DEFINITIONS.iter().find(|one| one.name == name);
            let definition = definition.unwrap_or_else(|| unreachable!("{name} is not defined"));
            let value = get(name).unwrap_or_else(|| definition.default.into());
            definition.check(&value)?;
            Ok::<_, Invalid>(value)
        };
        let number = |name| text(name).map(|value| value.parse::<u64>().unwrap_or_default());
        let seconds = |name| number(name).map(Duration::from_secs);
        let port = |name| number(name).map(|value| u16::try_from(value).unwrap_or_default());
        let flag = |name| text(name).map(|value| value == "true");
        let read = Self {
            service_port: port(SERVICE_PORT)?,
            admin_port: port(ADMIN_PORT)?,
            critical_service_delay: seconds(SERVICE_DELAY)?,
            automatic_fallback: flag(FALLBACK)?,
            initial_timeout: seconds(INITIAL)?,
            keepalive_timeout: seconds(TIMEOUT)?,
            keepalive_interval: seconds(INTERVAL)?,
            watchdog: WATCHDOG,
            monitor_authentication: flag(AUTHENTICATION)?,
            relogin_lower: seconds(LOWER)?,
            relogin_upper: seconds(UPPER)?,
        }
        .watched();
        let read = match text(PROFILE)?.as_str() {
            "fast" => read.hurried(),
            _ => read,
        };
        read.check().map(|()| read)
    }

    /// Whether the values go together.
    ///
    /// A manager that stalls sent its last keepalive at most an interval
    /// before, so its peer decides no earlier than `timeout - interval` after
    /// the stall began. By then the watchdog must have killed it: no manager
    /// may wake up behind a decision that it has not heard of.
    pub fn check(&self) -> Result<(), Invalid> {
        let together = |holds, text: &str| match holds {
            true => Ok(()),
            false => Err(Invalid::Together(text.into())),
        };
        together(
            self.service_port != self.admin_port,
            "Service Port and Admin RPC Port are the same; choose two",
        )?;
        together(
            self.keepalive_timeout >= 2 * self.keepalive_interval,
            "the keepalive timeout is shorter than two intervals, so that one lost message would \
             be a failover; make it longer, or the interval shorter",
        )?;
        together(
            self.initial_timeout >= self.keepalive_timeout,
            "the keepalive timeout of initialization is shorter than the one of normal running; \
             make it at least as long",
        )?;
        together(
            !self.watchdog.is_zero()
                && self.watchdog + self.keepalive_interval < self.keepalive_timeout,
            "a manager that stalls would be killed only after its peer has taken over; the \
             watchdog time and one interval must be shorter than the keepalive timeout",
        )?;
        together(
            self.relogin_lower <= self.relogin_upper,
            "the lower limit of a client's re-login is above the upper one; exchange them",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn with(values: &[(&str, &str)]) -> Result<Parameters, Invalid> {
        Parameters::read(|name| {
            let found = values.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).into())
        })
    }

    #[test]
    fn defaults_are_the_seeds() {
        let expected = Parameters {
            service_port: 22001,
            admin_port: 20075,
            critical_service_delay: seconds(90),
            automatic_fallback: false,
            initial_timeout: seconds(120),
            keepalive_timeout: seconds(60),
            keepalive_interval: seconds(15),
            watchdog: seconds(15),
            monitor_authentication: false,
            relogin_lower: seconds(120),
            relogin_upper: seconds(537),
        };
        assert_eq!(Parameters::default(), expected);
        let of_node = DEFINITIONS
            .iter()
            .filter(|one| one.scope == parameter::Scope::Node);
        let names: Vec<_> = of_node.map(|one| one.name).collect();
        assert_eq!(names, [LOWER, UPPER]);
    }

    #[test]
    fn fast_is_a_second_and_three() {
        let fast = with(&[(PROFILE, "fast"), (TIMEOUT, "600")]).unwrap();
        assert_eq!(fast, Parameters::fast());
        assert_eq!(fast.keepalive_interval, seconds(1));
        assert_eq!(fast.keepalive_timeout, seconds(3));
        assert_eq!(fast.watchdog, Duration::from_millis(1500));
    }

    #[test]
    fn a_stalled_manager_is_killed_before_its_peer_decides() {
        for interval in 1..60 {
            for timeout in 3..200 {
                let (interval_text, timeout_text) = (interval.to_string(), timeout.to_string());
                let read = with(&[
                    (INTERVAL, &interval_text),
                    (TIMEOUT, &timeout_text),
                    (INITIAL, "3600"),
                ]);
                assert_eq!(
                    read.is_ok(),
                    timeout >= 2 * interval,
                    "{interval} {timeout}"
                );
                if let Ok(read) = read {
                    assert!(read.watchdog + read.keepalive_interval < read.keepalive_timeout);
                }
            }
        }
        let late = Parameters {
            watchdog: seconds(45),
            ..Parameters::default()
        };
        let message = late.check().unwrap_err().to_string();
        assert!(message.contains("watchdog"), "{message}");
    }

    #[test]
    fn a_wrong_value_is_named_with_what_it_may_be() {
        for (name, value, expected) in [
            (SERVICE_PORT, "80", "from 1024 to 65535"),
            (SERVICE_DELAY, "soon", "a whole number from 1 to 3600 (s)"),
            (FALLBACK, "yes", "true or false"),
            (PROFILE, "slow", "standard or fast"),
            (ADMIN_PORT, "22001", "choose two"),
            (INITIAL, "59", "initialization"),
            (LOWER, "600", "exchange them"),
        ] {
            let message = with(&[(name, value)]).unwrap_err().to_string();
            assert!(message.contains(expected), "{name}: {message}");
        }
    }
}
