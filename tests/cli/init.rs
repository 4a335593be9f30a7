//! `tandem init`: what it writes, for whose eyes, and what it refuses before it writes anything.

use std::fs;

use super::{Place, Said};

const FIRST: [&str; 9] = [
    "init",
    "--node",
    "laptop-a",
    "--peer",
    "laptop-b",
    "--database",
    "mysql://tandem@127.0.0.1:3306/my_shop",
    "--hub",
    "192.168.1.101",
];

fn empty() -> Place {
    let place = Place::with("");
    fs::remove_file(place.path().join("tandem.toml")).unwrap();
    place
}

fn names(place: &Place) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn read(place: &Place, file: &str) -> String {
    fs::read_to_string(place.path().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn ok(said: &Said) {
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", said.out);
}

/// Nothing was done, and the reason holds these words.
fn refused(said: &Said, words: &str) {
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{}", said.err);
    assert!(said.err.contains(words), "{words}: {}", said.err);
    assert!(said.err.starts_with("error: ") && !said.err.contains("geheim"), "{}", said.err);
}

#[test]
fn init_sets_two_laptops_up_that_fit_each_other() {
    let (a, b) = (empty(), empty());
    let said = a.run(&FIRST);
    ok(&said);
    assert_eq!(
        names(&a),
        ["laptop-a.account.sql", "laptop-a.mariadb.cnf", "laptop-b.invitation", "secrets", "tandem-state", "tandem.toml"]
    );
    let invitation = a.path().join("laptop-b.invitation");
    let joined = b.run(&["init", "--join", invitation.to_str().unwrap()]);
    ok(&joined);
    assert_eq!(names(&b), ["laptop-b.account.sql", "laptop-b.mariadb.cnf", "secrets", "tandem.toml"]);
    let config = read(&a, "tandem.toml");
    assert_eq!(config, read(&b, "tandem.toml"), "one configuration, the same on every node");
    assert!(config.contains("cluster = \"my_shop\"") && config.contains("fingerprint = \"sha256:"), "{config}");
    assert!(a.run(&["config", "check", "--node", "laptop-a"]).out.contains("its secrets are there"));
    assert!(b.run(&["config", "check", "--node", "laptop-b"]).out.contains("its secrets are there"));

    let grants = [
        "GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER, CREATE, ALTER, DROP, INDEX, REFERENCES ON `my\\_shop`.* TO 'tandem'@'localhost';",
        "GRANT ALL PRIVILEGES ON `tandem`.* TO 'tandem'@'localhost';",
        "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'tandem'@'localhost';",
    ];
    for (place, node, number) in [(&a, "laptop-a", 1), (&b, "laptop-b", 2)] {
        let sql = read(place, &format!("{node}.account.sql"));
        assert!(grants.iter().all(|grant| sql.contains(grant)), "{sql}");
        let settings = read(place, &format!("{node}.mariadb.cnf"));
        for line in [
            "binlog_format                  = ROW".to_owned(),
            "auto_increment_increment       = 10".to_owned(),
            format!("auto_increment_offset          = {number}"),
            format!("server_id                      = {number}"),
            "expire_logs_days               = 40".to_owned(),
        ] {
            assert!(settings.lines().any(|own| own == line), "{line}: {settings}");
        }
    }
    for step in
        ["laptop-a.mariadb.cnf", "C:\\xampp\\mysql\\bin\\my.ini", "mariadb -u root -p <", "tandem doctor --node laptop-a"]
    {
        assert!(said.out.contains(step), "{}", said.out);
    }
    assert!(said.out.contains("tandem init --join laptop-b.invitation"), "{}", said.out);
    // Secrets are where they belong and nowhere else.
    let (password, key) = (read(&a, "secrets/laptop-a.password"), read(&a, "secrets/laptop-a.hub-key"));
    for secret in [password.trim(), key.trim()] {
        assert!(secret.len() > 40 && !said.out.contains(secret) && !config.contains(secret));
        assert!(!read(&a, "laptop-b.invitation").contains(secret), "each node has secrets of its own");
    }
    assert!(read(&a, "laptop-a.account.sql").contains(password.trim()));
}

#[cfg(unix)]
#[test]
fn secrets_of_init_are_for_this_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = empty();
    ok(&place.run(&FIRST));
    let mode = |file: &str| fs::metadata(place.path().join(file)).unwrap().permissions().mode() & 0o777;
    for file in ["secrets/laptop-a.password", "secrets/laptop-a.hub-key", "laptop-a.account.sql", "laptop-b.invitation"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    assert_eq!(mode("secrets"), 0o700);
}

#[test]
fn init_replaces_nothing_unless_it_is_told_to() {
    let place = Place::with("kept");
    let said = place.run(&FIRST);
    refused(&said, "tandem.toml is there already");
    assert_eq!((names(&place), read(&place, "tandem.toml").as_str()), (vec!["tandem.toml".to_owned()], "kept"));
    let force = [&FIRST[..], &["--force"]].concat();
    ok(&place.run(&force));
    let first = read(&place, "secrets/laptop-a.hub-key");
    let said = place.run(&FIRST);
    refused(&said, "are there already");
    assert!(said.err.contains("laptop-b.invitation") && said.err.contains("--force"), "{}", said.err);
    assert_eq!(read(&place, "secrets/laptop-a.hub-key"), first);
    ok(&place.run(&force));
    assert_ne!(read(&place, "secrets/laptop-a.hub-key"), first);
}

#[test]
fn init_refuses_what_would_not_work_and_writes_nothing() {
    let place = empty();
    let with = |flag: &str, value: &'static str| {
        let mut args = FIRST.to_vec();
        match args.iter().position(|own| *own == flag) {
            Some(at) => args[at + 1] = value,
            None => args.extend([Box::leak(flag.to_owned().into_boxed_str()) as &str, value]),
        }
        place.run(&args)
    };
    refused(&with("--peer", "LAPTOP-A"), "\"laptop-a\" is a node already: every node needs a name of its own");
    refused(&with("--node", "laptop a"), "use 1 to 63 letters");
    refused(&with("--database", "mysql://tandem:geheim@127.0.0.1/my_shop"), "must not hold the password");
    refused(&with("--database", "127.0.0.1"), "must start with mysql://");
    refused(&with("--hub", "http://192.168.1.101"), "would send keys and rows unencrypted");
    refused(&with("--tables", "riders"), "which is not database.table");
    refused(&with("--cluster", "our campus"), "use 1 to 63 letters");
    refused(&place.run(&FIRST[..3]), "--peer is missing, and there is no terminal to ask at");
    refused(&place.run(&["init", "--join", "nowhere.invitation"]), "nowhere.invitation cannot be used as an invitation");
    assert_eq!(names(&place), Vec::<String>::new());

    ok(&place.run(&FIRST));
    let other = empty();
    let invitation = place.path().join("laptop-b.invitation");
    let join = |more: &[&str]| other.run(&[&["init", "--join", invitation.to_str().unwrap()], more].concat());
    refused(&join(&["--node", "laptop-c"]), "invites laptop-b, not laptop-c");
    refused(&join(&["--database", "mysql://tandem@127.0.0.1"]), "names no schema");
    fs::write(&invitation, read(&place, "laptop-b.invitation").replace("hub_key\"", "geheim\"")).unwrap();
    refused(&join(&[]), "is not as it was written");
    assert_eq!(names(&other), Vec::<String>::new());
    assert_eq!(other.run(&["init", "--join", "x", "--peer", "laptop-b"]).code, 2, "a cluster is begun or joined");
}
