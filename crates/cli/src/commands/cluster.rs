//! `show network cluster`, `set|unset network cluster subscriber …`.

use operations::actions;
use operations::cluster::NewNode;

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
            Argument::optional(
                "group",
                Kind::Option,
                "Redundancy group; without it the first one with one node, or a new one",
            ),
        ],
        action: Some(&actions::CLUSTER_ADD),
        help: "Add a node, which may join the cluster from then on",
        run: |session, arguments| {
            Box::pin(async move {
                let new = NewNode {
                    product: arguments.text("product").into(),
                    name: arguments.text("hostname").into(),
                    address: arguments.text("address").into(),
                    domain: arguments.text("domain").into(),
                    group: arguments.optional("group").map(Into::into),
                };
                let added = session
                    .operations
                    .add_subscriber(session.caller, &new)
                    .await?;
                let text = format!(
                    "Node {} was added, in redundancy group {}. Set it up as a node that joins, \
                     with this cluster's security password.\n",
                    added.node.name, added.group
                );
                Ok(Reply::new(&added, text))
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
                let removal = session.operations.removal(session.caller, name).await?;
                session.confirm(&text::removal(&removal)).await?;
                let removed = session
                    .operations
                    .remove_subscriber(session.caller, name)
                    .await?;
                Ok(Reply::new(&removed, text::removed(&removed)))
            })
        },
    },
];
