-- Text that runs on SQLite and PostgreSQL. Times are nanoseconds since 1970, UTC.
CREATE TABLE documents (
    kind    TEXT   NOT NULL,
    id      TEXT   NOT NULL,
    rev     BIGINT NOT NULL,
    data    TEXT   NOT NULL,
    updated BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE TABLE events (
    seq     BIGINT NOT NULL PRIMARY KEY,
    at      BIGINT NOT NULL,
    kind    TEXT   NOT NULL,
    id      TEXT   NOT NULL,
    type    TEXT   NOT NULL,
    data    TEXT   NOT NULL
);
