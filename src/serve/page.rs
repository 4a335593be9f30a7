//! The screens as HTML: written on the server, usable without scripts, readable on a telephone, by day and by night.
//!
//! One file a screen. Parts that are marked `data-live` are kept up to date by `live.js`; they hold nothing that a person
//! types into or presses. Without scripts the page loads itself again.

use crate::observe::{Level, Status, spoken_time};

mod activity;
mod cloud;
mod conflicts;
mod failed;
mod login;
mod markup;
mod overview;
mod settings;
mod tables;

pub use activity::{ActivityAsked, activity};
pub use cloud::{FilesShown, cloud};
pub use conflicts::{ConflictsAsked, conflicts};
pub use failed::{FailedAsked, failed};
pub use login::login;
pub use overview::overview;
pub use settings::settings;
pub use tables::tables;

use markup::{esc, plural, put};

pub const STYLE: &str = include_str!("page/style.css");
pub const SCRIPT: &str = include_str!("page/live.js");

/// How often a page loads itself again without scripts. Somebody may be reading a list, or ticking boxes in it.
const REFRESH_OVERVIEW_SECONDS: u32 = 5;
const REFRESH_LIST_SECONDS: u32 = 120;

/// The screens in the order of the bar: path and name.
const SCREENS: [(&str, &str); 7] = [
    ("/", "Overview"),
    ("/activity", "Activity"),
    ("/conflicts", "Conflicts"),
    ("/failed", "Failed"),
    ("/tables", "Tables"),
    ("/cloud", "Cloud"),
    ("/settings", "Settings"),
];

/// True for the address of a screen, so that a login can lead there and nowhere else.
pub fn is_screen(path: &str) -> bool {
    SCREENS.iter().any(|(screen, _)| *screen == path)
}

/// What every screen needs besides its own content.
pub struct Frame<'a> {
    pub status: &'a Status,
    /// Proves that a form was sent from a page of this node.
    pub token: &'a str,
    /// By a key, so that there is something to leave.
    pub signed_in: bool,
    /// What the form that led here has done.
    pub done: Option<Done>,
}

/// What a form has done. In an address it is a word and a number, so that no text of strangers gets onto a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Done {
    Settled(u64),
    PutBack(u64),
    Nothing,
    Ordered { run: u64, joined: bool },
    Comparing,
    Retried(u64),
    StillFailed(u64),
    Discarded(u64),
    Paused,
    Resumed,
    StartedAnew,
}

impl Done {
    pub fn query(self) -> String {
        let (word, number) = match self {
            Self::Settled(rows) => ("settled", rows),
            Self::PutBack(rows) => ("put-back", rows),
            Self::Nothing => ("nothing", 0),
            Self::Ordered { run, joined: false } => ("ordered", run),
            Self::Ordered { run, joined: true } => ("joined", run),
            Self::Comparing => ("comparing", 0),
            Self::Retried(changes) => ("retried", changes),
            Self::StillFailed(changes) => ("still-failed", changes),
            Self::Discarded(changes) => ("discarded", changes),
            Self::Paused => ("paused", 0),
            Self::Resumed => ("resumed", 0),
            Self::StartedAnew => ("started-anew", 0),
        };
        format!("done={word}&count={number}")
    }

    pub fn read(word: &str, number: u64) -> Option<Self> {
        Some(match word {
            "settled" => Self::Settled(number),
            "put-back" => Self::PutBack(number),
            "nothing" => Self::Nothing,
            "ordered" => Self::Ordered { run: number, joined: false },
            "joined" => Self::Ordered { run: number, joined: true },
            "comparing" => Self::Comparing,
            "retried" => Self::Retried(number),
            "still-failed" => Self::StillFailed(number),
            "discarded" => Self::Discarded(number),
            "paused" => Self::Paused,
            "resumed" => Self::Resumed,
            "started-anew" => Self::StartedAnew,
            _ => return None,
        })
    }

    fn sentence(self) -> String {
        match self {
            Self::Settled(rows) => {
                format!("{} settled on all nodes: the row that stands stays.", plural(rows, "conflict is", "conflicts are"))
            }
            Self::PutBack(rows) => format!("{} written again, and all nodes get it.", plural(rows, "row is", "rows are")),
            Self::Nothing => "Nothing was chosen, so nothing was done.".into(),
            Self::Ordered { run, joined: false } => format!("Run {run} is under way."),
            Self::Ordered { run, joined: true } => format!("Run {run} is under way already: you joined it."),
            Self::Comparing => "The nodes compare their rows now.".into(),
            Self::Retried(changes) => format!("{} done with.", plural(changes, "change is", "changes are")),
            Self::StillFailed(changes) => {
                format!("{} as before: the reasons are below.", plural(changes, "change failed", "changes failed"))
            }
            Self::Paused => "The role is paused until somebody resumes it, also over a new start.".into(),
            Self::Resumed => "The role goes on.".into(),
            Self::StartedAnew => "The role is started anew; it goes on where it stopped.".into(),
            Self::Discarded(changes) => format!("{} discarded.", plural(changes, "change was", "changes were")),
        }
    }
}

