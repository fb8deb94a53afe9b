//! What a machine decides, state by state. The first rule that holds counts.
//!
//! "Own" users are those whose home this node is, "foreign" ones the peer's.

use std::time::Duration;

use crate::machine::Machine;
use crate::message::Keepalive;
use crate::mutation::Mutation;
use crate::ownership::Node;
use crate::parameters::AUTOMATIC_FALLBACK_AFTER;
use crate::state::{Reason, Standing, State};

/// A change that a rule asks for.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    pub(crate) to: Standing,
    /// Homes whose users are to be served here from now on.
    pub(crate) claim: [bool; 2],
    /// Homes whose users are to be let go.
    pub(crate) release: [bool; 2],
    /// Whether critical services are to be started.
    pub(crate) start: bool,
    /// Whether critical services are to be stopped.
    pub(crate) stop: bool,
    /// What was seen.
    pub(crate) seen: String,
}

impl Decision {
    pub(crate) fn to(state: State, reason: Reason, seen: impl Into<String>) -> Self {
        Self {
            to: Standing::new(state, reason),
            claim: [false; 2],
            release: [false; 2],
            start: false,
            stop: false,
            seen: seen.into(),
        }
    }

    pub(crate) fn claim(mut self, home: Node) -> Self {
        self.claim[home.index()] = true;
        self
    }

    fn claim_all(mut self) -> Self {
        self.claim = [true; 2];
        self
    }

    pub(crate) fn release(mut self, home: Node) -> Self {
        self.release[home.index()] = true;
        self
    }

    pub(crate) fn start(mut self) -> Self {
        self.start = true;
        self
    }

    fn stop(mut self) -> Self {
        self.stop = true;
        self
    }
}

use State as S;

impl Machine {
    /// The next change, if any rule asks for one.
    pub(crate) fn decide(&self) -> Option<Decision> {
        if !self.settings.enabled {
            return self.off();
        }
        if self.state() == S::Unknown {
            let seen = "High availability was enabled.";
            return Some(Decision::to(S::Initializing, Reason::Initialization, seen));
        }
        self.failed().or_else(|| match self.state() {
            S::Initializing => self.initializing(),
            S::Normal => self.normal(),
            S::FailingOver => self.failing_over(),
            S::TakingOver => self.taking_over(),
            S::RunningInBackupMode | S::BackupActivated => self.backup(),
            S::Idle => self.idle(),
            S::FailedOver | S::FailedOverWithCriticalServicesNotRunning => self.failed_over(),
            S::FailoverAffectedServices => self.affected(),
            S::TakingBack => self.taking_back(),
            S::FallingBack => self.falling_back(),
            S::RunningInFailedMode | S::Unknown => None,
        })
    }

    /// High availability is off: everybody is served at home.
    fn off(&self) -> Option<Decision> {
        let peer = self.node.peer();
        let settled = self.state() == S::Unknown
            && self.own() == Some(self.node)
            && self.foreign() != Some(self.node);
        let seen = "High availability is not enabled.";
        let to = Decision::to(S::Unknown, Reason::HighAvailabilityNotEnabled, seen)
            .claim(self.node)
            .release(peer);
        let stopped = matches!(self.state(), S::Idle | S::FailingOver);
        (!settled).then(|| if stopped { to.start() } else { to })
    }

    /// What leads to failed mode from anywhere, and what changes there.
    fn failed(&self) -> Option<Decision> {
        let state = self.state();
        if let Some(error) = &self.error
            && (state, self.reason()) != (S::RunningInFailedMode, Reason::Unknown)
        {
            return Some(self.fail(Reason::Unknown, format!("Internal error: {error}.")));
        }
        if let Some(peer) = self.heard()
            && peer.standing.state == S::RunningInFailedMode
            && peer.recovery >= self.recovery
        {
            let theirs = match state {
                // A manager that starts beside a failed one knows no better.
                S::Initializing => Reason::Unknown,
                _ => peer.standing.reason,
            };
            if state != S::RunningInFailedMode || theirs > self.reason() {
                let seen = format!("{} is in failed mode.", self.peer_name());
                return Some(self.fail(theirs, seen));
            }
        }
        if matches!(state, S::RunningInFailedMode | S::Initializing) {
            return None;
        }
        let moves = Node::BOTH.into_iter();
        let mut failures = moves.filter_map(|home| match self.adoption(home) {
            Some(Err(error)) => Some((home, error)),
            _ => None,
        });
        failures.next().map(|(home, error)| {
            let back = home == self.node && state != S::TakingOver && !state.is_backup();
            let reason = match back {
                true => Reason::TakeBackUsersFailed,
                false => Reason::TakeOverUsersFailed,
            };
            self.fail(
                reason,
                format!("The users of {home} could not be moved: {error}."),
            )
        })
    }

