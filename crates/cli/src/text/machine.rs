//! `show status`, `show version`, `show network`, and the banner.

use std::fmt::Write as _;

use operations::host::{Machine, Status, Version};
use operations::network::Network;

/// Uptime as `uptime` writes it: `2 days, 22:54`.
fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let clock = if hours > 0 {
        format!("{hours:2}:{minutes:02}")
    } else {
        format!("{minutes} min")
    };
    match days {
        0 => clock,
        1 => format!("1 day, {clock}"),
        days => format!("{days} days, {clock}"),
    }
}

/// `show status`.
pub(crate) fn status(status: &Status) -> String {
    let date = &status.date;
    let people = if status.sessions == 1 {
        "1 user".into()
    } else {
        format!("{} users", status.sessions)
    };
    let (cpu, memory) = (&status.cpu, &status.memory);
    let mut text = format!(
        "\n\
         Host Name          : {}\n\
         Date               : {}\n\
         Time Zone          : {} ({})\n\
         Locale             : {}\n\
         Product Ver        : {}\n\
         Unified OS Version : {}\n\
         \n\
         Uptime:\n \
         {} up {},  {people},  load average: {}\n\
         \n",
        status.host,
        date.strftime("%a %b %d, %Y %H:%M:%S"),
        date.strftime("%Z"),
        status.time_zone,
        status.locale,
        status.product_version,
        status.os_version,
        date.strftime("%H:%M:%S"),
        uptime(status.uptime),
        status.load.join(", "),
    );
    let _ = write!(
        text,
        "CPU Idle:   {:05.2}%  System:   {:05.2}%    User:   {:05.2}%\n  \
         IOWAIT:   {:05.2}%     IRQ:   {:05.2}%    Soft:   {:05.2}%\n\n",
        cpu.idle, cpu.system, cpu.user, cpu.iowait, cpu.irq, cpu.soft
    );
    for (name, value) in [
        ("Memory Total", memory.total),
        ("Free", memory.free),
        ("Used", memory.used),
        ("Cached", memory.cached),
        ("Shared", memory.shared),
        ("Buffers", memory.buffers),
    ] {
        let _ = writeln!(text, "{name:>12}: {value:>14}K");
    }
    let _ = write!(text, "\n{:29}{:<16}{:<16}Used\n", "", "Total", "Free");
    for disk in &status.disks {
        let _ = writeln!(
            text,
            "{:<18}{:>15}K{:>15}K{:>15}K ({}%)",
            format!("Disk/{}", disk.area),
            disk.total,
            disk.free,
            disk.used,
            disk.percent
        );
    }
    text
}

/// `show version active|inactive`.
pub(crate) fn version(version: &Version, active: bool) -> String {
    let slot = if active { "Active" } else { "Inactive" };
    let Some(number) = &version.version else {
        return format!("{slot} Master Version: none. The other slot is empty\n");
    };
    let mut text =
        format!("{slot} Master Version: {number}\n{slot} Version Installed Software Options:\n");
    if version.options.is_empty() {
        text += "No Installed Software Options Found.\n";
    }
    for option in &version.options {
        text += &format!("{option}\n");
    }
    text
}

/// `show network eth0`.
pub(crate) fn network(network: &Network) -> String {
    let or = |text: &str| {
        if text.is_empty() {
            "Not Configured".to_owned()
        } else {
            text.to_owned()
        }
    };
    let is = |on: bool, yes: &str, no: &str| if on { yes.to_owned() } else { no.to_owned() };
    let dns = |index: usize| or(network.dns.get(index).map_or("", String::as_str));
    let mode = match (&network.duplex, network.speed) {
        (Some(duplex), Some(speed)) => {
            format!("Auto enabled, {}, {speed} Mbits/s", title(duplex))
        }
        _ => "Auto enabled".into(),
    };
    let number: String = network
        .interface
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let row = |a: &str, b: &str, c: &str, d: &str| {
        format!("{a:<19}: {b:<18}{c:<15}: {d}")
            .trim_end()
            .to_owned()
            + "\n"
    };
    let gateway = if network.gateway.is_empty() {
        or("")
    } else {
        format!("{} on Ethernet {number}", network.gateway)
    };
    format!("Ethernet {number}\n")
        + &row(
            "DHCP",
            &is(network.dhcp, "enabled", "disabled"),
            "Status",
            &is(network.up, "up", "down"),
        )
        + &row(
            "IP Address",
            &or(&network.address),
            "IP Mask",
            &or(&network.mask),
        )
        + &row(
            "Link Detected",
            &is(network.link, "yes", "no"),
            "Mode",
            &mode,
        )
        + &format!("{:<19}: {}\n", "MTU", network.mtu)
        + "\nDNS\n"
        + &row("Primary", &dns(0), "Secondary", &dns(1))
        + &format!("{:<19}: {}\n", "Domain", or(&network.domain))
        + &format!("{:<19}: {gateway}\n", "Gateway")
}

fn title(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}

