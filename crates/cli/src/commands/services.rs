//! `utils service …`.

use operations::actions;
use operations::ports::{Service, State};
use operations::services::Turned;

use crate::command::{Argument, Command, Kind};
use crate::reply::{Failure, Outcome, Reply};
use crate::session::Session;
use crate::text;

const NAME: Argument = Argument::required("name", Kind::Service, "Name of the service");
const RUNNING: &str = "Service Manager is running";

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "utils service list",
        arguments: &[Argument::optional(
            "page",
            Kind::Choice(&["page"]),
            "Stop after each screen",
        )],
        action: Some(&actions::SERVICE_LIST),
        help: "List the services and their states",
        run: |session, arguments| {
            Box::pin(async move {
                session.progress("Requesting service status, please wait...");
                let list = session.operations.services(session.caller).await?;
                let text = text::service_list(&list);
                if arguments.given("page") && !session.json {
                    session.terminal.page(&text);
                    return Ok(Reply::new(&list, ""));
                }
                Ok(Reply::new(&list, text))
            })
        },
    },
    Command {
        words: "utils service start",
        arguments: &[NAME],
        action: Some(&actions::SERVICE_START),
        help: "Start a service",
        run: |session, arguments| {
            Box::pin(async move {
                session.progress(RUNNING);
                let turned = session
                    .operations
                    .start_service(session.caller, arguments.text("name"), &|service| {
                        session.progress(&text::service_line(service));
                    })
                    .await?;
                turned_to(session, &turned, started)
            })
        },
    },
    Command {
        words: "utils service stop",
        arguments: &[NAME],
        action: Some(&actions::SERVICE_STOP),
        help: "Stop a service",
        run: |session, arguments| {
            Box::pin(async move {
                session.progress(RUNNING);
                let turned = session
                    .operations
                    .stop_service(session.caller, arguments.text("name"), &|service| {
                        session.progress(&text::service_line(service));
                    })
                    .await?;
                turned_to(session, &turned, stopped)
            })
        },
    },
    Command {
        words: "utils service restart",
        arguments: &[NAME],
        action: Some(&actions::SERVICE_RESTART),
        help: "Restart a service",
        run: |session, arguments| {
            Box::pin(async move {
                session.progress(RUNNING);
                let service = session
                    .operations
                    .restart_service(session.caller, arguments.text("name"), &|service| {
                        session.progress(&text::service_line(service));
                    })
                    .await?;
                started(service)
            })
        },
    },
    Command {
        words: "utils service activate",
        arguments: &[NAME],
        action: Some(&actions::SERVICE_ACTIVATE),
        help: "Activate a feature service: it starts now and with the node",
        run: |session, arguments| Box::pin(activate(session, arguments.text("name"))),
    },
    Command {
        words: "utils service deactivate",
        arguments: &[NAME],
        action: Some(&actions::SERVICE_DEACTIVATE),
        help: "Deactivate a feature service: it stops and stays down",
        run: |session, arguments| {
            Box::pin(async move {
                session.progress(RUNNING);
                let service = session
                    .operations
                    .deactivate_service(session.caller, arguments.text("name"), &|service| {
                        session.progress(&text::service_line(service));
                    })
                    .await?;
                stopped(service)
            })
        },
    },
    Command {
        words: "utils service auto-restart show",
        arguments: &[NAME],
        action: Some(&actions::SERVICE_AUTO_RESTART_SHOW),
        help: "Show whether a service comes back by itself",
        run: |session, arguments| Box::pin(auto_restart(session, arguments.text("name"), None)),
    },
    Command {
        words: "utils service auto-restart enable",
        arguments: &[NAME],
        action: Some(&actions::SERVICE_AUTO_RESTART),
        help: "Have a service come back by itself",
        run: |session, arguments| {
            Box::pin(auto_restart(session, arguments.text("name"), Some(true)))
        },
    },
    Command {
        words: "utils service auto-restart disable",
        arguments: &[NAME],
        action: Some(&actions::SERVICE_AUTO_RESTART),
        help: "Have a service stay down when it dies",
        run: |session, arguments| {
            Box::pin(auto_restart(session, arguments.text("name"), Some(false)))
        },
    },
];

/// A start that did not end in STARTED has failed or goes on; both are said.
fn started(service: Service) -> Outcome {
    if service.state == State::Started {
        return Ok(Reply::new(&service, ""));
    }
    let next = if service.state == State::Starting {
        "It goes on starting; \"utils service list\" shows how it stands"
    } else {
        "\"file tail activelog journal/ID.log\" shows what it says"
    };
    Err(unfinished(&service, &next.replace("ID", &service.id)))
}

fn stopped(service: Service) -> Outcome {
    if matches!(service.state, State::Stopped | State::NotRunning) {
        return Ok(Reply::new(&service, ""));
    }
    Err(unfinished(
        &service,
        "\"utils service list\" shows how it stands",
    ))
}

/// The answer on a service, with what became of those that stop with it.
fn turned_to(session: &Session<'_>, turned: &Turned, reached: fn(Service) -> Outcome) -> Outcome {
    for line in text::stopped_besides(turned) {
        session.progress(&line);
    }
    reached(turned.service.clone())?;
    Ok(Reply::new(turned, ""))
}

fn unfinished(service: &Service, next: &str) -> Failure {
    let reason = if service.reason.is_empty() {
        String::new()
    } else {
        format!(" ({})", service.reason)
    };
    operations::Error::failed(format!(
        "{} is {}{reason}. {next}",
        service.compat,
        service.state.word()
    ))
    .into()
}

/// Activates a service; what must be activated with it is offered, not done
/// silently.
async fn activate(session: &Session<'_>, name: &str) -> Outcome {
    session.progress(RUNNING);
    let show = |service: &Service| session.progress(&text::service_line(service));
    let operations = session.operations;
    let mut activation = operations
        .activate_service(session.caller, name, false, &show)
        .await?;
    if !activation.missing.is_empty() {
        let names: Vec<_> = activation
            .missing
            .iter()
            .map(|service| service.compat.as_str())
            .collect();
        let names = names.join(", ");
        if session.json && !session.yes {
            return Err(operations::Error::refused(format!(
                "{} needs these to be activated too: {names}. Repeat with --yes to activate all \
                 of them",
                activation.service.compat
            ))
            .into());
        }
        session
            .confirm(&format!(
                "{} needs these to be activated too: {names}.",
                activation.service.compat
            ))
            .await?;
        activation = operations
            .activate_service(session.caller, name, true, &show)
            .await?;
    }
    started(activation.service)
}

async fn auto_restart(session: &Session<'_>, name: &str, on: Option<bool>) -> Outcome {
    let service = session
        .operations
        .auto_restart(session.caller, name, on)
        .await?;
    let text = format!(
        "{}: auto-restart {}\n",
        service.compat,
        if service.auto_restart {
            "enabled"
        } else {
            "disabled"
        }
    );
    Ok(Reply::new(&service, text))
}
