//! Login: asks for the key, once for each browser.

use super::head;
use super::markup::{esc, put};

/// `to` is the screen that was asked for; `refused` says why the last attempt did not do.
pub fn login(node: &str, to: &str, refused: Option<&str>) -> String {
    let mut out = head(&format!("Sign in · {}", esc(node)), None);
    put!(&mut out, "<main id=main class=login><h1>{}</h1>", esc(node));
    if let Some(refused) = refused {
        put!(&mut out, "<p class=\"notice attention\" role=alert>{}</p>", esc(refused));
    }
    put!(
        &mut out,
        "<form class=card method=post action=\"/login\"><input type=hidden name=to value=\"{}\">\
         <label>Key <input type=password name=key autocomplete=current-password required autofocus></label>\
         <button class=main>Sign in</button></form>\
         <p class=soft>It is the key that <code>[web]</code> names in this node's configuration.</p></main></body></html>",
        esc(to),
    );
    out
}
