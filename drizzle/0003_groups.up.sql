-- Consumer groups: who their members are and what each holds, what they subscribe to, and how far they have read.
-- Only the broker that owns the database writes here, in fenced transactions.

CREATE TABLE millrace.consumer_groups (
  id         integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- Ordered by bytes, so that pages of a list do not depend on the locale of the server.
  name       text        COLLATE "C" NOT NULL UNIQUE,
  generation bigint      NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE millrace.group_members (
  group_id             integer   NOT NULL REFERENCES millrace.consumer_groups ON DELETE CASCADE,
  member_id            text      COLLATE "C" NOT NULL,
  client_id            text      NOT NULL,
  host                 text      NOT NULL,
  kind                 text      NOT NULL CHECK (kind IN ('STREAM', 'PULL', 'CLASSIC')),
  -- null: lives as long as its stream.
  session_timeout_ms   integer,
  rebalance_timeout_ms integer   NOT NULL,
  assignor             text      NOT NULL,
  topic_ids            integer[] NOT NULL,
  join_seq             bigint    NOT NULL,
  PRIMARY KEY (group_id, member_id)
);

-- No foreign keys: a rebalance may write 100,000 of these, and each key would cost a look-up a row. Rows of a topic that
-- is gone are removed by the coordinator when it learns of that, or at the next load.
CREATE TABLE millrace.group_assignments (
  group_id         integer NOT NULL,
  topic_id         integer NOT NULL,
  partition        integer NOT NULL,
  member_id        text    COLLATE "C" NOT NULL,
  since_generation bigint  NOT NULL,
  PRIMARY KEY (group_id, topic_id, partition)
);

-- A group's claim on a topic. One that is cancelled keeps its row, and a new one for the same topic gets a new id, so
-- that what hangs on the id is never mixed up.
CREATE TABLE millrace.subscriptions (
  id           integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  group_id     integer     NOT NULL REFERENCES millrace.consumer_groups ON DELETE CASCADE,
  topic_id     integer     NOT NULL REFERENCES millrace.topics ON DELETE CASCADE,
  state        text        NOT NULL DEFAULT 'ACTIVE' CHECK (state IN ('ACTIVE', 'CANCELLED')),
  created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  cancelled_at timestamptz,
  CHECK ((state = 'CANCELLED') = (cancelled_at IS NOT NULL))
);
CREATE UNIQUE INDEX subscriptions_active ON millrace.subscriptions (group_id, topic_id) WHERE state = 'ACTIVE';
CREATE INDEX subscriptions_topic ON millrace.subscriptions (topic_id);

-- What a subscription has consumed of one (partition, lane), as of the last fold. The truth is this and the ack log.
-- Rewritten by every fold: half of each page is left free, so that the new version stays on it and no index is touched.
CREATE TABLE millrace.cursors (
  subscription_id  integer  NOT NULL REFERENCES millrace.subscriptions ON DELETE CASCADE,
  partition        integer  NOT NULL,
  lane             integer  NOT NULL,
  -- The next offset to be read.
  committed_offset bigint   NOT NULL,
  -- Acked runs above it, both ends included: {first, last, first, last, …}.
  acked            bigint[] NOT NULL DEFAULT '{}',
  -- Ended attempts of offsets that are not acked: {offset, attempts, offset, attempts, …}.
  attempts         bigint[] NOT NULL DEFAULT '{}',
  PRIMARY KEY (subscription_id, partition, lane)
) WITH (fillfactor = 50);

-- The ack log: one row for each round of acks, arrays of all the cursors that moved. Three tables in turn; the fold writes
-- what they say to `cursors` and truncates those that are not in use. No index and no order: rounds say how far a cursor
-- is, not how far it went, so they may be applied in any order, and twice.
CREATE TABLE millrace.ack_log_0 (
  subscription_ids  integer[] NOT NULL,
  partitions        integer[] NOT NULL,
  lanes             integer[] NOT NULL,
  committed_offsets bigint[]  NOT NULL,
  -- Newly acked runs of all the cursors one after the other, and how many numbers belong to each.
  acked_counts      integer[] NOT NULL,
  acked             bigint[]  NOT NULL,
  attempt_counts    integer[] NOT NULL,
  attempts          bigint[]  NOT NULL
);
CREATE TABLE millrace.ack_log_1 (LIKE millrace.ack_log_0);
CREATE TABLE millrace.ack_log_2 (LIKE millrace.ack_log_0);

-- One round: fence and row in one statement and so in one trip. A transaction of several statements costs 0.2 ms more.
CREATE FUNCTION millrace.append_acks(
  fence_broker text, fence_slot integer, fence_epoch bigint, ring_table integer,
  subscription_ids integer[], partitions integer[], lanes integer[], committed_offsets bigint[],
  acked_counts integer[], acked bigint[], attempt_counts integer[], attempts bigint[]
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  PERFORM millrace.fence(fence_broker, fence_slot, fence_epoch);
  CASE ring_table
    WHEN 0 THEN
      INSERT INTO millrace.ack_log_0 VALUES (subscription_ids, partitions, lanes, committed_offsets,
        acked_counts, acked, attempt_counts, attempts);
    WHEN 1 THEN
      INSERT INTO millrace.ack_log_1 VALUES (subscription_ids, partitions, lanes, committed_offsets,
        acked_counts, acked, attempt_counts, attempts);
    WHEN 2 THEN
      INSERT INTO millrace.ack_log_2 VALUES (subscription_ids, partitions, lanes, committed_offsets,
        acked_counts, acked, attempt_counts, attempts);
  END CASE;
END $$;