    /// Failed mode. Users stay where they are; those of nobody are served at
    /// home as well as it goes.
    fn fail(&self, reason: Reason, seen: impl Into<String>) -> Decision {
        let to = Decision::to(S::RunningInFailedMode, reason, seen);
        match self.own() {
            None => to.claim(self.node),
            Some(_) => to,
        }
    }

    fn initializing(&self) -> Option<Decision> {
        let Some(peer) = self.heard() else {
            return self.initializing_alone();
        };
        if peer.standing.state == S::RunningInFailedMode {
            // It is about to start anew, too: an administrator asked for it.
            return None;
        }
        let name = self.peer_name();
        let seen = format!("{name} is {}.", peer.standing);
        let to = |state| Decision::to(state, Reason::Initialization, seen.clone());
        let theirs = peer.standing.state;
        let (own, foreign) = (self.own(), self.foreign());
        if own == Some(self.node.peer()) && foreign != Some(self.node) {
            return Some(match theirs {
                S::FallingBack => to(S::TakingBack).start(),
                _ => self.failed_over_as(Reason::Initialization, seen),
            });
        }
        if foreign == Some(self.node) {
            return Some(match theirs {
                S::TakingBack => to(S::FallingBack),
                S::FailingOver => to(S::TakingOver),
                _ => to(S::RunningInBackupMode),
            });
        }
        if foreign.is_none() && theirs == S::TakingBack {
            return Some(to(S::FallingBack));
        }
        if self.manual {
            return Some(self.cut_off());
        }
        if let Some(reason) = self.sick() {
            return self.give_up(reason);
        }
        if !self.healthy() {
            return None;
        }
        let orphans = foreign.is_none() && (theirs == S::FailingOver || theirs.is_failed_over());
        if orphans {
            return Some(to(S::TakingOver).claim_all());
        }
        let to = match theirs {
            S::FallingBack => to(S::TakingBack),
            _ => Decision::to(S::Normal, Reason::Normal, seen),
        };
        Some(to.claim(self.node))
    }

    /// The manager ended in the middle of a failover by hand, and the peer knows
    /// nothing of it.
    fn cut_off(&self) -> Decision {
        let seen = "A failover by hand was cut off.";
        Decision::to(S::Initializing, Reason::Initialization, seen).start()
    }

    /// Nobody is heard while this node starts.
    fn initializing_alone(&self) -> Option<Decision> {
        let name = self.peer_name();
        if self.manual && self.lost() && self.own() != Some(self.node.peer()) {
            return Some(self.cut_off());
        }
        if let Some(reason) = self.gone()
            && !self.holds()
        {
            if !self.healthy() {
                return None;
            }
            let seen = self.silence_words(reason);
            return Some(Decision::to(S::TakingOver, reason, seen).claim_all());
        }
        // Silent, and no leave to take over: everything stays as it was.
        if !self.lost() || self.verdict().is_none() {
            return None;
        }
        let seen = format!("{name} is silent, and its users must not be taken over.");
        if self.own() == Some(self.node.peer()) {
            return Some(self.failed_over_as(Reason::Initialization, seen));
        }
        Some(match self.foreign() == Some(self.node) {
            true => Decision::to(S::RunningInBackupMode, Reason::Initialization, seen),
            false => Decision::to(S::Normal, Reason::Normal, seen).claim(self.node),
        })
    }

