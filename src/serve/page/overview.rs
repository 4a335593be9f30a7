//! Overview: is it in sync, with whom, and what waits for a person.

use super::Frame;
use super::markup::{count, esc, level_class, link_class, plural, put, role_class, when, why};
use crate::observe::{LinkStatus, Status, spoken_count, spoken_duration, spoken_time};

pub fn overview(frame: &Frame<'_>) -> String {
    let status = frame.status;
    let mut body = String::from("<h1 class=unseen>Overview</h1>");
    put!(
        &mut body,
        "<div id=verdict data-live role=status><p class=\"verdict {}\">{}</p></div>",
        level_class(status.level),
        esc(&status.verdict)
    );
    body.push_str("<div id=numbers data-live>");
    tiles(&mut body, status);
    snapshot(&mut body, status);
    seeding(&mut body, status);
    body.push_str("</div>");
    sync(&mut body, frame);
    body.push_str("<div id=sides class=columns data-live>");
    here(&mut body, frame);
    links(&mut body, status);
    body.push_str("</div>");
    frame.page("/", &body)
}

fn tiles(out: &mut String, status: &Status) {
    let sum = |count: fn(&LinkStatus) -> Option<u64>| status.links.iter().filter_map(count).sum::<u64>();
    let tile = |out: &mut String, path: &str, number: String, word: &str, class: &str| {
        put!(out, "<a class=\"tile {class}\" href=\"{path}\"><b>{number}</b> {word}</a>");
    };
    let alarm = |number: Option<u64>| if number.unwrap_or(0) > 0 { "attention" } else { "" };
    out.push_str("<div class=tiles>");
    tile(out, "/activity", spoken_count(sum(|link| link.pending)), "waiting", "");
    tile(out, "/activity?became=applied", spoken_count(sum(|link| link.applied_today)), "applied today", "");
    tile(out, "/activity?became=published", spoken_count(status.tailer.published), "published", "");
    tile(out, "/conflicts", count(status.conflicts_open), "conflicts to decide", alarm(status.conflicts_open));
    tile(out, "/failed", count(status.failed_open), "failed", alarm(status.failed_open));
    out.push_str("</div>");
}

fn snapshot(out: &mut String, status: &Status) {
    let Some(view) = &status.snapshot else { return };
    let (done, expected) = view.rows();
    let table = view.tables.iter().find(|table| table.state == "running").map(|table| format!(", now {}", table.name));
    put!(
        out,
        "<p class=card>Publishing existing rows{}: {} of about {}. <progress max={} value={} aria-label=\"Rows published\"></progress> {}</p>",
        esc(&table.unwrap_or_default()),
        spoken_count(done),
        spoken_count(expected),
        expected.max(1),
        done,
        esc(view.waits_for.as_deref().unwrap_or_default()),
    );
}

fn seeding(out: &mut String, status: &Status) {
    let Some(view) = &status.seeding else { return };
    put!(
        out,
        "<p class=card>This node takes over the rows of {}: {} so far, {} left of {}. <progress max={} value={} aria-label=\"Tables seeded\"></progress></p>",
        esc(&view.seeder),
        plural(view.rows, "row", "rows"),
        plural(view.tables_left, "table", "tables"),
        spoken_count(view.tables),
        view.tables.max(1),
        view.tables.saturating_sub(view.tables_left),
    );
}

/// The clouds in a line, with the button that feeds them now.
fn sync(out: &mut String, frame: &Frame<'_>) {
    let status = frame.status;
    if status.clouds.is_empty() {
        return;
    }
    let last = status.clouds.iter().filter_map(|cloud| cloud.last_success_seconds).min();
    let next = status.clouds.iter().filter_map(|cloud| cloud.next_run_seconds).min();
    let said = |second: Option<u64>, none: &str| second.map_or_else(|| none.into(), |second| when(second, status.at_seconds));
    put!(
        out,
        "<form class=\"card sync\" method=post action=\"/sync\">{}<button class=main>Sync now</button>\
         <span id=sync data-live><a href=\"/cloud\">Cloud</a>: last run {}, next {}.</span></form>",
        frame.proof(),
        said(last, "never"),
        said(next, "as changes come"),
    );
}

