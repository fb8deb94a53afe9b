//! The nodes of the cluster: who belongs to it, who is added and removed.

use std::net::IpAddr;

use serde::Serialize;

use crate::Operations;
use crate::action::{Caller, actions};
use crate::error::{Error, Result};
use crate::network;
use crate::ports::{NetworkChange, NodeRecord};

/// Most nodes of a cluster: a publisher and five subscribers, in pairs.
pub const MOST_NODES: usize = 6;

/// The nodes of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// The nodes, the publisher first.
    pub nodes: Vec<NodeRecord>,
}

impl Operations {
    /// The nodes of the cluster.
    pub async fn cluster(&self, caller: &Caller) -> Result<Cluster> {
        let work = async {
            let mut nodes = self.storage().nodes().await?;
            nodes.sort_by_key(|node| (!node.publisher, node.name.clone()));
            Ok(Cluster { nodes })
        };
        caller.does(&actions::CLUSTER_SHOW, "", work).await
    }

    /// Adds a subscriber, which may join from then on. `product` is the kind
    /// of node, `domain` that of its host name.
    pub async fn add_subscriber(
        &self,
        caller: &Caller,
        product: &str,
        name: &str,
        address: &str,
        domain: &str,
    ) -> Result<NodeRecord> {
        let work = async {
            let record = subscriber(product, name, address, domain)?;
            let nodes = self.storage().nodes().await?;
            if nodes.len() >= MOST_NODES {
                return Err(Error::refused(format!(
                    "the cluster has {MOST_NODES} nodes, and no more are possible. Remove one first"
                )));
            }
            if let Some(same) = nodes.iter().find(|node| node.address == record.address) {
                return Err(Error::refused(format!(
                    "node {} has the address {address} already. Give the new node another address, \
                     or remove {0} first",
                    same.name
                )));
            }
            self.storage().add_node(record.clone()).await?;
            Ok(record)
        };
        caller.does(&actions::CLUSTER_ADD, name, work).await
    }

    /// Removes a subscriber from the cluster: it gets no changes any more, and
    /// is refused when it comes back.
    pub async fn remove_subscriber(&self, caller: &Caller, name: &str) -> Result<NodeRecord> {
        let work = async {
            let nodes = self.storage().nodes().await?;
            let Some(record) = nodes.into_iter().find(|node| node.name == name) else {
                return Err(Error::not_found(format!(
                    "the cluster has no node {name:?}; \"show network cluster\" lists its nodes"
                )));
            };
            if record.publisher {
                return Err(Error::refused(format!(
                    "{name} is the publisher; a cluster is not without one"
                )));
            }
            self.storage().remove_node(name).await?;
            Ok(record)
        };
        caller.does(&actions::CLUSTER_REMOVE, name, work).await
    }
}

/// A subscriber as it was typed in, checked.
fn subscriber(product: &str, name: &str, address: &str, domain: &str) -> Result<NodeRecord> {
    if product != "imp" {
        return Err(Error::invalid(format!(
            "{product:?} is no kind of node that this version knows; give imp"
        )));
    }
    let NetworkChange::Hostname { name } = network::hostname_change(name)? else {
        return Err(Error::failed("the host name was not read as one"));
    };
    let NetworkChange::Domain { domain } = network::domain_change(domain)? else {
        return Err(Error::failed("the domain was not read as one"));
    };
    let address: IpAddr = address
        .parse()
        .ok()
        .filter(|address: &IpAddr| !address.is_unspecified() && !address.is_loopback())
        .ok_or_else(|| {
            Error::invalid(format!(
                "{address:?} is not an address of a node, such as 192.0.2.12"
            ))
        })?;
    Ok(NodeRecord {
        name,
        domain,
        address: address.to_string(),
        publisher: false,
        product: product.into(),
        joined: false,
    })
}