    fn normal(&self) -> Option<Decision> {
        if let Some(decision) = self.superseded() {
            return Some(decision);
        }
        if let Some(reason) = self.sick() {
            return self.give_up(reason);
        }
        if !self.healthy() {
            return None;
        }
        if let Some(peer) = self.heard()
            && self.foreign().is_none()
        {
            let Standing { state, reason } = peer.standing;
            let orphans = state == S::FailingOver || state.is_failed_over();
            let seen = format!("{} is {}.", self.peer_name(), peer.standing);
            return orphans
                .then(|| Decision::to(S::TakingOver, reason, seen).claim(self.node.peer()));
        }
        self.peer_gone()
    }

    /// A critical service has been down for too long.
    fn give_up(&self, reason: Reason) -> Option<Decision> {
        let seen = format!(
            "Critical services have been down for too long: {}.",
            self.health.words()
        );
        if self.holds() {
            let seen = format!("{seen} Failovers came too often, so users stay.");
            return Some(self.fail(Reason::CriticalServicesDown, seen));
        }
        match self.heard() {
            Some(peer) if peer.sick => {
                let name = self.peer_name();
                let seen = format!("{seen} So have services of {name}.");
                Some(self.fail(Reason::CriticalServicesDown, seen))
            }
            Some(peer) if able(peer) => Some(self.fail_over(reason, seen)),
            // A service of the peer may be just about to come back.
            Some(_) => None,
            None if self.state() == S::Initializing && !self.lost() => None,
            // Whoever comes first serves the users: the peer or the services.
            None => Some(self.fail_over(reason, seen)),
        }
    }

    /// This node hands its users to its peer.
    pub(crate) fn fail_over(&self, reason: Reason, seen: impl Into<String>) -> Decision {
        let to = Decision::to(S::FailingOver, reason, seen).release(self.node);
        match reason {
            Reason::OnAdminRequest => to.stop(),
            _ => to,
        }
    }

    /// Users that this node served are its peer's now, or nobody's.
    fn superseded(&self) -> Option<Decision> {
        let name = self.peer_name();
        match self.own() {
            Some(owner) if owner == self.node => None,
            Some(_) => {
                let seen = format!("{name} has taken the users of this node over.");
                Some(self.failed_over_as(Reason::PeerDown, seen))
            }
            None => {
                let Standing { state, reason } = Standing::new(self.state(), self.reason());
                let seen = format!("{name} has let the users of this node go.");
                Some(Decision::to(state, reason, seen).claim(self.node))
            }
        }
    }

    /// The peer is gone: everybody is to be served here.
    fn peer_gone(&self) -> Option<Decision> {
        let reason = self.gone()?;
        // A node that was shut down on purpose is no sign of flapping.
        let allowed = reason == Reason::PeerReboot || !self.holds();
        (allowed && self.healthy()).then(|| {
            let seen = self.silence_words(reason);
            Decision::to(S::TakingOver, reason, seen).claim_all()
        })
    }

    fn failing_over(&self) -> Option<Decision> {
        let name = self.peer_name();
        let by_hand = self.reason() == Reason::OnAdminRequest;
        if self.own() == Some(self.node.peer()) {
            if self.gone().is_some() {
                let seen = format!("{name} was lost while it took the users over.");
                return (by_hand || self.healthy()).then(|| self.go_on(seen));
            }
            let done = self
                .heard()
                .is_some_and(|peer| peer.standing.state.is_backup());
            let delay = self.settings.parameters.critical_service_delay;
            let stopped = !by_hand || self.health.stopped() || self.age() >= delay;
            let seen = format!("{name} has taken the users over.");
            return (done && stopped).then(|| self.failed_over_as(self.reason(), seen));
        }
        let peer = self.heard();
        if let Some(peer) = peer
            && peer.standing.state == S::FailingOver
        {
            let theirs_by_hand = peer.standing.reason == Reason::OnAdminRequest;
            let seen = format!("{name} wants to hand its users over, too.");
            if by_hand {
                return Some(self.go_on(seen));
            }
            return (!theirs_by_hand).then(|| self.fail(Reason::CriticalServicesDown, seen));
        }
        let seen = format!("{name} did not take the users over.");
        (self.untaken() && (by_hand || self.healthy())).then(|| self.go_on(seen))
    }

