import { and, drizzle, eq, inArray, isNotNull, nowSql } from '../pg/drizzle.ts';
import type { Client } from 'pg';
import type { AssignmentRow, MemberId, MemberRow } from '../../coordinator/group.ts';
import type { GroupEnd, OwedRecords, SavedChange, SubscriptionRow } from '../../delivery/ports/store.ts';
import { lockTopicsOfDead, saveAttendance, type GroupAttendance } from './attendance.ts';
import { saveRebalances } from './rebalances.ts';
import { auditEnds } from './subscription-audit.ts';
import { lockTopicsOf } from './claims.ts';
import { arrayLiteral, nestedArrayLiteral } from '../pg/array-literal.ts';
import { nowOf, type Now } from '../pg/now.ts';
import { consumerGroups, groupAssignments } from '../schema/group-schema.ts';
import { isNamed, nameKey } from '../schema/namespaces.ts';

/** Creates a group, or finds the one of that name. */
export async function createGroup(client: Client, name: string, now: Now): Promise<number> {
  const db = drizzle({ client });
  const made = await db
    .insert(consumerGroups)
    .values({ ...nameKey(name), createdAt: nowSql(now), emptySince: nowSql(now) })
    .onConflictDoNothing()
    .returning({ id: consumerGroups.id });
  const found =
    made[0] ??
    (await db.select({ id: consumerGroups.id }).from(consumerGroups).where(isNamed(consumerGroups, name)))[0];
  if (found === undefined) throw new Error(`group ${name} is neither new nor there`);
  return found.id;
}

/**
 * Deletes a group with all its rows, and writes the audit. Assignments have no foreign key, so they
 * need their own DELETE.
 * @returns whether it is gone. OFFSET_RETENTION leaves a group that is used.
 */
export async function endGroup(
  client: Client,
  groupId: number,
  reason: GroupEnd,
  owed: readonly OwedRecords[],
  now: Now,
): Promise<boolean> {
  await lockTopicsOf(client, "group_id = $1 AND state <> 'CANCELLED'", [groupId]);
  await client.query('SELECT 1 FROM millrace.consumer_groups WHERE id = $1 FOR UPDATE', [groupId]);
  const { rows } = await client.query<[id: number, state: SubscriptionRow['state']]>({
    rowMode: 'array',
    text: `SELECT id, state FROM millrace.subscriptions WHERE group_id = $1 AND state <> 'CANCELLED' ORDER BY id FOR UPDATE`,
    values: [groupId],
  });
  if (reason === 'OFFSET_RETENTION') {
    const members = await client.query('SELECT 1 FROM millrace.group_members WHERE group_id = $1 LIMIT 1', [groupId]);
    if (members.rows.length > 0 || rows.some(([, state]) => state !== 'DEAD')) return false;
  }
  const records = new Map(owed.map((one) => [one.subscriptionId, one.records]));
  const ended = rows.map(([subscriptionId]) => ({ subscriptionId, records: records.get(subscriptionId) ?? 0 }));
  await auditEnds(client, reason, ended, now);
  const db = drizzle({ client });
  await db.delete(consumerGroups).where(eq(consumerGroups.id, groupId));
  await db.delete(groupAssignments).where(eq(groupAssignments.groupId, groupId));
  return true;
}

/** Restarts the time since which each empty group is empty. */
export async function touchGroups(client: Client, groupIds: readonly number[], now: Now): Promise<void> {
  await drizzle({ client })
    .update(consumerGroups)
    .set({ emptySince: nowSql(now) })
    .where(and(inArray(consumerGroups.id, [...groupIds]), isNotNull(consumerGroups.emptySince)));
}

/**
 * Writes the changes; the last of several changes of one row wins. Each statement writes the rows
 * of all groups, so that a thousand rebalances take as many round trips as one.
 * @returns the subscriptions whose life has changed.
 */
export async function saveGroups(
  client: Client,
  changes: readonly SavedChange[],
  now: Now,
): Promise<SubscriptionRow[]> {
  const { generations, members, assignments } = lastOfEach(changes);
  const heard = new Set(changes.flatMap((one) => (one.heardAgoMs() === null ? [] : [one.groupId])));
  const came = new Set(changes.flatMap(({ groupId, change }) => (change.putMembers.length > 0 ? [groupId] : [])));
  await lockTopicsOfDead(client, [...came]);
  await saveGenerations(client, generations, heard);
  const left = await removeMembers(client, members);
  await removeAssignments(client, assignments);
  await putMembers(client, members);
  await noteEmptiness(client, members, now);
  await putAssignments(client, assignments);
  await saveRebalances(client, changes, now);
  return saveAttendance(client, attendancesOf(changes, came, left), now);
}

