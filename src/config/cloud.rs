//! `[cloud.NAME]`: a cloud service that nodes feed, how its tables look there, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::change::{OriginId, TablePattern};
use crate::cloud::{CloudOptions, FileColumn, Mapping, Mode, PathTemplate, Schedule, SealKey};
use crate::target::cloud::ApiOptions;

use super::check::{known_node, pattern, required, secret, secret_or_none};
use super::cloud_files::{self, Files, Store, StoreChoice};
use super::fault::Place;
use super::raw::{Node as RawNode, Value};
use super::section::{Complaints, Section, Spot, show_duration};
use super::{Config, ConfigFault, Faults, SecretSource, TopicUrl, is_name};

/// A cloud as the file describes it, checked. Every node has the same.
#[derive(Clone, Debug)]
pub struct Cloud {
    pub name: String,
    /// The nodes that feed it; all where it is empty.
    pub nodes: Vec<OriginId>,
    pub origins: Origins,
    pub mode: Mode,
    pub schedule: Schedule,
    pub api: CloudAddress,
    pub encrypt_key: Option<SecretSource>,
    /// In the order of the file, which is the order of sending. Without the key that encrypts.
    pub tables: Vec<(TablePattern, Mapping)>,
    /// Where files lie that rows name.
    pub files: Option<Files>,
    /// Where rows that are sent are kept as objects too.
    pub archive: Option<Store>,
    /// Of rows and files together; as fast as it goes where it is not said.
    pub bytes_per_second: Option<u64>,
    pub batch_rows: usize,
    pub batch_bytes: usize,
    pub batch_age: Duration,
}

/// Whose changes a node sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origins {
    Own,
    All,
    Named(Vec<OriginId>),
}

#[derive(Clone, Debug)]
pub struct CloudAddress {
    pub url: TopicUrl,
    pub key: SecretSource,
    /// Unencrypted although other machines are involved: somebody said so by name.
    pub allow_http: bool,
    pub ca: Option<PathBuf>,
    /// For a whole answer.
    pub within: Duration,
}

/// What a node needs to feed a cloud, with its secrets.
#[derive(Clone, Debug)]
pub struct CloudFeed {
    pub options: CloudOptions,
    pub api: ApiOptions,
    pub store: StoreChoice,
    pub archive: Option<StoreChoice>,
    pub bytes_per_second: Option<u64>,
}

type Nodes = BTreeMap<OriginId, Option<super::Node>>;

pub(super) fn clouds(section: Section, nodes: &Nodes, folder: &Path, complaints: &Complaints) -> Vec<Cloud> {
    let mut clouds: Vec<Cloud> = Vec::new();
    for (name, raw) in section.entries() {
        if !is_name(name) {
            complaints.add(&raw.place, format!("a cloud cannot be called \"{name}\""), super::NAME_FIX);
        }
        // Files of the state folder bear the name.
        if clouds.iter().any(|other| other.name.eq_ignore_ascii_case(name)) {
            complaints.add(&raw.place, format!("there is another cloud \"{name}\""), "give it another name");
        }
        let section = Section::of(section.full(name), raw, complaints);
        if section.is_present() {
            clouds.extend(cloud(name, section, nodes, folder, complaints));
        }
    }
    clouds
}