fn here(out: &mut String, frame: &Frame<'_>) {
    let status = frame.status;
    put!(out, "<section><h2>This node</h2><ul class=card>");
    for role in &status.roles {
        put!(
            out,
            "<li class={}><span class=name>{}</span> <span class=state>{}</span> <span class=soft>for {}</span>{}{}</li>",
            role_class(&role.state),
            esc(&role.name),
            esc(&role.state),
            spoken_duration(status.at_seconds.saturating_sub(role.since_seconds)),
            why(role.reason.as_deref(), role.hint.as_deref()),
            switch(frame, &role.name, &role.state),
        );
    }
    let last = status.tailer.last_commit_seconds.map_or_else(|| "none yet".into(), spoken_time);
    let tables = status.tables.len() as u64;
    put!(
        out,
        "<li class=soft>Newest commit read here: {last}</li><li class=soft><a href=\"/tables\">{}</a> synced</li>",
        plural(tables, "table", "tables")
    );
    let not_published = status.tailer.filtered.iter().filter(|(_, changes)| **changes > 0);
    let rules: Vec<String> =
        not_published.map(|(reason, changes)| format!("{} {}", esc(reason), spoken_count(*changes))).collect();
    if !rules.is_empty() {
        put!(out, "<li class=soft>Changes not published, by rule: {}</li>", rules.join(", "));
    }
    out.push_str("</ul></section>");
}

/// The button that pauses a role, lets a paused one go on, or starts one anew that has stopped. The pages themselves take no orders about themselves.
fn switch(frame: &Frame<'_>, role: &str, state: &str) -> String {
    if role == "web" {
        return String::new();
    }
    let (order, word) = match state {
        "paused" => ("resume", "Resume"),
        "stopped" => ("restart", "Start anew"),
        _ => ("pause", "Pause"),
    };
    let role = esc(role);
    format!(
        "<form class=switch method=post action=\"/roles\">{}<button class=plain name={order} value=\"{role}\">{word}\
         <span class=unseen> the {role}</span></button></form>",
        frame.proof()
    )
}

fn links(out: &mut String, status: &Status) {
    out.push_str("<section><h2>Other nodes</h2>");
    if status.links.is_empty() {
        out.push_str("<p class=card>This node is alone in its cluster.</p></section>");
        return;
    }
    out.push_str("<ul class=card>");
    for link in &status.links {
        let other = if link.target == status.node { &link.source } else { &link.target };
        let way = if link.target == status.node { "from" } else { "to" };
        put!(
            out,
            "<li class={}><span class=name>{way} {}</span> <span class=state>{}</span> {}{}</li>",
            link_class(link.state),
            esc(other),
            link.state.words(),
            numbers(link),
            why(link.reason.as_deref(), None),
        );
    }
    out.push_str("</ul></section>");
}

/// What is worth saying of a link, in a few words.
fn numbers(link: &LinkStatus) -> String {
    let mut words = Vec::new();
    match link.pending {
        None => words.push("<span class=soft>what waits in the binlog is not counted</span>".to_owned()),
        Some(0) => {}
        Some(pending) => words.push(format!("<b>{}</b> waiting", spoken_count(pending))),
    }
    if let Some(lag) = link.lag_seconds.filter(|&lag| lag > 0) {
        words.push(format!("{} behind", spoken_duration(lag)));
    }
    if let Some(applied) = link.applied_today.filter(|&applied| applied > 0) {
        words.push(format!("<span class=soft>{} applied today</span>", spoken_count(applied)));
    }
    if let Some(conflicts) = link.conflicts.filter(|&conflicts| conflicts > 0) {
        words.push(format!("<a href=\"/conflicts?show=all\">{}</a>", plural(conflicts, "conflict", "conflicts")));
    }
    if let Some(failed) = link.failed.filter(|&failed| failed > 0) {
        words.push(format!("<a href=\"/failed\">{} failed</a>", spoken_count(failed)));
    }
    words.join(" · ")
}
