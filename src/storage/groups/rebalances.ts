import type { Client } from 'pg';
import type { GroupChange, RebalanceRow } from '../../coordinator/group.ts';
import type { StoredRebalance } from '../../delivery/ports/store.ts';
import { limits } from '../../limits/limits.ts';
import { arrayLiteral } from '../pg/array-literal.ts';
import { desc, drizzle, eq, getTableColumns } from '../pg/drizzle.ts';
import { epochMs } from '../pg/epoch.ts';
import { nowOf, type Now } from '../pg/now.ts';
import { groupRebalances } from '../schema/group-schema.ts';

/**
 * Adds the rebalances that have ended, and keeps only the last ones of each group of the changes.
 */
export async function saveRebalances(
  client: Client,
  changes: readonly { readonly groupId: number; readonly change: GroupChange }[],
  now: Now,
): Promise<void> {
  const rows = changes.flatMap(({ groupId, change }) => change.rebalances.map((row) => ({ groupId, row })));
  if (rows.length === 0) return;
  // A rebalance that is there already is skipped, because a save with an unknown outcome is
  // repeated.
  await client.query(
    `INSERT INTO millrace.group_rebalances (group_id, generation, causes, duration_us, member_count, assigned_count,
       revoked_count, completed, ended_at)
     SELECT w.*, ${nowOf('$9')} FROM unnest($1::integer[], $2::bigint[], $3::jsonb[], $4::bigint[], $5::integer[], $6::integer[],
       $7::integer[], $8::boolean[]) AS w
     ON CONFLICT (group_id, generation) DO NOTHING`,
    [
      column(rows, ({ groupId }) => groupId),
      column(rows, ({ row }) => row.generation),
      rows.map(({ row }) => JSON.stringify(row.causes)),
      column(rows, ({ row }) => Math.round(row.durationMs * 1_000)),
      column(rows, ({ row }) => row.memberCount),
      column(rows, ({ row }) => row.assignedCount),
      column(rows, ({ row }) => row.revokedCount),
      rows.map(({ row }) => row.completed),
      now(),
    ],
  );
  await client.query(
    `DELETE FROM millrace.group_rebalances AS r USING unnest($1::integer[], $2::bigint[]) AS w (group_id, generation)
      WHERE r.group_id = w.group_id AND r.generation <= w.generation - $3`,
    [column(rows, ({ groupId }) => groupId), column(rows, ({ row }) => row.generation), limits.rebalancesKept],
  );
}

/** Reads the last rebalances of a group, the newest first. */
export async function readRebalances(client: Client, groupId: number): Promise<StoredRebalance[]> {
  const { groupId: id, endedAt, ...plain } = getTableColumns(groupRebalances);
  const rows = await drizzle({ client })
    .select({ ...plain, endedAtMs: epochMs(endedAt) })
    .from(groupRebalances)
    .where(eq(id, groupId))
    .orderBy(desc(groupRebalances.generation))
    .limit(limits.rebalancesKept);
  return rows.map(({ durationUs, ...row }) => ({ ...row, durationMs: durationUs / 1_000 }));
}

type Saved = { readonly groupId: number; readonly row: RebalanceRow };

function column(rows: readonly Saved[], valueOf: (saved: Saved) => number): string {
  return arrayLiteral(rows.map(valueOf));
}