fn cloud(name: &str, mut section: Section, nodes: &Nodes, folder: &Path, complaints: &Complaints) -> Option<Cloud> {
    let mode = match section.text("mode") {
        Some(spot) if spot.value == "missing" => Mode::Missing,
        Some(spot) if spot.value != "mirror" => {
            section.refuse(&spot.place, "mode", &format!("cannot be \"{}\"", spot.value), "use mirror or missing");
            Mode::Mirror
        }
        _ => Mode::Mirror,
    };
    let schedule = schedule(&mut section, mode);
    let api = api(section.section("api"), folder);
    if !section.has("api") {
        section.missing("api", "api = { url = \"https://cloud.example/api\", key_env = \"CLOUD_API_KEY\" }");
    }
    let encrypt_key = secret_or_none(&mut section, folder, ["encrypt_key_env", "encrypt_key_file"]);
    let named = |section: &Section, key: &str, list: Spot<Vec<Spot<String>>>| -> Vec<OriginId> {
        list.value.iter().filter_map(|spot| known_node(section, key, spot, nodes)).collect()
    };
    let fed_by = section.texts("nodes").map(|list| named(&section, "nodes", list)).unwrap_or_default();
    let origins = match section.texts("origins") {
        None => Origins::Own,
        Some(list) if list.value.len() == 1 && list.value[0].value == "own" => Origins::Own,
        Some(list) if list.value.len() == 1 && list.value[0].value == "all" => Origins::All,
        Some(list) => Origins::Named(named(&section, "origins", list)),
    };
    let files = cloud_files::files(section.section("files"), folder);
    let archive = if section.has("archive") { cloud_files::store(section.section("archive"), folder) } else { None };
    if mode == Mode::Missing && section.has("archive") {
        let place = section.place.clone();
        let fix = "remove it: with this mode a run sends what the cloud lacks, and has no windows to keep";
        section.refuse(&place, "archive", "goes with mode = \"mirror\" only", fix);
    }
    let bytes_per_second = section.bytes("bytes_per_second", 16 << 10..=1 << 40);
    let batch_rows = section.number("batch_rows", 1..=10_000).map_or(500, |spot| spot.value) as usize;
    let batch_bytes = section.bytes("batch_bytes", 1 << 10..=64 << 20).unwrap_or(1 << 20) as usize;
    let batch_age =
        section.duration("batch_age", Duration::ZERO..=Duration::from_secs(3_600)).unwrap_or(Duration::from_secs(1));
    let inner = section.section("tables");
    let mut tables = Vec::new();
    let mut resources: BTreeMap<String, String> = BTreeMap::new();
    for (table, raw) in inner.entries() {
        let spot = Spot { value: table.to_owned(), place: raw.place.clone() };
        let pattern = pattern(&section, "tables", &spot);
        let (mapping, encrypts) = mapping(inner.full(table), raw, complaints);
        if let Some(place) = encrypts.filter(|_| encrypt_key.is_none()) {
            let fix = format!("add encrypt_key_env = \"CLOUD_ENCRYPT_KEY\" under [cloud.{name}]");
            complaints.add(&place, format!("`{}` has columns to encrypt and no key", inner.full(table)), fix);
        }
        if let Some(resource) = &mapping.resource
            && let Some(other) = resources.insert(resource.clone(), table.to_owned())
        {
            let rule = format!("`{}` and \"{other}\" have the same resource \"{resource}\"", inner.full(table));
            complaints.add(&raw.place, rule, "their rows would be one another's: give each a resource of its own");
        }
        if !section.has("files") && !mapping.files.is_empty() {
            let fix = format!("add files = {{ root = \"/var/www/uploads\" }} under [cloud.{name}]");
            complaints.add(&raw.place, format!("`{}` names files, and there is no root for them", inner.full(table)), fix);
        }
        if mapping.files_after && mode == Mode::Missing {
            let fix = "remove it: with this mode a row goes once, with the addresses of its files";
            complaints.add(
                &raw.place,
                format!("`{}` has files_after, which goes with mode = \"mirror\" only", inner.full(table)),
                fix,
            );
        }
        tables.extend(pattern.zip(Some(mapping)));
    }
    if tables.is_empty() {
        section.missing("tables", "tables = { \"campus.*\" = {} }");
    }
    section.finish();
    let name = name.to_owned();
    Some(Cloud {
        name,
        nodes: fed_by,
        origins,
        mode,
        schedule: schedule?,
        api: api?,
        encrypt_key,
        tables,
        files,
        archive,
        bytes_per_second,
        batch_rows,
        batch_bytes,
        batch_age,
    })
}

fn schedule(section: &mut Section, mode: Mode) -> Option<Schedule> {
    let day = Duration::from_secs(86_400);
    let given = ["every", "cron", "continuous"].iter().filter(|key| section.has(key)).count();
    if given > 1 {
        let place = section.place.clone();
        section.refuse(&place, "every", "stands beside another schedule", "keep one of every, cron and continuous");
    }
    let every = section.duration("every", Duration::from_secs(1)..=day * 366);
    let cron = section.text("cron");
    let continuous = section.flag("continuous");
    match (every, cron, continuous) {
        (Some(every), _, _) => Some(Schedule::Every(every)),
        (None, Some(spot), _) => match Schedule::cron(&spot.value) {
            Ok(schedule) => Some(schedule),
            Err(error) => {
                let fix = "write for example \"0 2 * * *\", every night at two";
                section.refuse(&spot.place, "cron", &error.to_string(), fix);
                None
            }
        },
        (None, None, Some(spot)) if !spot.value => {
            section.refuse(&spot.place, "continuous", "is false", "write every = \"1h\" or cron = \"0 2 * * *\" instead");
            None
        }
        (None, None, Some(spot)) if mode == Mode::Missing => {
            let fix = "write every = \"1h\" or cron = \"0 2 * * *\" instead";
            section.refuse(
                &spot.place,
                "continuous",
                "goes with mode = \"mirror\" only: missing rows are looked for, not waited for",
                fix,
            );
            None
        }
        _ if mode == Mode::Missing => Some(Schedule::Every(Duration::from_secs(3_600))),
        _ => Some(Schedule::Continuous),
    }
}

