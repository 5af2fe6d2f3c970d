CREATE TABLE hash_method (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE hash_mark (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE);
-- A hash of 64 lower-case hex digits is its 32 bytes; any other text is its bytes,
-- behind a byte 1 when it has 32 or more of them.
-- uni NULL: the unihash equals task. mark: of hash_mark, 0 for none.
CREATE TABLE hash_unihash (method int NOT NULL, task bytea NOT NULL, uni bytea, mark int NOT NULL, PRIMARY KEY (method, task));
CREATE INDEX hash_unihash_uni ON hash_unihash (uni) WHERE uni IS NOT NULL;
-- created: microseconds since 1970.
CREATE TABLE hash_outhash (
	method int NOT NULL, "out" bytea NOT NULL, created bigint NOT NULL, task bytea NOT NULL,
	owner text, pn text, pv text, pr text, taskname text, siginfo text,
	PRIMARY KEY (method, task, "out")
);
CREATE INDEX hash_outhash_out ON hash_outhash (method, "out", created);
-- One row, which every transaction that writes locks first: so the journal has the
-- order of the commits. seq is the journal's last number. mark is the current mark,
-- 0 for none; sweeping the mark of a sweep that is under way.
CREATE TABLE hash_state (seq bigint NOT NULL, mark int NOT NULL, sweeping int NOT NULL, swept bigint NOT NULL, sweptmark text) WITH (fillfactor = 10);
INSERT INTO hash_state VALUES (1, 0, 0, 0, NULL);
CREATE TABLE hash_user (name text PRIMARY KEY, token text NOT NULL, permissions text NOT NULL);
-- What changed in hash_unihash, one row for a transaction, for the indexes of other processes.
CREATE TABLE hash_journal (seq bigint PRIMARY KEY, changes bytea NOT NULL);
