-- Tables that change while the binlog is written: with names in it, the rows from before stay readable.

SET system_versioning_alter_history = KEEP;
ALTER TABLE versioned ADD COLUMN c INT DEFAULT 5;
UPDATE versioned SET c = 6;

CREATE TABLE altered (
    id INT PRIMARY KEY, gone VARCHAR(5), a INT UNSIGNED, t VARCHAR(10) CHARACTER SET latin1, e ENUM('x', 'y'), d DATETIME, moved TINYINT
);
INSERT INTO altered VALUES (1, 'gone', 4294967295, 'é', 'x', '2024-01-02 03:04:05', -1), (2, NULL, NULL, NULL, NULL, NULL, NULL);
ALTER TABLE altered DROP COLUMN gone, MODIFY a BIGINT, MODIFY t VARCHAR(20) CHARACTER SET utf8mb4, MODIFY e ENUM('y', 'z', 'x'),
    MODIFY moved TINYINT FIRST, ADD COLUMN u UUID DEFAULT '00112233-4455-1677-8899-aabbccddeeff';
INSERT INTO altered (id, a, t, e, u) VALUES (3, -1, '😀', 'z', NULL);
UPDATE altered SET d = '2024-01-02 03:04:06', u = 'ffffffff-4455-1677-8899-aabbccddeeff';