    /// Whether the peer has not taken the users that this node let go, and will
    /// not: it had time for it, and is gone, or heard without a word of it. One
    /// that only a third node hears may serve them.
    fn untaken(&self) -> bool {
        let parameters = &self.settings.parameters;
        let heard = self.silence() < 2 * parameters.keepalive_interval;
        self.age() >= parameters.keepalive_timeout && (heard || self.gone().is_some())
    }

    /// The hand-over did not come about: this node serves its users again.
    fn go_on(&self, seen: String) -> Decision {
        Decision::to(S::Normal, Reason::Normal, seen)
            .claim(self.node)
            .start()
    }

    fn taking_over(&self) -> Option<Decision> {
        if let Some(decision) = self.crossed().or_else(|| self.returned()) {
            return Some(decision);
        }
        if self.own().is_none() {
            return self.superseded();
        }
        if self.sick().is_some() {
            return Some(self.fail(Reason::CriticalServicesDown, self.sick_words()));
        }
        self.moved(
            &Node::BOTH,
            Decision::to(
                S::RunningInBackupMode,
                self.reason(),
                "The users have been taken over.",
            ),
            Reason::TakeOverUsersFailed,
        )
    }

    /// `then`, once the users of these homes have been moved here; failed mode
    /// when that takes too long.
    fn moved(&self, homes: &[Node], then: Decision, or: Reason) -> Option<Decision> {
        let done = |home: &Node| self.adoption(*home) == Some(&Ok(()));
        if homes.iter().all(done) {
            return Some(then);
        }
        let late = self.age() >= self.settings.parameters.critical_service_delay;
        late.then(|| self.fail(or, "Users were not moved in time."))
    }

    /// The peer serves its own users again.
    fn returned(&self) -> Option<Decision> {
        if self.foreign() == Some(self.node) {
            return None;
        }
        let name = self.peer_name();
        let seen = format!("{name} serves its own users.");
        Some(match self.own() == Some(self.node.peer()) {
            true => self.failed_over_as(Reason::PeerDown, seen),
            false => Decision::to(S::Normal, Reason::Normal, seen).claim(self.node),
        })
    }

    /// While they did not hear each other, each node took the other's users
    /// over. Both return home; a node that cannot serve lets its peer go on.
    fn crossed(&self) -> Option<Decision> {
        if self.own() != Some(self.node.peer()) || self.foreign() != Some(self.node) {
            return None;
        }
        let peer = self.heard()?;
        let name = self.peer_name();
        let seen =
            format!("{name} took the users of this node over, and this node those of {name}.");
        if self.broken(Mutation::KeepCrossed) {
            return None;
        }
        match (self.healthy(), peer.healthy()) {
            (true, true) => {
                Some(Decision::to(S::TakingBack, Reason::PeerDown, seen).release(self.node.peer()))
            }
            (true, false) => {
                let to = Decision::to(S::RunningInBackupMode, Reason::PeerDown, seen);
                Some(to.claim(self.node))
            }
            (false, true) => {
                let to = self.failed_over_as(Reason::PeerDown, seen);
                Some(to.release(self.node.peer()))
            }
            (false, false) => None,
        }
    }

    fn backup(&self) -> Option<Decision> {
        if let Some(decision) = self.crossed().or_else(|| self.returned()) {
            return Some(decision);
        }
        if self.own().is_none() {
            return self.superseded();
        }
        let name = self.peer_name();
        let peer = self.heard();
        if let Some(peer) = peer
            && peer.standing.state == S::TakingBack
        {
            let seen = format!("{name} takes its users back.");
            return Some(Decision::to(S::FallingBack, peer.standing.reason, seen));
        }
        if let Some(reason) = self.sick() {
            let able = |peer: &&Keepalive| peer.standing.state == S::FailedOver && peer.healthy();
            return Some(match peer.filter(able) {
                Some(_) if !self.holds() => {
                    let reason = match reason {
                        Reason::DatabaseFailure => Reason::AutoRecoverDatabaseFailure,
                        _ => Reason::AutoRecoverCriticalServiceDown,
                    };
                    let seen = format!("{} {name} can serve everybody.", self.sick_words());
                    Decision::to(S::FailoverAffectedServices, reason, seen)
                        .release(self.node)
                        .release(self.node.peer())
                }
                _ => self.fail(Reason::CriticalServicesDown, self.sick_words()),
            });
        }
        if self.state() == S::BackupActivated {
            return self.backup_activated(peer);
        }
        if self.reason() == Reason::PeerDown && self.peer.rebooted() && peer.is_some() {
            let seen = format!("{name} is back and was rebooted.");
            let to = Decision::to(S::RunningInBackupMode, Reason::PeerReboot, seen);
            return Some(to);
        }
        None
    }

