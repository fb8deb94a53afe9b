//! `show network cluster`, `set|unset network cluster subscriber …`.

use operations::actions;

use crate::command::{Argument, Command, Kind};
use crate::reply::Reply;
use crate::text;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "show network cluster",
        arguments: &[],
        action: Some(&actions::CLUSTER_SHOW),
        help: "Show the nodes of the cluster",
        run: |session, _| {
            Box::pin(async move {
                let cluster = session.operations.cluster(session.caller).await?;
                Ok(Reply::new(&cluster, text::cluster(&cluster)))
            })
        },
    },
    Command {
        words: "set network cluster subscriber details",
        arguments: &[
            Argument::required("product", Kind::Choice(&["imp"]), "Kind of node"),
            Argument::required("hostname", Kind::Text, "Host name, without domain"),
            Argument::required("address", Kind::Text, "Address, such as 192.0.2.12"),
            Argument::required("domain", Kind::Text, "Domain, such as example.org"),
        ],
        action: Some(&actions::CLUSTER_ADD),
        help: "Add a node, which may join the cluster from then on",
        run: |session, arguments| {
            Box::pin(async move {
                let node = session
                    .operations
                    .add_subscriber(
                        session.caller,
                        arguments.text("product"),
                        arguments.text("hostname"),
                        arguments.text("address"),
                        arguments.text("domain"),
                    )
                    .await?;
                let text = format!(
                    "Node {} was added. Set it up as a node that joins, with this cluster's \
                     security password.\n",
                    node.name
                );
                Ok(Reply::new(&node, text))
            })
        },
    },
    Command {
        words: "unset network cluster subscriber",
        arguments: &[Argument::required(
            "hostname",
            Kind::Text,
            "Host name, without domain",
        )],
        action: Some(&actions::CLUSTER_REMOVE),
        help: "Remove a node from the cluster",
        run: |session, arguments| {
            Box::pin(async move {
                let name = arguments.text("hostname");
                session.caller.may(&actions::CLUSTER_REMOVE)?;
                session
                    .confirm(&format!(
                        "Node {name} leaves the cluster: it gets no changes any more and cannot \
                         come back unless it is added again and set up anew."
                    ))
                    .await?;
                let node = session
                    .operations
                    .remove_subscriber(session.caller, name)
                    .await?;
                let text = format!("Node {} was removed from the cluster.\n", node.name);
                Ok(Reply::new(&node, text))
            })
        },
    },
];
