-- Every column type with its edge values, and every shape of change. Run by tests/live/types.rs under several settings
-- of the server; each table is then compared, value by value, with what the binlog tells. Every table has the key `id`.

SET NAMES utf8mb4;
SET time_zone = '+00:00';
SET sql_mode = '';
CREATE DATABASE types;
USE types;

CREATE TABLE integers (
    id INT PRIMARY KEY,
    t TINYINT, tu TINYINT UNSIGNED, s SMALLINT, su SMALLINT UNSIGNED, m MEDIUMINT, mu MEDIUMINT UNSIGNED,
    i INT, iu INT UNSIGNED, b BIGINT, bu BIGINT UNSIGNED, z INT(8) UNSIGNED ZEROFILL, f BOOLEAN
);
INSERT INTO integers VALUES
    (1, -128, 0, -32768, 0, -8388608, 0, -2147483648, 0, -9223372036854775808, 0, 0, FALSE),
    (2, 127, 255, 32767, 65535, 8388607, 16777215, 2147483647, 4294967295, 9223372036854775807, 18446744073709551615, 42, TRUE),
    (3, -1, 128, -1, 32768, -1, 8388608, -1, 2147483648, -1, 9223372036854775808, 4294967295, -1),
    (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (5, 0, 1, 0, 1, 0, 1, 0, 1, 0, 9223372036854775807, 1, 2);

-- A year takes a bit in the list of signs, a geometry an entry in that of character sets: what is behind them shifts
-- in a reader that does not know.
CREATE TABLE traps (
    a TINYINT, y YEAR, b TINYINT UNSIGNED, g GEOMETRY, c CHAR(5) CHARACTER SET latin1, p POINT,
    d VARCHAR(5) CHARACTER SET koi8r, e ENUM('ж', 'x') CHARACTER SET cp1251, y2 YEAR, f SMALLINT, bt BIT(3), h TINYINT UNSIGNED,
    id INT, v VARCHAR(5) CHARACTER SET utf16, dec1 DECIMAL(4, 1), k TINYINT UNSIGNED, PRIMARY KEY (v, id, c(3))
);
INSERT INTO traps VALUES
    (-1, 2024, 255, POINT(1, 2), 'é', POINT(-1, 0.5), 'жук', 'ж', 1901, -1, 5, 255, 1, '😀', -1.5, 255),
    (NULL, 0, NULL, NULL, 'ÿ', NULL, NULL, NULL, 2155, NULL, NULL, NULL, 2, 'я', NULL, NULL);
UPDATE traps SET d = 'ёж', c = 'ñ' WHERE id = 1;

CREATE TABLE years (id INT PRIMARY KEY, y YEAR, y2 YEAR(2));
INSERT INTO years VALUES (1, 0, 0), (2, 1901, 70), (3, 2155, 69), (4, 1999, NULL), (5, NULL, 99), (6, 2000, 1);

CREATE TABLE decimals (
    id INT PRIMARY KEY, a DECIMAL(65, 30), b DECIMAL(65, 0), c DECIMAL(10, 2), d DECIMAL(38, 38), e DECIMAL(1, 0),
    f DECIMAL(9, 9), g DECIMAL(18, 9), h DECIMAL(20, 10) UNSIGNED, i DECIMAL(5, 4), j DECIMAL
);
INSERT INTO decimals VALUES
    (1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    (2, REPEAT('9', 65), REPEAT('9', 65), 99999999.99, 1, 9, 1, REPEAT('9', 30), REPEAT('9', 30), 9.9999, 9999999999),
    (3, CONCAT('-', REPEAT('9', 65)), CONCAT('-', REPEAT('9', 65)), -99999999.99, -1, -9, -1, -1e9, 0, -9.9999, -9999999999),
    (4, 0.000000000000000000000000000001, 1, 0.01, 1e-38, 1, 0.000000001, 1.000000001, 0.0000000001, 0.0001, 1),
    (5, -0.000000000000000000000000000001, -1, -0.01, -1e-38, -1, -0.000000001, -1.000000001, 1, -0.0001, -1),
    (6, '12345678901234567890.123456789', '1000000000000000000', '-0.00', '-0.0', '-0', 0.5, 123456789, 9876543210.0123456789, 1.5, '-0'),
    (7, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

CREATE TABLE floats (id INT PRIMARY KEY, f FLOAT, d DOUBLE, fu FLOAT UNSIGNED, fd FLOAT(7, 3), dd DOUBLE(20, 5));
INSERT INTO floats VALUES
    (1, 0, 0, 0, 0, 0), (2, 3.402823466e38, 1.7976931348623157e308, 3.402823466e38, 9999.999, 1e14),
    (3, -3.402823466e38, -1.7976931348623157e308, 0.1, -9999.999, -1e14), (4, 1.175494351e-38, 2.2250738585072014e-308, 1e-45, 0.001, 0.00001),
    (5, 1e-45, 5e-324, 16777217, 1.5, 0.1), (6, 0.1, 0.1, 1, 0.1, 0.30000000000000004), (7, -0e0, -0e0, 0, -0e0, -0e0),
    (8, NULL, NULL, NULL, NULL, NULL), (9, 16777216, 9007199254740993, 1e10, 123.456, 12345.67891);

CREATE TABLE bits (id INT PRIMARY KEY, a BIT(1), b BIT(7), c BIT(8), d BIT(9), e BIT(31), f BIT(33), g BIT(63), h BIT(64));
INSERT INTO bits VALUES
    (1, 0, 0, 0, 0, 0, 0, 0, 0), (2, 1, 127, 255, 511, 2147483647, 8589934591, 9223372036854775807, 18446744073709551615),
    (3, b'1', b'1000000', b'10000000', b'100000000', 1, 4294967296, 1, 9223372036854775808), (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

CREATE TABLE dates (id INT PRIMARY KEY, d DATE);
INSERT INTO dates VALUES (1, '0000-00-00'), (2, '1000-01-01'), (3, '9999-12-31'), (4, '2024-02-29'), (5, '2024-02-00'), (6, '2024-00-00'),
    (7, '0000-01-01'), (8, NULL), (9, '0001-01-01'), (10, '1970-01-01');

CREATE TABLE times (
    id INT PRIMARY KEY, t0 TIME, t1 TIME(1), t2 TIME(2), t3 TIME(3), t4 TIME(4), t5 TIME(5), t6 TIME(6)
);
INSERT INTO times VALUES
    (1, 0, 0, 0, 0, 0, 0, 0),
    (2, '838:59:59', '838:59:59.9', '838:59:59.99', '838:59:59.999', '838:59:59.9999', '838:59:59.99999', '838:59:59.999999'),
    (3, '-838:59:59', '-838:59:59.9', '-838:59:59.99', '-838:59:59.999', '-838:59:59.9999', '-838:59:59.99999', '-838:59:59.999999'),
    (4, '-00:00:01', '-00:00:00.1', '-00:00:00.01', '-00:00:00.001', '-00:00:00.0001', '-00:00:00.00001', '-00:00:00.000001'),
    (5, '00:00:01', '00:00:00.1', '00:00:00.01', '00:00:00.001', '00:00:00.0001', '00:00:00.00001', '00:00:00.000001'),
    (6, '-01:02:03', '-01:02:03.4', '-01:02:03.45', '-01:02:03.456', '-01:02:03.4567', '-01:02:03.45678', '-01:02:03.456789'),
    (7, '99:59:59', '100:00:00.0', '-100:00:00.00', '-99:59:59.000', '12:34:56.7000', '-12:34:56.70000', '-12:34:56.700000'),
    (8, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

CREATE TABLE datetimes (
    id INT PRIMARY KEY, d0 DATETIME, d1 DATETIME(1), d2 DATETIME(2), d3 DATETIME(3), d4 DATETIME(4), d5 DATETIME(5), d6 DATETIME(6)
);
INSERT INTO datetimes VALUES
    (1, 0, 0, 0, 0, 0, 0, 0),
    (2, '9999-12-31 23:59:59', '9999-12-31 23:59:59.9', '9999-12-31 23:59:59.99', '9999-12-31 23:59:59.999',
        '9999-12-31 23:59:59.9999', '9999-12-31 23:59:59.99999', '9999-12-31 23:59:59.999999'),
    (3, '1000-01-01', '1000-01-01', '0000-01-01', '0001-01-01', '1970-01-01', '2024-02-29 12:00', '2024-02-29 12:00:00.5'),
    (4, '2024-00-00', '2024-01-00 00:00:00.1', '0000-00-00 00:00:00', '2024-06-15 01:02:03.004', '2024-06-15 01:02:03.0004',
        '2024-06-15 01:02:03.00004', '2024-06-15 01:02:03.000004'),
    (5, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

CREATE TABLE timestamps (
    id INT PRIMARY KEY, s0 TIMESTAMP NULL, s1 TIMESTAMP(1) NULL, s2 TIMESTAMP(2) NULL, s3 TIMESTAMP(3) NULL,
    s4 TIMESTAMP(4) NULL, s5 TIMESTAMP(5) NULL, s6 TIMESTAMP(6) NULL
);
INSERT INTO timestamps VALUES
    (1, 0, 0, 0, 0, 0, 0, 0),
    (2, '2038-01-19 03:14:07', '2038-01-19 03:14:07.9', '2038-01-19 03:14:07.99', '2038-01-19 03:14:07.999',
        '2038-01-19 03:14:07.9999', '2038-01-19 03:14:07.99999', '2038-01-19 03:14:07.999999'),
    (3, '1970-01-01 00:00:01', '1970-01-01 00:00:01.1', '1970-01-01 00:00:01.01', '1970-01-01 00:00:01.001',
        '1970-01-01 00:00:01.0001', '1970-01-01 00:00:01.00001', '1970-01-01 00:00:01.000001'),
    (4, '2024-02-29 12:34:56', '2024-02-29 12:34:56.7', '2000-02-29', '2100-01-01', '2024-12-31 23:59:59.5', '1999-12-31', '2024-03-01'),
    (5, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

CREATE TABLE strings (
    id INT PRIMARY KEY, c0 CHAR(0), c1 CHAR(1), c255 CHAR(255), v0 VARCHAR(0), v1 VARCHAR(1), v63 VARCHAR(63), v64 VARCHAR(64),
    v255 VARCHAR(255) CHARACTER SET latin1, v256 VARCHAR(256) CHARACTER SET latin1, tt TINYTEXT, tx TEXT, mt MEDIUMTEXT, lt LONGTEXT,
    cl CHAR(255) CHARACTER SET latin1, c63 CHAR(63), c64 CHAR(64)
);
INSERT INTO strings VALUES
    (1, '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', ''),
    (2, '', '😀', REPEAT('😀', 255), '', 'é', REPEAT('😀', 63), REPEAT('😀', 64), REPEAT('é', 255), REPEAT('é', 256),
        REPEAT('x', 255), REPEAT('x', 300), REPEAT('y', 300), REPEAT('z', 300), REPEAT('é', 255), REPEAT('😀', 63), REPEAT('😀', 64)),
    (3, '', ' ', 'a  ', '', ' ', 'a  ', 'a\0b', 'tab\tnewline\n', 'back\\slash', '''quotes"', ' lead', 'trail ', '\0', '  a  ', 'ñ ', '\0'),
    (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

CREATE TABLE binaries (
    id INT PRIMARY KEY, b1 BINARY(1), b4 BINARY(4), b16 BINARY(16), b255 BINARY(255), vb1 VARBINARY(1), vb255 VARBINARY(255),
    vb256 VARBINARY(256), tb TINYBLOB, bl BLOB, mb MEDIUMBLOB, lb LONGBLOB, b0 BINARY(0), ch CHAR(3) CHARACTER SET binary
);
INSERT INTO binaries VALUES
    (1, '', '', '', '', '', '', '', '', '', '', '', '', ''),
    (2, x'00', x'00000000', x'00', x'00', x'00', x'0000', x'000000', x'00', x'0000', x'000000', x'00000000', '', x'000000'),
    (3, x'ff', x'01000000', x'ff00ff00', REPEAT(x'ff', 255), x'ff', REPEAT(x'fe', 255), REPEAT(x'fd', 256), REPEAT(x'fc', 255),
        REPEAT(x'fb', 300), REPEAT(x'fa', 300), REPEAT(x'f9', 300), '', x'610020'),
    (4, ' ', 'a   ', '  ', ' a', ' ', 'a ', ' ', 'a ', ' ', 'a ', ' ', '', ' '),
    (5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

CREATE TABLE compressed_columns (
    id INT PRIMARY KEY, v VARCHAR(200) COMPRESSED, vl VARCHAR(255) COMPRESSED CHARACTER SET latin1, v63 VARCHAR(63) COMPRESSED,
    vb VARBINARY(1000) COMPRESSED, tt TINYTEXT COMPRESSED, tx TEXT COMPRESSED, mt MEDIUMTEXT COMPRESSED CHARACTER SET koi8r,
    lt LONGTEXT COMPRESSED, bl BLOB COMPRESSED, lb LONGBLOB COMPRESSED
);
INSERT INTO compressed_columns VALUES
    (1, '', '', '', '', '', '', '', '', '', ''),
    (2, 'short', 'é', '😀', x'00ff', 'a', 'b', 'ж', 'd', x'00', x'0000'),
    (3, REPEAT('😀', 200), REPEAT('é', 255), REPEAT('x', 63), REPEAT(x'00', 1000), REPEAT('t', 255), REPEAT('text', 500),
        REPEAT('жук', 500), REPEAT('l', 70000), REPEAT(x'fe', 20000), REPEAT(x'00', 70000)),
    (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SET column_compression_zlib_wrap = ON;
INSERT INTO compressed_columns SELECT id + 10, v, vl, v63, vb, tt, tx, mt, lt, bl, lb FROM compressed_columns;

CREATE TABLE members (
    id INT PRIMARY KEY, e ENUM('a', 'b''c', 'd\\e', '', ' x', 'ñ'), e2 ENUM('я', 'ж') CHARACTER SET cp1251, eu ENUM('α', 'β') CHARACTER SET ucs2,
    s SET('a', 'b', 'c'), s64 SET('0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '10', '11', '12', '13', '14', '15', '16', '17', '18', '19',
        '20', '21', '22', '23', '24', '25', '26', '27', '28', '29', '30', '31', '32', '33', '34', '35', '36', '37', '38', '39', '40', '41',
        '42', '43', '44', '45', '46', '47', '48', '49', '50', '51', '52', '53', '54', '55', '56', '57', '58', '59', '60', '61', '62', '63'),
    sk SET('ж', 'я', 'ё') CHARACTER SET koi8r, su SET('α', 'β') CHARACTER SET utf16le, s9 SET('1', '2', '3', '4', '5', '6', '7', '8', 'nine'),
    s17 SET('1', '2', '3', '4', '5', '6', '7', '8', '9', '10', '11', '12', '13', '14', '15', '16', '17')
);
INSERT INTO members VALUES
    (1, 'a', 'я', 'α', '', '', '', '', '', ''), (2, 'b''c', 'ж', 'β', 'a,b,c', '0,63', 'ж,я,ё', 'α,β', 'nine', '17'),
    (3, 'refused', 'refused', 0, 'b', ~0, 'ё', 'β', '1,nine', '1,9,17'), (4, '', NULL, NULL, 'a,c', '31,32', 'ж,ё', 'α', '8', '16'),
    (5, 'd\\e', 2, 1, NULL, NULL, NULL, NULL, NULL, NULL), (6, ' x', NULL, NULL, NULL, 1, NULL, NULL, NULL, NULL),
    (7, 'ñ', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

-- 300 members take two bytes.
SET @members = (SELECT GROUP_CONCAT(QUOTE(CONCAT('m', seq))) FROM mysql.seq_1_to_300);
EXECUTE IMMEDIATE CONCAT('CREATE TABLE many_members (id INT PRIMARY KEY, e ENUM(', @members, '))');
INSERT INTO many_members VALUES (1, 'm1'), (2, 'm255'), (3, 'm256'), (4, 'm300'), (5, NULL), (6, '');

CREATE TABLE identifiers (id INT PRIMARY KEY, u UUID, i4 INET4, i6 INET6, b16 BINARY(16), b4 BINARY(4));
INSERT INTO identifiers VALUES
    (1, '00000000-0000-0000-0000-000000000000', '0.0.0.0', '::', '', ''),
    (2, 'ffffffff-ffff-ffff-ffff-ffffffffffff', '255.255.255.255', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', REPEAT(x'ff', 16), x'ffffffff'),
    (3, '00112233-4455-1677-8899-aabbccddeeff', '192.168.0.1', '::1', 'sixteen bytes 16', 'four'),
    (4, '00112233-4455-7677-8899-aabbccddee00', '10.0.0.0', '::1.2.3.4', x'0001', x'0100'),
    (5, '00112233-4455-4677-0899-aabbccdd0000', '0.0.0.1', '::ffff:1.2.3.4', x'01', x'00'),
    (6, '12ab0000-0000-0000-0000-000000000000', '1.0.0.0', '2001:db8::1:0:0:1', NULL, NULL),
    (7, '00000000-0000-0000-0000-000000000001', '127.0.0.1', '1:0:2:3:4:5:6:7', NULL, NULL),
    (8, 'f47ac10b-58cc-4372-a567-0e02b2c3d479', '100.200.30.40', '1:2:3:4:5:6:7:0', NULL, NULL),
    (9, '018f3d5c-7c1a-7b3c-8d2e-1f2a3b4c5d6e', NULL, '::1:2', NULL, NULL), (10, NULL, NULL, 'fe80::', NULL, NULL),
    (11, NULL, NULL, '1:0:0:2:0:0:0:3', NULL, NULL), (12, NULL, NULL, '0:0:0:0:0:1:0:0', NULL, NULL),
    (13, NULL, NULL, '1:0:0:2:0:0:3:4', NULL, NULL), (14, NULL, NULL, '::ffff:0:0', NULL, NULL), (15, NULL, NULL, NULL, NULL, NULL);

CREATE TABLE json_and_geometry (
    id INT PRIMARY KEY, j JSON, g GEOMETRY, p POINT, l LINESTRING, pg POLYGON, mp MULTIPOINT, ml MULTILINESTRING, mpg MULTIPOLYGON,
    gc GEOMETRYCOLLECTION
);
INSERT INTO json_and_geometry VALUES
    (1, '{"a": [1, 2.50, "é😀\\u00e9", null, true]}', POINT(1, 2), POINT(-1.5, 1e300), LineString(POINT(0, 0), POINT(1, 1)),
        ST_GeomFromText('POLYGON((0 0,10 0,10 10,0 0),(1 1,2 1,2 2,1 1))'), ST_GeomFromText('MULTIPOINT(0 0,1 1)'),
        ST_GeomFromText('MULTILINESTRING((0 0,1 1),(2 2,3 3))'), ST_GeomFromText('MULTIPOLYGON(((0 0,1 0,1 1,0 0)))'),
        ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))')),
    (2, 'null', ST_GeomFromText('POINT(1 1)', 4326), POINT(0, 0), NULL, NULL, NULL, NULL, NULL, ST_GeomFromText('GEOMETRYCOLLECTION EMPTY')),
    (3, '"text"', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), (4, '  [ ]  ', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

CREATE TABLE text_in_character_sets (
    id INT PRIMARY KEY, latin1 VARCHAR(9) CHARACTER SET latin1, koi8r CHAR(9) CHARACTER SET koi8r, gbk TEXT CHARACTER SET gbk,
    big5 VARCHAR(9) CHARACTER SET big5, sjis VARCHAR(9) CHARACTER SET sjis, cp932 CHAR(9) CHARACTER SET cp932,
    ujis VARCHAR(9) CHARACTER SET ujis, eucjpms CHAR(9) CHARACTER SET eucjpms, euckr VARCHAR(9) CHARACTER SET euckr,
    gb2312 VARCHAR(9) CHARACTER SET gb2312, ucs2 CHAR(9) CHARACTER SET ucs2, utf16 TEXT CHARACTER SET utf16,
    utf16le VARCHAR(9) CHARACTER SET utf16le, utf32 CHAR(9) CHARACTER SET utf32, utf8mb3 VARCHAR(9) CHARACTER SET utf8mb3,
    utf8mb4 CHAR(9) CHARACTER SET utf8mb4, ascii CHAR(9) CHARACTER SET ascii, swe7 VARCHAR(9) CHARACTER SET swe7,
    tis620 VARCHAR(9) CHARACTER SET tis620, nopad VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin,
    uca VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_ai_ci, bin VARCHAR(9) CHARACTER SET latin1 COLLATE latin1_bin
);
INSERT INTO text_in_character_sets VALUES
    (1, 'é€ÿ', 'жук ', '你好', '你好', 'あｱ亜', 'あｱ亜', 'あ亜', 'あ亜', '가나', '你好', 'é€ ', 'é😀', 'é😀 ', '😀a ', 'é€', '😀é', 'a~', 'ÅÄÖ', 'กข',
        'é ', 'é😀', 'é '),
    (2, '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', ''),
    (3, 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v');

-- Generated, invisible and versioned columns; keys of several columns, in another order, with prefixes; no key but an id.
CREATE TABLE special_columns (
    id INT PRIMARY KEY, a INT, v INT AS (a + 1) VIRTUAL, s VARCHAR(20) AS (CONCAT('<', a, '>')) STORED, hidden INT INVISIBLE DEFAULT 7, z TINYINT
);
INSERT INTO special_columns (id, a, z) VALUES (1, 10, 1), (2, NULL, NULL), (3, 3, 3);
UPDATE special_columns SET a = 11, hidden = 8 WHERE id = 1;
DELETE FROM special_columns WHERE id = 3;

CREATE TABLE versioned (id INT PRIMARY KEY, a VARCHAR(10), b INT) WITH SYSTEM VERSIONING;
INSERT INTO versioned VALUES (1, 'one', 1), (2, 'two', 2), (3, 'three', 3);
UPDATE versioned SET a = 'eins' WHERE id = 1;
UPDATE versioned SET id = 20 WHERE id = 2;
DELETE FROM versioned WHERE id = 3;
INSERT INTO versioned VALUES (3, 'again', 3);
REPLACE INTO versioned VALUES (1, 'uno', 1);
DELETE HISTORY FROM versioned;

CREATE TABLE versioned_by_name (
    id INT PRIMARY KEY, a INT, since TIMESTAMP(6) GENERATED ALWAYS AS ROW START, until TIMESTAMP(6) GENERATED ALWAYS AS ROW END INVISIBLE,
    b INT WITHOUT SYSTEM VERSIONING, PERIOD FOR SYSTEM_TIME (since, until)
) WITH SYSTEM VERSIONING;
INSERT INTO versioned_by_name (id, a, b) VALUES (1, 1, 1), (2, 2, 2);
UPDATE versioned_by_name SET a = 10 WHERE id = 1;
UPDATE versioned_by_name SET b = 20 WHERE id = 2;
DELETE FROM versioned_by_name WHERE id = 1;

CREATE TABLE long_key (a VARCHAR(10), b INT, c TEXT, id INT, v VARCHAR(10), PRIMARY KEY (id, c(5), a));
INSERT INTO long_key VALUES ('x', 1, 'abcdefgh', 1, 'v'), ('y', 2, 'ABCDEFGH', 2, NULL);
UPDATE long_key SET v = 'changed', id = 3 WHERE id = 1;
DELETE FROM long_key WHERE id = 2;

-- Every shape of change: moves of a key, many rows in one statement, what stays as it is, foreign keys off.
CREATE TABLE shapes (id INT PRIMARY KEY, v VARCHAR(20), big TEXT, n INT DEFAULT 3, UNIQUE KEY (n, id));
INSERT INTO shapes (id) VALUES (1);
INSERT INTO shapes VALUES (2, 'two', REPEAT('t', 100), 2), (3, 'three', NULL, NULL), (4, 'four', 'f', 4);
UPDATE shapes SET v = 'changed' WHERE id < 3;
UPDATE shapes SET v = NULL, n = 30 WHERE id = 3;
UPDATE shapes SET id = id + 100 ORDER BY id DESC;
UPDATE shapes SET big = 'big' WHERE id = 104;
DELETE FROM shapes WHERE id = 102;
REPLACE INTO shapes VALUES (103, 'replaced', 'r', 1);
INSERT INTO shapes VALUES (103, 'x', 'x', 1) ON DUPLICATE KEY UPDATE v = 'again';
SET foreign_key_checks = 0, unique_checks = 0;
INSERT INTO shapes (id, v) VALUES (200, 'unchecked');
SET foreign_key_checks = 1, unique_checks = 1;

-- More columns than bits in a byte or two, and NULLs among them.
CREATE TABLE wide (
    id INT PRIMARY KEY, c1 INT, c2 INT, c3 INT, c4 INT, c5 INT, c6 INT, c7 INT, c8 INT, c9 INT, c10 INT, c11 INT, c12 INT, c13 INT, c14 INT,
    c15 INT, c16 INT, c17 INT
);
INSERT INTO wide VALUES (1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17),
    (2, NULL, 2, NULL, 4, NULL, 6, NULL, 8, NULL, 10, NULL, 12, NULL, 14, NULL, 16, NULL), (3, 1, NULL, 3, NULL, 5, NULL, 7, NULL, 9, NULL, 11,
    NULL, 13, NULL, 15, NULL, 17);
UPDATE wide SET c17 = 170, c8 = NULL WHERE id = 1;

-- Ordinary values: what every reader of binlogs should get right.
CREATE TABLE plain (
    id INT PRIMARY KEY, t TINYINT, s SMALLINT UNSIGNED, m MEDIUMINT, b BIGINT, f FLOAT, d DOUBLE, n DECIMAL(20, 6), c CHAR(10), v VARCHAR(300),
    x TEXT, bi BINARY(5), vb VARBINARY(20), bl BLOB, bt BIT(11), e ENUM('one', 'two', 'three'), st SET('a', 'b', 'c'), y YEAR, da DATE,
    t0 TIME, t3 TIME(3), t6 TIME(6), d0 DATETIME, d3 DATETIME(3), d6 DATETIME(6), s0 TIMESTAMP NULL, s3 TIMESTAMP(3) NULL, s6 TIMESTAMP(6) NULL, g POINT
);
INSERT INTO plain SELECT seq, seq - 50, seq * 600, seq * 80000 - 4000000, (seq - 50) * 90000000000000000, seq / 8, seq / 7, seq * 1234567.890123,
    CONCAT('char ', seq), REPEAT(CONCAT('é', seq), seq), REPEAT('text ', seq), unhex(lpad(hex(seq), 4, '0')), REPEAT(x'7f', seq % 20),
    REPEAT(x'ff00', seq), seq * 20, 1 + seq % 3, seq % 8, 1901 + seq, '2024-02-01' + INTERVAL seq DAY, SEC_TO_TIME(seq * 997),
    SEC_TO_TIME(seq * 99.123), SEC_TO_TIME(seq * 1.000001), '2024-02-28 23:00:00' + INTERVAL seq HOUR,
    '1999-12-31 23:59:00.5' + INTERVAL seq SECOND, '2038-01-19' + INTERVAL seq * 1000001 MICROSECOND, '2001-01-01' + INTERVAL seq MONTH,
    '2024-02-28 12:00:00.125' + INTERVAL seq * 7 HOUR, '1970-01-02' + INTERVAL seq * 123456789 MICROSECOND, POINT(seq, -seq)
    FROM (SELECT CAST(seq AS SIGNED) AS seq FROM mysql.seq_1_to_99) AS numbers;
UPDATE plain SET x = NULL, n = -n, v = 'short', st = '' WHERE id % 3 = 0;
DELETE FROM plain WHERE id % 5 = 0;

CREATE SEQUENCE numbers;
SELECT NEXTVAL(numbers);