    /// Everybody is being moved here, or was; once the peer's services run
    /// again this is an ordinary failover.
    fn backup_activated(&self, peer: Option<&Keepalive>) -> Option<Decision> {
        let reason = match self.reason() {
            Reason::AutoRecoverDatabaseFailure => Reason::DatabaseFailure,
            _ => Reason::CriticalServicesDown,
        };
        let seen = format!("The services of {} run again.", self.peer_name());
        let then = Decision::to(S::RunningInBackupMode, reason, seen);
        let decision = self.moved(&Node::BOTH, then, Reason::TakeOverUsersFailed)?;
        let again = peer.is_some_and(|peer| peer.standing.state == S::FailedOver);
        (again || decision.to.state == S::RunningInFailedMode).then_some(decision)
    }

    fn idle(&self) -> Option<Decision> {
        if self.own() == Some(self.node) {
            let seen = "The users are served here.";
            return Some(Decision::to(S::Normal, Reason::Normal, seen).start());
        }
        None
    }

    fn failed_over(&self) -> Option<Decision> {
        let name = self.peer_name();
        let peer = self.heard();
        match self.own() {
            Some(owner) if owner == self.node => {
                let seen = "The users are served here.";
                return Some(Decision::to(S::Normal, Reason::Normal, seen));
            }
            None if self.healthy() => {
                let theirs = peer.map(|peer| peer.standing);
                let seen = format!("{name} has let the users go.");
                match theirs.map(|standing| (standing.state, standing.reason)) {
                    Some((S::FailoverAffectedServices, reason)) => {
                        return Some(Decision::to(S::BackupActivated, reason, seen).claim_all());
                    }
                    Some((S::Normal | S::Unknown | S::RunningInBackupMode, _)) => {
                        let reason = Reason::Initialization;
                        return Some(Decision::to(S::TakingBack, reason, seen));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        if let Some(decision) = self.peer_gone() {
            return Some(decision);
        }
        let up = self.state() == S::FailedOver;
        if up && self.sick().is_some() {
            return Some(self.failed_over_as(Reason::CriticalServicesDown, self.sick_words()));
        }
        if !up && self.healthy() {
            let seen = "The critical services run.";
            return Some(self.failed_over_as(self.reason(), seen));
        }
        let after = AUTOMATIC_FALLBACK_AFTER;
        let due = self.settings.parameters.automatic_fallback
            && self.health.healthy_for(self.clock.now()).min(self.age()) >= after;
        let ready = peer.is_some_and(|peer| peer.standing.state.is_backup());
        (up && due && ready && !self.holds()).then(|| {
            let seen = format!(
                "This node has been healthy for {} min.",
                after.as_secs() / 60
            );
            Decision::to(S::TakingBack, Reason::AutomaticFallback, seen)
        })
    }

    /// The state of a node whose users its peer serves.
    fn failed_over_as(&self, reason: Reason, seen: impl Into<String>) -> Decision {
        if self.manual {
            return Decision::to(S::Idle, reason, seen).stop();
        }
        match self.health.healthy() {
            true => Decision::to(S::FailedOver, reason, seen),
            false => Decision::to(S::FailedOverWithCriticalServicesNotRunning, reason, seen),
        }
    }

    fn affected(&self) -> Option<Decision> {
        let name = self.peer_name();
        let reason = match self.reason() {
            Reason::AutoRecoverDatabaseFailure => Reason::DatabaseFailure,
            _ => Reason::CriticalServicesDown,
        };
        if self.own() == Some(self.node) {
            let seen = "The users are served here.";
            return Some(Decision::to(S::Normal, Reason::Normal, seen));
        }
        if self.own() == Some(self.node.peer()) {
            let lost = self.peer_gone();
            let seen = "The critical services run again.";
            return lost.or_else(|| {
                self.healthy()
                    .then(|| Decision::to(S::FailedOver, reason, seen))
            });
        }
        if let Some(peer) = self.heard()
            && !(peer.standing.state == S::FailedOver && peer.healthy())
        {
            let seen = format!("{name} cannot serve everybody any more.");
            return Some(match self.healthy() {
                true => Decision::to(S::TakingOver, reason, seen).claim_all(),
                false => self.fail(Reason::CriticalServicesDown, seen),
            });
        }
        let seen = format!("{name} did not take the users over.");
        (self.untaken() && self.healthy())
            .then(|| Decision::to(S::TakingOver, reason, seen).claim_all())
    }

    fn taking_back(&self) -> Option<Decision> {
        let name = self.peer_name();
        if self.own() == Some(self.node) {
            let seen = "The users have been taken back.";
            let normal = Decision::to(S::Normal, Reason::Normal, seen);
            return self.moved(&[self.node], normal, Reason::TakeBackUsersFailed);
        }
        if let Some(decision) = self.peer_gone() {
            return Some(decision);
        }
        let delay = self.settings.parameters.critical_service_delay;
        if !self.healthy() {
            let seen = format!("Critical services did not start: {}.", self.health.words());
            return (self.age() >= delay)
                .then(|| self.fail(Reason::StartOfCriticalServicesFailed, seen));
        }
        if self.own().is_none() || self.broken(Mutation::TakeBackAtOnce) {
            let seen = format!("{name} has let the users go.");
            return Some(Decision::to(self.state(), self.reason(), seen).claim(self.node));
        }
        let patience: Duration = delay + 2 * self.settings.parameters.keepalive_timeout;
        let seen = format!("{name} does not let the users go.");
        (self.age() >= patience).then(|| self.failed_over_as(Reason::PeerDown, seen))
    }

    fn falling_back(&self) -> Option<Decision> {
        let name = self.peer_name();
        if let Some(decision) = self.crossed().or_else(|| self.superseded()) {
            return Some(decision);
        }
        let foreign = self.foreign();
        let Some(peer) = self.heard() else {
            if foreign == Some(self.node) {
                let lost = self.gone()?;
                let seen = format!("{name} was lost before it took its users back.");
                return Some(Decision::to(S::RunningInBackupMode, lost, seen));
            }
            return self.peer_gone();
        };
        let seen = format!("{name} is {}.", peer.standing);
        match peer.standing.state {
            S::TakingBack if peer.healthy() && foreign == Some(self.node) => {
                let to = Decision::to(self.state(), self.reason(), seen);
                Some(to.release(self.node.peer()))
            }
            S::Normal | S::FailingOver if foreign != Some(self.node) => {
                Some(Decision::to(S::Normal, Reason::Normal, seen).claim(self.node))
            }
            // It gave up: the users stay, or come back.
            state if state.is_failed_over() && foreign == Some(self.node) => {
                let reason = peer.standing.reason;
                Some(Decision::to(S::RunningInBackupMode, reason, seen))
            }
            state if state.is_failed_over() && foreign.is_none() => {
                let to = Decision::to(S::TakingOver, peer.standing.reason, seen);
                Some(to.claim(self.node.peer()))
            }
            _ => None,
        }
    }

    fn peer_name(&self) -> Node {
        self.node.peer()
    }

    fn sick_words(&self) -> String {
        let services = self.health.words();
        format!("Critical services have been down for too long: {services}.")
    }

    fn silence_words(&self, reason: Reason) -> String {
        let name = self.peer_name();
        match reason {
            Reason::PeerReboot => format!("{name} said that it shuts down."),
            _ => format!(
                "{name} has been silent for {} s, and those who were asked agree.",
                self.peer.silence(self.clock.now()).as_secs()
            ),
        }
    }
}

/// Whether the peer can take users over now.
fn able(peer: &Keepalive) -> bool {
    peer.standing.state == State::Normal && peer.healthy()
}