/** The groups whose attendance a save may change. */
function attendancesOf(
  changes: readonly SavedChange[],
  came: ReadonlySet<number>,
  left: ReadonlySet<number>,
): GroupAttendance[] {
  const of = Map.groupBy(changes, ({ groupId }) => groupId);
  return Array.from(new Set([...came, ...left]), (groupId) => {
    const agos = (of.get(groupId) ?? []).flatMap(({ heardAgoMs }) => heardAgoMs() ?? []);
    return { groupId, came: came.has(groupId), heardAgoMs: agos.length > 0 ? Math.min(...agos) : null };
  });
}

/** The row of a key after the save; null if the save deletes it. */
interface Outcome<Row, Key> {
  readonly groupId: number;
  readonly key: Key;
  readonly row: Row | null;
}
type MemberOutcome = Outcome<MemberRow, MemberId>;
type AssignmentOutcome = Outcome<AssignmentRow, { readonly topicId: number; readonly partition: number }>;

function lastOfEach(changes: readonly SavedChange[]): {
  generations: ReadonlyMap<number, number>;
  members: MemberOutcome[];
  assignments: AssignmentOutcome[];
} {
  const generations = new Map(changes.map(({ groupId, change }) => [groupId, change.generation]));
  const members = changes.flatMap(memberOutcomes);
  const assignments = changes.flatMap(assignmentOutcomes);
  // One change names each row once, so its rows need no keys: those of 100,000 rows cost more than
  // the rest of the write.
  if (generations.size === changes.length) return { generations, members, assignments };
  return {
    generations,
    members: withoutEarlier(members, ({ groupId, key }) => `${groupId}/${key}`),
    assignments: withoutEarlier(assignments, ({ groupId, key }) => `${groupId}/${key.topicId}/${key.partition}`),
  };
}

function memberOutcomes({ groupId, change }: SavedChange): MemberOutcome[] {
  const gone = change.removedMembers.map((key) => ({ groupId, key, row: null }));
  return [...gone, ...change.putMembers.map((row) => ({ groupId, key: row.memberId, row }))];
}

function assignmentOutcomes({ groupId, change }: SavedChange): AssignmentOutcome[] {
  const gone = change.removedAssignments.map((key) => ({ groupId, key, row: null }));
  return [...gone, ...change.putAssignments.map((row) => ({ groupId, key: row, row }))];
}

function withoutEarlier<T>(outcomes: readonly T[], nameOf: (outcome: T) => string): T[] {
  return [...new Map(outcomes.map((outcome) => [nameOf(outcome), outcome])).values()];
}

/** Notes that this broker has heard members of the groups. Writes nothing where that is known. */
export async function noteHeard(client: Client, groupIds: readonly number[]): Promise<void> {
  await lockGroups(client, groupIds);
  await client.query(
    `UPDATE millrace.consumer_groups AS g SET heard_epoch = l.epoch FROM millrace.broker_lease AS l
      WHERE g.id = ANY ($1::integer[]) AND g.heard_epoch IS DISTINCT FROM l.epoch`,
    [arrayLiteral(groupIds)],
  );
}

/** Locks in the order of ids, before any other row, so that two writers never deadlock. */
async function lockGroups(client: Client, groupIds: readonly number[]): Promise<void> {
  await client.query(
    'SELECT 1 FROM millrace.consumer_groups WHERE id = ANY ($1::integer[]) ORDER BY id FOR NO KEY UPDATE',
    [arrayLiteral(groupIds)],
  );
}

