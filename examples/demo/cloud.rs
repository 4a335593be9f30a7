//! The last chapter: a cloud beside the laptops, with every row of the tables that are sent, and the photos that rows name.

use std::fs;
use std::path::{Path, PathBuf};

use super::laptops::{A, B, DEADLINE, NAMES};
use super::say;
use crate::harness::{CloudServer, Cluster};

/// Who gets a photo, on which laptop, and how many dots wide and high it is. What the last one has is in no other file.
struct Photo {
    laptop: usize,
    driver: u64,
    name: &'static str,
    side: u32,
}

/// The second is larger than 8 MiB, so it goes in parts; the fourth is the first once more, under another name.
const PHOTOS: [Photo; 4] = [
    Photo { laptop: A, driver: 1, name: "driver-1.bmp", side: 64 },
    Photo { laptop: A, driver: 11, name: "driver-11.bmp", side: 1_720 },
    Photo { laptop: B, driver: 21, name: "driver-21.bmp", side: 96 },
    Photo { laptop: B, driver: 31, name: "as-driver-1.bmp", side: 64 },
];
const DIFFERENT: usize = 3;

/// Feeds the cloud, and checks each thing that it says.
pub async fn feed(laptops: &mut Cluster) -> Result<(), String> {
    let server = laptops.cloud.take().ok_or("the cloud server was not started")?;
    say("`tandem cloud-server` runs beside them; each laptop sends what was written on it, continuously.");
    for table in ["riders", "drivers", "bookings", "notifications"] {
        let rows = laptops.servers[A].first::<u64>(&format!("SELECT COUNT(*) FROM campus.{table}")).await.unwrap_or_default();
        let all = async |_: &[_]| server.rows(table).await == Some(rows);
        laptops.wait(&format!("all {table} to be in the cloud"), DEADLINE, all).await?;
        say(&format!("{table:24} {rows:>8} rows, all of them there"));
    }
    photos(laptops, &server).await?;
    nothing_twice(laptops, &server).await?;
    follow(laptops, &server).await?;
    laptops.cloud = Some(server);
    Ok(())
}

/// A photo of a driver is in the cloud, byte by byte, and its address in the driver's row there.
async fn photos(laptops: &mut Cluster, server: &CloudServer) -> Result<(), String> {
    let folder = laptops.dir().join("photos");
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    for Photo { laptop, driver, name, side } in PHOTOS {
        let place = folder.join(name);
        fs::write(&place, picture(side)).map_err(|error| format!("cannot write {}: {error}", place.display()))?;
        laptops.servers[laptop].sql_client(&format!("USE campus; UPDATE drivers SET photo = '{name}' WHERE id = {driver};"));
    }
    for Photo { laptop, driver, name, side } in PHOTOS {
        let path = format!("drivers/{driver}");
        let named = async |_: &[_]| server.get(&path).await.is_some_and(|row| row["photo_url"].is_string());
        laptops.wait(&format!("the photo {name} to be in the cloud"), DEADLINE, named).await?;
        let row = server.get(&path).await.unwrap_or_default();
        let url = row["photo_url"].as_str().unwrap_or_default().to_owned();
        let there = server.fetch(&url).await.ok_or_else(|| format!("the cloud does not give {url} back"))?;
        if there != picture(side) {
            return Err(format!("{url} is not what {name} is"));
        }
        say(&format!("{:24} {:>8} bytes from {}, the same there", name, there.len(), NAMES[laptop]));
    }
    let kept = files(&laptops.dir().join("cloud/files/photos"))?;
    let half = files(&laptops.dir().join("cloud/files/.parts"))?;
    if (kept, half) != (DIFFERENT, 0) {
        return Err(format!("the cloud keeps {kept} photos and {half} halves, and should {DIFFERENT} and none"));
    }
    say(&format!("{} names, {kept} files: the same photo is kept once, and of no file there is a half", PHOTOS.len()));
    Ok(())
}

/// A second run of either laptop has nothing to send.
async fn nothing_twice(laptops: &Cluster, server: &CloudServer) -> Result<(), String> {
    let before = server.get("sync-status").await.unwrap_or_default();
    for laptop in [A, B] {
        let said = laptops.tandem(laptop, &["sync", "--only", "cloud"]);
        say(&format!("{}$ tandem sync --only cloud", NAMES[laptop]));
        said.trim_end().lines().for_each(|line| say(&format!("| {line}")));
        if !said.contains("nothing to send") {
            return Err(format!("a second run of {} had something to send", NAMES[laptop]));
        }
    }
    let after = server.get("sync-status").await.unwrap_or_default();
    if before != after { Err(format!("a second run changed the cloud: {before} became {after}")) } else { Ok(()) }
}

/// What happens to a row happens in the cloud, too.
async fn follow(laptops: &mut Cluster, server: &CloudServer) -> Result<(), String> {
    laptops.servers[A].sql_client("USE campus; UPDATE riders SET balance = 99.50 WHERE email = 'noor@campus.example';");
    laptops.servers[B].sql_client("USE campus; DELETE FROM notifications ORDER BY id LIMIT 1;");
    let ask = "SELECT CAST(id AS CHAR) FROM campus.riders WHERE email = 'noor@campus.example'";
    let noor = laptops.servers[A].first::<String>(ask).await.ok_or("Noor Hassan is gone")?;
    let left = laptops.servers[B].first::<u64>("SELECT COUNT(*) FROM campus.notifications").await;
    let path = format!("riders/{noor}");
    let arrived = async |_: &[_]| {
        let rider = server.get(&path).await;
        rider.is_some_and(|rider| rider["balance"] == "99.50") && server.rows("notifications").await == left
    };
    laptops.wait("an update and a delete to be in the cloud", DEADLINE, arrived).await?;
    say("An update on laptop-a and a delete on laptop-b have arrived:");
    say(&format!("| GET /api/riders/{noor}   {}", server.get(&path).await.unwrap_or_default()));
    say("Checked: every row, every photo by its bytes, nothing sent twice, the update and the delete.");
    Ok(())
}

/// How many files the folder has.
fn files(folder: &Path) -> Result<usize, String> {
    let entries: Result<Vec<PathBuf>, _> = match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    entries.map(|entries| entries.len()).map_err(|error| format!("cannot list {}: {error}", folder.display()))
}

/// A square picture that any program shows (BMP, three bytes a dot), unlike those of other sizes.
fn picture(side: u32) -> Vec<u8> {
    const HEAD: u32 = 54;
    let row = (3 * side).next_multiple_of(4);
    let size = HEAD + row * side;
    let mut bytes = Vec::with_capacity(size as usize);
    bytes.extend(b"BM");
    // Size, unused, where the dots begin; then the second head: its size, width, height.
    for number in [size, 0, HEAD, 40, side, side] {
        bytes.extend(number.to_le_bytes());
    }
    // One plane of 24 bits.
    bytes.extend([1, 0, 24, 0]);
    // Not compressed, the bytes of the dots, dots per metre twice, no palette.
    for number in [0, row * side, 2_835, 2_835, 0, 0] {
        bytes.extend(number.to_le_bytes());
    }
    for y in 0..side {
        let dots = (0..side).flat_map(|x| [(x * 255 / side) as u8, (y * 255 / side) as u8, (x ^ y) as u8]);
        bytes.extend(dots.chain(std::iter::repeat(0)).take(row as usize));
    }
    bytes
}
