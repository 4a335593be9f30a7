//! The screens and their forms, for browsers: what is asked for, where it comes from, and where a form leads.
//!
//! A form does its work and leads back to a screen that says so. It is taken only with the token of a page that this node
//! gave the same visitor.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::rejection::FormRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Extension, Form, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use super::access::Refusal;
use super::gate::{Gate, Visitor, is_foreign};
use super::page::{self, ActivityAsked, ConflictsAsked, Done, FailedAsked, FilesShown, Frame};
use super::web::Peer;
use super::{
    Clouds, Decision, FailedOrders, FilesAsked, Keeper, Orders, Part, Roles, Setup, StartFrom, SyncAsked, SyncRefused,
};
use crate::observe::{ActivitySearch, Became, FailedWish, Observer, VerifyWish};
use crate::runtime::Stop;

/// Entries on one page of a list: what a person looks through, and a telephone loads at once.
const CONFLICTS_PAGE: usize = 25;
const FAILED_PAGE: usize = 200;
const ACTIVITY_PAGE: usize = 50;
const FILES_PAGE: usize = 100;

/// A form is some words; the longest names a page of conflicts.
const FORM_BYTES_MAX: usize = 64 << 10;

#[derive(Clone)]
pub struct Screens {
    pub observer: Observer,
    pub keeper: Arc<dyn Keeper>,
    pub orders: Arc<dyn Orders>,
    pub clouds: Option<Arc<dyn Clouds>>,
    pub setup: Option<Arc<dyn Setup>>,
    pub failed: Option<Arc<dyn FailedOrders>>,
    pub roles: Option<Arc<dyn Roles>>,
    pub gate: Arc<Gate>,
    /// Per cloud, the last run that was ordered here: ordered again while it runs, it is joined.
    pub ordered: Arc<Mutex<BTreeMap<String, u64>>>,
}

/// What only those see who may.
pub fn router(screens: Screens) -> Router {
    Router::new()
        .route("/", get(overview))
        .route("/activity", get(activity))
        .route("/conflicts", get(conflicts).post(settle))
        .route("/failed", get(failed).post(deal_with))
        .route("/tables", get(tables))
        .route("/cloud", get(cloud))
        .route("/settings", get(settings))
        .route("/sync", post(sync))
        .route("/roles", post(roles))
        .route("/verify", post(verify))
        .route("/logout", post(logout))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .with_state(screens)
}

/// The way in, and what it is drawn with.
pub fn open_router(screens: Screens) -> Router {
    let file = |kind: &'static str, text: &'static str| get(async move || ([(header::CONTENT_TYPE, kind)], text));
    Router::new()
        .route("/login", get(login).post(sign_in))
        .route("/style.css", file("text/css; charset=utf-8", page::STYLE))
        .route("/live.js", file("text/javascript; charset=utf-8", page::SCRIPT))
        .route("/icon.svg", file("image/svg+xml", page::ICON))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .with_state(screens)
}

/// What an address may say, all of it optional.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Asked {
    done: String,
    count: u64,
    page: usize,
    show: String,
    table: String,
    key: String,
    row: String,
    became: String,
    before: Option<u64>,
    doctor: String,
    to: String,
}

