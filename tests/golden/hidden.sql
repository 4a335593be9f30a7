-- Tables with columns that only the binlog shows: a unique key over what is too long for an index has its hash in one of them.

SET NAMES utf8mb4;
SET time_zone = '+00:00';
SET sql_mode = '';
CREATE DATABASE types;
USE types;

CREATE TABLE hashed (id INT PRIMARY KEY, t TEXT UNIQUE, b BLOB, n INT, v VARCHAR(3000), UNIQUE (b, n), UNIQUE (v)) CHARSET utf8mb4;
INSERT INTO hashed VALUES (1, 'é', 'x', 5, 'v1'), (2, NULL, 'y', NULL, NULL), (3, '', '', 0, ''), (4, 'four', NULL, 1, 'v4');
UPDATE hashed SET t = 'a', n = NULL WHERE id = 1;
UPDATE hashed SET t = 'b', v = 'v2' WHERE id = 2;
UPDATE hashed SET v = NULL WHERE id = 3;
DELETE FROM hashed WHERE id = 4;

-- Names that an application took first: the server counts on.
CREATE TABLE hashed_by_name (DB_ROW_HASH_1 BIGINT UNSIGNED, id INT PRIMARY KEY, t TEXT UNIQUE, DB_ROW_HASH_2 BIGINT UNSIGNED) CHARSET utf8mb4;
INSERT INTO hashed_by_name VALUES (7, 1, 'a', 8), (NULL, 2, 'b', NULL), (9, 3, NULL, 10);
UPDATE hashed_by_name SET DB_ROW_HASH_2 = 11, t = 'c' WHERE id = 3;

-- Behind the ends of a row's life, and behind a computed column.
CREATE TABLE versioned_hashed (id INT PRIMARY KEY, t TEXT UNIQUE) CHARSET utf8mb4 WITH SYSTEM VERSIONING;
INSERT INTO versioned_hashed VALUES (1, 'a'), (2, 'b');
UPDATE versioned_hashed SET t = 'c' WHERE id = 1;
DELETE FROM versioned_hashed WHERE id = 2;
CREATE TABLE computed_hashed (id INT PRIMARY KEY, t TEXT UNIQUE, v INT AS (id + 1) VIRTUAL, s INT AS (id + 2) STORED) CHARSET utf8mb4;
INSERT INTO computed_hashed (id, t) VALUES (1, 'a'), (2, NULL);
UPDATE computed_hashed SET t = 'z' WHERE id = 2;

-- NOT NULL, so that the hash is not NULL either; without a primary key.
CREATE TABLE hashed_alone (id INT, t MEDIUMTEXT NOT NULL UNIQUE, u LONGBLOB NOT NULL, UNIQUE (u)) CHARSET utf8mb4;
INSERT INTO hashed_alone VALUES (1, 'a', 'x'), (2, 'b', 'y');
UPDATE hashed_alone SET u = 'w' WHERE id = 2;
DELETE FROM hashed_alone WHERE id = 1;
