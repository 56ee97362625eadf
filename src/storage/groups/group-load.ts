import type { Client } from 'pg';
import type { AssignmentRow, MemberId, MemberRow } from '../../coordinator/group.ts';
import type { LoadedGroup } from '../../delivery/ports/store.ts';
import { arrayLiteral, parseArrayLiteral } from '../pg/array-literal.ts';
import { eachRow } from '../pg/each-row.ts';
import { nowOf, type Now } from '../pg/now.ts';
import { readSubscriptions } from './subscriptions.ts';
import { present } from '../../errors/present.ts';

/**
 * Groups with their members, assignments and subscriptions, in the order of their ids.
 * PostgreSQL returns one row for each group and table, because a row for each member or partition
 * takes twice the CPU time, mostly in the garbage collector.
 */
export async function loadGroups(client: Client, groupIds: readonly number[], now: Now): Promise<LoadedGroup[]> {
  const ids = arrayLiteral(groupIds);
  const { rows: groups } = await client.query<GroupRow>({
    name: 'load_groups',
    rowMode: 'array',
    text: `SELECT id, name, generation, extract(epoch FROM ${nowOf('$2')} - empty_since)::float8 * 1000
             FROM millrace.consumer_groups WHERE id = ANY ($1::integer[]) ORDER BY id`,
    values: [ids, now()],
  });
  const members = await loadMembers(client, ids);
  const assignments = await loadAssignments(client, ids, members);
  const active = await readSubscriptions(client, { groupIds }, now);
  const claims = Map.groupBy(active, ({ groupId }) => groupId);
  return groups.map(([id, name, generation, emptyForMs]) => ({
    id,
    name,
    snapshot: {
      generation: Number(generation),
      members: members.get(id) ?? [],
      assignments: assignments.get(id) ?? [],
    },
    subscriptions: claims.get(id) ?? [],
    emptyForMs,
  }));
}

type GroupRow = [id: number, name: string, generation: string, emptyForMs: number | null];

/** In the order of the statement's columns. */
type MemberFields = [
  memberId: MemberId,
  clientId: string,
  host: string,
  kind: MemberRow['kind'],
  sessionTimeoutMs: number | null,
  rebalanceTimeoutMs: number,
  assignor: string,
  joinSeq: number,
  topicIds: number[],
  instanceId: string | null,
  maxPollIntervalMs: number,
  clientAssignors: string[],
];

/** The members by group, in the order in which they joined. */
async function loadMembers(client: Client, groupIds: string): Promise<Map<number, MemberRow[]>> {
  const metadata = await loadMetadata(client, groupIds);
  const { rows } = await client.query<[groupId: number, members: MemberFields[]]>({
    name: 'load_members',
    rowMode: 'array',
    text: `SELECT group_id, json_agg(json_build_array(member_id, client_id, host, kind, session_timeout_ms, rebalance_timeout_ms,
                    assignor, join_seq, topic_ids, instance_id, max_poll_interval_ms, client_assignors)
                    ORDER BY join_seq)
             FROM millrace.group_members WHERE group_id = ANY ($1::integer[]) GROUP BY group_id`,
    values: [groupIds],
  });
  return new Map(
    rows.map(([groupId, members]) => [groupId, members.map((fields) => memberRow(fields, metadata.get(groupId)))]),
  );
}

type MetadataOfGroup = ReadonlyMap<string, Uint8Array>;

/** The metadata of members by group: a row for each, because a group may have 64 MiB. */
async function loadMetadata(client: Client, groupIds: string): Promise<Map<number, MetadataOfGroup>> {
  const found = new Map<number, Map<string, Uint8Array>>();
  await eachRow<[groupId: number, memberId: string, metadata: Buffer]>(
    client,
    {
      name: 'load_metadata',
      text: `SELECT group_id, member_id, metadata FROM millrace.group_members
              WHERE group_id = ANY ($1::integer[]) AND metadata <> ''`,
      values: [groupIds],
    },
    ([groupId, memberId, metadata]) => {
      const ofGroup = found.get(groupId) ?? new Map<string, Uint8Array>();
      found.set(groupId, ofGroup.set(memberId, metadata));
    },
  );
  return found;
}

/** Shared: nearly all members have none, and a buffer each is work for the garbage collector. */
const noMetadata = Buffer.alloc(0);

function memberRow(fields: MemberFields, metadata: MetadataOfGroup | undefined): MemberRow {
  const [memberId, clientId, host, kind, sessionTimeoutMs, rebalanceTimeoutMs, assignor, joinSeq, topicIds] = fields;
  const [instanceId, maxPollIntervalMs, clientAssignors] = fields.slice(9) as [string | null, number, string[]];
  return {
    memberId,
    clientId,
    host,
    kind,
    sessionTimeoutMs,
    rebalanceTimeoutMs,
    assignor,
    joinSeq,
    topicIds,
    instanceId,
    maxPollIntervalMs,
    clientAssignors,
    metadata: metadata?.get(memberId) ?? noMetadata,
  };
}

type AssignmentRows = [
  groupId: number,
  topicIds: string,
  partitions: string,
  members: string[],
  sinceGenerations: string,
];

async function loadAssignments(
  client: Client,
  groupIds: string,
  members: ReadonlyMap<number, readonly MemberRow[]>,
): Promise<Map<number, AssignmentRow[]>> {
  const { rows } = await client.query<AssignmentRows>({
    name: 'load_assignments',
    rowMode: 'array',
    text: `SELECT group_id, array_agg(topic_id)::text, array_agg(partition)::text, json_agg(member_id),
                  array_agg(since_generation)::text
             FROM millrace.group_assignments WHERE group_id = ANY ($1::integer[]) GROUP BY group_id`,
    values: [groupIds],
  });
  return new Map(rows.map((row) => [row[0], assignmentRows(row, members.get(row[0]) ?? [])]));
}

const complete = 'the arrays of a group have a value for each of its assignments';

function assignmentRows(
  [, topicIds, partitions, memberIds, sinceGenerations]: AssignmentRows,
  members: readonly MemberRow[],
): AssignmentRow[] {
  // All partitions of a member share one string.
  const known = new Map<string, MemberId>(members.map(({ memberId }) => [memberId, memberId]));
  const partition = parseArrayLiteral(partitions);
  const since = parseArrayLiteral(sinceGenerations);
  return parseArrayLiteral(topicIds).map((topicId, at) => ({
    topicId,
    partition: present(partition[at], complete),
    memberId: known.get(present(memberIds[at], complete)) ?? (memberIds[at] as MemberId),
    sinceGeneration: present(since[at], complete),
  }));
}
