//! Cloud: what was sent, what waits, and what the cloud refused.

use std::collections::BTreeMap;

use super::Frame;
use super::markup::{count, esc, plural, put, when, why};
use crate::observe::{CloudFile, CloudReport, CloudState, CloudStatus, Status, spoken_count, spoken_time};

/// Files in one state that somebody wants to see: the state, and per cloud what was found.
pub struct FilesShown {
    pub state: String,
    pub found: BTreeMap<String, Vec<CloudFile>>,
    /// There are more than these.
    pub more: bool,
}

pub fn cloud(frame: &Frame<'_>, files: Option<&FilesShown>) -> String {
    let status = frame.status;
    let mut body = String::from("<h1>Cloud</h1>");
    if status.clouds.is_empty() {
        body.push_str(
            "<p class=card>This node feeds no cloud: there is no <code>[cloud.main]</code> in its configuration.</p>",
        );
        return frame.page("/cloud", &body);
    }
    for (number, cloud) in status.clouds.iter().enumerate() {
        put!(&mut body, "<section class=card><h2>{}</h2><div id=cloud-{number} data-live>", esc(&cloud.name));
        state(&mut body, status, cloud);
        if let Some(run) = &cloud.last_run {
            last_run(&mut body, status, run);
        }
        body.push_str("</div>");
        if let Some(shown) = files {
            listed(&mut body, shown, shown.found.get(&cloud.name).map_or(&[], Vec::as_slice));
        }
        put!(
            &mut body,
            "<form method=post action=\"/sync\">{}<input type=hidden name=cloud value=\"{}\"><button class=main>Sync now</button></form></section>",
            frame.proof(),
            esc(&cloud.name),
        );
    }
    frame.page("/cloud", &body)
}

fn state(out: &mut String, status: &Status, cloud: &CloudStatus) {
    let class = match cloud.state {
        CloudState::Idle => "good",
        CloudState::Starting | CloudState::Syncing | CloudState::Offline => "working",
        CloudState::Paused => "stopped",
    };
    let told =
        |second: Option<u64>, none: &str| second.map_or_else(|| none.to_owned(), |second| when(second, status.at_seconds));
    put!(
        out,
        "<p class={class}><span class=state>{}</span> {}</p>{}<dl class=facts><dt>Waiting<dd>{}<dt>Refused by it<dd>{}<dt>Everything was there<dd>{}\
         <dt>Next run<dd>{}",
        cloud.state.label(),
        if cloud.sending > 0 { format!("{} sent so far", plural(cloud.sending, "row", "rows")) } else { String::new() },
        why(cloud.reason.as_deref(), None),
        count(cloud.pending),
        spoken_count(cloud.set_aside),
        told(cloud.last_success_seconds, "never"),
        told(cloud.next_run_seconds, "as changes come"),
    );
    for (fate, files) in &cloud.files {
        put!(out, "<dt>Files {fate}<dd><a href=\"/cloud?show={fate}\">{}</a>", spoken_count(*files), fate = esc(fate));
    }
    out.push_str("</dl>");
}

fn listed(out: &mut String, shown: &FilesShown, files: &[CloudFile]) {
    if files.is_empty() {
        put!(out, "<p class=soft>No file is {}. <a href=\"/cloud\">Close</a></p>", esc(&shown.state));
        return;
    }
    put!(
        out,
        "<h3>Files {} <a class=soft href=\"/cloud\">Close</a></h3><div class=wide><table class=stack><thead><tr><th scope=col>File<th scope=col>Kind\
         <th scope=col class=number>Bytes<th scope=col>Why or where</tr></thead><tbody>",
        esc(&shown.state)
    );
    for file in files {
        put!(
            out,
            "<tr><td data-label=File>{}<td data-label=Kind>{}<td class=number data-label=Bytes>{}<td data-label=\"Why or where\">{}</tr>",
            esc(&file.path),
            esc(&file.scope),
            if file.size > 0 { spoken_count(file.size) } else { "–".into() },
            esc(file.reason.as_deref().or(file.url.as_deref()).unwrap_or_default()),
        );
    }
    out.push_str("</tbody></table></div>");
    if shown.more {
        put!(out, "<p class=soft>There are more: <code>tandem files --state {}</code> lists all.</p>", esc(&shown.state));
    }
}

fn last_run(out: &mut String, status: &Status, run: &CloudReport) {
    let kind = if run.dry_run { "Trial run" } else { "Last run" };
    put!(
        out,
        "<h3>{kind} <span class=soft>{}, {}</span></h3>",
        spoken_time(run.started_seconds),
        when(run.finished_seconds, status.at_seconds)
    );
    if !run.summary.tables.is_empty() {
        out.push_str(
            "<div class=wide><table class=stack><thead><tr><th scope=col>Resource<th scope=col class=number>Written\
             <th scope=col class=number>Deleted<th scope=col class=number>There already<th scope=col class=number>Left out<th scope=col class=number>Failed</tr></thead><tbody>",
        );
        for (resource, counts) in &run.summary.tables {
            put!(
                out,
                "<tr><td data-label=Resource>{}<td class=number data-label=Written>{}<td class=number data-label=Deleted>{}\
                 <td class=number data-label=\"There already\">{}<td class=number data-label=\"Left out\">{}<td class=number data-label=Failed>{}</tr>",
                esc(resource),
                spoken_count(counts.written),
                spoken_count(counts.deleted),
                spoken_count(counts.already),
                spoken_count(counts.left_out),
                spoken_count(counts.failed),
            );
        }
        out.push_str("</tbody></table></div>");
    }
    for problem in &run.errors {
        let place = [&problem.resource, &problem.id].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
        put!(out, "<p class=attention><span class=state>{}</span> {}</p>", esc(&place), esc(&problem.error));
    }
}
