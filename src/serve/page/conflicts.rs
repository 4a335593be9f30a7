//! Conflicts: both sides next to each other, and the buttons that settle them, one by one or many at once.

use std::collections::BTreeSet;

use serde_json::Map;

use super::Frame;
use super::markup::{esc, pager, put, row_inline, value_html};
use crate::observe::{ConflictView, SideView, spoken_time};

/// What is shown of the list.
pub struct ConflictsAsked<'a> {
    pub open_only: bool,
    /// From 0.
    pub page: usize,
    pub found: &'a [ConflictView],
    pub more: bool,
}

pub fn conflicts(frame: &Frame<'_>, asked: &ConflictsAsked<'_>) -> String {
    let mut body = String::from("<h1>Conflicts</h1>");
    let current = |open: bool| if asked.open_only == open { " aria-current=true" } else { "" };
    put!(
        &mut body,
        "<nav class=tabs aria-label=\"Which conflicts\"><a href=\"/conflicts?show=open\"{}>Waiting for a decision</a>\
         <a href=\"/conflicts?show=all\"{}>All</a></nav>",
        current(true),
        current(false),
    );
    if asked.found.is_empty() {
        body.push_str(match asked.open_only {
            true => "<p class=card>No conflict waits for a decision.</p>",
            false => "<p class=card>There is none: no row was written on two nodes at once.</p>",
        });
        return frame.page("/conflicts", &body);
    }
    put!(
        &mut body,
        "<form method=post action=\"/conflicts\">{}<input type=hidden name=show value={}>\
         <div class=\"card many\"><label data-all=chosen hidden><input type=checkbox> All on this page</label>\
         <span>Of those that are ticked:</span><button name=many value=winner>Keep what stands</button>\
         <button name=many value=loser>Put the other back</button></div>",
        frame.proof(),
        if asked.open_only { "open" } else { "all" },
    );
    asked.found.iter().for_each(|conflict| article(&mut body, conflict));
    body.push_str("</form>");
    let show = if asked.open_only { "open" } else { "all" };
    let link = |page: usize| format!("/conflicts?show={show}&page={page}");
    pager(&mut body, asked.page.checked_sub(1).map(link), asked.more.then(|| link(asked.page + 1)));
    frame.page("/conflicts", &body)
}

fn article(out: &mut String, conflict: &ConflictView) {
    let id = esc(&conflict.id);
    let open = if conflict.open {
        "<span class=\"state attention\">waits for a decision</span>"
    } else {
        "<span class=soft>settled</span>"
    };
    put!(
        out,
        "<article class=card aria-labelledby=\"{id}\"><header><label><input type=checkbox name=id value=\"{id}\" class=chosen>\
         <span class=unseen>Choose</span></label> <h2 id=\"{id}\">{} {}</h2> {open}\
         <span class=soft>{}</span> <code class=soft>{id}</code></header>",
        esc(&conflict.table),
        row_inline(&conflict.key),
        esc(&conflict.kind.replace('_', " ")),
    );
    sides(out, conflict);
    if conflict.open {
        put!(
            out,
            "<p class=actions><button name=one value=\"winner:{id}\" class=main>Keep {}'s</button>",
            esc(&conflict.winner.origin)
        );
    } else {
        out.push_str("<p class=actions>");
    }
    put!(out, "<button name=one value=\"loser:{id}\">Put {}'s back</button>", esc(&conflict.loser.origin));
    let can_mix = conflict.winner.row.is_some() && conflict.loser.row.is_some();
    if can_mix {
        put!(out, "<button name=one value=\"columns:{id}\">Put its ticked columns back</button>");
    }
    out.push_str("</p></article>");
}

/// Both rows side by side; columns in which they differ are marked.
fn sides(out: &mut String, conflict: &ConflictView) {
    let (winner, loser) = (&conflict.winner, &conflict.loser);
    put!(
        out,
        "<div class=wide><table class=sides><thead><tr><th scope=col>Column<th scope=col>Stands: {} <span class=soft>{}</span>\
         <th scope=col>Lost: {} <span class=soft>{}</span></tr></thead><tbody>",
        esc(&winner.origin),
        spoken_time(winner.written_seconds),
        esc(&loser.origin),
        spoken_time(loser.written_seconds),
    );
    let names = [&winner.row, &loser.row].into_iter().flatten().flat_map(Map::keys);
    // Those of the key come first.
    let columns: BTreeSet<(bool, &String)> = names.map(|name| (!conflict.key.contains_key(name), name)).collect();
    if columns.is_empty() {
        out.push_str("<tr><td><td class=soft>no row<td class=soft>no row</tr>");
    }
    for (_, column) in columns {
        let of = |side: &SideView| side.row.as_ref().map(|row| row.get(column).cloned());
        let (kept, lost) = (of(winner), of(loser));
        let differs = kept != lost;
        put!(out, "<tr{}><th scope=row>{}", if differs { " class=differs" } else { "" }, esc(column));
        if differs {
            out.push_str("<span class=unseen> differs</span>");
        }
        // Of a row that both have, what differs can be taken from the other side column by column.
        let can_mix = differs && kept.is_some() && matches!(lost, Some(Some(_))) && !conflict.key.contains_key(column);
        let tick = format!(
            "<label><input type=checkbox name=column value=\"{}:{column}\"><span class=unseen>Put {column} back</span></label> ",
            esc(&conflict.id),
            column = esc(column)
        );
        for (value, is_lost) in [(kept, false), (lost, true)] {
            if is_lost && can_mix {
                out.push_str("<td>");
                out.push_str(&tick);
            } else {
                out.push_str("<td>");
            }
            let text = match value {
                None => "<span class=soft>no row</span>".into(),
                Some(None) => "<span class=soft>not known</span>".into(),
                Some(Some(value)) if differs => format!("<mark>{}</mark>", value_html(&value)),
                Some(Some(value)) => value_html(&value),
            };
            out.push_str(&text);
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
}
