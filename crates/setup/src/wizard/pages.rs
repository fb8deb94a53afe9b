//! The questions, as data, in their order.

use crate::machine::Machine;
use crate::rules::SIZES;

use super::draft::Draft;

/// One screen of the wizard.
pub(crate) struct Page {
    /// Name of the screen.
    pub(crate) title: &'static str,
    /// What the question is about.
    pub(crate) text: String,
    /// The question itself.
    pub(crate) body: Body,
    /// What to try out when the answers are accepted.
    pub(crate) probe: Option<Topic>,
    /// Whether the question is asked at all.
    pub(crate) when: fn(&Draft) -> bool,
}

/// How a question is asked.
pub(crate) enum Body {
    /// One of a few answers, with what each means.
    Menu(&'static str, Vec<(String, String)>),
    /// Fields to fill in.
    Form(Vec<Field>),
    /// One of many answers, found by typing a part of it.
    Search(&'static str),
    /// Any number of answers, with what each means.
    Checklist(&'static str, Vec<(String, String)>),
    /// The first screen.
    Welcome,
    /// The last screen.
    Summary,
}

/// A field of a form.
pub(crate) struct Field {
    /// Key of the draft.
    pub(crate) key: String,
    /// What stands before it.
    pub(crate) label: String,
    /// Whether it shows stars.
    pub(crate) secret: bool,
    /// Stands in the help line while the cursor is in it.
    pub(crate) hint: &'static str,
}

/// What can be tried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// Does the network work with these settings?
    Network,
    /// Do the time servers answer?
    Time,
    /// Is the mail server known?
    Mail,
    /// Does the publisher take this node?
    Cluster,
}

fn field(key: &str, label: &str, hint: &'static str) -> Field {
    Field {
        key: key.into(),
        label: label.into(),
        secret: false,
        hint,
    }
}

fn secret(key: &str, label: &str) -> [Field; 2] {
    let one = |key: String, label: String| Field {
        key,
        label,
        secret: true,
        hint: "8 characters or more",
    };
    [
        one(key.into(), label.into()),
        one(format!("{key}.again"), format!("{label} again")),
    ]
}

fn page(title: &'static str, text: &str, body: Body) -> Page {
    Page {
        title,
        text: text.into(),
        body,
        probe: None,
        when: |_| true,
    }
}

fn option(value: &str, label: &str) -> (String, String) {
    (value.into(), label.into())
}

/// Every screen, in order.
pub(crate) fn pages(machine: &Machine) -> Vec<Page> {
    let mut pages = vec![
        page("Welcome", "", Body::Welcome),
        deployment(machine),
        page(
            "Time zone",
            "Type a part of the name, such as the nearest large city.",
            Body::Search("time_zone"),
        ),
        page(
            "Network card",
            "Speed and duplex are those of the virtual network. The largest packet (MTU) must \
             be the same on every node of the cluster; 1500 is usual.",
            Body::Form(vec![field(
                "network.mtu",
                "Largest packet (MTU)",
                "1280 to 9000 bytes",
            )]),
        ),
        page(
            "Address",
            "How does this node get its address? A node of a cluster should have a fixed one.",
            Body::Menu(
                "network.dhcp",
                vec![
                    option("no", "Fixed address, given on the next screen"),
                    option("yes", "Address from a DHCP server"),
                ],
            ),
        ),
    ];
    pages.extend(network());
    pages.extend(accounts_and_time());
    pages.extend(messaging(machine));
    pages.push(page("Summary", "", Body::Summary));
    pages
}

fn deployment(machine: &Machine) -> Page {
    let sizes = SIZES.iter().map(|(size, processors, memory)| {
        let users = size.replace('K', ",000");
        let label = format!("{users:>6} users: {processors} processors, {memory} GiB memory");
        option(size, &label)
    });
    let (processors, memory) = machine.resources();
    page(
        "Product deployment",
        &format!(
            "This image makes an instant messaging and presence node. For how many users? \
             This machine has {processors} processors and {memory} GiB of memory."
        ),
        Body::Menu("size", sizes.collect()),
    )
}

fn network() -> Vec<Page> {
    let name = || {
        field(
            "network.hostname",
            "Host name",
            "without the domain, such as node1",
        )
    };
    let name_only = Page {
        when: Draft::dhcp,
        ..page(
            "Host name",
            "The name of this node in its network.",
            Body::Form(vec![name()]),
        )
    };
    let fixed = Page {
        when: |draft| !draft.dhcp(),
        ..page(
            "Host name and address",
            "The name and address of this node in its network.",
            Body::Form(vec![
                name(),
                field("network.address", "Address", "such as 192.0.2.11"),
                field("network.mask", "Mask", "such as 255.255.255.0 or 24"),
                field(
                    "network.gateway",
                    "Gateway",
                    "the router to other networks; empty where there is none",
                ),
            ]),
        )
    };
    let servers = Page {
        probe: Some(Topic::Network),
        ..page(
            "Name servers",
            "The domain of this host and the name servers (DNS) to ask. All may stay empty; \
             with DHCP, the server may tell them. The network is tried out next.",
            Body::Form(vec![
                field(
                    "network.domain",
                    "Domain of the host",
                    "such as example.org",
                ),
                field("network.dns.0", "First name server", "an address"),
                field("network.dns.1", "Second name server", "an address"),
                field("network.dns.2", "Third name server", "an address"),
            ]),
        )
    };
    vec![name_only, fixed, servers]
}

fn accounts_and_time() -> Vec<Page> {
    let mut administrator = vec![field(
        "administrator.user",
        "Administrator id",
        "begins with a letter; letters, digits, - and _ follow",
    )];
    administrator.extend(secret("administrator.password", "Password"));
    let certificate = [
        ("certificate.organization", "Organisation", ""),
        ("certificate.unit", "Unit", ""),
        ("certificate.location", "City", ""),
        ("certificate.state", "State or province", ""),
        (
            "certificate.country",
            "Country",
            "two capital letters, such as DE",
        ),
    ];
    let certificate = certificate.map(|(key, label, hint)| field(key, label, hint));
    let ordinal = ["First", "Second", "Third", "Fourth", "Fifth"];
    let time = ordinal.iter().enumerate().map(|(at, nth)| {
        let label = format!("{nth} time server");
        field(&format!("ntp.{at}"), &label, "a host name or an address")
    });
    vec![
        page(
            "Administrator",
            "Who signs in at this console and over SSH.",
            Body::Form(administrator),
        ),
        page(
            "Certificates",
            "What this node's certificates say of your organisation. All may stay empty.",
            Body::Form(certificate.into()),
        ),
        page(
            "First node",
            "Is this the first node of its cluster?",
            Body::Menu(
                "role",
                vec![
                    option("publisher", "Yes, it is the first (publisher)"),
                    option("subscriber", "No, it joins a cluster (subscriber)"),
                ],
            ),
        ),
        Page {
            probe: Some(Topic::Time),
            ..page(
                "Time servers",
                "The servers (NTP) that this node takes its time from; three or more are \
                 advised. They are asked when you go on.",
                Body::Form(time.collect()),
            )
        },
        Page {
            when: |draft| !draft.joins(),
            ..page(
                "Security password",
                "Nodes of a cluster prove to each other by this password that they belong \
                 together. It is the same on all of them; keep it where you find it again.",
                Body::Form(secret("security_password", "Security password").into()),
            )
        },
        cluster(),
    ]
}

fn cluster() -> Page {
    let mut fields = vec![
        field("publisher", "First node (publisher)", "its name or address"),
        field("domain", "Messaging domain", "that of the cluster"),
    ];
    fields.extend(secret("security_password", "Security password"));
    Page {
        when: Draft::joins,
        probe: Some(Topic::Cluster),
        ..page(
            "Cluster",
            "Add this node on the first node of the cluster before you go on: set network \
             cluster subscriber details. The first node is asked whether it takes this one.",
            Body::Form(fields),
        )
    }
}

fn messaging(machine: &Machine) -> Vec<Page> {
    let mut user = vec![field(
        "application_user.user",
        "User id",
        "empty: the administrator's id and password",
    )];
    user.extend(secret("application_user.password", "Password"));
    let features = machine.features().iter();
    vec![
        Page {
            probe: Some(Topic::Mail),
            when: |draft| !draft.joins(),
            ..page(
                "Mail",
                "The server (SMTP) that takes mail about alarms. It may stay empty.",
                Body::Form(vec![field(
                    "smtp.server",
                    "Mail server",
                    "a host name or an address",
                )]),
            )
        },
        Page {
            when: |draft| !draft.joins(),
            ..page(
                "Application user",
                "Who signs in to the web pages first. When all stays empty, it is the \
                 administrator with the same password.",
                Body::Form(user),
            )
        },
        Page {
            when: |draft| !draft.joins(),
            ..page(
                "Messaging domain",
                "What stands behind the @ in the address of every user. Clients find the node \
                 by it, and certificates carry it.",
                Body::Form(vec![field(
                    "domain",
                    "Domain",
                    "such as example.org, in lower case",
                )]),
            )
        },
        page(
            "Feature services",
            "Which services to activate now. Others can be activated at any time; the two \
             that are chosen let users sign in.",
            Body::Checklist(
                "features",
                features
                    .map(|(id, feature)| (id.clone(), feature.name.clone()))
                    .collect(),
            ),
        ),
    ]
}
