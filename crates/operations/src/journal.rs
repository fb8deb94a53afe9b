//! An entry of the journal as administrators read it.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::mask::masked;
use super::printable;

/// What the fields of a service's own log lines begin with; all others are
/// the journal's.
const OWN: &str = "f_";
/// The fields that are read first, in this order; the rest follows by name.
const FIRST: [&str; 5] = ["user", "origin", "action", "subject", "outcome"];
/// The program of every service, which therefore tells none of them apart.
const PROGRAM: &str = "signalbox";

/// The text of an entry in the JSON form of journalctl: `TIME NODE NAME[PID]:
/// MESSAGE FIELD=VALUE…`, in the node's time zone. The name is that of the
/// unit for our services and the program's for others. Each further line of
/// the message is indented. None when this is not an entry.
pub(super) fn text(json: &[u8]) -> Option<String> {
    let entry: Map<String, Value> = serde_json::from_slice(json).ok()?;
    let field = |name: &str| entry.get(name).map(plain).filter(|text| !text.is_empty());
    let micros = field("__REALTIME_TIMESTAMP")?.parse().ok()?;
    let time = Timestamp::from_microsecond(micros).ok()?;
    let time = time.to_zoned(TimeZone::system());
    let program = field("SYSLOG_IDENTIFIER").or_else(|| field("_COMM"));
    let mut name = program.unwrap_or_else(|| "unknown".into());
    if name == PROGRAM
        && let Some(unit) = field("_SYSTEMD_UNIT")
    {
        name = unit.strip_suffix(".service").unwrap_or(&unit).into();
    }
    if let Some(process) = field("SYSLOG_PID").or_else(|| field("_PID")) {
        name = format!("{name}[{process}]");
    }
    let mut fields: Vec<_> = entry
        .iter()
        .filter_map(|(name, value)| {
            let name = name.to_lowercase().strip_prefix(OWN)?.to_owned();
            Some((name, plain(value))).filter(|(_, value)| !value.is_empty())
        })
        .collect();
    let place = |name: &str| FIRST.iter().position(|first| *first == name);
    fields.sort_by_key(|(name, _)| (place(name).unwrap_or(FIRST.len()), name.clone()));
    let mut text = format!(
        "{} {} {name}: {}",
        time.strftime("%Y-%m-%dT%H:%M:%S%:z"),
        field("_HOSTNAME").unwrap_or_default(),
        masked(&field("MESSAGE").unwrap_or_default())
    );
    for (name, value) in fields {
        text += &format!(" {name}={}", quoted(&masked(&value)));
    }
    let lines: Vec<_> = text.lines().map(printable).collect();
    Some(lines.join("\n    "))
}

/// A value as text: what is not text is a list of bytes, and what occurs more
/// than once a list of values.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let byte = |item: &Value| item.as_u64().and_then(|byte| u8::try_from(byte).ok());
            match items.iter().map(byte).collect::<Option<Vec<u8>>>() {
                Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                None => items.iter().map(plain).collect::<Vec<_>>().join(", "),
            }
        }
        _ => String::new(),
    }
}

/// A value with blanks is put in quotes, so that one cannot pass for more
/// fields than it is.
fn quoted(value: &str) -> String {
    let special = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '=');
    if value.contains(special) {
        format!("{value:?}")
    } else {
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The text of an entry without its time, which is in the machine's zone.
    fn shown(mut entry: Value) -> String {
        entry["__REALTIME_TIMESTAMP"] = json!("1700000000123456");
        entry["_HOSTNAME"] = json!("node1");
        let text = text(entry.to_string().as_bytes()).unwrap();
        let (time, rest) = text.split_once(' ').unwrap();
        let time: Timestamp = time.parse().unwrap();
        assert_eq!(time.as_second(), 1_700_000_000);
        rest.to_owned()
    }

    #[test]
    fn an_audit_line_says_who_did_what_to_whom_and_how_it_ended() {
        let entry = json!({
            "SYSLOG_IDENTIFIER": "signalbox", "_PID": "105", "PRIORITY": "6",
            "_SYSTEMD_UNIT": "signalbox-administration.service", "TARGET": "audit",
            "MESSAGE": "An administrative action was taken.",
            "F_LEVEL": "4", "F_USER": "admin", "F_ORIGIN": "10.201.7.1",
            "F_ACTION": "users.delete", "F_SUBJECT": "bob", "F_OUTCOME": "it is \"away\"",
            "F_NOTHING": "",
        });
        assert_eq!(
            shown(entry),
            "node1 signalbox-administration[105]: An administrative action was taken. \
             user=admin origin=10.201.7.1 action=users.delete subject=bob \
             outcome=\"it is \\\"away\\\"\" level=4"
        );
    }

    #[test]
    fn other_programs_keep_their_names_and_lines_their_places() {
        let entry = json!({
            "SYSLOG_IDENTIFIER": "systemd", "_PID": "1", "_SYSTEMD_UNIT": "init.scope",
            "MESSAGE": "Starting users add al --password \"SEC\nRET\" ...\nand\u{7}",
        });
        assert_eq!(
            shown(entry),
            "node1 systemd[1]: Starting users add al --password *** ...\n    and\u{fffd}"
        );
        let entry = json!({ "SYSLOG_IDENTIFIER": "kernel", "MESSAGE": [104, 105, 255] });
        assert_eq!(shown(entry), "node1 kernel: hi\u{fffd}");
    }

    #[test]
    fn a_value_cannot_pass_for_other_fields() {
        let entry = json!({
            "SYSLOG_IDENTIFIER": "signalbox", "MESSAGE": "m", "F_X": "a outcome=done\nb",
            "F_Y": "--password SECRET",
        });
        assert_eq!(
            shown(entry),
            "node1 signalbox: m x=\"a outcome=done\\nb\" y=\"--password ***\""
        );
    }

    #[test]
    fn what_is_no_entry_is_none() {
        for json in ["", "x", "[]", "{}", "{\"__REALTIME_TIMESTAMP\":\"x\"}"] {
            assert_eq!(text(json.as_bytes()), None, "{json}");
        }
    }
}