fn api(mut section: Section, folder: &Path) -> Option<CloudAddress> {
    if !section.is_present() {
        return None;
    }
    let allow_http = section.flag("allow_http").is_some_and(|spot| spot.value);
    let url = required(&mut section, "url", "url = \"https://cloud.example/api\"").and_then(|spot| {
        let wrong = |(rule, _): (String, String)| {
            section.refuse(&spot.place, "url", &rule, "write it as \"https://cloud.example/api\"");
        };
        let url = TopicUrl::parse(&spot.value).map_err(wrong).ok()?;
        if !url.encrypted && !url.is_loopback() && !allow_http {
            let fix = "use https://, or write allow_http = true in this `api` where the network itself is encrypted";
            section.refuse(&spot.place, "url", "would send the key and rows unencrypted", fix);
        }
        Some(url)
    });
    let key = secret(&mut section, folder, ["key_env", "key_file"], "key_env = \"CLOUD_API_KEY\"");
    let ca = section.text("ca").map(|spot| folder.join(spot.value));
    let within = section.duration("within", Duration::from_secs(1)..=Duration::from_secs(3_600));
    section.finish();
    Some(CloudAddress { url: url?, key: key?, allow_http, ca, within: within.unwrap_or(Duration::from_secs(30)) })
}

/// The mapping, and where it says that something is to be encrypted.
fn mapping(path: String, raw: &RawNode, complaints: &Complaints) -> (Mapping, Option<Place>) {
    let mut section = Section::of(path, raw, complaints);
    let set = |list: Option<Spot<Vec<Spot<String>>>>| -> BTreeSet<String> {
        list.into_iter().flat_map(|list| list.value).map(|spot| spot.value).collect()
    };
    let resource = section.text("resource");
    if let Some(spot) = resource.as_ref().filter(|spot| !is_name(&spot.value)) {
        section.refuse(&spot.place, "resource", &format!("cannot be \"{}\"", spot.value), super::NAME_FIX);
    }
    let days = section.number("days", 1..=36_500);
    let time = section.text("time");
    match (&days, &time) {
        (Some(_), None) if !section.has("time") => section.missing("time", "time = \"created_at\""),
        (None, Some(spot)) if !section.has("days") => {
            section.refuse(&spot.place, "time", "stands without `days`", "add `days`, or remove it");
        }
        _ => {}
    }
    let encrypt = section.texts("encrypt");
    let encrypts = encrypt.as_ref().filter(|list| !list.value.is_empty()).map(|list| list.place.clone());
    let (omit, mask, encrypt_set) = (set(section.texts("omit")), set(section.texts("mask")), set(encrypt));
    let renames = section.section("rename");
    let mut rename = BTreeMap::new();
    for (column, value) in renames.entries() {
        match &value.value {
            Value::Text(field) | Value::Loose(field) if !field.is_empty() => {
                rename.insert(column.to_owned(), field.clone());
            }
            other => {
                renames.refuse(&value.place, column, &format!("must be a text, not {}", other.kind()), "write the field's name")
            }
        }
    }
    let inner = section.section("files");
    let mut files = BTreeMap::new();
    for (column, raw) in inner.entries() {
        let mut entry = Section::of(inner.full(column), raw, complaints);
        let kind = required(&mut entry, "kind", "kind = \"images\"");
        if let Some(spot) = kind.as_ref().filter(|spot| !is_name(&spot.value)) {
            entry.refuse(&spot.place, "kind", &format!("cannot be \"{}\"", spot.value), super::NAME_FIX);
        }
        let field = entry.text("field").map_or_else(|| format!("{column}_url"), |spot| spot.value);
        let path = entry.text("path").and_then(|spot| match PathTemplate::parse(&spot.value) {
            Ok(path) => Some(path),
            Err(error) => {
                entry.refuse(&spot.place, "path", &error.to_string(), "write it as \"faces/{id}.jpg\"");
                None
            }
        });
        // What the cloud is not to see cannot name a file either: the path is taken from what is sent.
        let named = path.as_ref().map_or_else(|| vec![column], |path| path.columns().collect());
        for hidden in named.iter().filter(|name| [&omit, &mask, &encrypt_set].iter().any(|set| set.contains(**name))) {
            let rule = format!("`{}` needs the column `{hidden}`, which is left out, masked or encrypted", inner.full(column));
            complaints.add(&raw.place, rule, "send that column as it is, or take the file out");
        }
        entry.finish();
        files.extend(kind.map(|kind| (column.to_owned(), FileColumn { kind: kind.value, field, path })));
    }
    let files_after = section.flag("files_after");
    if let Some(spot) = files_after.as_ref().filter(|spot| spot.value && files.is_empty()) {
        section.refuse(&spot.place, "files_after", "stands without `files`", "name the columns of files, or remove it");
    }
    let mapping = Mapping {
        files,
        files_after: files_after.is_some_and(|spot| spot.value),
        resource: resource.map(|spot| spot.value),
        id: section.text("id").map(|spot| spot.value),
        days: days.map(|spot| spot.value as u32),
        time: time.map(|spot| spot.value),
        omit,
        rename,
        mask,
        encrypt: encrypt_set,
        seal: None,
    };
    section.finish();
    (mapping, encrypts)
}

