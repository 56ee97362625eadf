import { bigint, boolean, customType, integer, pgSchema, primaryKey, text, timestamp, unique } from '../pg/drizzle.ts';

/** The tables of the log for Drizzle; drizzle/*.sql makes them, and a test compares the two. */
export const millrace = pgSchema('millrace');

const bytea = customType<{ data: Buffer }>({ dataType: () => 'bytea' });
/** One type, because `bytea().array()` passes each element through a text encoder. */
const byteaArray = customType<{ data: Buffer }>({ dataType: () => 'bytea[]' });
const timeUs = (name: string) => timestamp(name, { withTimezone: true });
const bigNumber = (name: string) => bigint(name, { mode: 'number' });

export const brokerLease = millrace.table('broker_lease', {
  onlyOne: boolean('only_one').primaryKey().default(true),
  broker: text('broker').notNull(),
  epoch: bigNumber('epoch').notNull(),
  renewedAt: timeUs('renewed_at').notNull(),
  pid: integer('pid'),
  backendStart: timeUs('backend_start'),
});

export const brokerEpochs = millrace.table('broker_epochs', {
  epoch: bigNumber('epoch').primaryKey(),
  renewedAt: timeUs('renewed_at').notNull(),
});

export const brokerFence = millrace.table(
  'broker_fence',
  {
    broker: text('broker').notNull(),
    slot: integer('slot').notNull(),
    epoch: bigNumber('epoch').notNull(),
    pid: integer('pid'),
    backendStart: timeUs('backend_start'),
  },
  (table) => [primaryKey({ columns: [table.broker, table.slot] })],
);

export const topics = millrace.table(
  'topics',
  {
    id: integer('id').primaryKey().generatedAlwaysAsIdentity(),
    name: text('name').notNull(),
    semantics: text('semantics', { enum: ['PUB_SUB'] }).notNull(),
    idempotencyWindowMs: integer('idempotency_window_ms').notNull(),
    description: text('description').notNull(),
    segment: integer('segment').notNull(),
    createdAt: timeUs('created_at').notNull().defaultNow(),
    namespaceId: integer('namespace_id').notNull().default(0),
    afterCompletionMs: bigNumber('after_completion_ms'),
    excusedKeepMs: bigNumber('excused_keep_ms').notNull().default(604_800_000),
    maxAgeMs: bigNumber('max_age_ms'),
    maxBytes: bigNumber('max_bytes'),
    keepUnsubscribedMs: bigNumber('keep_unsubscribed_ms').default(86_400_000),
    gapReason: text('gap_reason', { enum: ['RETENTION', 'MAX_AGE', 'MAX_BYTES'] })
      .notNull()
      .default('RETENTION'),
  },
  (table) => [unique().on(table.namespaceId, table.name)],
);

export const partitions = millrace.table(
  'partitions',
  {
    id: integer('id').primaryKey().generatedAlwaysAsIdentity(),
    topicId: integer('topic_id').notNull(),
    partition: integer('partition').notNull(),
  },
  (table) => [unique().on(table.topicId, table.partition)],
);

export const segments = millrace.table(
  'segments',
  {
    topicId: integer('topic_id').notNull(),
    segment: integer('segment').notNull(),
    createdAt: timeUs('created_at').notNull().defaultNow(),
    sealedAt: timeUs('sealed_at'),
    bytes: bigNumber('bytes'),
    completedAt: timeUs('completed_at'),
  },
  (table) => [primaryKey({ columns: [table.topicId, table.segment] })],
);

export const segmentBases = millrace.table(
  'segment_bases',
  {
    topicId: integer('topic_id').notNull(),
    segment: integer('segment').notNull(),
    partition: integer('partition').notNull(),
    lane: integer('lane').notNull(),
    baseOffset: bigNumber('base_offset').notNull(),
    lastAppendedAt: timeUs('last_appended_at'),
  },
  (table) => [primaryKey({ columns: [table.topicId, table.segment, table.partition, table.lane] })],
);

export const segmentDrops = millrace.table(
  'segment_drops',
  {
    topicId: integer('topic_id').notNull(),
    segment: integer('segment').notNull(),
    topicName: text('topic_name').notNull(),
    reason: text('reason').notNull(),
    plannedAt: timeUs('planned_at').notNull().defaultNow(),
    doneAt: timeUs('done_at'),
    bytes: bigNumber('bytes').notNull().default(0),
    partitions: integer('partitions').array().notNull().default([]),
    lanes: integer('lanes').array().notNull().default([]),
    firstOffsets: bigNumber('first_offsets').array().notNull().default([]),
    lastOffsets: bigNumber('last_offsets').array().notNull().default([]),
  },
  (table) => [primaryKey({ columns: [table.topicId, table.segment] })],
);

export const recordBatches = millrace.table(
  'record_batches',
  {
    topicId: integer('topic_id').notNull(),
    segment: integer('segment').notNull(),
    partition: integer('partition').notNull(),
    lane: integer('lane').notNull(),
    baseOffset: bigNumber('base_offset').notNull(),
    recordCount: integer('record_count').notNull(),
    byteSize: integer('byte_size').notNull(),
    appendedAt: timeUs('appended_at').notNull(),
    keys: byteaArray('keys'),
    headers: byteaArray('headers'),
    values: byteaArray('values').notNull(),
    rests: byteaArray('rests'),
  },
  (table) => [primaryKey({ columns: [table.topicId, table.segment, table.partition, table.lane, table.baseOffset] })],
);

export const topicWatermarks = millrace.table(
  'topic_watermarks',
  {
    topicId: integer('topic_id').notNull(),
    lane: integer('lane').notNull(),
    offsets: bigNumber('offsets').array().notNull(),
  },
  (table) => [primaryKey({ columns: [table.topicId, table.lane] })],
);

export const ballast = millrace.table('ballast', { bytes: bytea('bytes').notNull() });

const idempotencyTable = <Name extends string>(name: Name) =>
  millrace.table(
    name,
    {
      topicId: integer('topic_id').notNull(),
      key: bytea('key').notNull(),
      partition: integer('partition').notNull(),
      offset: bigNumber('offset').notNull(),
      at: timeUs('at').notNull(),
    },
    (table) => [primaryKey({ columns: [table.topicId, table.key] })],
  );

export const idempotency0 = idempotencyTable('idempotency_0');
export const idempotency1 = idempotencyTable('idempotency_1');
export const idempotency2 = idempotencyTable('idempotency_2');
export const idempotency3 = idempotencyTable('idempotency_3');

export const idempotencyRing = millrace.table('idempotency_ring', {
  onlyOne: boolean('only_one').primaryKey().default(true),
  current: integer('current').notNull(),
  turnedAt: timeUs('turned_at').notNull(),
});
