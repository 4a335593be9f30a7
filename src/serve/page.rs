//! The pages as HTML: written on the server, without scripts, readable on a telephone, by day and by night. Every value goes
//! through [`escape`].

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Map, Value};

use crate::observe::{
    ConflictView, FailedView, Level, LinkState, LinkStatus, SideView, Status, spoken_count, spoken_duration, spoken_time,
};

use super::LIST_MAX;

const STYLE: &str = include_str!("page/style.css");

/// How often a page loads itself again. A conflict that somebody reads should not jump away, so lists do it less often.
const REFRESH_OVERVIEW_SECONDS: u32 = 5;
const REFRESH_LIST_SECONDS: u32 = 60;

/// A long value is shown by its beginning; the API has the whole.
const VALUE_LETTERS_MAX: usize = 200;

pub fn overview(status: &Status) -> String {
    let mut body = String::new();
    verdict(&mut body, status);
    snapshot(&mut body, status);
    counts(&mut body, status);
    links(&mut body, &status.links);
    clouds(&mut body, status);
    roles(&mut body, status);
    tables(&mut body, status);
    frame(status, "Overview", REFRESH_OVERVIEW_SECONDS, &body)
}

pub fn conflicts(status: &Status, conflicts: &[ConflictView]) -> String {
    let mut body = String::new();
    put(&mut body, format_args!("<h2>Conflicts</h2>"));
    match conflicts.len() {
        0 => put(&mut body, format_args!("<p>There was none: no row was written on two nodes at once.</p>")),
        LIST_MAX => put(&mut body, format_args!("<p class=soft>The newest {LIST_MAX}.</p>")),
        _ => {}
    }
    for conflict in conflicts {
        let open = if conflict.open { "waits for a decision" } else { "settled" };
        put(
            &mut body,
            format_args!(
                "<article><header><b>{}</b> <span>{}</span> <span class=soft>{}, {open}</span> <code>{}</code></header>",
                escape(&conflict.table),
                row_inline(&conflict.key),
                escape(&conflict.kind.replace('_', " ")),
                escape(&conflict.id),
            ),
        );
        sides(&mut body, &conflict.winner, &conflict.loser);
        body.push_str("</article>");
    }
    frame(status, "Conflicts", REFRESH_LIST_SECONDS, &body)
}

pub fn failed(status: &Status, failed: &[FailedView]) -> String {
    let mut body = String::from("<h2>Changes that could not be applied</h2>");
    if failed.is_empty() {
        body.push_str("<p>There is none.</p>");
        return frame(status, "Failed", REFRESH_LIST_SECONDS, &body);
    }
    body.push_str("<div class=wide><table><tr><th>Table<th>Row<th>Change<th>From<th>Reason<th class=number>Attempts</tr>");
    for letter in failed {
        put(
            &mut body,
            format_args!(
                "<tr><td>{}<td>{}<td>{}<td>{} <span class=soft>at {}</span><td>{}<td class=number>{}</tr>",
                escape(&letter.table),
                row_inline(&letter.key),
                escape(&letter.op),
                escape(&letter.origin),
                letter.offset,
                escape(&letter.reason),
                letter.attempts,
            ),
        );
    }
    body.push_str("</table></div>");
    frame(status, "Failed", REFRESH_LIST_SECONDS, &body)
}

fn frame(status: &Status, title: &str, refresh_seconds: u32, body: &str) -> String {
    let (node, cluster) = (escape(&status.node), escape(&status.cluster));
    format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=refresh content={refresh_seconds}><title>{title} · {node} · Tandem</title><style>{STYLE}</style></head><body>\
         <header><b>{node}</b> <span class=soft>cluster {cluster}</span>\
         <nav><a href=\"/\">Overview</a> <a href=\"/conflicts\">Conflicts</a> <a href=\"/failed\">Failed</a></nav></header>\
         <main>{body}</main>\
         <footer>Tandem {}. Counting since {}. Page of {}.</footer></body></html>",
        escape(&status.version),
        spoken_time(status.started_seconds),
        spoken_time(status.at_seconds),
    )
}

fn verdict(out: &mut String, status: &Status) {
    put(out, format_args!("<p class=\"verdict {}\">{}</p>", level_class(status.level), escape(&status.verdict)));
}

