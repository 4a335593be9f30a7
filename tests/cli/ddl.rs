//! Schema changes of other nodes: listed, and decided about.

use tandem::observe::SchemaView;

use super::{NOW, Shown};

pub fn schema_change(state: &str) -> SchemaView {
    SchemaView {
        number: if state == "done" { 6 } else { 7 },
        origin: "laptop-b".into(),
        committed_seconds: NOW,
        object: "campus.riders".into(),
        statement: "ALTER TABLE riders\n  DROP age".into(),
        state: state.into(),
        open: state != "done",
        danger: (state != "done").then(|| "drops a part of the table".into()),
        remark: None,
        parked: if state == "done" { 0 } else { 3 },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_changes_are_listed_and_decided_about() {
    let node = Shown::start(None).await;
    let said = node.place.run(&["ddl", "list"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(
        said.out,
        "\
N  FROM      RAN                  ABOUT          STATE    BEHIND IT  STATEMENT
7  laptop-b  2027-01-15 08:00:00  campus.riders  waiting          3  ALTER TABLE riders DROP age
6  laptop-b  2027-01-15 08:00:00  campus.riders  done             0  ALTER TABLE riders DROP age
7: it waits because it drops a part of the table.

Run it here:   tandem ddl approve 7      Go on without it:   tandem ddl skip 7
"
    );
    let said = node.place.run(&["ddl", "approve", "7"]);
    assert_eq!(
        (said.code, said.out.as_str()),
        (0, "7: the statement about campus.riders runs now; 3 changes behind it follow.\n")
    );
    let said = node.place.run(&["ddl", "skip", "7"]);
    assert_eq!(said.out, "7: the statement about campus.riders is left out; 3 changes behind it follow.\n");
    let said = node.place.run(&["ddl", "skip", "8"]);
    assert!(said.code == 2 && said.err.contains("there is no such schema change that waits"), "{}", said.err);
}