impl Config {
    /// What a node needs for the clouds that it feeds. Secrets are looked for now.
    pub fn cloud_feeds(&self, own: &OriginId) -> Result<Vec<CloudFeed>, Faults> {
        let mut faults = Vec::new();
        let fed = self.clouds.iter().filter(|cloud| cloud.nodes.is_empty() || cloud.nodes.contains(own));
        let feeds: Vec<Option<CloudFeed>> = fed.map(|cloud| self.cloud_feed(cloud, own, &mut faults)).collect();
        if faults.is_empty() { Ok(feeds.into_iter().flatten().collect()) } else { Err(Faults::new(&self.file, faults)) }
    }

    fn cloud_feed(&self, cloud: &Cloud, own: &OriginId, faults: &mut Vec<ConfigFault>) -> Option<CloudFeed> {
        let name = &cloud.name;
        let key = self.resolve(&cloud.api.key, &format!("cloud.{name}.api.key"), faults);
        let mut seal = None;
        if let Some(source) = &cloud.encrypt_key
            && let Some(text) = self.resolve(source, &format!("cloud.{name}.encrypt_key"), faults)
        {
            match SealKey::parse(&text) {
                Ok(key) => seal = Some(key),
                Err(error) => {
                    let rule = format!("the secret of `cloud.{name}.encrypt_key` {error}");
                    faults.push(ConfigFault { place: Place::Nowhere, rule, fix: format!("put such a key into {source}") });
                }
            }
        }
        let mut options = CloudOptions::new(name, own.clone());
        options.origins = match &cloud.origins {
            Origins::Own => vec![own.clone()],
            Origins::All => self.nodes.keys().cloned().collect(),
            Origins::Named(named) => named.clone(),
        };
        options.mode = cloud.mode;
        options.schedule = cloud.schedule.clone();
        options.tables = cloud.tables.clone();
        options.tables.iter_mut().for_each(|(_, mapping)| mapping.seal = seal.clone());
        options.files = cloud.files.as_ref().map(|files| files.options.clone());
        let store = match &cloud.files {
            Some(files) => self.store_choice(&files.store, &format!("cloud.{name}.files.store"), faults),
            None => Some(StoreChoice::Api),
        };
        options.batch_rows = cloud.batch_rows;
        options.batch_bytes = cloud.batch_bytes;
        options.batch_age = cloud.batch_age;
        let api = ApiOptions {
            url: cloud.api.url.text.clone(),
            key: key?,
            key_name: cloud.api.key.to_string(),
            within: cloud.api.within,
            authority: cloud.api.ca.clone(),
        };
        let path = format!("cloud.{name}.archive");
        let archive = cloud.archive.as_ref().map(|store| self.store_choice(store, &path, faults));
        let archive = match archive {
            Some(store) => Some(store?),
            None => None,
        };
        Some(CloudFeed { options, api, archive, store: store?, bytes_per_second: cloud.bytes_per_second })
    }
}

