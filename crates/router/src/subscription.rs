//! The subscription states of RFC 6121, appendix A, as pure functions.

use crate::rows::{RosterRow, Subscription};

/// A subscription stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// `subscribe`
    Subscribe,
    /// `subscribed`
    Subscribed,
    /// `unsubscribe`
    Unsubscribe,
    /// `unsubscribed`
    Unsubscribed,
}

impl Request {
    /// Reads the type of a presence stanza.
    pub(crate) fn read(kind: &str) -> Option<Self> {
        match kind {
            "subscribe" => Some(Self::Subscribe),
            "subscribed" => Some(Self::Subscribed),
            "unsubscribe" => Some(Self::Unsubscribe),
            "unsubscribed" => Some(Self::Unsubscribed),
            _ => None,
        }
    }

    /// The type of the presence stanza.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Subscribed => "subscribed",
            Self::Unsubscribe => "unsubscribe",
            Self::Unsubscribed => "unsubscribed",
        }
    }
}

/// One of the nine states, and what was approved in advance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The user sees the contact.
    pub(crate) to: bool,
    /// The contact sees the user.
    pub(crate) from: bool,
    /// The user asked and waits.
    pub(crate) pending_out: bool,
    /// The contact asked and waits.
    pub(crate) pending_in: bool,
    /// The user approved the contact in advance.
    pub(crate) approved: bool,
}

impl State {
    /// The state that a row is in.
    pub(crate) fn of(row: &RosterRow) -> Self {
        Self {
            to: row.subscription.to(),
            from: row.subscription.from(),
            pending_out: row.ask,
            pending_in: row.pending_in.is_some(),
            approved: row.approved,
        }
    }

    /// The roster's `subscription` attribute.
    pub(crate) fn subscription(self) -> Subscription {
        Subscription::new(self.to, self.from)
    }

    /// Whether appendix A.1 knows the state: nobody waits for what they have.
    #[cfg(test)]
    pub(crate) fn is_legal(self) -> bool {
        !(self.to && self.pending_out || self.from && self.pending_in)
    }
}

/// What a stanza of the user means (A.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outbound {
    /// Whether it goes on to the contact.
    pub(crate) route: bool,
    /// The state afterwards.
    pub(crate) state: State,
}

/// What a stanza of the contact means (A.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inbound {
    /// Whether the user's clients get it.
    pub(crate) deliver: bool,
    /// The state afterwards.
    pub(crate) state: State,
    /// What the server answers on the user's behalf.
    pub(crate) reply: Option<Request>,
}

/// The user sends a subscription stanza.
pub(crate) fn outbound(state: State, request: Request) -> Outbound {
    let mut after = state;
    let route = match request {
        Request::Subscribe => {
            after.pending_out = !state.to;
            true
        }
        Request::Unsubscribe => {
            after.to = false;
            after.pending_out = false;
            true
        }
        Request::Subscribed => {
            if state.pending_in {
                after.pending_in = false;
                after.from = true;
                true
            } else {
                // Nothing was asked: the approval waits for the question.
                after.approved |= !state.from;
                false
            }
        }
        Request::Unsubscribed => {
            after.approved = false;
            after.from = false;
            after.pending_in = false;
            state.from || state.pending_in
        }
    };
    Outbound {
        route,
        state: after,
    }
}

