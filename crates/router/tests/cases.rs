//! The cases of `tests/cases`, one test for each file.

mod world;

use world::script;

macro_rules! cases {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let file = concat!(stringify!($name), ".txt");
                script::run(file, include_str!(concat!("cases/", stringify!($name), ".txt")));
            }
        )*

        #[test]
        fn every_file_is_run() {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases");
            let mut files: Vec<String> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.ends_with(".txt"))
                .collect();
            files.sort();
            let mut known = vec![$(concat!(stringify!($name), ".txt").to_owned()),*];
            known.sort();
            assert_eq!(files, known);
        }
    };
}

cases! {
    messages
    presence
    subscriptions
    roster
    management
    sessions
    offline
    carbons
    blocking
    requests
    database
}
