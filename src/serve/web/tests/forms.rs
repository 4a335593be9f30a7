//! Buttons: what a form of a page orders, and what leads nowhere.

use super::*;

async fn send(page: &Page, path: &str, form: &str) -> Answer {
    page.post(path, "application/x-www-form-urlencoded", form).await
}

#[tokio::test]
async fn a_role_is_paused_and_resumed_by_a_button() {
    let page = Page::start(None, true).await;
    page.observer.role_changed("applier", RoleState::Paused { since_second: 1 }, None);
    page.observer.role_changed("tailer", RoleState::Running, None);
    page.observer.role_changed("web", RoleState::Running, None);
    let overview = page.get("/").await.body;
    assert!(
        overview.contains("name=pause value=\"tailer\"") && overview.contains("name=resume value=\"applier\""),
        "{overview}"
    );
    assert!(!overview.contains("value=\"web\""), "the pages take no orders about themselves");
    let token = field(&overview, "token");
    assert_eq!(send(&page, "/roles", "pause=tailer").await.status, 403, "no token");
    // The twin refuses everything and says what it was told.
    for (form, said) in [
        ("pause=tailer", "pause tailer"),
        ("resume=cloud+main", "resume cloud main"),
        ("restart=applier", "restart applier None None"),
    ] {
        let answer = send(&page, "/roles", &format!("token={token}&{form}")).await;
        assert!(answer.status == 409 && answer.body.contains(said) && answer.body.contains("as told"), "{}", answer.body);
    }
    for form in ["", "&pause=tailer&resume=tailer", "&restart=tailer&resume=tailer", "&stop=tailer"] {
        assert_eq!(send(&page, "/roles", &format!("token={token}{form}")).await.status, 400, "{form}");
    }
    page.end().await;
}

#[tokio::test]
async fn columns_of_a_row_that_lost_are_put_back_where_some_are_ticked() {
    let page = Page::start(None, true).await;
    let token = field(&page.get("/conflicts?show=all").await.body, "token");
    let some = format!("token={token}&show=all&one=columns:c-7f3a&column=c-7f3a:seats&column=c-0001:name");
    let done = send(&page, "/conflicts", &some).await;
    assert!(done.head.contains("location: /conflicts?show=all&done=put-back&count=1"), "{}", done.head);
    // None is not all, and another conflict's boxes are not this one's.
    for form in ["", "&column=c-0001:name"] {
        let nothing = send(&page, "/conflicts", &format!("token={token}&one=columns:c-7f3a{form}")).await;
        assert!(nothing.head.contains("location: /conflicts?done=nothing&count=0"), "{}", nothing.head);
    }
    page.end().await;
}
