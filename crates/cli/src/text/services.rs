//! `utils service …`.

use operations::ports::{Service, State};
use operations::services::{ServiceList, Turned};

/// Why a service is not up, in the words that scripts know where they have
/// some.
fn remark(service: &Service) -> String {
    match service.state {
        State::Started => String::new(),
        State::Stopped | State::NotRunning if !service.activated => "Service Not Activated".into(),
        State::Stopped if service.reason.is_empty() => "Commanded Out of Service".into(),
        _ => service.reason.clone(),
    }
}

/// One service: `NAME[STATE]`, two blanks, and the remark if there is one.
pub(crate) fn service_line(service: &Service) -> String {
    let line = format!(
        "{}[{}]  {}",
        service.compat,
        service.state.word(),
        remark(service)
    );
    line.trim_end().to_owned()
}

/// What stopping or starting a service did to others; nothing when there are
/// none.
pub(crate) fn stopped_besides(turned: &Turned) -> Vec<String> {
    let mut lines = Vec::new();
    if !turned.also_stopped.is_empty() {
        lines.push(format!("Also stopped: {}", turned.also_stopped.join(", ")));
    }
    if !turned.still_stopped.is_empty() {
        let start = |name: &String| format!("'utils service start {name}'");
        let starts: Vec<_> = turned.still_stopped.iter().map(start).collect();
        lines.push(format!(
            "Still stopped: {}; start them with {}",
            turned.still_stopped.join(", "),
            starts.join(", ")
        ));
    }
    lines
}

/// `utils service list`, without its first line, which comes at once.
pub(crate) fn service_list(list: &ServiceList) -> String {
    let mut text = String::new();
    for service in &list.services {
        text += &service_line(service);
        text.push('\n');
    }
    text + &format!("Primary Node ={}\n", list.primary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use operations::ports::ServiceKind;

    fn row(compat: &str, state: State, activated: bool, reason: &str) -> Service {
        Service {
            id: compat.to_lowercase(),
            compat: compat.into(),
            name: compat.into(),
            kind: ServiceKind::Feature,
            group: String::new(),
            state,
            activated,
            reason: reason.into(),
            started_at: None,
            up_seconds: None,
            restarts: 0,
            critical: false,
            auto_restart: true,
        }
    }

    #[test]
    fn the_list_is_as_scripts_parse_it() {
        let list = ServiceList {
            services: vec![
                row(
                    "A Cisco DB",
                    State::Started,
                    true,
                    "not shown while it is up",
                ),
                row("Cisco SIP Proxy", State::Stopped, false, "inactive"),
                row("Cisco Tomcat", State::Stopped, true, ""),
                row(
                    "Cisco XCP Router",
                    State::Starting,
                    true,
                    "waits for data-monitor: replication state 1, lag 120 entries",
                ),
                row(
                    "Cisco XCP Authentication Service",
                    State::Stopping,
                    true,
                    "",
                ),
                row(
                    "Cisco XCP Connection Manager",
                    State::NotRunning,
                    true,
                    "exit status 1",
                ),
                row(
                    "SOAP -Real-Time Service APIs",
                    State::Stopped,
                    true,
                    "it failed",
                ),
            ],
            primary: true,
        };
        assert_eq!(
            service_list(&list),
            "A Cisco DB[STARTED]\n\
             Cisco SIP Proxy[STOPPED]  Service Not Activated\n\
             Cisco Tomcat[STOPPED]  Commanded Out of Service\n\
             Cisco XCP Router[STARTING]  waits for data-monitor: replication state 1, lag 120 entries\n\
             Cisco XCP Authentication Service[STOPPING]\n\
             Cisco XCP Connection Manager[NOTRUNNING]  exit status 1\n\
             SOAP -Real-Time Service APIs[STOPPED]  it failed\n\
             Primary Node =true\n"
        );
    }
}
