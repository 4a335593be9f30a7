//! Tables: what is synced and what is not, and whether all nodes hold the same.

use super::Frame;
use super::markup::{count, esc, put, when};
use crate::observe::{SnapshotView, Status, TableStatus, TableView, VerifyView, spoken_count};

pub fn tables(frame: &Frame<'_>, tables: &[TableView], snapshots: &[SnapshotView], verify: Option<&VerifyView>) -> String {
    let status = frame.status;
    let mut body = String::from("<h1>Tables</h1><div id=verify data-live>");
    compared(&mut body, status, verify);
    put!(
        &mut body,
        "</div><form method=post action=\"/verify\">{}<button>Compare the nodes now</button></form>",
        frame.proof()
    );
    if let Some(last) = snapshots.last() {
        body.push_str("<div id=snapshot data-live>");
        snapshot(&mut body, status, last);
        body.push_str("</div>");
    }
    body.push_str(
        "<h2>Synced</h2><div id=synced data-live><div class=wide><table class=stack><thead><tr><th scope=col>Table<th scope=col class=number>Rows, about\
         <th scope=col class=number>Published<th scope=col class=number>Applied<th scope=col class=number>Lost to newer\
         <th scope=col class=number>Conflicts<th scope=col class=number>Failed</tr></thead><tbody>",
    );
    let none = TableStatus::default();
    for table in tables.iter().filter(|table| table.synced) {
        let counts = status.tables.iter().find(|counts| counts.name == table.name).unwrap_or(&none);
        let name = esc(&table.name);
        put!(
            &mut body,
            "<tr><td data-label=Table><a href=\"/activity?table={name}\">{name}</a>{}<td class=number data-label=Rows>{}",
            table.why.as_deref().map(|why| format!("<div class=why>{}</div>", esc(why))).unwrap_or_default(),
            count(table.rows)
        );
        let numbers = [
            ("Published", counts.published),
            ("Applied", counts.applied),
            ("Lost", counts.lost_to_newer),
            ("Conflicts", counts.conflicts),
            ("Failed", counts.set_aside),
        ];
        for (label, number) in numbers {
            put!(&mut body, "<td class=number data-label={label}>{}", spoken_count(number));
        }
        body.push_str("</tr>");
    }
    body.push_str("</tbody></table></div></div>");
    left_out(&mut body, tables);
    frame.page("/tables", &body)
}

fn left_out(out: &mut String, tables: &[TableView]) {
    let mut left = tables.iter().filter(|table| !table.synced).peekable();
    if left.peek().is_none() {
        return;
    }
    out.push_str("<h2>Not synced</h2><div class=wide><table class=stack><thead><tr><th scope=col>Table<th scope=col>Why</tr></thead><tbody>");
    for table in left {
        put!(
            out,
            "<tr><td data-label=Table>{}<td data-label=Why class=soft>{}</tr>",
            esc(&table.name),
            esc(table.why.as_deref().unwrap_or_default())
        );
    }
    out.push_str("</tbody></table></div>");
}

fn compared(out: &mut String, status: &Status, verify: Option<&VerifyView>) {
    let Some(view) = verify else {
        out.push_str("<p class=card>The rows of the nodes were not compared since this node started.</p>");
        return;
    };
    let class = if view.differing > 0 || view.failed().count() > 0 { "attention" } else { "good" };
    put!(out, "<section class=\"card {class}\"><p><span class=state>{}</span> ", esc(&view.verdict()));
    match view.ended_seconds {
        Some(ended) => {
            put!(out, "<span class=soft>Compared {}.</span>", when(ended, status.at_seconds));
        }
        None => {
            let (done, expected) = view.rows();
            put!(
                out,
                "{} of about {} rows. <progress max={} value={done} aria-label=\"Rows compared\"></progress>",
                spoken_count(done),
                spoken_count(expected),
                expected.max(1),
            );
        }
    }
    out.push_str("</p>");
    for part in view.failed() {
        put!(
            out,
            "<p class=soft>{} of {}: {}</p>",
            esc(&part.table),
            esc(&part.node),
            esc(part.reason.as_deref().unwrap_or("no reason given"))
        );
    }
    if !view.differences.is_empty() {
        out.push_str(
            "<p>See each row with <code>tandem verify --list</code>; settle them with <code>tandem verify --repair</code>.</p>",
        );
    }
    out.push_str("</section>");
}

fn snapshot(out: &mut String, status: &Status, view: &SnapshotView) {
    let (done, expected) = view.rows();
    let state = match view.ended_seconds {
        Some(ended) => format!("ended {}", when(ended, status.at_seconds)),
        None => "under way".into(),
    };
    put!(
        out,
        "<section class=card><p>Snapshot {} of existing rows, {state}: {} of about {} rows. <progress max={} value={done} \
         aria-label=\"Rows published\"></progress></p>",
        view.id,
        spoken_count(done),
        spoken_count(expected),
        expected.max(1),
    );
    for table in view.failed() {
        put!(out, "<p class=soft>{}: {}</p>", esc(&table.name), esc(table.reason.as_deref().unwrap_or("no reason given")));
    }
    out.push_str("</section>");
}