impl Frame<'_> {
    /// A whole page; `here` is the path of its screen.
    fn page(&self, here: &str, body: &str) -> String {
        let status = self.status;
        let title = SCREENS.iter().find(|(path, _)| *path == here).map_or("Tandem", |(_, name)| *name);
        let refresh = if here == "/" { REFRESH_OVERVIEW_SECONDS } else { REFRESH_LIST_SECONDS };
        let mark = match status.level {
            Level::Good | Level::Working => "",
            Level::Attention | Level::Stopped => "● ",
        };
        let mut out = head(&format!("{mark}{title} · {}", esc(&status.node)), Some(refresh));
        put!(
            &mut out,
            "<a class=skip href=\"#main\">Skip to the content</a><header class=bar><p class=who><b>{}</b> <span>{}</span></p>\
             <nav aria-label=Screens>",
            esc(&status.node),
            esc(&status.cluster),
        );
        for (path, name) in SCREENS {
            let current = if path == here { " aria-current=page" } else { "" };
            let waiting = match path {
                "/conflicts" => status.conflicts_open.unwrap_or(0),
                "/failed" => status.failed_open.unwrap_or(0),
                _ => 0,
            };
            put!(&mut out, "<a href=\"{path}\"{current}>{name}<span id=\"count-{}\" data-live>", name.to_lowercase());
            if waiting > 0 {
                put!(&mut out, "<span class=badge aria-label=\"{waiting} waiting\">{waiting}</span>");
            }
            out.push_str("</span></a>");
        }
        out.push_str("</nav>");
        if self.signed_in {
            put!(&mut out, "<form method=post action=\"/logout\">{}<button class=plain>Sign out</button></form>", self.proof());
        }
        out.push_str("</header><main id=main>");
        out.push_str("<p id=lost class=\"notice attention\" role=status hidden>The node does not answer. This is what was known last.</p>");
        if let Some(done) = self.done {
            put!(&mut out, "<p class=notice role=status>{}</p>", done.sentence());
        }
        out.push_str(body);
        put!(
            &mut out,
            "</main><footer><span id=moment data-live>As of {}.</span> Tandem {}, counting since {}.</footer></body></html>",
            spoken_time(status.at_seconds),
            esc(&status.version),
            spoken_time(status.started_seconds),
        );
        out
    }

    /// The field by which a form shows where it comes from.
    fn proof(&self) -> String {
        format!("<input type=hidden name=token value=\"{}\">", esc(self.token))
    }
}

/// What could not be shown or done, in place of a screen.
pub fn trouble(frame: &Frame<'_>, error: &str, hint: Option<&str>) -> String {
    let mut body = String::from("<h1>That did not work</h1>");
    put!(&mut body, "<p class=\"notice attention\" role=alert>{}</p>", esc(error));
    if let Some(hint) = hint {
        put!(&mut body, "<p>{}</p>", esc(hint));
    }
    frame.page("", &body)
}

fn head(title: &str, refresh_seconds: Option<u32>) -> String {
    let refresh = refresh_seconds.map(|seconds| format!("<noscript><meta http-equiv=refresh content={seconds}></noscript>"));
    format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width, initial-scale=1\">\
         <meta name=color-scheme content=\"light dark\">{}<title>{title}</title><link rel=stylesheet href=\"/style.css\">\
         <link rel=icon href=\"/icon.svg\"><script src=\"/live.js\" defer></script></head><body>",
        refresh.unwrap_or_default(),
    )
}

/// Two laptops that pull one cart: two rings and what joins them.
pub const ICON: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 32 32\"><circle cx=\"9\" cy=\"16\" r=\"6\" fill=\"none\" \
    stroke=\"#2f7d6b\" stroke-width=\"4\"/><circle cx=\"23\" cy=\"16\" r=\"6\" fill=\"none\" stroke=\"#2f7d6b\" stroke-width=\"4\"/>\
    <path d=\"M9 16h14\" stroke=\"#2f7d6b\" stroke-width=\"4\"/></svg>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_goes_through_an_address_as_a_word_and_a_number() {
        let all = [
            Done::Settled(3),
            Done::PutBack(1),
            Done::Nothing,
            Done::Ordered { run: 5, joined: false },
            Done::Ordered { run: 5, joined: true },
            Done::Comparing,
            Done::Retried(2),
            Done::StillFailed(4),
            Done::Discarded(7),
            Done::Paused,
            Done::Resumed,
        ];
        for done in all {
            let query = done.query();
            let (word, number) = query.strip_prefix("done=").and_then(|rest| rest.split_once("&count=")).unwrap();
            assert_eq!(Done::read(word, number.parse().unwrap()), Some(done));
        }
        assert_eq!(Done::read("<script>", 1), None);
    }

    #[test]
    fn a_login_leads_to_a_screen_and_nowhere_else() {
        assert!(is_screen("/conflicts") && is_screen("/"));
        for path in ["//evil.example", "https://evil.example", "/conflicts/../x", "/metrics", ""] {
            assert!(!is_screen(path), "{path}");
        }
    }
}
