//! The node at one glance, as plain text: for the console's screen.

use std::fmt::Write as _;

use operations::ports::State;
use operations::{Caller, Operations};

/// The state of the node in a few lines of at most `width` columns: name,
/// addresses, role, services up, waiting and failed, and alarms. Never fails:
/// what cannot be told is said so.
pub async fn status_screen(operations: &Operations, caller: &Caller, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    match operations.node() {
        Ok(node) => {
            lines.push(format!("{}  {}  {:?}", node.name, node.domain, node.role).to_lowercase());
            lines.push(format!("Address   {}", node.address));
            lines.push(format!("Web       https://{}:8443/", node.address));
            lines.push(format!("SSH       ssh ADMINISTRATOR@{}", node.address));
        }
        Err(error) => lines.push(error.to_string()),
    }
    lines.push(String::new());
    match operations.services(caller).await {
        Ok(list) => {
            let (mut up, mut waiting, mut down) = (0, Vec::new(), Vec::new());
            for service in list.services.iter().filter(|service| service.activated) {
                match service.state {
                    State::Started => up += 1,
                    State::Starting | State::Stopping => waiting.push(service),
                    State::Stopped | State::NotRunning => down.push(service),
                }
            }
            lines.push(format!(
                "Services  {up} up, {} waiting, {} down",
                waiting.len(),
                down.len()
            ));
            for service in waiting.into_iter().chain(down) {
                lines.push(format!(
                    "  {} {}: {}",
                    service.state.word(),
                    service.name,
                    service.reason
                ));
            }
        }
        Err(error) => lines.push(format!("Services  {error}")),
    }
    match operations.alarms(caller).await {
        Ok(alarms) if alarms.is_empty() => lines.push("Alarms    none".into()),
        Ok(alarms) => {
            lines.push(format!("Alarms    {}", alarms.len()));
            for alarm in alarms {
                let mut line = String::new();
                let _ = write!(line, "  {} {}: {}", alarm.severity, alarm.id, alarm.text);
                lines.push(line);
            }
        }
        Err(error) => lines.push(format!("Alarms    {error}")),
    }
    for line in &mut lines {
        if line.chars().count() > width {
            *line = line
                .chars()
                .take(width.saturating_sub(1))
                .chain(['…'])
                .collect();
        }
    }
    lines
}
