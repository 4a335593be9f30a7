#!/bin/bash
# Run by the MariaDB image when its data is new: the account of the node, kept out of the binlog.
set -euo pipefail
case "$TANDEM_PASSWORD" in
*[!A-Za-z0-9_-]*) echo "TANDEM_PASSWORD: use letters, digits, - and _ only" >&2; exit 1 ;;
esac
mariadb --user=root --password="$MARIADB_ROOT_PASSWORD" <<SQL
SET sql_log_bin = 0;
CREATE USER 'tandem'@'%' IDENTIFIED BY '$TANDEM_PASSWORD';
GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER, CREATE, ALTER, DROP, INDEX, REFERENCES ON campus.* TO 'tandem'@'%';
GRANT ALL ON tandem.* TO 'tandem'@'%';
GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO 'tandem'@'%';
SQL
