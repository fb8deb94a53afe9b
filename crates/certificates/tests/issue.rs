//! An authority and its certificates, as a client that trusts only the
//! authority sees them.

use certificates::{Authority, Certificate, Names, Subject, verify};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

const NOW: OffsetDateTime = datetime!(2026-11-21 06:00 UTC);

fn subject() -> Subject {
    Subject {
        organization: Some("Example Société".into()),
        country: Some("DE".into()),
        ..Subject::default()
    }
}

fn names() -> Names {
    Names {
        dns: vec!["node1.example.org".into(), "example.org".into()],
        addresses: vec!["192.0.2.11".parse().expect("an address")],
    }
}

fn authority() -> Authority {
    Authority::create("example.org authority", &subject(), NOW).expect("a fresh authority")
}

#[test]
fn a_certificate_is_trusted_for_its_names_and_no_other() {
    let authority = authority();
    let issued = authority.issue(&subject(), &names(), NOW).unwrap();
    let check = |name: &str| {
        verify(
            &issued.certificate_pem,
            authority.certificate_pem(),
            name,
            NOW,
        )
        .map_err(|e| e.to_string())
    };
    for name in ["node1.example.org", "example.org", "192.0.2.11"] {
        assert_eq!(check(name), Ok(()), "{name}");
    }
    for name in [
        "other.example.org",
        "192.0.2.12",
        "node1.example.org.evil.test",
    ] {
        assert!(
            check(name).unwrap_err().contains("not to be trusted"),
            "{name}"
        );
    }
    assert!(
        check("not a name").unwrap_err().contains("neither"),
        "a name with blanks"
    );
}

#[test]
fn another_authority_of_the_same_name_is_not_trusted() {
    let issued = authority().issue(&subject(), &names(), NOW).unwrap();
    let other = authority();
    assert!(
        verify(
            &issued.certificate_pem,
            other.certificate_pem(),
            "example.org",
            NOW
        )
        .is_err()
    );
}

#[test]
fn it_expires_after_five_years_and_is_valid_a_day_before_its_making() {
    let authority = authority();
    let issued = authority.issue(&subject(), &names(), NOW).unwrap();
    let at = |now| {
        verify(
            &issued.certificate_pem,
            authority.certificate_pem(),
            "example.org",
            now,
        )
    };
    assert!(at(NOW - Duration::hours(23)).is_ok());
    assert!(at(NOW - Duration::hours(25)).is_err());
    assert!(at(NOW + Duration::days(365 * 5 - 1)).is_ok());
    assert!(at(NOW + Duration::days(365 * 5 + 1)).is_err());
}

#[test]
fn what_is_written_is_read() {
    let authority = authority();
    let issued = authority.issue(&subject(), &names(), NOW).unwrap();
    let read = Certificate::from_pem(&issued.certificate_pem).unwrap();
    assert_eq!((read.dns, read.addresses), (names().dns, names().addresses));
    assert!(
        read.subject.contains("CN=node1.example.org"),
        "{}",
        read.subject
    );
    assert!(
        read.subject.contains("O=Example Société"),
        "{}",
        read.subject
    );
    assert!(
        read.issuer.contains("CN=example.org authority"),
        "{}",
        read.issuer
    );
    assert_eq!(read.not_after, NOW + Duration::days(365 * 5));
    assert!(!read.authority);
    assert_eq!(read.fingerprint.len(), 32 * 3 - 1);
    let own = Certificate::from_pem(authority.certificate_pem()).unwrap();
    assert!(own.authority);
    assert_eq!(own.days_left(NOW), 3650);
}

#[test]
fn serials_differ_and_are_long() {
    let authority = authority();
    let serial = || {
        let issued = authority.issue(&subject(), &names(), NOW).unwrap();
        Certificate::from_pem(&issued.certificate_pem)
            .unwrap()
            .serial
    };
    let (one, two) = (serial(), serial());
    assert_ne!(one, two);
    assert_eq!((one.len(), two.len()), (32, 32));
}

#[test]
fn an_authority_read_from_its_files_signs_on() {
    let first = authority();
    let again = Authority::load(first.certificate_pem(), &first.key_pem()).unwrap();
    let issued = again.issue(&subject(), &names(), NOW).unwrap();
    verify(
        &issued.certificate_pem,
        first.certificate_pem(),
        "example.org",
        NOW,
    )
    .unwrap();
}

#[test]
fn text_that_is_no_certificate_is_refused_with_what_one_looks_like() {
    for text in [
        "",
        "hello",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let error = Certificate::from_pem(text).unwrap_err().to_string();
        assert!(error.contains("PEM"), "{error}");
    }
}
