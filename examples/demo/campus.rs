//! The data: a small ride service on a campus. The same on every run.

pub const SCHEMA: &str = include_str!("campus.sql");

/// Sizes of the first state, seeded on one laptop.
pub const RIDERS: u64 = 60;
pub const DRIVERS: u64 = 12;
pub const BOOKINGS: u64 = 240;
pub const NOTIFICATIONS: u64 = 120;
pub const RESETS: u64 = 8;

/// A booking that is accepted at first, and changed on both laptops while they are apart. `evening` leaves it alone.
pub const CONTESTED: u64 = 171;

const FIRST: &[&str] = &[
    "Amina", "Björn", "Chidi", "Dolores", "Emeka", "Fatima", "Grace", "Hiroshi", "Ines", "Jürgen", "Kofi", "Léa", "Mateo",
    "Ngozi", "Olena", "Priya", "Quentin", "Rosa", "Søren", "Thandiwe", "Uchenna", "Vera", "Wei", "Ximena", "Yusuf", "Zoë",
];
const LAST: &[&str] = &[
    "Adeyemi",
    "Bauer",
    "Castillo",
    "Dubois",
    "Eze",
    "Fernández",
    "Grøn",
    "Haddad",
    "Ito",
    "Jansen",
    "Kowalska",
    "Lindqvist",
    "Mbeki",
    "Novák",
    "Okafor",
    "Park",
    "Quispe",
    "Rossi",
    "Şahin",
    "Tanaka",
    "Ueda",
    "Vargas",
    "Wójcik",
    "Yang",
];
const PLACES: &[&str] = &[
    "North Gate",
    "Library",
    "Engineering Block C",
    "Medical School",
    "Hall 4 – “Sunrise”",
    "Sports Centre",
    "Main Canteen",
    "Botanical Garden",
    "Bus Terminal",
    "Faculty of Law",
    "Staff Quarters",
    "Observatory",
];
const NOTES: &[&str] = &[
    "two suitcases",
    "wheelchair, please",
    "waits at the fountain",
    "exam at nine: don't be late 🙏",
    "O'Brien's bike on the roof",
];

/// Rows are numbered as the first laptop would number them: 1, 11, 21, …
fn id(n: u64) -> u64 {
    1 + 10 * n
}

fn pick<'a>(random: &mut fastrand::Rng, from: &[&'a str]) -> &'a str {
    from[random.usize(..from.len())]
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A name that is unlike all others by its number, and the address made of it.
pub fn person(n: u64) -> (String, String) {
    let place = usize::try_from(n).expect("there are few");
    let (first, last) = (FIRST[place % FIRST.len()], LAST[(place * 7 + place / FIRST.len()) % LAST.len()]);
    let plain: String =
        format!("{first}.{last}").to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
    (format!("{first} {last}"), format!("{plain}{n}@campus.example"))
}

