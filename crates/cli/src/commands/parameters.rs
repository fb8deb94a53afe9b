//! `show parameters`, `set parameter`, `unset parameter`.

use futures::future::BoxFuture;
use operations::actions;
use operations::parameters::Parameter;
use parameter::Applies;
use serde_json::json;

use crate::command::{Argument, Arguments, Command, Kind};
use crate::reply::{Outcome, Reply};
use crate::session::Session;
use crate::text;

const SERVICE: Argument = Argument::required(
    "service",
    Kind::Text,
    "Service; a name with blanks in quotes",
);
const NAME: Argument = Argument::required(
    "name",
    Kind::Text,
    "Parameter; a name with blanks in quotes",
);
const NODE: Argument = Argument::optional(
    "node",
    Kind::Option,
    "For what is set on each node: which, else this one",
);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "show parameters",
        arguments: &[
            Argument::optional("service", Kind::Service, "One service, else all"),
            NODE,
        ],
        action: Some(&actions::PARAMETERS_SHOW),
        help: "Show the parameters of services, and what each does",
        run: |session, arguments| {
            Box::pin(async move {
                let parameters = session
                    .operations
                    .parameters(
                        session.caller,
                        arguments.optional("service"),
                        arguments.optional("node"),
                    )
                    .await?;
                let text = text::parameters(&parameters);
                Ok(Reply::new(&json!({ "parameters": parameters }), text))
            })
        },
    },
    Command {
        words: "set parameter",
        arguments: &[
            SERVICE,
            NAME,
            Argument::required("value", Kind::Text, "Value"),
            NODE,
        ],
        action: Some(&actions::PARAMETERS_SET),
        help: "Change a parameter of a service",
        run: change,
    },
    Command {
        words: "unset parameter",
        arguments: &[SERVICE, NAME, NODE],
        action: Some(&actions::PARAMETERS_SET),
        help: "Let a parameter of a service have its default again",
        run: change,
    },
];

/// Sets a parameter to the value that was given; `unset` gives none.
fn change<'a>(session: &'a Session<'a>, arguments: &'a Arguments) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let parameter = session
            .operations
            .set_parameter(
                session.caller,
                arguments.text("service"),
                arguments.text("name"),
                arguments.optional("value"),
                arguments.optional("node"),
            )
            .await?;
        Ok(reply(&parameter))
    })
}

/// What a change has led to, and what is left to do.
fn reply(parameter: &Parameter) -> Reply {
    let Parameter {
        service,
        name,
        value,
        ..
    } = parameter;
    let applies = match parameter.applies {
        Applies::Hot => "It applies at once.".to_owned(),
        Applies::Restart => {
            format!("It applies after \"utils service restart {service}\".")
        }
    };
    Reply::new(parameter, format!("{name} is {value}. {applies}\n"))
}
