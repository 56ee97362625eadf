import type { RebalanceCause } from '../../coordinator/group.ts';
import {
  bigint,
  boolean,
  customType,
  index,
  integer,
  jsonb,
  pgSchema,
  primaryKey,
  sql,
  text,
  timestamp,
  unique,
  uniqueIndex,
} from '../pg/drizzle.ts';

/** The tables of groups for Drizzle; a test compares them with the migrated database. */
const bytea = customType<{ data: Buffer }>({ dataType: () => 'bytea' });

const millrace = pgSchema('millrace');

export const consumerGroups = millrace.table(
  'consumer_groups',
  {
    id: integer('id').primaryKey().generatedAlwaysAsIdentity(),
    name: text('name').notNull(),
    generation: bigint('generation', { mode: 'number' }).notNull().default(0),
    createdAt: timestamp('created_at', { withTimezone: true })
      .notNull()
      .default(sql`clock_timestamp()`),
    emptySince: timestamp('empty_since', { withTimezone: true }).default(sql`clock_timestamp()`),
    namespaceId: integer('namespace_id').notNull().default(0),
    heardEpoch: bigint('heard_epoch', { mode: 'number' }),
  },
  (table) => [unique().on(table.namespaceId, table.name)],
);

export const groupMembers = millrace.table(
  'group_members',
  {
    groupId: integer('group_id').notNull(),
    memberId: text('member_id').notNull(),
    clientId: text('client_id').notNull(),
    host: text('host').notNull(),
    kind: text('kind', { enum: ['STREAM', 'PULL', 'CLASSIC'] }).notNull(),
    sessionTimeoutMs: integer('session_timeout_ms'),
    rebalanceTimeoutMs: integer('rebalance_timeout_ms').notNull(),
    assignor: text('assignor').notNull(),
    topicIds: integer('topic_ids').array().notNull(),
    joinSeq: bigint('join_seq', { mode: 'number' }).notNull(),
    instanceId: text('instance_id'),
    maxPollIntervalMs: integer('max_poll_interval_ms').notNull().default(300_000),
    clientAssignors: text('client_assignors').array().notNull().default([]),
    metadata: bytea('metadata').notNull().default(Buffer.alloc(0)),
  },
  (table) => [primaryKey({ columns: [table.groupId, table.memberId] })],
);

export const groupAssignments = millrace.table(
  'group_assignments',
  {
    groupId: integer('group_id').notNull(),
    topicId: integer('topic_id').notNull(),
    partition: integer('partition').notNull(),
    memberId: text('member_id').notNull(),
    sinceGeneration: bigint('since_generation', { mode: 'number' }).notNull(),
  },
  (table) => [primaryKey({ columns: [table.groupId, table.topicId, table.partition] })],
);

export const groupRebalances = millrace.table(
  'group_rebalances',
  {
    groupId: integer('group_id').notNull(),
    generation: bigint('generation', { mode: 'number' }).notNull(),
    causes: jsonb('causes').$type<RebalanceCause[]>().notNull(),
    endedAt: timestamp('ended_at', { withTimezone: true })
      .notNull()
      .default(sql`clock_timestamp()`),
    durationUs: bigint('duration_us', { mode: 'number' }).notNull(),
    memberCount: integer('member_count').notNull(),
    assignedCount: integer('assigned_count').notNull(),
    revokedCount: integer('revoked_count').notNull(),
    completed: boolean('completed').notNull(),
  },
  (table) => [primaryKey({ columns: [table.groupId, table.generation] })],
);

