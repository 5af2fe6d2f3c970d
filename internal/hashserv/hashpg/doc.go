// Package hashpg is the database of a hash equivalence server on PostgreSQL: what
// hashdb is on a file. Several server processes share it.
//
// What one process has answered, every other one sees: before a lookup is
// answered from the index in memory, the number of the last transaction is asked
// of the database (one question for all that wait), and what is new is read from
// the journal. A restart of the database, or a journal that goes back, makes the
// index begin anew.
//
// Writes of one process are gathered: one transaction of two round trips holds as
// many reports as have come while the last one was under way. All processes take
// turns through the lock of one row, so that a report sees every report before it.
// When a writing method returns, the change is committed.
//
// The tables are described in docs/format/hashserv-database.md.
package hashpg