fn snapshot(out: &mut String, status: &Status) {
    let Some(view) = &status.snapshot else { return };
    let (done, expected) = view.rows();
    let table = view.tables.iter().find(|table| table.state == "running").map(|table| format!(", now {}", table.name));
    put(
        out,
        format_args!(
            "<p>Publishing existing rows{}: {} of about {}. <progress max={} value={}></progress> {}</p>",
            escape(&table.unwrap_or_default()),
            spoken_count(done),
            spoken_count(expected),
            expected.max(1),
            done,
            escape(view.waits_for.as_deref().unwrap_or_default()),
        ),
    );
}

fn counts(out: &mut String, status: &Status) {
    let sum = |count: fn(&LinkStatus) -> Option<u64>| status.links.iter().filter_map(count).sum::<u64>();
    let told = |count: Option<u64>| count.map_or_else(|| "–".into(), spoken_count);
    let incoming = status.links.iter().filter(|link| link.target == status.node);
    let conflicts = incoming.filter_map(|link| link.conflicts).reduce(|one, two| one + two);
    put(
        out,
        format_args!(
            "<div class=counts><div><b>{}</b>waiting</div><div><b>{}</b>applied today</div><div><b>{}</b>published</div>\
             <a href=\"/conflicts\"><b>{}</b>conflicts</a><a href=\"/failed\"><b>{}</b>failed</a></div>",
            spoken_count(sum(|link| link.pending)),
            spoken_count(sum(|link| link.applied_today)),
            spoken_count(status.tailer.published),
            told(conflicts),
            told(status.failed_open),
        ),
    );
}

/// The clouds, with the button that feeds them now.
fn clouds(out: &mut String, status: &Status) {
    if status.clouds.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Clouds</h2><div class=wide><table><tr><th>Cloud<th>State<th class=number>Waiting<th class=number>Set aside\
         <th>Last sync<th>Records synced then<th>Next run</tr>",
    );
    for cloud in &status.clouds {
        let time = |second: Option<u64>| second.map_or_else(|| "–".into(), spoken_time);
        let synced = cloud.last_run.as_ref().map_or_else(
            || "–".into(),
            |run| format!("{}{}", spoken_count(run.summary.synced), if run.success { "" } else { ", some failed" }),
        );
        let sending = if cloud.sending > 0 { format!(", {} sent", spoken_count(cloud.sending)) } else { String::new() };
        put(
            out,
            format_args!(
                "<tr><td>{}<td>{}{sending}<br><span class=soft>{}</span><td class=number>{}<td class=number>{}<td>{}<td>{synced}<td>{}</tr>",
                escape(&cloud.name),
                cloud.state.label(),
                escape(cloud.reason.as_deref().unwrap_or_default()),
                cloud.pending.map_or_else(|| "–".into(), spoken_count),
                spoken_count(cloud.set_aside),
                time(cloud.last_success_seconds),
                time(cloud.next_run_seconds),
            ),
        );
    }
    out.push_str("</table></div><form method=post action=\"/api/cloud-sync/sync-now\"><button>Sync now</button></form>");
    for cloud in &status.clouds {
        for problem in cloud.last_run.iter().flat_map(|run| &run.errors).take(10) {
            let place = [&problem.resource, &problem.id].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
            put(out, format_args!("<p class=soft>{}: {}</p>", escape(&place), escape(&problem.error)));
        }
    }
}

fn links(out: &mut String, links: &[LinkStatus]) {
    out.push_str("<h2>Links</h2>");
    if links.is_empty() {
        out.push_str("<p>This node is alone in its cluster.</p>");
        return;
    }
    out.push_str(
        "<div class=wide><table><tr><th>Link<th>State<th class=number>Waiting<th class=number>Lag<th class=number>Applied today\
         <th class=number>Conflicts<th class=number>Failed</tr>",
    );
    for link in links {
        let number = |value: Option<u64>| value.map_or_else(|| "–".into(), spoken_count);
        put(
            out,
            format_args!(
                "<tr><td>{} → {}<td class={}><span class=state>{}</span>{}<td class=number>{}<td class=number>{}<td class=number>{}\
                 <td class=number>{}<td class=number>{}</tr>",
                escape(&link.source),
                escape(&link.target),
                link_class(link.state),
                link.state.words(),
                why(link.reason.as_deref(), None),
                number(link.pending),
                link.lag_seconds.map_or_else(|| "–".into(), spoken_duration),
                number(link.applied_today),
                number(link.conflicts),
                number(link.failed),
            ),
        );
    }
    out.push_str("</table></div>");
}