/// The lines of a cloud, defaults filled in.
pub(super) fn show(
    cloud: &Cloud,
    quote: impl Fn(&str) -> String,
    secret: impl Fn(&str, &SecretSource) -> String,
) -> Vec<String> {
    let list = |items: &mut dyn Iterator<Item = &str>| format!("[{}]", items.map(&quote).collect::<Vec<_>>().join(", "));
    let mut lines = vec![format!("\n[cloud.{}]", cloud.name)];
    lines.push(match cloud.mode {
        Mode::Mirror => "mode = \"mirror\"".into(),
        Mode::Missing => "mode = \"missing\"".into(),
    });
    lines.push(match &cloud.schedule {
        Schedule::Continuous => "continuous = true".into(),
        Schedule::Every(length) => format!("every = {}", quote(&show_duration(*length))),
        Schedule::Cron(times) => format!("cron = {}", quote(times.text())),
    });
    let api = &cloud.api;
    let mut inner = vec![format!("url = {}", quote(&api.url.text)), secret("key", &api.key)];
    inner.push(format!("allow_http = {}", api.allow_http));
    inner.extend(api.ca.as_ref().map(|file| format!("ca = {}", quote(&file.display().to_string()))));
    inner.push(format!("within = {}", quote(&show_duration(api.within))));
    lines.push(format!("api = {{ {} }}", inner.join(", ")));
    lines.push(match &cloud.origins {
        Origins::Own => "origins = [\"own\"]".into(),
        Origins::All => "origins = [\"all\"]".into(),
        Origins::Named(named) => format!("origins = {}", list(&mut named.iter().map(OriginId::as_str))),
    });
    if !cloud.nodes.is_empty() {
        lines.push(format!("nodes = {}", list(&mut cloud.nodes.iter().map(OriginId::as_str))));
    }
    lines.extend(cloud.encrypt_key.as_ref().map(|source| secret("encrypt_key", source)));
    lines.extend(cloud.files.as_ref().map(|files| format!("files = {}", cloud_files::show(files, &quote, &secret))));
    let archive = cloud.archive.as_ref().and_then(|store| cloud_files::show_store(store, &quote, &secret));
    lines.extend(archive.map(|archive| format!("archive = {archive}")));
    lines.extend(
        cloud.bytes_per_second.map(|bytes| format!("bytes_per_second = {}", quote(&super::section::show_bytes(bytes)))),
    );
    lines.push(format!("batch_rows = {}", cloud.batch_rows));
    lines.push(format!("batch_bytes = {}", quote(&super::section::show_bytes(cloud.batch_bytes as u64))));
    lines.push(format!("batch_age = {}", quote(&show_duration(cloud.batch_age))));
    for (pattern, mapping) in &cloud.tables {
        lines.push(format!("[cloud.{}.tables.{}]", cloud.name, quote(&pattern.to_string())));
        lines.extend(mapping.resource.as_ref().map(|resource| format!("resource = {}", quote(resource))));
        lines.extend(mapping.id.as_ref().map(|id| format!("id = {}", quote(id))));
        lines.extend(mapping.days.map(|days| format!("days = {days}")));
        lines.extend(mapping.time.as_ref().map(|time| format!("time = {}", quote(time))));
        for (key, columns) in [("omit", &mapping.omit), ("mask", &mapping.mask), ("encrypt", &mapping.encrypt)] {
            if !columns.is_empty() {
                lines.push(format!("{key} = {}", list(&mut columns.iter().map(String::as_str))));
            }
        }
        if !mapping.files.is_empty() {
            let one = |(column, file): (&String, &FileColumn)| {
                let path = file.path.as_ref().map(|path| format!(", path = {}", quote(&path.text()))).unwrap_or_default();
                format!("{} = {{ kind = {}, field = {}{path} }}", quote(column), quote(&file.kind), quote(&file.field))
            };
            lines.push(format!("files = {{ {} }}", mapping.files.iter().map(one).collect::<Vec<_>>().join(", ")));
        }
        lines.extend(mapping.files_after.then(|| "files_after = true".into()));
        if !mapping.rename.is_empty() {
            let pairs: Vec<String> =
                mapping.rename.iter().map(|(column, field)| format!("{} = {}", quote(column), quote(field))).collect();
            lines.push(format!("rename = {{ {} }}", pairs.join(", ")));
        }
    }
    lines
}
