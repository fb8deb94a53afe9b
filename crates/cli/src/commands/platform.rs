//! `set …`, `utils system …`: the machine and the session.

use operations::host::check_timezone;
use operations::network::{self, INTERFACE};
use operations::ports::NetworkChange;
use operations::{Action, Error, actions};

use crate::command::{Argument, Command, Kind};
use crate::reply::{Failure, Outcome, Reply};
use crate::session::Session;

const ETH0: Argument = Argument::required("interface", Kind::Choice(&[INTERFACE]), "The interface");
const ADDRESS: Argument = Argument::required("address", Kind::Text, "Address, such as 192.0.2.10");
const SET: Option<&Action> = Some(&actions::NETWORK_SET);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "set cli pagination",
        arguments: &[Argument::required(
            "state",
            Kind::Choice(&["off", "on"]),
            "Whether to stop",
        )],
        action: None,
        help: "Choose whether long answers stop after each screen",
        run: |session, arguments| {
            Box::pin(async move {
                let on = arguments.text("state") == "on";
                session.terminal.set_pagination(on);
                let value = serde_json::json!({ "pagination": on });
                let text = format!(
                    "Automatic pagination is turned {}\n",
                    arguments.text("state")
                );
                Ok(Reply::new(&value, text))
            })
        },
    },
    Command {
        words: "set timezone",
        arguments: &[Argument::required(
            "zone",
            Kind::Text,
            "Zone, such as Europe/Berlin",
        )],
        action: Some(&actions::TIMEZONE_SET),
        help: "Change the time zone",
        run: |session, arguments| {
            Box::pin(async move {
                let zone = arguments.text("zone");
                session.caller.may(&actions::TIMEZONE_SET)?;
                check_timezone(zone)?;
                session
                    .confirm(&format!(
                        "The time zone becomes {zone}. Times in logs and answers change at once; \
                     restart the node at the next occasion."
                    ))
                    .await?;
                session
                    .operations
                    .set_timezone(session.caller, zone)
                    .await?;
                let value = serde_json::json!({ "timezone": zone });
                Ok(Reply::new(
                    &value,
                    format!("Timezone for the node is now {zone}\n"),
                ))
            })
        },
    },
    Command {
        words: "set network ip",
        arguments: &[
            ETH0,
            ADDRESS,
            Argument::required("mask", Kind::Text, "Mask, such as 255.255.255.0 or /24"),
            Argument::required("gateway", Kind::Text, "Gateway, in the same subnet"),
        ],
        action: SET,
        help: "Change the node's address",
        run: |session, arguments| {
            Box::pin(async move {
                let change = network::address_change(
                    arguments.text("address"),
                    arguments.text("mask"),
                    arguments.text("gateway"),
                )?;
                change_network(
                    session,
                    &change,
                    "The node's address changes. Sessions to the old address end, this one too if \
                     it came that way; clients, DNS and certificates that name the old address \
                     must follow.",
                )
                .await
            })
        },
    },
    Command {
        words: "set network gateway",
        arguments: &[ADDRESS],
        action: SET,
        help: "Change the gateway",
        run: |session, arguments| {
            Box::pin(async move {
                let now = session.operations.host().network(INTERFACE)?;
                let change = network::gateway_change(&now, arguments.text("address"))?;
                change_network(
                    session,
                    &change,
                    "The gateway changes. With a wrong one the node is reached from its own \
                     subnet only.",
                )
                .await
            })
        },
    },
    Command {
        words: "set network dns",
        arguments: &[
            Argument::required(
                "which",
                Kind::Choice(&["primary", "secondary"]),
                "Which one",
            ),
            ADDRESS,
        ],
        action: SET,
        help: "Change a name server",
        run: |session, arguments| {
            Box::pin(async move {
                let now = session.operations.host().network(INTERFACE)?;
                let primary = arguments.text("which") == "primary";
                let change = network::dns_change(&now, primary, arguments.text("address"))?;
                change_network(session, &change, "The name servers change.").await
            })
        },
    },
    Command {
        words: "set network domain",
        arguments: &[Argument::required(
            "domain",
            Kind::Text,
            "Domain, such as example.org",
        )],
        action: SET,
        help: "Change the domain of the node's own name",
        run: |session, arguments| {
            Box::pin(async move {
                let change = network::domain_change(arguments.text("domain"))?;
                change_network(
                    session,
                    &change,
                    "The domain of the node's name changes, and its certificates are made anew. \
                     The services that present them restart; clients come back by themselves.",
                )
                .await
            })
        },
    },
    Command {
        words: "set network hostname",
        arguments: &[Argument::required(
            "name",
            Kind::Text,
            "Host name, without domain",
        )],
        action: SET,
        help: "Change the node's name",
        run: |session, arguments| {
            Box::pin(async move {
                let change = network::hostname_change(arguments.text("name"))?;
                change_network(
                    session,
                    &change,
                    "The node's name changes, and its certificates are made anew. The services \
                     that present them restart; clients come back by themselves. \"alarms list\" \
                     tells what else needs a restart.",
                )
                .await
            })
        },
    },
    Command {
        words: "set network mtu",
        arguments: &[Argument::required("mtu", Kind::Text, "Bytes, usually 1500")],
        action: SET,
        help: "Change the largest packet",
        run: |session, arguments| {
            Box::pin(async move {
                let change = network::mtu_change(arguments.text("mtu"))?;
                change_network(
                    session,
                    &change,
                    "The MTU changes. It must be the same on every node of the cluster.",
                )
                .await
            })
        },
    },
    Command {
        words: "set network dhcp",
        arguments: &[
            ETH0,
            Argument::required("state", Kind::Choice(&["enable"]), "On"),
        ],
        action: SET,
        help: "Take the address from DHCP; \"set network ip\" goes back",
        run: |session, _| {
            Box::pin(async move {
                change_network(
                    session,
                    &NetworkChange::Dhcp,
                    "The node's address comes from DHCP from now on and may change. Sessions to \
                     the old address end.",
                )
                .await
            })
        },
    },
    Command {
        words: "utils system restart",
        arguments: &[],
        action: Some(&actions::SYSTEM_RESTART),
        help: "Restart the node",
        run: |session, _| {
            Box::pin(async move {
                session.caller.may(&actions::SYSTEM_RESTART)?;
                session
                    .confirm(
                        "The node restarts; everybody on it is signed out. With high availability \
                         its users move to the peer and stay there until a fallback, which \
                         \"utils ha fallback\" asks for.",
                    )
                    .await?;
                session.operations.system_restart(session.caller).await?;
                let value = serde_json::json!({ "restarting": true });
                Ok(Reply::new(&value, "The node restarts now.\n"))
            })
        },
    },
    Command {
        words: "utils system shutdown",
        arguments: &[],
        action: Some(&actions::SYSTEM_SHUTDOWN),
        help: "Shut the node down",
        run: |session, _| {
            Box::pin(async move {
                session.caller.may(&actions::SYSTEM_SHUTDOWN)?;
                session
                    .confirm("The node shuts down and stays off; everybody on it is signed out.")
                    .await?;
                session.operations.system_shutdown(session.caller).await?;
                let value = serde_json::json!({ "shutting_down": true });
                Ok(Reply::new(&value, "The node shuts down now.\n"))
            })
        },
    },
];

async fn change_network(session: &Session<'_>, change: &NetworkChange, warning: &str) -> Outcome {
    session.caller.may(&actions::NETWORK_SET)?;
    session.confirm(warning).await?;
    session
        .operations
        .set_network(session.caller, change)
        .await
        .map_err(|error| {
            Failure::from(Error::new(
                error.kind,
                format!("the setting was not changed: {}", error.message),
            ))
        })?;
    Ok(Reply::new(change, "The network setting was changed.\n"))
}
