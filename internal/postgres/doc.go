// Package postgres is a database on a PostgreSQL server: connections, schemas,
// transactions in two round trips, and what to do about its errors. It alone
// knows the driver.
//
// An address is a URL as libpq takes it (postgresql://user@host:5432/db?sslmode=...),
// or BitBake's with a driver's name in it (postgresql+asyncpg://...). Passwords
// come from the environment (PGPASSWORD, PGPASSFILE, ~/.pgpass), or with
// [Options]; [DB.Name] and errors never show one.
//
// Tables lie in the first schema of the connection's search_path. Which version
// of them there is stands in table slipway_schema; an older one is brought up to
// date by who comes first, a newer one is refused.
//
// What a transaction has committed is in the database and survives this process;
// whether it survives a crash of the database's machine is for the server's
// synchronous_commit to say, unless [Options.Durable] asks for it.
package postgres
