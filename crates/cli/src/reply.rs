//! What a command answers: a text for people and a value for machines.

use operations::{Error, Kind};
use serde::Serialize;
use serde_json::{Value, json};

use crate::parse::Usage;

/// A successful answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// What people read.
    pub text: String,
    /// What machines read.
    pub value: Value,
}

impl Reply {
    /// An answer that says the same in both forms.
    pub fn new(value: &impl Serialize, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            value: serde_json::to_value(value).unwrap_or(Value::Null),
        }
    }

    /// The machine form: one line.
    pub fn json(&self) -> String {
        json!({ "ok": true, "result": self.value }).to_string()
    }
}

/// Why a command did not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The line is not a command.
    Usage(Usage),
    /// The action failed.
    Failed(Error),
    /// The administrator did not confirm.
    Declined,
    /// Ctrl-C.
    Interrupted,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What a handler gives.
pub type Outcome = Result<Reply, Failure>;

impl Failure {
    /// Exit status: 1 failed, 2 the line is not a command.
    pub fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::Usage(usage) => &usage.message,
            Self::Failed(error) => &error.message,
            Self::Declined => "nothing was changed: it was not confirmed",
            Self::Interrupted => {
                "interrupted; what was begun on the node goes on there. \"utils service list\" \
                 and \"show status\" tell how it stands"
            }
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            Self::Declined => "declined",
            Self::Interrupted => "interrupted",
            Self::Failed(error) => match error.kind {
                Kind::Invalid => "invalid",
                Kind::NotFound => "notfound",
                Kind::Refused => "refused",
                Kind::Forbidden => "forbidden",
                Kind::Unavailable => "unavailable",
                Kind::Failed => "failed",
            },
        }
    }

    /// What people read. The last line is the one that scripts look for.
    pub fn text(&self) -> String {
        let first = match self {
            Self::Usage(_) => "No valid command entered: ",
            _ => "",
        };
        let mut message = self.message().to_owned();
        if first.is_empty() {
            let mut chars = message.chars();
            if let Some(initial) = chars.next() {
                message = initial.to_uppercase().chain(chars).collect();
            }
        }
        if !message.ends_with(['.', '?']) {
            message.push('.');
        }
        format!("{first}{message}\nExecuted command unsuccessfully\n")
    }

    /// The machine form: one line.
    pub fn json(&self) -> String {
        let mut error = json!({ "kind": self.kind(), "message": self.message() });
        if let Self::Usage(usage) = self {
            error["next"] = json!(usage.next);
        }
        json!({ "ok": false, "error": error }).to_string()
    }
}
