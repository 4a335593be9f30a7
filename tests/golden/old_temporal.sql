-- The temporal format of before MariaDB 10.1, which has no fraction that the binlog could describe.

SET time_zone = '+00:00';
SET sql_mode = '';
SET GLOBAL mysql56_temporal_format = OFF;
CREATE DATABASE types;
USE types;

CREATE TABLE old_temporal (id INT PRIMARY KEY, t TIME, d DATETIME, s TIMESTAMP NULL, da DATE);
INSERT INTO old_temporal VALUES
    (1, 0, 0, 0, 0), (2, '838:59:59', '9999-12-31 23:59:59', '2038-01-19 03:14:07', '9999-12-31'),
    (3, '-838:59:59', '1000-01-01 00:00:00', '1970-01-01 00:00:01', '2024-02-29'), (4, '-00:00:01', '2024-02-29 12:34:56', '2024-02-29 12:34:56', NULL),
    (5, '12:34:56', '0000-00-00 00:00:00', NULL, '0000-00-00'), (6, NULL, NULL, NULL, NULL);
UPDATE old_temporal SET t = '-12:34:56' WHERE id = 5;
DELETE FROM old_temporal WHERE id = 6;
SET GLOBAL mysql56_temporal_format = ON;
