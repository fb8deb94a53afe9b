//! The first rows of the database.

use serde_json::{Value, json};

use crate::answers::Answers;
use crate::secrets;

/// The import that the database does at its first start.
pub(crate) fn seed(answers: &Answers, node: &service::Node) -> anyhow::Result<Value> {
    let web = answers.web_account();
    let mut parameters = vec![
        json!({"name": "ClusterId", "value": node.cluster}),
        json!({"name": "XmppDomain", "value": node.domain}),
    ];
    if let Some(smtp) = &answers.smtp {
        parameters.push(json!({"name": "SmtpServer", "value": smtp.server}));
    }
    Ok(json!({"tables": {
        "application_user": [{
            "user": web.user,
            "password": secrets::hash(&web.password)?,
            "enabled": true,
            "roles": ["administrator"],
        }],
        "enterprise_parameter": parameters,
        "process_node": [{
            "name": node.name,
            "domain": answers.network.domain.as_ref().unwrap_or(&answers.domain),
            "address": node.address,
            "role": node.role,
            "product": node.product,
            "replica": 1,
        }],
    }}))
}