export const subscriptions = millrace.table(
  'subscriptions',
  {
    id: integer('id').primaryKey().generatedAlwaysAsIdentity(),
    groupId: integer('group_id').notNull(),
    topicId: integer('topic_id').notNull(),
    state: text('state', { enum: ['ACTIVE', 'PAUSED', 'DEAD', 'CANCELLED'] })
      .notNull()
      .default('ACTIVE'),
    createdAt: timestamp('created_at', { withTimezone: true })
      .notNull()
      .default(sql`clock_timestamp()`),
    cancelledAt: timestamp('cancelled_at', { withTimezone: true }),
    stateReason: text('state_reason', {
      enum: ['UNKNOWN', 'CREATED', 'PAUSED', 'RESUMED', 'UNATTENDED', 'RETURNED', 'CANCELLED'],
    })
      .notNull()
      .default('UNKNOWN'),
    stateChangedAt: timestamp('state_changed_at', { withTimezone: true })
      .notNull()
      .default(sql`clock_timestamp()`),
    deadAfterMs: bigint('dead_after_ms', { mode: 'number' }),
    unattendedSince: timestamp('unattended_since', { withTimezone: true }),
    claimSeq: integer('claim_seq').notNull().default(0),
  },
  (table) => [
    uniqueIndex('subscriptions_live')
      .on(table.groupId, table.topicId)
      .where(sql`state <> 'CANCELLED'`),
    index('subscriptions_unattended')
      .on(table.unattendedSince)
      .where(sql`state = 'ACTIVE' AND unattended_since IS NOT NULL AND dead_after_ms IS NOT NULL`),
    index('subscriptions_topic').on(table.topicId),
    index('subscriptions_group').on(table.groupId),
  ],
);

export const cursors = millrace.table(
  'cursors',
  {
    subscriptionId: integer('subscription_id').notNull(),
    partition: integer('partition').notNull(),
    lane: integer('lane').notNull(),
    committedOffset: bigint('committed_offset', { mode: 'number' }).notNull(),
    acked: bigint('acked', { mode: 'number' }).array().notNull().default([]),
    attempts: bigint('attempts', { mode: 'number' }).array().notNull().default([]),
    resets: integer('resets').notNull().default(0),
    metadata: text('metadata'),
    metadataSeq: bigint('metadata_seq', { mode: 'number' }),
    startOffset: bigint('start_offset', { mode: 'number' }),
    endOffset: bigint('end_offset', { mode: 'number' }),
  },
  (table) => [primaryKey({ columns: [table.subscriptionId, table.partition, table.lane] })],
);

export const cursorGaps = millrace.table(
  'cursor_gaps',
  {
    subscriptionId: integer('subscription_id').notNull(),
    partition: integer('partition').notNull(),
    lane: integer('lane').notNull(),
    firstOffset: bigint('first_offset', { mode: 'number' }).notNull(),
    lastOffset: bigint('last_offset', { mode: 'number' }).notNull(),
    reason: text('reason', { enum: ['RETENTION', 'MAX_AGE', 'MAX_BYTES'] }).notNull(),
    at: timestamp('at', { withTimezone: true })
      .notNull()
      .default(sql`clock_timestamp()`),
    told: boolean('told').notNull().default(false),
  },
  (table) => [primaryKey({ columns: [table.subscriptionId, table.partition, table.lane] })],
);

export const subscriptionAudit = millrace.table('subscription_audit', {
  id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
  subscriptionId: integer('subscription_id').notNull(),
  groupName: text('group_name').notNull(),
  topicId: integer('topic_id').notNull(),
  topicName: text('topic_name').notNull(),
  state: text('state').notNull(),
  reason: text('reason', { enum: ['CANCELLED', 'OFFSET_RETENTION', 'GROUP_DELETED'] }).notNull(),
  owedRecords: bigint('owed_records', { mode: 'number' }).notNull(),
  at: timestamp('at', { withTimezone: true })
    .notNull()
    .default(sql`clock_timestamp()`),
});

const ackLogTable = (name: string) =>
  millrace.table(name, {
    subscriptionIds: integer('subscription_ids').array().notNull(),
    partitions: integer('partitions').array().notNull(),
    lanes: integer('lanes').array().notNull(),
    committedOffsets: bigint('committed_offsets', { mode: 'number' }).array().notNull(),
    ackedCounts: integer('acked_counts').array().notNull(),
    acked: bigint('acked', { mode: 'number' }).array().notNull(),
    attemptCounts: integer('attempt_counts').array().notNull(),
    attempts: bigint('attempts', { mode: 'number' }).array().notNull(),
    resets: integer('resets').array().notNull().default([]),
    metadataAt: integer('metadata_at').array().notNull().default([]),
    metadataSeqs: bigint('metadata_seqs', { mode: 'number' }).array().notNull().default([]),
    metadata: text('metadata').array().notNull().default([]),
    receipts: text('receipts').array().notNull().default([]),
  });

export const ackLog0 = ackLogTable('ack_log_0');
export const ackLog1 = ackLogTable('ack_log_1');
export const ackLog2 = ackLogTable('ack_log_2');