/** @param heard the groups of whose members this broker has heard. */
async function saveGenerations(
  client: Client,
  generations: ReadonlyMap<number, number>,
  heard: ReadonlySet<number>,
): Promise<void> {
  const ids = [...generations.keys()];
  await lockGroups(client, ids);
  await client.query(
    `UPDATE millrace.consumer_groups AS g
        SET generation = w.generation, heard_epoch = coalesce(w.heard_epoch, g.heard_epoch)
       FROM (SELECT v.id, v.generation, CASE WHEN v.heard THEN l.epoch END AS heard_epoch
               FROM unnest($1::integer[], $2::bigint[], $3::boolean[]) AS v (id, generation, heard)
               LEFT JOIN millrace.broker_lease AS l ON true) AS w
      WHERE g.id = w.id
        AND (g.generation <> w.generation OR g.heard_epoch IS DISTINCT FROM coalesce(w.heard_epoch, g.heard_epoch))`,
    [arrayLiteral(ids), arrayLiteral([...generations.values()]), ids.map((id) => heard.has(id))],
  );
}

/** @returns the groups that have lost a member. A repeat finds none. */
async function removeMembers(client: Client, members: readonly MemberOutcome[]): Promise<Set<number>> {
  const gone = members.filter(({ row }) => row === null);
  if (gone.length === 0) return new Set();
  const removed = await removeKeyed(client, 'group_members', { group_id: 'integer', member_id: 'text' }, [
    arrayLiteral(gone.map(({ groupId }) => groupId)),
    gone.map(({ key }) => key),
  ]);
  return new Set(removed);
}

async function removeAssignments(client: Client, assignments: readonly AssignmentOutcome[]): Promise<void> {
  const gone = assignments.filter(({ row }) => row === null);
  if (gone.length === 0) return;
  await removeKeyed(client, 'group_assignments', { group_id: 'integer', topic_id: 'integer', partition: 'integer' }, [
    arrayLiteral(gone.map(({ groupId }) => groupId)),
    arrayLiteral(gone.map(({ key }) => key.topicId)),
    arrayLiteral(gone.map(({ key }) => key.partition)),
  ]);
}

/**
 * Deletes rows; a sub-select finds each by its key. A join, planned after an ANALYZE of the empty
 * table, scans the table for each row, which took minutes for 100,000. No row moves between look-up
 * and delete, because the groups are locked. @returns the groups of the deleted rows.
 */
async function removeKeyed(
  client: Client,
  table: string,
  key: Readonly<Record<string, 'integer' | 'text'>>,
  values: readonly (string | readonly string[])[],
): Promise<number[]> {
  const columns = Object.keys(key);
  const arrays = Object.values(key).map((type, at) => `$${at + 1}::${type}[]`);
  const { rows } = await client.query<[groupId: number]>({
    rowMode: 'array',
    text: `DELETE FROM millrace.${table} WHERE ctid = ANY (ARRAY(
       SELECT (SELECT t.ctid FROM millrace.${table} AS t WHERE ${columns.map((one) => `t.${one} = w.${one}`).join(' AND ')})
         FROM unnest(${arrays.join(', ')}) AS w (${columns.join(', ')})))
           RETURNING group_id`,
    values: [...values],
  });
  return rows.map(([groupId]) => groupId);
}

interface PutMember {
  readonly groupId: number;
  readonly row: MemberRow;
}

/** A statement has so many bytes of metadata, because a group may have 64 MiB. */
const metadataBytesMax = 2_097_152;

async function putMembers(client: Client, members: readonly MemberOutcome[]): Promise<void> {
  let piece: PutMember[] = [];
  let bytes = 0;
  for (const { groupId, row } of members) {
    if (row === null) continue;
    piece.push({ groupId, row });
    bytes += row.metadata.length;
    if (bytes < metadataBytesMax) continue;
    await putPiece(client, piece);
    piece = [];
    bytes = 0;
  }
  if (piece.length > 0) await putPiece(client, piece);
}