fn roles(out: &mut String, status: &Status) {
    out.push_str("<h2>This node</h2><div class=wide><table><tr><th>Role<th>State<th class=number>For</tr>");
    for role in &status.roles {
        let class = match role.state.as_str() {
            "running" => "good",
            "stopped" => "stopped",
            "paused" => "attention",
            _ => "working",
        };
        put(
            out,
            format_args!(
                "<tr><td>{}<td class={class}><span class=state>{}</span>{}<td class=number>{}</tr>",
                escape(&role.name),
                escape(&role.state),
                why(role.reason.as_deref(), role.hint.as_deref()),
                spoken_duration(status.at_seconds.saturating_sub(role.since_seconds)),
            ),
        );
    }
    out.push_str("</table></div>");
    let filtered: Vec<String> = status
        .tailer
        .filtered
        .iter()
        .map(|(reason, changes)| format!("{} {}", escape(reason), spoken_count(*changes)))
        .collect();
    let last = status.tailer.last_commit_seconds.map_or_else(|| "none yet".into(), spoken_time);
    put(
        out,
        format_args!(
            "<p class=soft>Newest commit read here: {last}. Changes not published, by rule: {}.</p>",
            filtered.join(", ")
        ),
    );
}

fn tables(out: &mut String, status: &Status) {
    if status.tables.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Tables</h2><div class=wide><table><tr><th>Table<th class=number>Published<th class=number>Applied\
         <th class=number>Lost to newer<th class=number>Conflicts<th class=number>Set aside</tr>",
    );
    for table in &status.tables {
        let numbers = [table.published, table.applied, table.lost_to_newer, table.conflicts, table.set_aside];
        put(out, format_args!("<tr><td>{}", escape(&table.name)));
        numbers.iter().for_each(|&number| put(out, format_args!("<td class=number>{}", spoken_count(number))));
        out.push_str("</tr>");
    }
    out.push_str("</table></div>");
}

/// Both rows side by side; columns in which they differ are marked.
fn sides(out: &mut String, winner: &SideView, loser: &SideView) {
    put(
        out,
        format_args!(
            "<div class=wide><table><tr><th>Column<th>Kept: {} <span class=soft>{}</span><th>Lost: {} <span class=soft>{}</span></tr>",
            escape(&winner.origin),
            spoken_time(winner.written_seconds),
            escape(&loser.origin),
            spoken_time(loser.written_seconds),
        ),
    );
    let columns: BTreeSet<&String> = [&winner.row, &loser.row].into_iter().flatten().flat_map(Map::keys).collect();
    if columns.is_empty() {
        out.push_str("<tr><td><td class=soft>no row<td class=soft>no row</tr>");
    }
    for column in columns {
        let of = |side: &SideView| side.row.as_ref().map(|row| row.get(column).cloned());
        let (kept, lost) = (of(winner), of(loser));
        let differs = kept != lost;
        put(out, format_args!("<tr><th>{}", escape(column)));
        for value in [kept, lost] {
            let text = match value {
                None => "<span class=soft>no row</span>".into(),
                Some(None) => "<span class=soft>not known</span>".into(),
                Some(Some(value)) if differs => format!("<mark>{}</mark>", shown(&value)),
                Some(Some(value)) => shown(&value),
            };
            put(out, format_args!("<td>{text}"));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>");
}

fn row_inline(row: &Map<String, Value>) -> String {
    let columns: Vec<String> = row.iter().map(|(name, value)| format!("{} {}", escape(name), shown(value))).collect();
    columns.join(", ")
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut short: String = text.chars().take(VALUE_LETTERS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("<code>{}</code>", escape(&short))
}

fn why(reason: Option<&str>, hint: Option<&str>) -> String {
    let texts: Vec<String> = [reason, hint].into_iter().flatten().map(escape).collect();
    if texts.is_empty() { String::new() } else { format!("<div class=why>{}</div>", texts.join("<br>")) }
}

fn level_class(level: Level) -> &'static str {
    match level {
        Level::Good => "good",
        Level::Working => "working",
        Level::Attention => "attention",
        Level::Stopped => "stopped",
    }
}

fn link_class(state: LinkState) -> &'static str {
    match state {
        LinkState::UpToDate => "good",
        // Offline is what this program is made for: neutral.
        LinkState::Starting | LinkState::CatchingUp | LinkState::Offline => "working",
        LinkState::Paused => "attention",
        LinkState::ClockWrong | LinkState::Stopped => "stopped",
    }
}

/// Text as HTML, in elements and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter => out.push(letter),
        }
    }
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}
