package hashpg

import (
	"context"
	"fmt"

	"slipway/internal/postgres"
)

// storedSQL is the stored value of a hash column of BitBake's tables.
func storedSQL(column string) string {
	return fmt.Sprintf(`CASE WHEN %[1]s ~ '^[0-9a-f]{64}$' THEN decode(%[1]s, 'hex') WHEN octet_length(%[1]s) >= 32 THEN '\x01'::bytea || convert_to(%[1]s, 'UTF8') ELSE convert_to(%[1]s, 'UTF8') END`, column)
}

// takeOver adds the rows of the tables that BitBake's server has made in the same
// schema of the same database. They stay, for going back; what is written from now
// on is not in them.
func takeOver(ctx context.Context, c *postgres.Conn) error {
	has := func(name string) (ok bool, err error) {
		_, err = c.Row(ctx, `SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_tables WHERE tablename = $1 AND schemaname = current_schema())`, []any{name}, &ok)
		return ok, err
	}
	for _, t := range []struct{ name, script string }{
		{"unihashes_v3", `INSERT INTO hash_method (name) SELECT DISTINCT method FROM unihashes_v3 ON CONFLICT DO NOTHING;
			INSERT INTO hash_mark (name) SELECT DISTINCT gc_mark FROM unihashes_v3 WHERE gc_mark <> '';
			INSERT INTO hash_unihash SELECT m.id, ` + storedSQL("t.taskhash") + `, nullif(` + storedSQL("t.unihash") + `, ` + storedSQL("t.taskhash") + `), coalesce(k.id, 0)
				FROM unihashes_v3 t JOIN hash_method m ON m.name = t.method LEFT JOIN hash_mark k ON k.name = t.gc_mark ON CONFLICT DO NOTHING`},
		{"outhashes_v2", `INSERT INTO hash_method (name) SELECT DISTINCT method FROM outhashes_v2 ON CONFLICT DO NOTHING;
			INSERT INTO hash_outhash SELECT m.id, ` + storedSQL("t.outhash") + `, coalesce((extract(epoch FROM t.created) * 1000000)::bigint, 0), ` + storedSQL("t.taskhash") + `, t.owner, t."PN", t."PV", t."PR", t.task, t.outhash_siginfo
				FROM outhashes_v2 t JOIN hash_method m ON m.name = t.method ON CONFLICT DO NOTHING`},
		{"users", `INSERT INTO hash_user SELECT username, token, coalesce(permissions, '') FROM users`},
		{"config", `INSERT INTO hash_mark (name) SELECT value FROM config WHERE name = 'gc-mark' AND value <> '' ON CONFLICT DO NOTHING;
			UPDATE hash_state SET mark = coalesce((SELECT k.id FROM config c JOIN hash_mark k ON k.name = c.value WHERE c.name = 'gc-mark'), 0)`},
	} {
		ok, err := has(t.name)
		if err == nil && ok {
			err = c.Script(ctx, `SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; `+t.script)
		}
		if err != nil {
			return fmt.Errorf("take over BitBake's table %s: %w", t.name, err)
		}
	}
	return nil
}