async function putPiece(client: Client, put: readonly PutMember[]): Promise<void> {
  const rows = put.map(({ row }) => row);
  await client.query(
    `INSERT INTO millrace.group_members (group_id, member_id, client_id, host, kind, session_timeout_ms,
       rebalance_timeout_ms, assignor, join_seq, topic_ids, instance_id, max_poll_interval_ms, client_assignors, metadata)
     SELECT group_id, member_id, client_id, host, kind, session_timeout_ms, rebalance_timeout_ms, assignor, join_seq,
            topic_ids::integer[], instance_id, max_poll_interval_ms, client_assignors::text[], decode(metadata, 'hex')
       FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::integer[],
         $8::text[], $9::bigint[], $10::text[], $11::text[], $12::integer[], $13::text[], $14::text[])
         AS w (group_id, member_id, client_id, host, kind, session_timeout_ms, rebalance_timeout_ms, assignor, join_seq,
         topic_ids, instance_id, max_poll_interval_ms, client_assignors, metadata)
     ON CONFLICT (group_id, member_id) DO UPDATE SET
       client_id = excluded.client_id, host = excluded.host, kind = excluded.kind,
       session_timeout_ms = excluded.session_timeout_ms, rebalance_timeout_ms = excluded.rebalance_timeout_ms,
       assignor = excluded.assignor, join_seq = excluded.join_seq, topic_ids = excluded.topic_ids,
       instance_id = excluded.instance_id, max_poll_interval_ms = excluded.max_poll_interval_ms,
       client_assignors = excluded.client_assignors, metadata = excluded.metadata`,
    [
      arrayLiteral(put.map(({ groupId }) => groupId)),
      rows.map(({ memberId }) => memberId),
      rows.map(({ clientId }) => clientId),
      rows.map(({ host }) => host),
      rows.map(({ kind }) => kind),
      rows.map(({ sessionTimeoutMs }) => sessionTimeoutMs),
      arrayLiteral(rows.map(({ rebalanceTimeoutMs }) => rebalanceTimeoutMs)),
      rows.map(({ assignor }) => assignor),
      arrayLiteral(rows.map(({ joinSeq }) => joinSeq)),
      nestedArrayLiteral(rows.map(({ topicIds }) => topicIds)),
      rows.map(({ instanceId }) => instanceId),
      arrayLiteral(rows.map(({ maxPollIntervalMs }) => maxPollIntervalMs)),
      // The characters of names need no escape in an array literal. The quotes are for the name
      // NULL.
      rows.map(({ clientAssignors }) => `{${clientAssignors.map((name) => `"${name}"`).join(',')}}`),
      rows.map(({ metadata }) => Buffer.from(metadata).toString('hex')),
    ],
  );
}

/** Starts the empty time of a group without members, and clears that of a group with members. */
async function noteEmptiness(client: Client, members: readonly MemberOutcome[], now: Now): Promise<void> {
  if (members.length === 0) return;
  await client.query(
    `UPDATE millrace.consumer_groups AS g SET empty_since = CASE WHEN g.empty_since IS NULL THEN ${nowOf('$2')} END
      WHERE g.id = ANY ($1::integer[])
        AND (g.empty_since IS NULL) <> EXISTS (SELECT FROM millrace.group_members AS m WHERE m.group_id = g.id)`,
    [arrayLiteral([...new Set(members.map(({ groupId }) => groupId))]), now()],
  );
}

async function putAssignments(client: Client, assignments: readonly AssignmentOutcome[]): Promise<void> {
  const put = assignments.flatMap(({ groupId, row }) => (row === null ? [] : [{ groupId, row }]));
  if (put.length === 0) return;
  // The rows are in the order of the key. A join may move rows on every page of 100,000 partitions,
  // and the write takes a third longer in the order of the members that lose them.
  put.sort((a, b) => a.groupId - b.groupId || a.row.topicId - b.row.topicId || a.row.partition - b.row.partition);
  // In pieces, because the rows of 100,000 partitions keep the event loop for too long at once.
  for (let first = 0; first < put.length; first += assignmentsAtOnce) {
    await putSome(client, put.slice(first, first + assignmentsAtOnce));
  }
}

const assignmentsAtOnce = 20_000;

interface PutAssignment {
  readonly groupId: number;
  readonly row: AssignmentRow;
}

async function putSome(client: Client, put: readonly PutAssignment[]): Promise<void> {
  const rows = put.map(({ row }) => row);
  await client.query(
    `INSERT INTO millrace.group_assignments (group_id, topic_id, partition, member_id, since_generation)
     SELECT * FROM unnest($1::integer[], $2::integer[], $3::integer[], $4::text[], $5::bigint[])
     ON CONFLICT (group_id, topic_id, partition) DO UPDATE SET
       member_id = excluded.member_id, since_generation = excluded.since_generation`,
    [
      arrayLiteral(put.map(({ groupId }) => groupId)),
      arrayLiteral(rows.map(({ topicId }) => topicId)),
      arrayLiteral(rows.map(({ partition }) => partition)),
      rows.map(({ memberId }) => memberId),
      arrayLiteral(rows.map(({ sinceGeneration }) => sinceGeneration)),
    ],
  );
}
