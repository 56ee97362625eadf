import type { ClientBase } from 'pg';

/** Every definition of the schema, one line each, so that a test can compare two states. */
export async function catalogOf(client: ClientBase): Promise<string[]> {
  const { rows } = await client.query<{ line: string }>(`
    WITH relations AS (
      SELECT c.* FROM pg_class AS c WHERE c.relnamespace = 'millrace'::regnamespace
    )
    SELECT format('%s %s %s %s', relkind, relname, reloptions, relispartition) AS line FROM relations
    UNION ALL
    SELECT format('column %s.%s %s %s %s %s %s %s', r.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                  a.attnotnull, a.attidentity, a.attstorage, a.attcompression, pg_get_expr(d.adbin, d.adrelid))
      FROM relations AS r JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
      LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    UNION ALL
    SELECT format('index %s', pg_get_indexdef(i.indexrelid)) FROM relations AS r JOIN pg_index AS i ON i.indrelid = r.oid
    UNION ALL
    SELECT format('constraint %s %s %s', r.relname, k.conname, pg_get_constraintdef(k.oid))
      FROM relations AS r JOIN pg_constraint AS k ON k.conrelid = r.oid
    UNION ALL
    SELECT format('view %s %s', relname, pg_get_viewdef(oid)) FROM relations WHERE relkind = 'v'
    UNION ALL
    SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'millrace'::regnamespace
    ORDER BY line`);
  return rows.map(({ line }) => line);
}