impl Screens {
    fn show(&self, visitor: Visitor, done: Option<Done>, draw: impl FnOnce(&Frame<'_>) -> String) -> Response {
        let (status, token) = (self.observer.status(), self.gate.token(visitor));
        let signed_in = matches!(visitor, Visitor::Person(_));
        Html(draw(&Frame { status: &status, token: &token, signed_in, done })).into_response()
    }

    /// Files in this state, of every cloud. Of one whose role does not run nothing is known.
    fn files_shown(&self, state: String) -> FilesShown {
        let wanted = FilesAsked { state: Some(state.clone()), after: None, at_most: FILES_PAGE + 1 };
        let (mut found, mut more) = (BTreeMap::new(), false);
        for cloud in self.observer.status().clouds {
            let files = self.clouds.as_ref().and_then(|clouds| clouds.files(&cloud.name, &wanted).ok());
            let mut files = files.unwrap_or_default();
            more |= cut(&mut files, FILES_PAGE);
            found.insert(cloud.name, files);
        }
        FilesShown { state, found, more }
    }

    fn trouble(&self, visitor: Visitor, code: StatusCode, error: &str, hint: Option<&str>) -> Response {
        (code, self.show(visitor, None, |frame| page::trouble(frame, error, hint))).into_response()
    }

    fn stopped(&self, visitor: Visitor, stop: &Stop) -> Response {
        self.trouble(visitor, StatusCode::SERVICE_UNAVAILABLE, &stop.message, stop.hint.as_deref())
    }

    /// The fields of a form that comes from a page of ours; else what to answer.
    fn fields(&self, visitor: Visitor, headers: &HeaderMap, form: Fields) -> Result<Vec<(String, String)>, Box<Response>> {
        let fields = match form {
            Ok(Form(fields)) => fields,
            Err(rejection) => {
                let error = "this is no form of a page of this node";
                return Err(Box::new(self.trouble(visitor, rejection.status(), error, None)));
            }
        };
        let token = fields.iter().find(|(name, _)| name == "token").map_or("", |(_, token)| token);
        if is_foreign(headers) || !self.gate.is_token(visitor, token) {
            let hint = "go back, load the page again, and press the button there: the node may have been started anew";
            let error = "this order does not come from a page of this node";
            return Err(Box::new(self.trouble(visitor, StatusCode::FORBIDDEN, error, Some(hint))));
        }
        Ok(fields)
    }
}

type Fields = Result<Form<Vec<(String, String)>>, FormRejection>;

/// A part one longer than a page shows whether there is more.
fn part(page: usize, entries: usize) -> Part {
    Part { skip: page.saturating_mul(entries).min(1_000_000), at_most: entries + 1 }
}

/// Cuts what is more than a page off; true where something was.
fn cut<T>(found: &mut Vec<T>, entries: usize) -> bool {
    let more = found.len() > entries;
    found.truncate(entries);
    more
}

async fn overview(
    State(screens): State<Screens>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Response {
    screens.show(visitor, Done::read(&asked.done, asked.count), page::overview)
}

async fn activity(
    State(screens): State<Screens>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Response {
    let search = ActivitySearch {
        table: asked.table,
        key: asked.key,
        whole: !asked.row.is_empty(),
        became: Became::ALL.into_iter().find(|became| became.label() == asked.became),
        before: asked.before,
    };
    let mut found = screens.observer.activity(&search, ACTIVITY_PAGE + 1);
    let more = cut(&mut found, ACTIVITY_PAGE);
    screens.show(visitor, None, |frame| page::activity(frame, &ActivityAsked { search: &search, found: &found, more }))
}

async fn conflicts(
    State(screens): State<Screens>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Response {
    let waiting = || screens.observer.status().conflicts_open.unwrap_or(0) > 0;
    let open_only = asked.show == "open" || (asked.show != "all" && waiting());
    let mut found = match screens.keeper.conflicts(part(asked.page, CONFLICTS_PAGE), open_only).await {
        Ok(found) => found,
        Err(stop) => return screens.stopped(visitor, &stop),
    };
    let more = cut(&mut found, CONFLICTS_PAGE);
    let shown = ConflictsAsked { open_only, page: asked.page, found: &found, more };
    screens.show(visitor, Done::read(&asked.done, asked.count), |frame| page::conflicts(frame, &shown))
}

/// `one` is `winner:ID`, `loser:ID` or `columns:ID` (those whose `column` is `ID:name`); `many` is `winner` or `loser`, of all that are ticked.
async fn settle(
    State(screens): State<Screens>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    form: Fields,
) -> Response {
    let fields = match screens.fields(visitor, &headers, form) {
        Ok(fields) => fields,
        Err(refused) => return *refused,
    };
    let all = |wanted: &'static str| fields.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let (keep, ids): (&str, Vec<&str>) = match (all("one").next().and_then(|one| one.split_once(':')), all("many").next()) {
        (Some((keep, id)), _) => (keep, vec![id]),
        (None, Some(keep)) => (keep, all("id").take(CONFLICTS_PAGE).collect()),
        (None, None) => ("", Vec::new()),
    };
    let columns = |id: &str| -> Vec<String> {
        all("column").filter_map(|chosen| chosen.strip_prefix(id)?.strip_prefix(':')).map(str::to_owned).collect()
    };
    let decision = match keep {
        "winner" => Decision::Winner,
        "loser" => Decision::Loser { columns: Vec::new() },
        "columns" => match columns(ids.first().copied().unwrap_or_default()) {
            // None is not all.
            none if none.is_empty() => {
                return Redirect::to(&format!("/conflicts?{}", Done::Nothing.query())).into_response();
            }
            columns => Decision::Loser { columns },
        },
        _ => return screens.trouble(visitor, StatusCode::BAD_REQUEST, "it is not said which row is to stand", None),
    };
    let mut settled = 0;
    for id in ids {
        match screens.orders.settle(id, &decision).await {
            Ok(Some(_)) => settled += 1,
            // Somebody else was faster, and it was cleared away.
            Ok(None) => {}
            Err(stop) => {
                let error = format!("{settled} settled, then: {}", stop.message);
                return screens.trouble(visitor, StatusCode::SERVICE_UNAVAILABLE, &error, stop.hint.as_deref());
            }
        }
    }
    let done = match (settled, &decision) {
        (0, _) => Done::Nothing,
        (settled, Decision::Winner) => Done::Settled(settled),
        (settled, Decision::Loser { .. }) => Done::PutBack(settled),
    };
    let show = if all("show").next() == Some("open") { "open" } else { "all" };
    Redirect::to(&format!("/conflicts?show={show}&{}", done.query())).into_response()
}

async fn failed(
    State(screens): State<Screens>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Response {
    let mut found = match screens.keeper.failed(part(asked.page, FAILED_PAGE)).await {
        Ok(found) => found,
        Err(stop) => return screens.stopped(visitor, &stop),
    };
    let more = cut(&mut found, FAILED_PAGE);
    let shown = FailedAsked { page: asked.page, found: &found, more };
    screens.show(visitor, Done::read(&asked.done, asked.count), |frame| page::failed(frame, &shown))
}

/// `do` is `retry` or `discard`, of all that are ticked.
async fn deal_with(
    State(screens): State<Screens>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    form: Fields,
) -> Response {
    let fields = match screens.fields(visitor, &headers, form) {
        Ok(fields) => fields,
        Err(refused) => return *refused,
    };
    let all = |wanted: &'static str| fields.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let ids: Vec<String> = all("id").take(FAILED_PAGE).map(str::to_owned).collect();
    let Some(orders) = screens.failed.as_ref().filter(|_| !ids.is_empty()) else {
        return Redirect::to(&format!("/failed?{}", Done::Nothing.query())).into_response();
    };
    let wish = FailedWish { ids, all: false };
    let done = match all("do").next() {
        Some("retry") => orders.retry(wish).await.map(|results| {
            let left = results.iter().filter(|result| matches!(&*result.outcome, "failed" | "refused")).count();
            if left == 0 { Done::Retried(results.len() as u64) } else { Done::StillFailed(left as u64) }
        }),
        Some("discard") => orders.discard(wish).await.map(|discarded| Done::Discarded(discarded.len() as u64)),
        _ => return screens.trouble(visitor, StatusCode::BAD_REQUEST, "it is not said what to do", None),
    };
    match done {
        Ok(done) => Redirect::to(&format!("/failed?{}", done.query())).into_response(),
        Err(stop) => screens.stopped(visitor, &stop),
    }
}

async fn tables(
    State(screens): State<Screens>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Response {
    let read = async {
        let tables = screens.keeper.tables().await?;
        Ok((tables, screens.orders.snapshots().await?, screens.orders.verified().await?))
    };
    match read.await {
        Ok((tables, snapshots, verify)) => screens.show(visitor, Done::read(&asked.done, asked.count), |frame| {
            page::tables(frame, &tables, &snapshots, verify.as_ref())
        }),
        Err(stop) => screens.stopped(visitor, &stop),
    }
}

async fn verify(
    State(screens): State<Screens>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    form: Fields,
) -> Response {
    if let Err(refused) = screens.fields(visitor, &headers, form) {
        return *refused;
    }
    match screens.orders.verify(VerifyWish::default()).await {
        Ok(_) => Redirect::to(&format!("/tables?{}", Done::Comparing.query())).into_response(),
        Err(stop) => screens.stopped(visitor, &stop),
    }
}

async fn cloud(State(screens): State<Screens>, Extension(visitor): Extension<Visitor>, Query(asked): Query<Asked>) -> Response {
    let files = (!asked.show.is_empty()).then(|| screens.files_shown(asked.show));
    screens.show(visitor, Done::read(&asked.done, asked.count), |frame| page::cloud(frame, files.as_ref()))
}

/// Feeds the cloud that is named, or all of them.
async fn sync(
    State(screens): State<Screens>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    form: Fields,
) -> Response {
    let fields = match screens.fields(visitor, &headers, form) {
        Ok(fields) => fields,
        Err(refused) => return *refused,
    };
    let named = fields.iter().find(|(name, _)| name == "cloud").map(|(_, cloud)| cloud.clone());
    let names =
        named.map_or_else(|| screens.observer.status().clouds.into_iter().map(|cloud| cloud.name).collect(), |one| vec![one]);
    let mut done = Done::Nothing;
    for name in names {
        let ordered = screens.clouds.as_ref().map(|clouds| clouds.sync_now(&name, &SyncAsked::default()));
        let run = match ordered {
            Some(Ok(run)) => run,
            Some(Err(SyncRefused::Another)) => {
                let hint = "press the button again when it has ended";
                return screens.trouble(visitor, StatusCode::CONFLICT, "another kind of run waits for its turn", Some(hint));
            }
            Some(Err(SyncRefused::NoSuchCloud)) | None => {
                return screens.trouble(visitor, StatusCode::NOT_FOUND, "this node feeds no such cloud", None);
            }
        };
        let before = screens.ordered.lock().unwrap_or_else(PoisonError::into_inner).insert(name, run);
        done = Done::Ordered { run, joined: before == Some(run) };
    }
    Redirect::to(&format!("/cloud?{}", done.query())).into_response()
}

/// `pause`, `resume` or `restart` is the name of a role.
async fn roles(
    State(screens): State<Screens>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    form: Fields,
) -> Response {
    let fields = match screens.fields(visitor, &headers, form) {
        Ok(fields) => fields,
        Err(refused) => return *refused,
    };
    let Some(orders) = &screens.roles else {
        return screens.trouble(visitor, StatusCode::NOT_FOUND, "roles take no orders here", None);
    };
    let named = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, role)| role.as_str());
    let done = match (named("pause"), named("resume"), named("restart")) {
        (Some(role), None, None) => orders.pause(role).await.map(|_| Done::Paused),
        (None, Some(role), None) => orders.resume(role).await.map(|_| Done::Resumed),
        (None, None, Some(role)) => orders.restart(role, StartFrom::default()).await.map(|_| Done::StartedAnew),
        _ => return screens.trouble(visitor, StatusCode::BAD_REQUEST, "it is not said what to do", None),
    };
    match done {
        Ok(done) => Redirect::to(&format!("/?{}", done.query())).into_response(),
        Err(stop) => screens.trouble(visitor, StatusCode::CONFLICT, &stop.message, stop.hint.as_deref()),
    }
}

async fn settings(
    State(screens): State<Screens>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Response {
    let Some(setup) = &screens.setup else {
        return screens.trouble(visitor, StatusCode::NOT_FOUND, "the set-up is not known here", None);
    };
    let found = if asked.doctor.is_empty() { None } else { Some(setup.examine().await) };
    screens.show(visitor, None, |frame| page::settings(frame, &setup.shown(), found.as_deref()))
}

async fn login(State(screens): State<Screens>, Query(asked): Query<Asked>) -> Response {
    if !screens.gate.asks_for_a_key() {
        return Redirect::to("/").into_response();
    }
    Html(page::login(&screens.observer.status().node, to(&asked.to), None)).into_response()
}

#[derive(Deserialize)]
struct SignIn {
    key: String,
    #[serde(default)]
    to: String,
}

async fn sign_in(
    State(screens): State<Screens>,
    ConnectInfo(Peer(from)): ConnectInfo<Peer>,
    headers: HeaderMap,
    form: Result<Form<SignIn>, FormRejection>,
) -> Response {
    let node = screens.observer.status().node;
    let again = |code: StatusCode, to: &str, why: &str| (code, Html(page::login(&node, to, Some(why)))).into_response();
    let Ok(Form(SignIn { key, to: wanted })) = form else {
        return again(StatusCode::BAD_REQUEST, "/", "The key is missing.");
    };
    let to = to(&wanted);
    if is_foreign(&headers) {
        return again(StatusCode::FORBIDDEN, to, "Sign in on this page.");
    }
    match screens.gate.sign_in(&key, from) {
        Ok(cookie) => with_cookie(Redirect::to(to).into_response(), &cookie),
        Err(Refusal::TooMany) => again(StatusCode::TOO_MANY_REQUESTS, to, "Too many keys were wrong. Wait a minute."),
        Err(_) => again(StatusCode::UNAUTHORIZED, to, "This is not the key."),
    }
}

async fn logout(
    State(screens): State<Screens>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    form: Fields,
) -> Response {
    if let Err(refused) = screens.fields(visitor, &headers, form) {
        return *refused;
    }
    with_cookie(Redirect::to("/login").into_response(), &screens.gate.sign_out(visitor))
}

/// A login leads to a screen of ours, wherever somebody's link says.
fn to(wanted: &str) -> &str {
    if page::is_screen(wanted) { wanted } else { "/" }
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    // A cookie of ours is letters, digits and signs.
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}
