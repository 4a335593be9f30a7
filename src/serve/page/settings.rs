//! Settings: what is in force, without secrets, and what the doctor finds.

use super::Frame;
use super::markup::{esc, put};
use crate::runtime::{Finding, Level};

/// `found` where the doctor was asked.
pub fn settings(frame: &Frame<'_>, configuration: &str, found: Option<&[Finding]>) -> String {
    let mut body = String::from("<h1>Settings</h1><h2>Doctor</h2>");
    match found {
        None => body.push_str("<p class=card>Looks this node over and changes nothing: the database, its settings, rights and tables, the topics, the state folder.</p>"),
        Some(found) => findings(&mut body, found),
    }
    let again = if found.is_some() { "Look again" } else { "Look this node over" };
    put!(
        &mut body,
        "<form method=get action=\"/settings\"><input type=hidden name=doctor value=1><button>{again}</button></form>\
         <h2>Configuration in force</h2><p class=soft>Secrets are named, never shown. It is read at the start: after a change, start the node again.</p>\
         <pre class=card tabindex=0>{}</pre>",
        esc(configuration.trim()),
    );
    frame.page("/settings", &body)
}

fn findings(out: &mut String, found: &[Finding]) {
    let count = |level: Level| found.iter().filter(|finding| finding.level == level).count();
    put!(
        out,
        "<p>{} good, {} could be better, {} must be mended.</p><ul class=card>",
        count(Level::Good),
        count(Level::Warn),
        count(Level::Fail)
    );
    let mut sorted: Vec<&Finding> = found.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    for finding in sorted {
        let (class, word) = match finding.level {
            Level::Good => ("good", "good"),
            Level::Warn => ("attention", "better"),
            Level::Fail => ("stopped", "mend"),
        };
        put!(
            out,
            "<li class={class}><span class=state>{word}</span> {} <code class=soft>{}</code>",
            esc(&finding.what),
            esc(finding.code)
        );
        if let Some(remedy) = &finding.remedy {
            put!(out, "<div class=why>{}</div>", esc(remedy));
        }
        out.push_str("</li>");
    }
    out.push_str("</ul>");
}
