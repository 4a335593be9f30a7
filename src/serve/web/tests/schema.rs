//! Schema changes of other nodes over the API.

use super::*;

pub fn schema_change(state: &str) -> SchemaView {
    SchemaView {
        number: 7,
        origin: "laptop-b".into(),
        committed_seconds: 1_800_000_000,
        object: "campus.riders".into(),
        statement: "ALTER TABLE riders DROP age".into(),
        state: state.into(),
        open: state != "done",
        danger: Some("drops a part of the table".into()),
        remark: None,
        parked: 3,
    }
}

#[tokio::test]
async fn schema_changes_are_listed_and_decided_about() {
    let page = Page::start(None, true).await;
    let all: Vec<SchemaView> = serde_json::from_str(&page.get("/api/schema-changes").await.body).unwrap();
    let open: Vec<SchemaView> = serde_json::from_str(&page.get("/api/schema-changes?open=true").await.body).unwrap();
    assert_eq!((all.len(), open.len(), open[0].parked), (2, 1, 3));
    let json = async |path: &str| page.post(path, "application/json", "{}").await;
    let answer = json("/api/schema-changes/7/approve").await;
    assert!(answer.status == 200 && answer.body.contains("\"approved\""), "{}", answer.body);
    assert!(json("/api/schema-changes/7/skip").await.body.contains("\"skipping\""));
    assert_eq!(json("/api/schema-changes/8/approve").await.status, 404);
    // What a page of another site could send without asking is not taken.
    assert_eq!(page.post("/api/schema-changes/7/approve", "text/plain", "{}").await.status, 400);
}
