//! Activity: the newest changes and what became of them, and the time line of one row.

use super::Frame;
use super::markup::{esc, key_inline, pager, put, url_part};
use crate::observe::{ACTIVITY_MAX, ActivitySearch, ActivityView, Became, spoken_count, spoken_time};

/// What is shown: the search, and whether more was found than fits.
pub struct ActivityAsked<'a> {
    pub search: &'a ActivitySearch,
    pub found: &'a [ActivityView],
    pub more: bool,
}

pub fn activity(frame: &Frame<'_>, asked: &ActivityAsked<'_>) -> String {
    let search = asked.search;
    let mut body = String::new();
    if search.whole {
        put!(
            &mut body,
            "<h1>{} {}</h1><p><a href=\"/activity\">All activity</a></p>",
            esc(&search.table),
            key_inline(&search.key)
        );
    } else {
        body.push_str("<h1>Activity</h1>");
        form(&mut body, search);
    }
    // A first page renews itself; on an older one somebody reads.
    let live = if search.before.is_none() { " id=changes data-live" } else { "" };
    put!(&mut body, "<div{live}>");
    list(&mut body, asked);
    body.push_str("</div>");
    put!(
        &mut body,
        "<p class=soft>The newest {} changes since the start of this node are remembered. An <i>echo</i> is what its own applier wrote.</p>",
        spoken_count(ACTIVITY_MAX as u64)
    );
    frame.page("/activity", &body)
}

fn form(out: &mut String, search: &ActivitySearch) {
    put!(
        out,
        "<form class=\"card search\" method=get action=\"/activity\" role=search><label>Table <input name=table value=\"{}\"></label>\
         <label>Row's key <input name=key value=\"{}\"></label><label>What became of it <select name=became><option value=\"\">anything</option>",
        esc(&search.table),
        esc(&search.key),
    );
    for became in Became::ALL {
        let selected = if search.became == Some(became) { " selected" } else { "" };
        put!(out, "<option value={}{selected}>{}</option>", became.label(), became.words());
    }
    out.push_str("</select></label><button>Search</button></form>");
}

fn list(out: &mut String, asked: &ActivityAsked<'_>) {
    if asked.found.is_empty() {
        out.push_str("<p class=card>Nothing was found.</p>");
        return;
    }
    out.push_str(
        "<div class=wide><table class=stack><thead><tr><th scope=col>Seen here<th scope=col>Table<th scope=col>Row<th scope=col>Change\
         <th scope=col>From<th scope=col>What became of it</tr></thead><tbody>",
    );
    for view in asked.found {
        let place = view.offset.map_or_else(String::new, |offset| format!(" <span class=soft>at {offset}</span>"));
        put!(
            out,
            "<tr><td data-label=Seen>{}<td data-label=Table>{}<td data-label=Row><a href=\"{}\">{}</a><td data-label=Change>{}\
             <td data-label=From>{}{place}<td data-label=\"Became\" class={}><span class=state>{}</span></tr>",
            spoken_time(view.at_seconds),
            esc(&view.table),
            esc(&row_link(view)),
            key_inline(&view.key),
            esc(&view.op),
            esc(&view.origin),
            class(view.became),
            view.became.words(),
        );
    }
    out.push_str("</tbody></table></div>");
    let newer = asked.search.before.map(|_| link(asked.search, None));
    let older = asked.found.last().filter(|_| asked.more).map(|last| link(asked.search, Some(last.number)));
    pager(out, newer, older);
}

fn class(became: Became) -> &'static str {
    match became {
        Became::Published | Became::Applied => "good",
        Became::Held | Became::LostToNewer | Became::Duplicate | Became::Echo | Became::NotSynced => "working",
        Became::SetAside => "stopped",
    }
}

/// Where the time line of the change's row is.
fn row_link(view: &ActivityView) -> String {
    format!("/activity?row=1&table={}&key={}", url_part(&view.table), url_part(&view.key))
}

fn link(search: &ActivitySearch, before: Option<u64>) -> String {
    let mut link = format!("/activity?table={}&key={}", url_part(&search.table), url_part(&search.key));
    if search.whole {
        link.push_str("&row=1");
    }
    if let Some(became) = search.became {
        link.push_str("&became=");
        link.push_str(became.label());
    }
    if let Some(before) = before {
        put!(&mut link, "&before={before}");
    }
    link
}
