//! The parameters of the services: what there are, and changing them.

use std::collections::BTreeMap;

use parameter::{Applies, Definition, Scope, Values, owner};
use serde::Serialize;
use xmpp_config_manager::DECLARED;

use crate::Operations;
use crate::action::{Caller, actions};
use crate::error::{Error, Result};
use crate::ports::Service;

/// A parameter as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// Id of the service.
    pub service: String,
    /// The service as administrators' scripts know it.
    pub compat: String,
    /// Its name.
    pub name: &'static str,
    /// The value that counts.
    pub value: String,
    /// Its default.
    pub default: &'static str,
    /// Whether it was set; the value may still be the default's.
    pub set: bool,
    /// What it may be, in words.
    pub values: String,
    /// Where it holds.
    pub scope: Scope,
    /// When a change applies.
    pub applies: Applies,
    /// What it does, as a sentence.
    pub help: &'static str,
}

/// Whether the values of a service go together; the argument gives what is set.
type Together = fn(&BTreeMap<&str, String>) -> std::result::Result<(), String>;

/// What the services define, in the order in which it is shown. What set-up
/// alone decides is none of it.
fn definitions() -> Vec<(&'static str, &'static Definition)> {
    let xmpp = DECLARED.iter().map(|one| (one.service, &one.definition));
    let own = |service, list: &'static [Definition]| list.iter().map(move |one| (service, one));
    xmpp.chain(own("data-monitor", &data_monitor::PARAMETERS))
        .chain(own(
            "log-partition-monitor",
            &log_partition_monitor::PARAMETERS,
        ))
        .chain(own("server-recovery-manager", &recovery::DEFINITIONS))
        .chain(database::PARAMETERS.iter().map(|(id, one)| (*id, one)))
        .filter(|(_, one)| one.values != Values::Fixed)
        .collect()
}

fn together(service: &str) -> Together {
    match service {
        "log-partition-monitor" => {
            |set| log_partition_monitor::check(|name| set.get(name).cloned())
        }
        "server-recovery-manager" => |set| {
            recovery::Parameters::read(|name| set.get(name).cloned())
                .map(|_| ())
                .map_err(|error| error.to_string())
        },
        _ => |_| Ok(()),
    }
}

impl Operations {
    /// The parameters of a service, or of all. Those of one node are this
    /// node's, or the named one's.
    pub async fn parameters(
        &self,
        caller: &Caller,
        service: Option<&str>,
        node: Option<&str>,
    ) -> Result<Vec<Parameter>> {
        let work = async {
            let services = match service {
                Some(name) => vec![self.find_service(name).await?],
                None => self.supervision().services().await?,
            };
            let node = self.node_named(node).await?;
            let mut parameters = Vec::new();
            for (id, definition) in definitions() {
                if let Some(service) = services.iter().find(|one| one.id == id) {
                    parameters.push(self.parameter(service, definition, &node).await?);
                }
            }
            if let (Some(_), [service], []) = (service, &services[..], &parameters[..]) {
                return Err(Error::not_found(format!(
                    "{} has no parameters. \"show parameters\" shows those there are",
                    service.compat
                )));
            }
            Ok(parameters)
        };
        caller
            .does(&actions::PARAMETERS_SHOW, service.unwrap_or_default(), work)
            .await
    }

    /// Sets a parameter, or without a value lets it have its default again.
    /// Gives the parameter as it then is.
    pub async fn set_parameter(
        &self,
        caller: &Caller,
        service: &str,
        name: &str,
        value: Option<&str>,
        node: Option<&str>,
    ) -> Result<Parameter> {
        let subject = match value {
            Some(value) => format!("{service} {name} = {value}"),
            None => format!("{service} {name}, back to its default"),
        };
        let work = async {
            let found = self.find_service(service).await?;
            let of_service: Vec<_> = definitions()
                .into_iter()
                .filter(|(id, _)| *id == found.id)
                .map(|(_, definition)| definition)
                .collect();
            let same = |one: &&&Definition| one.name.eq_ignore_ascii_case(name.trim());
            let definition = *of_service.iter().find(same).ok_or_else(|| {
                Error::not_found(format!(
                    "{} has no parameter {name:?}. \"show parameters {}\" shows those it has",
                    found.compat, found.id
                ))
            })?;
            if node.is_some() && definition.scope == Scope::Cluster {
                return Err(Error::invalid(format!(
                    "{} is the same on every node. Leave --node away",
                    definition.name
                )));
            }
            let node = self.node_named(node).await?;
            if let Some(value) = value {
                definition
                    .check(value)
                    .map_err(|invalid| Error::invalid(format!("{invalid}. Nothing was changed")))?;
            }
            self.fits_the_others(&found.id, &of_service, definition, value, &node)
                .await?;
            let owner = owner(definition, &found.id, &node);
            self.storage()
                .set_parameter(&owner, definition.name, value)
                .await?;
            self.parameter(&found, definition, &node).await
        };
        caller.does(&actions::PARAMETERS_SET, &subject, work).await
    }

    async fn fits_the_others(
        &self,
        service: &str,
        all: &[&'static Definition],
        changed: &Definition,
        value: Option<&str>,
        node: &str,
    ) -> Result<()> {
        let mut set = BTreeMap::new();
        for one in all {
            let value = if one.name == changed.name {
                value.map(str::to_owned)
            } else {
                let owner = owner(one, service, node);
                self.storage().parameter(&owner, one.name).await?
            };
            set.extend(value.map(|value| (one.name, value)));
        }
        together(service)(&set)
            .map_err(|problem| Error::invalid(format!("{problem}. Nothing was changed")))
    }

    async fn parameter(
        &self,
        service: &Service,
        definition: &'static Definition,
        node: &str,
    ) -> Result<Parameter> {
        let owner = owner(definition, &service.id, node);
        let set = self.storage().parameter(&owner, definition.name).await?;
        Ok(Parameter {
            service: service.id.clone(),
            compat: service.compat.clone(),
            name: definition.name,
            set: set.is_some(),
            value: set.unwrap_or_else(|| definition.default.into()),
            default: definition.default,
            values: definition.values.to_string(),
            scope: definition.scope,
            applies: definition.applies,
            help: definition.help,
        })
    }

    /// The name of a node of the cluster; this node's without one.
    async fn node_named(&self, name: Option<&str>) -> Result<String> {
        let Some(name) = name else {
            let node = self.node();
            return Ok(node
                .map_err(|error| Error::unavailable(error.to_string()))?
                .name);
        };
        let nodes = self.storage().nodes().await?;
        nodes
            .into_iter()
            .find(|node| node.name == name)
            .map(|node| node.name)
            .ok_or_else(|| {
                Error::not_found(format!(
                    "no node of the cluster is called {name:?}. \"show network cluster\" shows them"
                ))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_is_there_once_and_its_default_fits() {
        let all = definitions();
        for (service, definition) in &all {
            definition.check(definition.default).unwrap();
            let same = all
                .iter()
                .filter(|(id, one)| (*id, one.name) == (*service, definition.name));
            assert_eq!(same.count(), 1, "{service} {}", definition.name);
            assert!(definition.help.ends_with('.'), "{}", definition.help);
            together(service)(&BTreeMap::new()).unwrap();
        }
    }
}
