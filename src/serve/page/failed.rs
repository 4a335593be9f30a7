//! Failed: changes that could not be applied, grouped by their cause, with what to do about it.

use std::collections::BTreeMap;

use super::Frame;
use super::markup::{esc, pager, plural, put, row_inline};
use crate::observe::{FailedView, remedy};

/// What is shown of the list.
pub struct FailedAsked<'a> {
    /// From 0.
    pub page: usize,
    pub found: &'a [FailedView],
    pub more: bool,
}

/// Rows that a group names before they are folded away.
const SHOWN: usize = 5;

pub fn failed(frame: &Frame<'_>, asked: &FailedAsked<'_>) -> String {
    let mut body = String::from("<h1>Changes that could not be applied</h1>");
    if asked.found.is_empty() {
        body.push_str("<p class=card>There is none.</p>");
        return frame.page("/failed", &body);
    }
    let mut groups: BTreeMap<(&str, &str), Vec<&FailedView>> = BTreeMap::new();
    for letter in asked.found {
        groups.entry((&letter.table, &letter.reason)).or_default().push(letter);
    }
    for ((table, reason), letters) in &groups {
        put!(
            &mut body,
            "<section class=card><h2>{} <span class=soft>{}</span></h2><p class=attention><span class=state>{}</span></p><p>{}</p>",
            esc(table),
            plural(letters.len() as u64, "change", "changes"),
            esc(reason),
            esc(remedy(reason)),
        );
        put!(&mut body, "<form method=post action=\"/failed\">{}", frame.proof());
        let (first, rest) = letters.split_at(letters.len().min(SHOWN));
        list(&mut body, first);
        if !rest.is_empty() {
            put!(&mut body, "<details><summary>{} more</summary>", rest.len());
            list(&mut body, rest);
            body.push_str("</details>");
        }
        body.push_str(
            "<div class=actions><button name=do value=retry class=main>Retry what is ticked</button>\
             <details><summary>Discard…</summary><p>They are forgotten, and their rows stay as they are here.</p>\
             <button name=do value=discard class=danger>Discard what is ticked</button></details></div></form></section>",
        );
    }
    let link = |page: usize| format!("/failed?page={page}");
    pager(&mut body, asked.page.checked_sub(1).map(link), asked.more.then(|| link(asked.page + 1)));
    frame.page("/failed", &body)
}

fn list(out: &mut String, letters: &[&FailedView]) {
    out.push_str(
        "<div class=wide><table class=stack><thead><tr><th scope=col><span class=unseen>Choose</span><th scope=col>Row<th scope=col>Change<th scope=col>From\
         <th scope=col class=number>Attempts</tr></thead><tbody>",
    );
    for letter in letters {
        put!(
            out,
            "<tr><td data-label=Choose><input type=checkbox name=id value=\"{}\" checked aria-label=\"Choose this change\">\
             <td data-label=Row>{}<td data-label=Change>{}<td data-label=From>{} <span class=soft>at {}</span>\
             <td data-label=Attempts class=number>{}</tr>",
            esc(&letter.id),
            row_inline(&letter.key),
            esc(&letter.op),
            esc(&letter.origin),
            letter.offset,
            letter.attempts,
        );
    }
    out.push_str("</tbody></table></div>");
}
