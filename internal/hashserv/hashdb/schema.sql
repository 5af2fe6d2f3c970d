CREATE TABLE method (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
-- A hash is a BLOB when it is an even number of lower-case hex digits, else TEXT.
-- uni NULL: the unihash equals task. mark: of table mark, 0 for none.
CREATE TABLE unihash (
	method INTEGER NOT NULL, task ANY NOT NULL, uni ANY, mark INTEGER NOT NULL,
	PRIMARY KEY (method, task)
) STRICT, WITHOUT ROWID;
CREATE INDEX unihash_uni ON unihash (uni) WHERE uni IS NOT NULL;
-- created: microseconds since 1970. extra: of table extra, NULL for none.
CREATE TABLE outhash (
	method INTEGER NOT NULL, out ANY NOT NULL, created INTEGER NOT NULL, task ANY NOT NULL, extra INTEGER,
	PRIMARY KEY (method, out, created, task)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX outhash_task ON outhash (method, task, out);
CREATE TABLE extra (id INTEGER PRIMARY KEY, owner TEXT, PN TEXT, PV TEXT, PR TEXT, task TEXT, siginfo TEXT) STRICT;
CREATE TABLE mark (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE) STRICT;
-- state: one row. mark is the current mark, 0 for none; sweeping the mark of a sweep that is under way.
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), mark INTEGER NOT NULL, sweeping INTEGER NOT NULL, swept INTEGER NOT NULL, sweptmark TEXT) STRICT;
INSERT INTO state VALUES (1, 0, 0, 0, NULL);
CREATE TABLE user (name TEXT PRIMARY KEY, token TEXT NOT NULL, permissions TEXT NOT NULL) STRICT;
-- What changed in unihash, one row for a transaction, for the indexes of other processes.
CREATE TABLE journal (seq INTEGER PRIMARY KEY, changes BLOB NOT NULL) STRICT;
INSERT INTO journal VALUES (1, x'');