/// What an administrator sees at sign-in.
pub(crate) fn banner(machine: &Machine, version: &str, warnings: &[String]) -> String {
    let mut text = format!(
        "\n   Signalbox Command Line Interface, version {version}\n\n\
         Virtual Machine:\n\t{} vCPU: {}\n",
        machine.processors, machine.model
    );
    for (index, (_, bytes)) in machine.disks.iter().enumerate() {
        let _ = writeln!(text, "\tDisk {}: {}GB", index + 1, bytes >> 30);
    }
    let _ = writeln!(text, "\t{} Mbytes RAM", machine.memory / 1024);
    for warning in warnings {
        let _ = writeln!(text, "\tWARNING: {warning}");
    }
    text + "\n   ? lists the commands, and what may come next.\n\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use jiff::tz::TimeZone;
    use operations::host::{Cpu, Disk, Memory};

    #[test]
    fn status_is_as_scripts_parse_it() {
        let disk = |area: &str, total, free, used, percent| Disk {
            area: area.into(),
            total,
            free,
            used,
            percent,
        };
        let told = status(&Status {
            host: "alpha".into(),
            date: date(2026, 1, 2)
                .at(14, 19, 27, 0)
                .to_zoned(TimeZone::UTC)
                .unwrap(),
            time_zone: "UTC".into(),
            locale: "C.UTF-8".into(),
            product_version: "0.1.0".into(),
            os_version: "Debian GNU/Linux 13.2".into(),
            uptime: 2 * 86_400 + 22 * 3600 + 54 * 60,
            sessions: 1,
            load: ["0.17".into(), "0.27".into(), "0.30".into()],
            cpu: Cpu {
                idle: 96.95,
                system: 2.03,
                user: 1.02,
                ..Cpu::default()
            },
            memory: Memory {
                total: 3_925_432,
                free: 129_220,
                used: 3_796_212,
                cached: 1_294_100,
                shared: 0,
                buffers: 119_724,
            },
            disks: vec![
                disk("active", 14_154_228, 1_233_212, 12_776_252, 92),
                disk("inactive", 14_154_260, 13_372_496, 62_784, 1),
                disk("logging", 49_573_612, 37_757_424, 9_297_944, 20),
            ],
        });
        assert_eq!(
            told,
            "
Host Name          : alpha
Date               : Fri Jan 02, 2026 14:19:27
Time Zone          : UTC (UTC)
Locale             : C.UTF-8
Product Ver        : 0.1.0
Unified OS Version : Debian GNU/Linux 13.2

Uptime:
 14:19:27 up 2 days, 22:54,  1 user,  load average: 0.17, 0.27, 0.30

CPU Idle:   96.95%  System:   02.03%    User:   01.02%
  IOWAIT:   00.00%     IRQ:   00.00%    Soft:   00.00%

Memory Total:        3925432K
        Free:         129220K
        Used:        3796212K
      Cached:        1294100K
      Shared:              0K
     Buffers:         119724K

                             Total           Free            Used
Disk/active              14154228K        1233212K       12776252K (92%)
Disk/inactive            14154260K       13372496K          62784K (1%)
Disk/logging             49573612K       37757424K        9297944K (20%)
"
        );
    }

    #[test]
    fn uptime_reads_like_the_usual_command() {
        assert_eq!(uptime(59), "0 min");
        assert_eq!(uptime(3600 + 120), " 1:02");
        assert_eq!(uptime(86_400 + 60), "1 day, 1 min");
    }

    #[test]
    fn versions_of_both_slots() {
        let running = Version {
            version: Some("0.1.0".into()),
            options: Vec::new(),
        };
        assert_eq!(
            version(&running, true),
            "Active Master Version: 0.1.0\n\
             Active Version Installed Software Options:\n\
             No Installed Software Options Found.\n"
        );
        let empty = Version {
            version: None,
            options: Vec::new(),
        };
        assert!(version(&empty, false).starts_with("Inactive Master Version: none"));
    }

    #[test]
    fn network_settings() {
        let told = network(&Network {
            interface: "eth0".into(),
            dhcp: false,
            up: true,
            link: true,
            address: "10.1.1.10".into(),
            mask: "255.255.255.0".into(),
            speed: Some(1000),
            duplex: Some("full".into()),
            mtu: 1500,
            dns: vec!["10.1.1.2".into()],
            domain: "example.org".into(),
            gateway: "10.1.1.1".into(),
        });
        assert_eq!(
            told,
            "Ethernet 0\n\
             DHCP               : disabled          Status         : up\n\
             IP Address         : 10.1.1.10         IP Mask        : 255.255.255.0\n\
             Link Detected      : yes               Mode           : Auto enabled, Full, 1000 Mbits/s\n\
             MTU                : 1500\n\
             \n\
             DNS\n\
             Primary            : 10.1.1.2          Secondary      : Not Configured\n\
             Domain             : example.org\n\
             Gateway            : 10.1.1.1 on Ethernet 0\n"
        );
    }

    #[test]
    fn the_banner_names_the_machine_and_warns() {
        let machine = Machine {
            processors: 2,
            model: "Fast One @ 2.90GHz".into(),
            disks: vec![("vda".into(), 80 << 30)],
            memory: 4096 * 1024,
        };
        assert_eq!(
            banner(&machine, "0.1.0", &["DNS unreachable".into()]),
            "\n   Signalbox Command Line Interface, version 0.1.0\n\n\
             Virtual Machine:\n\t2 vCPU: Fast One @ 2.90GHz\n\tDisk 1: 80GB\n\
             \t4096 Mbytes RAM\n\tWARNING: DNS unreachable\n\n\
             \x20  ? lists the commands, and what may come next.\n\n"
        );
    }
}