/// The contact sends a subscription stanza.
pub(crate) fn inbound(state: State, request: Request) -> Inbound {
    let mut after = state;
    let mut reply = None;
    let deliver = match request {
        Request::Subscribe => {
            if state.from {
                reply = Some(Request::Subscribed);
                false
            } else if state.approved {
                after.from = true;
                after.pending_in = false;
                after.approved = false;
                reply = Some(Request::Subscribed);
                false
            } else {
                after.pending_in = true;
                !state.pending_in
            }
        }
        Request::Unsubscribe => {
            after.from = false;
            after.pending_in = false;
            if state.from {
                reply = Some(Request::Unsubscribed);
            }
            state.from || state.pending_in
        }
        Request::Subscribed => {
            after.to |= state.pending_out;
            after.pending_out = false;
            state.pending_out
        }
        Request::Unsubscribed => {
            after.to = false;
            after.pending_out = false;
            state.to || state.pending_out
        }
    };
    Inbound {
        deliver,
        state: after,
        reply,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nine states by the names of A.1.
    fn state(name: &str) -> State {
        let (base, pending) = name.split_once('+').unwrap_or((name, ""));
        State {
            to: matches!(base, "To" | "Both"),
            from: matches!(base, "From" | "Both"),
            pending_out: pending.contains("Out"),
            pending_in: pending.contains("In"),
            approved: false,
        }
    }

    const STATES: [&str; 9] = [
        "None",
        "None+Out",
        "None+In",
        "None+OutIn",
        "To",
        "To+In",
        "From",
        "From+Out",
        "Both",
    ];

    /// `-` stands for "no state change", `y` and `n` for MUST and MUST NOT.
    fn outbound_table(request: Request, rows: [(&str, &str); 9]) {
        for (name, (route, new)) in STATES.into_iter().zip(rows) {
            let before = state(name);
            let outcome = outbound(before, request);
            let expected = if new == "-" { before } else { state(new) };
            // What is approved in advance is tested apart.
            let after = State {
                approved: false,
                ..outcome.state
            };
            assert_eq!(outcome.route, route == "y", "{request:?} in {name}");
            assert_eq!(after, expected, "{request:?} in {name}");
        }
    }

    fn inbound_table(request: Request, rows: [(&str, &str, &str); 9]) {
        for (name, (deliver, new, reply)) in STATES.into_iter().zip(rows) {
            let before = state(name);
            let outcome = inbound(before, request);
            let expected = if new == "-" { before } else { state(new) };
            assert_eq!(outcome.deliver, deliver == "y", "{request:?} in {name}");
            assert_eq!(outcome.state, expected, "{request:?} in {name}");
            let answer = outcome.reply.map_or("", Request::as_str);
            assert_eq!(answer, reply, "{request:?} in {name}");
        }
    }

    #[test]
    fn a_2_1_outbound_subscribe() {
        outbound_table(
            Request::Subscribe,
            [
                ("y", "None+Out"),
                ("y", "-"),
                ("y", "None+OutIn"),
                ("y", "-"),
                ("y", "-"),
                ("y", "-"),
                ("y", "From+Out"),
                ("y", "-"),
                ("y", "-"),
            ],
        );
    }

    #[test]
    fn a_2_2_outbound_unsubscribe() {
        outbound_table(
            Request::Unsubscribe,
            [
                ("y", "-"),
                ("y", "None"),
                ("y", "-"),
                ("y", "None+In"),
                ("y", "None"),
                ("y", "None+In"),
                ("y", "-"),
                ("y", "From"),
                ("y", "From"),
            ],
        );
    }

    #[test]
    fn a_2_3_outbound_subscribed() {
        outbound_table(
            Request::Subscribed,
            [
                ("n", "-"),
                ("n", "-"),
                ("y", "From"),
                ("y", "From+Out"),
                ("n", "-"),
                ("y", "Both"),
                ("n", "-"),
                ("n", "-"),
                ("n", "-"),
            ],
        );
    }

    #[test]
    fn a_2_4_outbound_unsubscribed() {
        outbound_table(
            Request::Unsubscribed,
            [
                ("n", "-"),
                ("n", "-"),
                ("y", "None"),
                ("y", "None+Out"),
                ("n", "-"),
                ("y", "To"),
                ("y", "None"),
                ("y", "None+Out"),
                ("y", "To"),
            ],
        );
    }

    #[test]
    fn a_3_1_inbound_subscribe() {
        inbound_table(
            Request::Subscribe,
            [
                ("y", "None+In", ""),
                ("y", "None+OutIn", ""),
                ("n", "-", ""),
                ("n", "-", ""),
                ("y", "To+In", ""),
                ("n", "-", ""),
                ("n", "-", "subscribed"),
                ("n", "-", "subscribed"),
                ("n", "-", "subscribed"),
            ],
        );
    }

    #[test]
    fn a_3_2_inbound_unsubscribe() {
        inbound_table(
            Request::Unsubscribe,
            [
                ("n", "-", ""),
                ("n", "-", ""),
                ("y", "None", ""),
                ("y", "None+Out", ""),
                ("n", "-", ""),
                ("y", "To", ""),
                ("y", "None", "unsubscribed"),
                ("y", "None+Out", "unsubscribed"),
                ("y", "To", "unsubscribed"),
            ],
        );
    }

    #[test]
    fn a_3_3_inbound_subscribed() {
        inbound_table(
            Request::Subscribed,
            [
                ("n", "-", ""),
                ("y", "To", ""),
                ("n", "-", ""),
                ("y", "To+In", ""),
                ("n", "-", ""),
                ("n", "-", ""),
                ("n", "-", ""),
                ("y", "Both", ""),
                ("n", "-", ""),
            ],
        );
    }

    #[test]
    fn a_3_4_inbound_unsubscribed() {
        inbound_table(
            Request::Unsubscribed,
            [
                ("n", "-", ""),
                ("y", "None", ""),
                ("n", "-", ""),
                ("y", "None+In", ""),
                ("y", "None", ""),
                ("y", "None+In", ""),
                ("n", "-", ""),
                ("y", "From", ""),
                ("y", "From", ""),
            ],
        );
    }

    #[test]
    fn an_approval_in_advance_answers_the_question() {
        for name in ["None", "None+Out", "To"] {
            let approved = outbound(state(name), Request::Subscribed).state;
            assert!(approved.approved, "{name}");
            let outcome = inbound(approved, Request::Subscribe);
            assert!(outcome.state.from && !outcome.state.approved && !outcome.deliver);
            assert_eq!(outcome.reply, Some(Request::Subscribed), "{name}");
            let withdrawn = outbound(approved, Request::Unsubscribed);
            assert_eq!((withdrawn.route, withdrawn.state), (false, state(name)));
        }
        for name in ["From", "From+Out", "Both"] {
            assert!(!outbound(state(name), Request::Subscribed).state.approved);
        }
    }

    #[test]
    fn every_step_leads_to_a_legal_state() {
        let requests = [
            Request::Subscribe,
            Request::Subscribed,
            Request::Unsubscribe,
            Request::Unsubscribed,
        ];
        for name in STATES {
            for request in requests {
                assert!(outbound(state(name), request).state.is_legal());
                assert!(inbound(state(name), request).state.is_legal());
            }
        }
    }
}