/// The first state, as statements for the ordinary client: five transactions of many rows.
pub fn seed() -> String {
    let mut random = fastrand::Rng::with_seed(2026);
    let mut sql = String::from("USE campus;\n");
    let interests = ["", "music", "sports,science", "theatre", "music,theatre"];
    insert(&mut sql, "riders (id, name, email, phone, balance, interests, created_at)", RIDERS, |n| {
        let (name, email) = person(n);
        let phone = if n % 5 == 0 { "NULL".into() } else { format!("'+49 30 {:07}'", random.u32(..10_000_000)) };
        let (cents, interest) = (random.u32(..20_000), pick(&mut random, &interests));
        format!(
            "{}, {}, '{email}', {phone}, {}.{:02}, '{interest}', '2026-01-{:02} 08:{:02}:00.{:03}'",
            id(n),
            quoted(&name),
            cents / 100,
            cents % 100,
            1 + n % 28,
            n % 60,
            n
        )
    });
    insert(&mut sql, "drivers (id, name, licence, vehicle, rating, active)", DRIVERS, |n| {
        let (name, _) = person(100 + n * 3);
        let rating = if n % 4 == 3 { "NULL".into() } else { format!("{}", 3.0 + f64::from(random.u32(..200)) / 100.0) };
        let vehicle = ["car", "van", "tuk-tuk"][usize::try_from(n % 3).expect("small")];
        format!("{}, {}, 'DL-{n:05}', '{vehicle}', {rating}, {}", id(n), quoted(&name), u8::from(n % 6 != 5))
    });
    insert(&mut sql, "bookings (id, rider_id, driver_id, pickup, dropoff, status, fare, note, requested_at)", BOOKINGS, |n| {
        let rider = id(random.u64(..RIDERS));
        let chance = ["requested", "accepted", "completed", "completed", "cancelled"][random.usize(..5)];
        let status = if id(n) == CONTESTED { "accepted" } else { chance };
        let driver = if status == "requested" { "NULL".into() } else { id(random.u64(..DRIVERS)).to_string() };
        let fare = if status == "completed" { format!("{}.50", 3 + random.u32(..12)) } else { "NULL".into() };
        let note = if n % 7 == 0 { quoted(pick(&mut random, NOTES)) } else { "NULL".into() };
        let (from, to) = (quoted(pick(&mut random, PLACES)), quoted(pick(&mut random, PLACES)));
        let minute = n * 11;
        let at = format!("2026-02-{:02} {:02}:{:02}:00", 1 + minute / 1440, minute / 60 % 24, minute % 60);
        format!("{}, {rider}, {driver}, {from}, {to}, '{status}', {fare}, {note}, '{at}'", id(n))
    });
    insert(&mut sql, "notifications (id, rider_id, body, details, read_at, sent_at)", NOTIFICATIONS, |n| {
        let read = if n % 3 == 0 { "NULL".into() } else { format!("'2026-02-{:02} 12:00:00'", 1 + n % 28) };
        let body = quoted(&format!("Your ride to {} is confirmed", pick(&mut random, PLACES)));
        let details = format!("'{{\"booking\": {}, \"eta\": {}.5}}'", id(n), n % 9);
        format!("{}, {}, {body}, {details}, {read}, '2026-02-{:02} 11:30:00'", id(n), id(random.u64(..RIDERS)), 1 + n % 28)
    });
    insert(&mut sql, "password_resets (email, token, expires_at)", RESETS, |n| {
        // The last byte is zero now and then: servers drop such bytes from their binlog.
        let token = u128::from(random.u64(..)) << 64 | u128::from(random.u64(..) & if n % 2 == 0 { !0xff } else { !0 });
        format!("'{}', x'{token:032x}', '2026-03-01 00:00:00'", person(n * 5).1)
    });
    sql
}

fn insert(sql: &mut String, into: &str, rows: u64, mut row: impl FnMut(u64) -> String) {
    let rows: Vec<String> = (0..rows).map(|n| format!("({})", row(n))).collect();
    sql.push_str(&format!("INSERT INTO {into} VALUES\n{};\n", rows.join(",\n")));
}

/// An ordinary evening on one laptop: new riders and bookings, accepted and completed rides, an unsubscribed rider.
pub fn evening(laptop: u64, transactions: u64) -> String {
    let mut random = fastrand::Rng::with_seed(laptop);
    let mut sql = String::from("USE campus;\n");
    for n in 0..transactions {
        let (name, email) = person(1_000 * laptop + n);
        let rider = id(random.u64(..RIDERS));
        let (from, to) = (quoted(pick(&mut random, PLACES)), quoted(pick(&mut random, PLACES)));
        sql += &match n % 4 {
            0 => format!(
                "BEGIN; INSERT INTO riders (name, email) VALUES ({}, '{email}');\n\
                 INSERT INTO notifications (rider_id, body) VALUES (LAST_INSERT_ID(), 'Welcome!'); COMMIT;\n",
                quoted(&name)
            ),
            1 => format!(
                "INSERT INTO bookings (rider_id, pickup, dropoff, requested_at) VALUES ({rider}, {from}, {to}, NOW());\n"
            ),
            // Each laptop serves its own half of the bookings, so that these are no conflicts.
            2 => format!(
                "UPDATE bookings SET status = 'completed', driver_id = {}, fare = {}.25 WHERE id = {};\n",
                id(random.u64(..DRIVERS)),
                4 + random.u32(..9),
                id(20 + 2 * (n % 100) + laptop % 2)
            ),
            _ => format!("DELETE FROM notifications WHERE id = {};\n", id(2 * (n % 60) + laptop % 2)),
        };
    }
    sql
}
